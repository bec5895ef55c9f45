"""Once a command has said what becomes of a key, the site's gateway takes it for that."""

from __future__ import annotations

import itertools
from pathlib import Path

import httpx
import pytest
from support import Site, probe

MADE = itertools.count()
MODES = ["made", "disabled", "enabled", "revoked"]


@pytest.fixture(scope="module")
def keyed(site: Site, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A service that takes keys alone."""
    folder: Path = tmp_path_factory.mktemp("keyed")
    site.deploy(probe(folder, {"keyed": {"access": "key"}}))
    return "keyed"


@pytest.mark.parametrize("_time", range(5))
def test_a_key_is_what_was_said_of_it(site: Site, keyed: str, _time: int) -> None:
    made = site.json("keys", "create", f"at-once-{next(MADE)}", "--service", keyed)
    headers = {"host": f"{keyed}.localhost", "authorization": f"Bearer {made['key']}"}

    def status() -> int:
        return httpx.get(f"http://{site.gateway}/", headers=headers, timeout=60, trust_env=False).status_code

    seen = [status()]
    for command in ("disable", "enable", "revoke"):
        site.ok("keys", command, made["id"])
        seen.append(status())
    assert dict(zip(MODES, seen, strict=True)) == {"made": 200, "disabled": 401, "enabled": 200, "revoked": 401}
