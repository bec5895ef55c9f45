"""Which installation the client speaks to, and with which token."""

from __future__ import annotations

from pathlib import Path

import pytest

from kasbah.cli import context
from kasbah.cli.context import Remembered
from kasbah.errors import Invalid, Unauthenticated, Unavailable


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment whose context file remembers an installation."""
    (tmp_path / "token").write_text("secret\n")
    file = tmp_path / "folder" / "context.json"
    context.write(file, Remembered(url="http://127.0.0.1:7070", token_file=tmp_path / "token"))
    return {"KASBAH_CONTEXT": str(file)}


def test_the_file_says_where(environ: dict[str, str]) -> None:
    found = context.find(environ)
    assert (found.url, found.token) == ("http://127.0.0.1:7070", "secret")
    assert Path(environ["KASBAH_CONTEXT"]).stat().st_mode & 0o777 == 0o600


def test_the_environment_wins(environ: dict[str, str]) -> None:
    found = context.find({**environ, "KASBAH_URL": "https://k.example/", "KASBAH_TOKEN": "other"})
    assert (found.url, found.token) == ("https://k.example", "other")


def test_another_token_for_the_same_installation(environ: dict[str, str]) -> None:
    assert context.find({**environ, "KASBAH_TOKEN": "other"}).token == "other"


def test_a_token_goes_to_no_other_url(environ: dict[str, str]) -> None:
    assert context.find({**environ, "KASBAH_URL": "http://127.0.0.1:7070"}).token == "secret"
    with pytest.raises(Unauthenticated, match="no token for it"):
        context.find({**environ, "KASBAH_URL": "http://evil.example"})


def test_nothing_is_known(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no installation is known"):
        context.find({"KASBAH_CONTEXT": str(tmp_path / "none.json")})


@pytest.mark.parametrize("text", ["", "[]", '{"url": "ftp://x", "token_file": "t"}', '{"url": "http://x"}', "\xff"])
def test_a_damaged_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "context.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(Invalid):
        context.find({"KASBAH_CONTEXT": str(file)})


def test_a_token_file_that_is_gone(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "token").unlink()
    with pytest.raises(Unauthenticated, match="cannot be read"):
        context.find(environ)


def test_only_the_installation_that_ended_is_forgotten(environ: dict[str, str]) -> None:
    file = Path(environ["KASBAH_CONTEXT"])
    context.forget(file, "http://127.0.0.1:9999")
    assert file.exists()
    context.forget(file, "http://127.0.0.1:7070")
    assert not file.exists()


def test_where_the_file_is() -> None:
    assert context.path({"KASBAH_CONTEXT": "/a/b.json"}) == Path("/a/b.json")
    assert context.path({"XDG_CONFIG_HOME": "/c"}) == Path("/c/kasbah/context.json")
