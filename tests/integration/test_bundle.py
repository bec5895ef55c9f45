"""Packing and unpacking sources: the same bytes everywhere, nothing outside the folder, clear refusals."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import socket
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kasbah.api.bundle import LARGEST_HEADER, Bundle, pack, unpack
from kasbah.api.ignore import travelling
from kasbah.domain.ids import Digest
from kasbah.errors import Conflict, Invalid, KasbahError, TooLarge

LIMIT = 50 * 2**20


@pytest.fixture
def packed() -> Iterator[Callable[[Path], Bundle]]:
    made: list[Path] = []

    def _pack(folder: Path) -> Bundle:
        bundle = pack(folder)
        made.append(bundle.path)
        return bundle

    yield _pack
    for path in made:
        path.unlink()


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def names(folder: Path) -> set[str]:
    return set(travelling(folder))


def archive(path: Path, *members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> Digest:
    """Write a bundle by hand; its digest."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for member in members:
            header, body = member if isinstance(member, tuple) else (member, b"")
            header.size = len(body)
            tar.addfile(header, io.BytesIO(body))
    path.write_bytes(gzip.compress(raw.getvalue()))
    return Digest("sha256:" + hashlib.sha256(raw.getvalue()).hexdigest())


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type, header.linkname = kind, target
    return header


def test_the_same_source_packs_to_the_same_bytes(tmp_path: Path, packed: Callable[[Path], Bundle]) -> None:
    first = write(tmp_path / "one", {"b.py": "b", "a/x.txt": "x", "run.sh": "#!/bin/sh"})
    second = write(tmp_path / "two", {"run.sh": "#!/bin/sh", "a/x.txt": "x", "b.py": "b"})
    for folder in (first, second):
        (folder / "run.sh").chmod(0o700 if folder is first else 0o775)
    os.utime(second / "b.py", (1, 1))
    (second / "b.py").chmod(0o600)
    one, two = packed(first), packed(second)
    assert one.digest == two.digest
    assert one.path.read_bytes() == two.path.read_bytes()
    assert one.files == 3
    raw = gzip.decompress(one.path.read_bytes())
    assert one.digest == "sha256:" + hashlib.sha256(raw).hexdigest()
    assert one.size_uncompressed == len(raw)


def test_what_was_packed_comes_out_again(tmp_path: Path, packed: Callable[[Path], Bundle]) -> None:
    long = "/".join(["deep"] * 60)
    source = write(tmp_path / "src", {"é ü.txt": "hi", f"{long}/x": "deep", "run": "#!/bin/sh"})
    (source / "run").chmod(0o744)
    (source / "big").write_bytes(os.urandom(700_000))
    (source / "link").symlink_to("é ü.txt")
    (source / "folder").symlink_to("deep")
    bundle = packed(source)
    assert bundle.largest[0] == ("big", 700_000)
    into = tmp_path / "out"
    assert unpack(bundle.path, into, limit_bytes=LIMIT, expected=bundle.digest) == 6
    assert (into / "é ü.txt").read_text() == "hi"
    assert (into / long / "x").read_text() == "deep"
    assert (into / "big").read_bytes() == (source / "big").read_bytes()
    assert os.readlink(into / "link") == "é ü.txt"
    assert os.readlink(into / "folder") == "deep"
    assert (into / "run").stat().st_mode & 0o777 == 0o755
    assert (into / "big").stat().st_mode & 0o777 == 0o644
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


def test_what_nobody_deploys_stays_behind(tmp_path: Path) -> None:
    source = write(
        tmp_path,
        {
            "main.py": "",
            "kasbah.yaml": "",
            "sub/kasbah.yaml": "",
            ".git/HEAD": "",
            "myenv/pyvenv.cfg": "",
            "myenv/bin/python": "",
            "node_modules/x/index.js": "",
            "sub/node_modules/y.js": "",
            "__pycache__/main.cpython-311.pyc": "",
            "old.pyc": "",
            ".DS_Store": "",
            ".mypy_cache/x": "",
            ".env.example": "",
        },
    )
    assert names(source) == {"main.py", "sub/kasbah.yaml", ".env.example"}


