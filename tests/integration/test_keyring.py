"""The site's secrets: fetched once, sealed, there with the control plane away, erased when nobody names them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from kasbah.agent.keyring import Keyring
from kasbah.domain.ids import Digest, RevisionId, SecretId
from kasbah.domain.revision import Revision, Runtime
from kasbah.domain.secret import Delivery, SecretUse
from kasbah.errors import Unavailable

SECRET = SecretId("sc-1")


def revision(version: int = 1) -> Revision:
    return Revision(
        id=RevisionId("rv-1"),
        source=Digest("sha256:" + "a" * 64),
        source_size=1,
        runtime=Runtime.COMMAND,
        command=("x",),
        secrets=(
            SecretUse(variable="URL", secret=SECRET, version=version),
            SecretUse(variable="CERT", secret=SECRET, version=version, delivery=Delivery.FILE),
        ),
    )


class Control:
    """What is asked for secrets."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.away = False

    async def fetch(self, secret: SecretId, version: int) -> bytes:
        self.asked.append(version)
        if self.away:
            raise Unavailable("the control plane does not answer")
        return b"value %d" % version


def keyring(folder: Path, control: Control, arrived: asyncio.Event) -> Keyring:
    folder.mkdir(exist_ok=True)

    def spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)

    return Keyring(folder, control.fetch, spawn, arrived.set)


async def held(keys: Keyring, wanted: Revision, arrived: asyncio.Event) -> None:
    async with asyncio.timeout(10):
        while not keys.has(wanted):
            await arrived.wait()
            arrived.clear()


async def test_it_is_fetched_once_and_opened_with_the_control_plane_away(tmp_path: Path) -> None:
    control, arrived = Control(), asyncio.Event()
    await held(keyring(tmp_path / "s", control, arrived), revision(), arrived)
    control.away = True
    later = keyring(tmp_path / "s", control, arrived)
    assert later.has(revision())
    assert later.environment(revision()) == {"URL": "value 1"}
    assert later.files(revision()) == {"CERT": b"value 1"}
    assert control.asked == [1]


async def test_nothing_on_disk_tells_the_value_and_only_we_may_read(tmp_path: Path) -> None:
    control, arrived = Control(), asyncio.Event()
    await held(keyring(tmp_path / "s", control, arrived), revision(), arrived)
    for path in (tmp_path / "s").iterdir():
        assert b"value" not in path.read_bytes()
        assert path.stat().st_mode & 0o077 == 0


async def test_what_nobody_names_any_more_is_erased(tmp_path: Path) -> None:
    control, arrived = Control(), asyncio.Event()
    keys = keyring(tmp_path / "s", control, arrived)
    await held(keys, revision(1), arrived)
    await held(keys, revision(2), arrived)
    keys.keep([revision(2)])
    assert keys.has(revision(2))
    assert not (tmp_path / "s" / f"{SECRET}-1").exists()


async def test_another_sites_key_opens_nothing(tmp_path: Path) -> None:
    control, arrived = Control(), asyncio.Event()
    await held(keyring(tmp_path / "s", control, arrived), revision(), arrived)
    (tmp_path / "s" / "key").unlink()
    with pytest.raises(Unavailable, match="another key"):
        keyring(tmp_path / "s", control, arrived).environment(revision())
