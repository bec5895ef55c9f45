"""A site's identity is read as joining writes it, file by file, and what is not sound changes nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from certificate_files import Authority

from kasbah.agent.nearness import Nearness
from kasbah.agent.proof import Proof, SiteIdentity
from kasbah.domain.crossing import Neighbour, Peer
from kasbah.domain.ids import SiteId

WHO = "spiffe://in-1/site/st-a"


class Shown:
    """Stands for the gateway."""

    def __init__(self) -> None:
        self.proofs: list[Proof] = []
        self.refuses = ""

    async def show(self, proof: Proof) -> None:
        if self.refuses:
            raise ValueError(self.refuses)
        self.proofs.append(proof)


def write(folder: Path, authority: Authority, **instead: bytes) -> None:
    chain, key = authority.issue_site(WHO)
    for name, contents in {"site.crt": chain, "site.key": key, "ca.crt": authority.certificate}.items():
        (folder / name).write_bytes(instead.get(name.replace(".", "_"), contents))


async def test_it_is_shown_once_it_is_whole_and_again_when_it_changes(tmp_path: Path) -> None:
    shown, identity, authority = Shown(), SiteIdentity(tmp_path), Authority()
    assert not await identity.renew(shown.show)
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    assert not await identity.renew(shown.show)
    assert identity.problem == "", "a site that has not joined lacks nothing"
    write(tmp_path, authority)
    assert await identity.renew(shown.show)
    assert not await identity.renew(shown.show)
    write(tmp_path, authority)
    assert await identity.renew(shown.show)
    assert len(shown.proofs) == 2
    assert shown.proofs[0] != shown.proofs[1]
    assert "PRIVATE KEY" not in repr(shown.proofs)


@pytest.mark.parametrize(
    ("instead", "said"),
    [
        pytest.param({"site_key": Authority().issue_site(WHO)[1]}, "is not the key", id="another key"),
        pytest.param({"site_crt": b"-----BEGIN CERT"}, "no PEM certificate", id="half a certificate"),
        pytest.param({"ca_crt": b""}, "ca.crt holds no PEM", id="no authority"),
    ],
)
async def test_what_is_not_sound_is_told_and_changes_nothing(
    tmp_path: Path, instead: dict[str, bytes], said: str
) -> None:
    shown, identity = Shown(), SiteIdentity(tmp_path)
    write(tmp_path, Authority(), **instead)
    assert not await identity.renew(shown.show)
    assert said in identity.problem
    assert shown.proofs == []
    write(tmp_path, Authority())
    assert await identity.renew(shown.show)
    assert identity.problem == ""


async def test_what_the_gateway_refuses_is_tried_again(tmp_path: Path) -> None:
    shown, identity = Shown(), SiteIdentity(tmp_path)
    write(tmp_path, Authority())
    shown.refuses = "not today"
    assert not await identity.renew(shown.show)
    assert "not today" in identity.problem
    shown.refuses = ""
    assert await identity.renew(shown.show)


async def test_near_sites_are_those_that_answer() -> None:
    async def listen(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        known = [
            Peer(site=SiteId(f"st-{name}"), name=name, identity="", address=address)
            for name, address in (("b", f"127.0.0.1:{port}"), ("c", "127.0.0.1:1"), ("d", ""))
        ]
        nearness = Nearness()
        assert await nearness.measure(known)
        assert nearness.order == ("st-b",)
        assert not await nearness.measure(known)
        assert [site for site, _ in nearness.told] == ["st-b"]
        await nearness.measure(known[1:], [Neighbour(site=SiteId("st-e"), address=f"127.0.0.1:{port}")])
        assert [site for site, took in nearness.told if took > 0] == ["st-e"], "it is measured, and no peer"
        assert nearness.order == ()
    assert not await nearness.measure(known)
    assert (nearness.order, nearness.told) == ((), ())