def test_gitignore_is_read_as_git_reads_it(tmp_path: Path) -> None:
    source = write(
        tmp_path,
        {
            ".gitignore": "# notes\n*.log\n/build/\ndata/*\n!data/keep.csv\n",
            "a.log": "",
            "sub/.gitignore": "!wanted.log\nsecret\n",
            "sub/wanted.log": "",
            "sub/other.log": "",
            "sub/secret/x": "",
            "build/x": "",
            "sub/build/y": "",
            "data/keep.csv": "",
            "data/drop.csv": "",
        },
    )
    assert names(source) == {".gitignore", "sub/.gitignore", "sub/wanted.log", "sub/build/y", "data/keep.csv"}


def test_kasbahignore_stands_in_for_gitignore(tmp_path: Path) -> None:
    source = write(tmp_path, {".gitignore": "dist\n", ".kasbahignore": "tests\n", "dist/app.js": "", "tests/t": ""})
    assert names(source) == {".gitignore", ".kasbahignore", "dist/app.js"}


def test_depth_bounds_the_walk(tmp_path: Path) -> None:
    source = write(tmp_path, {"a": "", "b/c": "", "b/d/e": ""})
    assert set(travelling(source, depth=2)) == {"a", "b/c"}


def test_linked_folders_are_not_entered(tmp_path: Path) -> None:
    source = write(tmp_path, {"real/x": ""})
    (source / "real/up").symlink_to("..")
    assert names(source) == {"real/x", "real/up"}


@pytest.mark.parametrize("target", ["../outside", "/etc/passwd", "a/../../outside"])
def test_a_link_that_leaves_is_named(tmp_path: Path, target: str) -> None:
    source = write(tmp_path / "src", {"a/x": ""})
    (source / "away").symlink_to(target)
    with pytest.raises(Invalid, match="away is a link to") as caught:
        pack(source)
    assert "kasbahignore" in caught.value.hint


def test_a_link_that_leaves_through_another_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "src", {"a/b/x": ""})
    (source / "a/b/top").symlink_to("../..")
    (source / "sly").symlink_to("a/b/top/../outside")  # reads as a/b/outside, leads to ../outside
    with pytest.raises(Invalid, match="sly is a link"):
        pack(source)


def test_sockets_and_pipes_are_left_out_with_a_note(tmp_path: Path, packed: Callable[[Path], Bundle]) -> None:
    source = write(tmp_path, {"x": ""})
    os.mkfifo(source / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(source / "sock"))
        assert packed(source).skipped == ("pipe", "sock")


@pytest.mark.parametrize("files", [{}, {".git/HEAD": ""}, {"kasbah.yaml": ""}])
def test_an_empty_folder_is_refused(tmp_path: Path, files: dict[str, str]) -> None:
    with pytest.raises(Invalid, match="nothing to deploy") as caught:
        pack(write(tmp_path, files))
    assert caught.value.hint


