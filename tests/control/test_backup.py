"""Backups of the control plane: made while it runs, restored where they belong, and refused everywhere else."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from installed import START, Installed

from kasbah.clock import ManualClock
from kasbah.control import backup
from kasbah.control.app import Control, build
from kasbah.control.folder import Folder
from kasbah.errors import Conflict, Invalid, KasbahError, NotFound, Unavailable
from kasbah.settings import ControlSettings

BACKUPS = "control/backups"


def start(data: Path) -> Control:
    return build(ControlSettings(data_dir=data), ManualClock(START))


def facts(control: Control) -> tuple[str, int, set[str]]:
    """The installation, its epoch, and the names of its services."""
    with control.office.store.read() as tx:
        found = tx.installations.get()
        assert found is not None
        return found.id, found.epoch, {one.name for one in tx.services.all()}


@pytest.fixture
async def backed_up(installed: Installed, tmp_path: Path) -> tuple[Path, Path]:
    """A data folder, and a backup from before its second service, made while it ran."""
    await installed.serving("first")
    file = tmp_path / "backup.tar.gz"
    backup.back_up(installed.control.folder, file, START)
    await installed.serving("second")
    return installed.control.folder.data_dir, file


def test_a_backup_is_private_and_holds_no_key(backed_up: tuple[Path, Path]) -> None:
    data, file = backed_up
    assert file.stat().st_mode & 0o777 == 0o600
    whole = gzip.decompress(file.read_bytes())
    for secret in ("control/signing.key", "admin.token", "site.token"):
        for line in (data / secret).read_bytes().splitlines():
            assert line.startswith(b"-----") or line not in whole
    assert [path.name for path in file.parent.iterdir() if path.is_file()] == [file.name]


def test_what_is_restored_is_what_was_backed_up(backed_up: tuple[Path, Path]) -> None:
    data, file = backed_up
    before = start(data)
    installation, epoch, services = facts(before)
    before.close()
    manifest, raised = backup.restore(Folder(data), file, START)
    assert (manifest.installation, raised) == (installation, epoch + 1)
    after = start(data)
    assert facts(after) == (installation, epoch + 1, services - {"second"})
    with after.office.store.read() as tx:
        documents = [tx.sites.desired(site.id) for site in tx.sites.all()]
    assert [(one.epoch, one.generation) for one in documents if one is not None] == [(epoch + 1, 1)]
    after.close()


def test_what_was_there_is_kept_aside_and_can_be_opened(backed_up: tuple[Path, Path], tmp_path: Path) -> None:
    data, file = backed_up
    backup.restore(Folder(data), file, START)
    (kept,) = (data / BACKUPS).glob("replaced-*.db")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(data, elsewhere)
    for one in (data / BACKUPS).iterdir():
        shutil.copy(one, elsewhere / "control" / one.name.replace(kept.name, "kasbah.db"))
    old = start(elsewhere)
    assert facts(old)[2] == {"first", "second"}
    old.close()


def test_every_restore_raises_the_epoch_further(backed_up: tuple[Path, Path]) -> None:
    data, file = backed_up
    epochs = [backup.restore(Folder(data), file, START.replace(second=second))[1] for second in range(3)]
    assert epochs == [2, 3, 4]


def test_into_an_empty_folder_it_needs_the_keys(backed_up: tuple[Path, Path], tmp_path: Path) -> None:
    data, file = backed_up
    empty = tmp_path / "empty"
    missing = ["audit.key", "ca.key", "secrets.key", "signing.key"]
    while missing:
        with pytest.raises(Conflict, match="lacks keys that no backup holds") as refused:
            backup.restore(Folder(empty), file, START)
        assert refused.value.code == "key_missing"
        assert f"put {', '.join(missing)} of installation" in refused.value.hint, "all of them at once"
        name = missing.pop()
        shutil.copy(data / "control" / name, empty / "control" / name)
    _, epoch = backup.restore(Folder(empty), file, START)
    again = start(empty)
    assert facts(again)[1:] == (epoch, {"first"})
    assert epoch > 1_000, "above any epoch of restores that nobody here knows of"
    again.close()


def test_another_installation_s_backup_is_refused(backed_up: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    start(other).close()
    before = _contents(other)
    with pytest.raises(Conflict, match="belongs to") as refused:
        backup.restore(Folder(other), backed_up[1], START)
    assert refused.value.code == "another_installation"
    (other / "control/kasbah.db").unlink()
    with pytest.raises(Conflict, match="is not the key of installation"):
        backup.restore(Folder(other), backed_up[1], START)
    assert _contents(other) - {"control/lock"} == before - {"control/kasbah.db"}


def test_while_a_control_plane_runs_it_is_refused(backed_up: tuple[Path, Path]) -> None:
    data, file = backed_up
    with Folder(data).held(), pytest.raises(Conflict) as refused:
        backup.restore(Folder(data), file, START)
    assert refused.value.code == "already_running"


def test_a_database_that_cannot_be_read_is_replaced_too(backed_up: tuple[Path, Path]) -> None:
    data, file = backed_up
    (data / "control/kasbah.db").write_bytes(b"no database" * 1_000)
    for suffix in ("-wal", "-shm"):
        (data / f"control/kasbah.db{suffix}").unlink(missing_ok=True)
    backup.restore(Folder(data), file, START)
    control = start(data)
    assert facts(control)[2] == {"first"}
    control.close()


def manifest(**changes: Any) -> Callable[[Path], None]:
    """Write the backup again with another manifest."""

    def change(file: Path) -> None:
        with tarfile.open(file, "r:gz") as tar:
            said = json.loads(tar.extractfile("manifest.json").read()) | changes  # type: ignore[union-attr]
            database = tar.extractfile("kasbah.db").read()  # type: ignore[union-attr]
        _write(file, {"manifest.json": json.dumps(said).encode(), "kasbah.db": database})

    return change


def _write(file: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(file, "w:gz") as tar:
        for name, body in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-2_000])


BAD: dict[str, tuple[Callable[[Path], object], type[KasbahError], str]] = {
    "a newer format": (manifest(format=99), Conflict, "newer version"),
    "newer tables": (manifest(schema="9999"), Conflict, "newer version"),
    "another digest": (manifest(sha256="0" * 64), Invalid, "damaged"),
    "another installation in it": (manifest(epoch=77), Invalid, "damaged"),
    "cut short": (cut, Invalid, "damaged"),
    "no backup": (lambda file: file.write_bytes(b"hello"), Invalid, "no backup"),
    "no database": (lambda file: _write(file, {"manifest.json": b"{}"}), Invalid, "no backup"),
    "not there": (lambda file: file.unlink(), NotFound, "does not exist"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_restored_changes_nothing(backed_up: tuple[Path, Path], name: str) -> None:
    data, file = backed_up
    spoil, kind, said = BAD[name]
    spoil(file)
    before = _contents(data)
    with pytest.raises(kind, match=said):
        backup.restore(Folder(data), file, START)
    assert _contents(data) == before | {"control/lock"}


def test_a_backup_overwrites_nothing(backed_up: tuple[Path, Path]) -> None:
    data, file = backed_up
    before = file.read_bytes()
    with pytest.raises(Conflict, match="exists already"):
        backup.back_up(Folder(data), file, START)
    assert file.read_bytes() == before


def test_where_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nothing to back up"):
        backup.back_up(Folder(tmp_path / "none"), tmp_path / "b", START)
    (tmp_path / "control").mkdir()
    sqlite3.connect(tmp_path / "control/kasbah.db").close()
    with pytest.raises(Unavailable, match="cannot be backed up"):
        backup.back_up(Folder(tmp_path), tmp_path / "b", START)
    assert not (tmp_path / "b").exists()


def _contents(data: Path) -> set[str]:
    """Which files there are; those that SQLite makes beside a database come and go."""
    found = (str(path.relative_to(data)) for path in data.rglob("*") if path.is_file())
    return {name for name in found if not name.endswith(("-wal", "-shm"))}
