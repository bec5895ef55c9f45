"""Certificates as files: what is read, refused, kept and told; what the gateway refuses takes nothing away."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from certificate_files import DAY, NOW, Authority, pem_of, write_pair
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from kasbah.agent.certificates import Certificates, Pair, Refused
from kasbah.clock import ManualClock

HOST = "shop.example.org"


class Gateway:
    """Takes certificates, but for those it is told to refuse."""

    def __init__(self) -> None:
        self.serves: dict[str, Pair] = {}
        self.refuses: set[bytes] = set()
        self.asked = 0

    async def __call__(self, hosts: Mapping[str, Pair]) -> None:
        self.asked += 1
        if any(pair.chain in self.refuses for pair in hosts.values()):
            raise Refused("it does not like it")
        self.serves |= hosts


class Folder:
    """A folder of certificates, and an agent that looks at it."""

    def __init__(self, root: Path) -> None:
        self.path, self.kept = root / "certificates", root / "kept"
        self.path.mkdir()
        self.kept.mkdir()
        self.clock = ManualClock(NOW)
        self.authority = Authority()
        self.gateway = Gateway()
        self.restart()

    def restart(self) -> None:
        self.certificates = Certificates(self.path, self.kept, self.clock)

    async def look(self) -> bool:
        return await self.certificates.renew(self.gateway)

    @property
    def notes(self) -> str:
        return "; ".join(self.certificates.notes)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


async def test_a_pair_is_read_once_and_again_when_it_changes(folder: Folder) -> None:
    folder.authority.put(folder.path, "shop", HOST, "WWW.example.org")
    assert await folder.look()
    assert not await folder.look()
    assert (folder.certificates.hosts, folder.gateway.asked) == ({HOST, "www.example.org"}, 1)
    folder.authority.put(folder.path, "shop", HOST, "www.example.org")
    assert not await folder.look(), "other contents for the same hosts change no listener"
    assert folder.gateway.asked == 2
    assert folder.gateway.serves[HOST].chain == (folder.path / "shop.crt").read_bytes()


async def test_what_is_kept_is_private_and_serves_the_next_agent(folder: Folder) -> None:
    folder.authority.put(folder.path, "shop", HOST)
    await folder.look()
    (kept,) = folder.kept.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    good = folder.gateway.serves[HOST]
    (folder.path / "shop.crt").write_text("nonsense")
    folder.gateway = Gateway()
    folder.restart()
    await folder.look()
    assert folder.gateway.serves == {HOST: good}
    assert "shop.crt is refused" in folder.notes
    kept.write_text("nonsense")
    folder.restart()
    await folder.look()
    assert folder.certificates.hosts == set()


async def test_a_folder_that_cannot_be_read_takes_nothing_away(folder: Folder) -> None:
    folder.authority.put(folder.path, "shop", HOST)
    await folder.look()
    folder.path.rename(folder.path.with_name("away"))
    for _ in range(2):
        await folder.look()
        assert folder.certificates.hosts == {HOST}
        assert "cannot be read (No such file or directory)" in folder.notes
        folder.restart()
    folder.path.mkdir()
    await folder.look()
    assert (folder.certificates.hosts, folder.notes) == (set(), "")
    assert not list(folder.kept.iterdir())


async def test_what_the_gateway_refuses_takes_nothing_away(folder: Folder) -> None:
    folder.authority.put(folder.path, "shop", HOST)
    folder.authority.put(folder.path, "other", "other.example.org")
    await folder.look()
    good = folder.gateway.serves[HOST]
    folder.authority.put(folder.path, "shop", HOST)
    folder.gateway.refuses.add((folder.path / "shop.crt").read_bytes())
    await folder.look()
    asked = folder.gateway.asked
    await folder.look()
    assert folder.gateway.asked == asked, "it is not asked again and again"
    assert folder.gateway.serves[HOST] == good
    assert "shop.crt is refused: the gateway refuses it (it does not like it)" in folder.notes
    folder.authority.put(folder.path, "shop", HOST)
    await folder.look()
    assert folder.gateway.serves[HOST] != good
    assert folder.notes == ""


async def test_a_disk_that_is_full_hinders_nobody(folder: Folder) -> None:
    folder.kept.rmdir()
    folder.authority.put(folder.path, "shop", HOST)
    await folder.look()
    assert set(folder.gateway.serves) == {HOST}
    assert "not kept for the next start" in folder.notes
    folder.kept.mkdir()
    await folder.look()
    assert folder.notes == ""
    assert list(folder.kept.iterdir())


def of_kind(kind: str, authority: Authority) -> tuple[bytes, bytes]:
    """A pair that is wrong, or right, in one way."""
    whole = authority.issue(HOST)
    match kind:
        case "rsa-2048":
            return authority.issue(HOST, key=rsa.generate_private_key(65_537, 2_048))
        case "rsa-1024":
            return authority.issue(HOST, key=rsa.generate_private_key(65_537, 1_024))
        case "p-384":
            return authority.issue(HOST, key=ec.generate_private_key(ec.SECP384R1()))
        case "secp256k1":
            return authority.issue(HOST, key=ec.generate_private_key(ec.SECP256K1()))
        case "ed25519":
            return authority.issue(HOST, key=ed25519.Ed25519PrivateKey.generate())
        case "encrypted":
            key = ec.generate_private_key(ec.SECP256R1())
            sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
            return authority.issue(HOST, key=key)[0], sealed
        case "chain-first":
            return authority.certificate + whole[0], whole[1]
        case "key-in-crt":
            return whole[1], whole[1]
        case "nul":
            return b"\0" * 100, b"\0" * 100
        case "empty":
            return b"", b""
        case "large":
            return whole[0] + b"\n" * 2**20, whole[1]
        case _:
            return authority.issue("*", "a.*.example.org", "f*.example.org", "a b", "x" * 64 + ".org")


@pytest.mark.parametrize("kind", ["rsa-2048", "p-384"])
async def test_keys_that_serve(folder: Folder, kind: str) -> None:
    write_pair(folder.path, "shop", *of_kind(kind, folder.authority))
    await folder.look()
    assert (folder.certificates.hosts, folder.notes) == ({HOST}, "")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("rsa-1024", "of a kind the gateway cannot use"),
        ("secp256k1", "of a kind the gateway cannot use"),
        ("ed25519", "of a kind the gateway cannot use"),
        ("encrypted", "shop.key is encrypted"),
        ("chain-first", "shop.key is not its key"),
        ("key-in-crt", "shop.crt holds no PEM certificate"),
        ("nul", "shop.crt holds no PEM certificate"),
        ("empty", "shop.crt holds no PEM certificate"),
        ("large", "shop.crt is no file of 1024 KiB at most"),
        ("strange-names", "it names no host"),
    ],
)
async def test_what_is_refused_and_why(
    folder: Folder, kind: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    chain, key = of_kind(kind, folder.authority)
    write_pair(folder.path, "shop", chain, key)
    await folder.look()
    assert folder.certificates.hosts == set()
    assert said in folder.notes
    assert "shop.crt is refused" in folder.notes
    told = "".join(capsys.readouterr()) + folder.notes + repr(folder.certificates.__dict__)
    assert not any(line in told for line in key.decode().splitlines()[1:-1] if len(line) > 20)


async def test_half_a_pair_and_what_is_no_file(folder: Folder) -> None:
    chain, key = folder.authority.issue(HOST)
    (folder.path / "alone.crt").write_bytes(chain)
    (folder.path / "lonely.key").write_bytes(key)
    (folder.path / "lonely.key").chmod(0o600)
    os.mkfifo(folder.path / "pipe.crt")
    (folder.path / "folder.crt").mkdir()
    (folder.path / ".crt").write_bytes(chain)
    (folder.path / "readme.txt").write_text("hello")
    await folder.look()
    said = [note.partition(" is refused: ") for note in folder.certificates.notes]
    assert [name for name, _, _ in said] == ["alone.crt", "folder.crt", "lonely.crt", "pipe.crt"]
    assert "alone.key cannot be read (No such file or directory)" in said[0][2]
    assert "lonely.crt cannot be read" in said[2][2]


async def test_a_key_that_others_can_read_is_told(folder: Folder) -> None:
    folder.authority.put(folder.path, "shop", HOST)
    (folder.path / "shop.key").chmod(0o640)
    await folder.look()
    assert folder.certificates.hosts == {HOST}
    path = folder.path / "shop.key"
    assert folder.notes == f"shop.key can be read by others (mode 0640): chmod 600 {path}"
    path.chmod(0o600)
    await folder.look()
    assert folder.notes == ""


async def test_time_passes(folder: Folder) -> None:
    folder.authority.put(folder.path, "shop", HOST)
    folder.authority.put(folder.path, "next", HOST, not_before=NOW + 70 * DAY, not_after=NOW + 160 * DAY)
    await folder.look()
    first = folder.gateway.serves[HOST]
    assert "next.crt is refused: it is not valid before" in folder.notes
    folder.clock.advance(71 * DAY)
    await folder.look()
    assert folder.gateway.serves[HOST] != first
    assert "shop.crt serves nothing" in folder.notes


def test_a_key_s_text_is_in_no_text_of_a_pair() -> None:
    key = pem_of(ec.generate_private_key(ec.SECP256R1()))
    assert "PRIVATE" not in repr(Pair(b"chain", key))
