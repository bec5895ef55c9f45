"""Where the installation is that the client speaks to, and with which token.

`KASBAH_URL` and `KASBAH_TOKEN` win; else a small file that `kasbah up` writes says it: the URL, and the file that holds
the token. A token is never sent to another URL than the one it was written for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from kasbah.errors import Invalid, Unauthenticated, Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """An installation, and the token to speak to it."""

    url: str
    token: str
    origin: str
    """Where this was found: a file, or the environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What the context file holds."""

    url: str
    token_file: Path


def path(environ: Mapping[str, str] = os.environ) -> Path:
    """The context file: `$KASBAH_CONTEXT`, or `kasbah/context.json` where configuration lives."""
    if named := environ.get("KASBAH_CONTEXT"):
        return Path(named).expanduser()
    home = environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "kasbah" / "context.json"


def find(environ: Mapping[str, str] = os.environ) -> Context:
    """The installation to speak to. Raises Unavailable where none is known, Unauthenticated where no token is."""
    url, token = environ.get("KASBAH_URL", ""), environ.get("KASBAH_TOKEN", "")
    if url and token:
        return Context(url=_checked(url), token=token, origin="KASBAH_URL")
    remembered = read(path(environ))
    if url and (remembered is None or _checked(url) != remembered.url):
        raise Unauthenticated(
            f"KASBAH_URL is {url}, and there is no token for it", hint="set KASBAH_TOKEN to a token of it"
        )
    if remembered is None:
        raise Unavailable(
            "no installation is known here",
            hint="start one with `kasbah up`, or set KASBAH_URL and KASBAH_TOKEN",
            code="no_installation",
        )
    return Context(url=remembered.url, token=token or _read_token(remembered.token_file), origin=str(path(environ)))


def read(file: Path) -> Remembered | None:
    """What the context file remembers; None where there is none. Raises Invalid where it is damaged."""
    try:
        fields = json.loads(file.read_text())
        return Remembered(url=_checked(fields["url"]), token_file=Path(fields["token_file"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise Invalid(
            "the context file cannot be read", where=str(file), hint="remove it and run `kasbah up` again"
        ) from error


def write(file: Path, remembered: Remembered) -> None:
    """Remember an installation, for this user only."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        json.dump({"url": remembered.url, "token_file": str(remembered.token_file)}, out)
    fresh.replace(file)


def forget(file: Path, url: str) -> None:
    """Forget the installation at `url`, if it is the one remembered."""
    try:
        remembered = read(file)
    except Invalid:
        return
    if remembered is not None and remembered.url == url:
        file.unlink(missing_ok=True)


def _read_token(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError as error:
        raise Unauthenticated(
            f"the token file {file} cannot be read: {error.strerror}",
            hint="run `kasbah up` as this user, or set KASBAH_TOKEN",
        ) from error


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Invalid(f"{url!r} is no URL of an installation", hint="it looks like http://127.0.0.1:7070")
    return url.rstrip("/")