def test_an_empty_source_travels_where_the_command_needs_none(tmp_path: Path) -> None:
    bundle = pack(write(tmp_path / "source", {"kasbah.yaml": ""}), may_be_empty=True)
    try:
        unpack(bundle.path, tmp_path / "there", limit_bytes=100_000, expected=bundle.digest)
    finally:
        bundle.path.unlink()
    assert list((tmp_path / "there").iterdir()) == []


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="does not exist"):
        pack(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(Invalid, match="is not a folder"):
        pack(tmp_path / "file")


HOSTILE = [
    (entry("/etc/evil"),),
    (entry("../evil"),),
    (entry("a/../../evil"),),
    (entry("link", tarfile.SYMTYPE, "/etc"),),
    (entry("link", tarfile.SYMTYPE, ".."), entry("link/evil")),
    (entry("d/link", tarfile.SYMTYPE, "../../x"),),
    (entry("a"), entry("b", tarfile.LNKTYPE, "a")),
    (entry("dev", tarfile.CHRTYPE),),
    (entry("pipe", tarfile.FIFOTYPE),),
    (entry("a"), entry("a")),
    (entry("a"), entry("a/b")),
    (entry("a"), entry("a", tarfile.SYMTYPE, "b")),
]


@pytest.mark.parametrize("members", HOSTILE, ids=lambda members: ">".join(one.name for one in members))
def test_a_hostile_bundle_writes_nothing(tmp_path: Path, members: tuple[tarfile.TarInfo, ...]) -> None:
    bundle = tmp_path / "b.tar.gz"
    digest = archive(bundle, *members)
    box = tmp_path / "box"
    with pytest.raises(Invalid):
        unpack(bundle, box / "into", limit_bytes=LIMIT, expected=digest)
    assert list(box.iterdir()) == []
    assert {one.name for one in tmp_path.iterdir()} == {"b.tar.gz", "box"}


def test_another_digest_is_refused(tmp_path: Path) -> None:
    archive(tmp_path / "b", entry("x"))
    with pytest.raises(Invalid, match="not sha256:0000"):
        unpack(tmp_path / "b", tmp_path / "into", limit_bytes=LIMIT, expected=Digest("sha256:" + "0" * 64))
    assert not (tmp_path / "into").exists()


def test_a_bomb_stops_at_the_limit(tmp_path: Path) -> None:
    digest = archive(tmp_path / "b", (entry("zeros"), bytes(4 * 2**20)))
    with pytest.raises(TooLarge):
        unpack(tmp_path / "b", tmp_path / "into", limit_bytes=2**20, expected=digest)
    assert [one.name for one in tmp_path.iterdir()] == ["b"]


def test_a_giant_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    digest = archive(tmp_path / "b", (entry("x", tarfile.GNUTYPE_LONGNAME), b"a" * (LARGEST_HEADER + 1)))
    with pytest.raises(Invalid, match="header"):
        unpack(tmp_path / "b", tmp_path / "into", limit_bytes=LIMIT, expected=digest)


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    digest = archive(tmp_path / "b", entry("x"))
    write(tmp_path / "into", {"mine": ""})
    with pytest.raises(Conflict):
        unpack(tmp_path / "b", tmp_path / "into", limit_bytes=LIMIT, expected=digest)
    assert {one.name for one in (tmp_path / "into").iterdir()} == {"mine"}


def test_cut_short_anywhere_it_is_refused(tmp_path: Path, packed: Callable[[Path], Bundle]) -> None:
    bundle = packed(write(tmp_path / "src", {"a": "x" * 2_000, "b": "y"}))
    whole = bundle.path.read_bytes()
    for length in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(Invalid):
            unpack(tmp_path / "cut", tmp_path / "into", limit_bytes=LIMIT, expected=bundle.digest)
        assert not (tmp_path / "into").exists()


@settings(max_examples=60, deadline=None)
@given(noise=st.binary(max_size=2_000), zipped=st.booleans())
def test_noise_never_gets_past_our_errors(tmp_path_factory: pytest.TempPathFactory, noise: bytes, zipped: bool) -> None:
    folder = tmp_path_factory.mktemp("noise")
    (folder / "b").write_bytes(gzip.compress(noise) if zipped else noise)
    with pytest.raises(KasbahError):
        unpack(folder / "b", folder / "into", limit_bytes=LIMIT, expected=Digest("sha256:" + "0" * 64))
    assert not (folder / "into").exists()


HOSTILE_TREES = {
    "deeper than a tree can be removed": (entry("/".join(["d"] * 101)),),
    "a file where a folder is": (entry("a/b"), entry("a")),
    "a folder where a file is": (entry("a"), entry("a", tarfile.DIRTYPE)),
    "a link to nothing": (entry("a", tarfile.SYMTYPE, ""),),
}


@pytest.mark.parametrize("members", HOSTILE_TREES.values(), ids=HOSTILE_TREES)
def test_a_tree_that_cannot_be_is_refused(tmp_path: Path, members: tuple[tarfile.TarInfo, ...]) -> None:
    digest = archive(tmp_path / "b", *members)
    with pytest.raises(Invalid):
        unpack(tmp_path / "b", tmp_path / "into", limit_bytes=LIMIT, expected=digest)
    assert {one.name for one in tmp_path.iterdir()} == {"b"}


def test_folders_count_as_files_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kasbah.api.bundle.MOST_FILES", 5)
    digest = archive(tmp_path / "b", *(entry(f"{number}/a/b/c/d") for number in range(3)))
    with pytest.raises(TooLarge):
        unpack(tmp_path / "b", tmp_path / "into", limit_bytes=LIMIT, expected=digest)


def test_a_source_that_no_site_would_unpack_is_not_packed(tmp_path: Path) -> None:
    write(tmp_path, {"/".join(["d"] * 101): ""})
    with pytest.raises(Invalid, match="deep"):
        pack(tmp_path)
