"""A site's log that was refused goes on only when somebody accepts it, by name and with a reason; nothing is lost."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from watched_logs import CLOCK, Watched

from kasbah.agent.audit.log import SiteLog
from kasbah.api.checkpoints import cosigned_at, read_note
from kasbah.api.signing import parse_public
from kasbah.control.app import build
from kasbah.control.usecases.checkpoint import CONTROL
from kasbah.domain.audit import Entry, decode
from kasbah.settings import ControlSettings

SHOWN = 3
"""Entries of a new log as it is refused."""
WHY = "the site's disk was replaced, ticket 81"


class Accepting(Watched):
    """The same two, and people at the API."""

    async def ask(self, method: str, path: str, body: object = None, token: str = "") -> httpx.Response:
        headers = {"authorization": f"Bearer {token or self.control.folder.admin_token.read_text().strip()}"}
        transport = httpx.ASGITransport(app=self.control.asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://control/api/v1", headers=headers) as client:
            return await client.request(method, path, json=body)

    async def seen(self, name: str = "local") -> dict[str, Any]:
        """A log as people see it."""
        logs = (await self.ask("GET", "/audit/logs")).json()["items"]
        return next(one for one in logs if one["log"] == name)

    async def accept(self, token: str = "", **change: str) -> httpx.Response:
        """Accept what is shown now, but for what is changed."""
        shown = (await self.seen())["shown"] or {"public_key": "", "root": ""}
        body = {"public_key": shown["public_key"], "root": shown["root"], "reason": WHY, **change}
        return await self.ask("POST", "/audit/logs/local/accept", body, token)

    async def replaced(self, name: str = "another", entries: int = 3) -> SiteLog:
        """The site begins a log anew, under a key of its own, and shows it."""
        log = await self.start(name)
        for number in range(entries):
            log.say("route", f"services/{number}")
        await self.link.tell_audit()
        return log

    def entries(self, act: str) -> list[Entry]:
        with self.control.office.store.read() as tx:
            return [decode(one.leaf) for one in tx.audit.page(before=None, limit=99, act=act)]


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Accepting]:
    control = build(ControlSettings(data_dir=tmp_path / "data", country="MA"), CLOCK)
    made = Accepting(control, tmp_path / "site")
    log = await made.start()
    log.say("route", "services/1")
    made.write("one")
    await made.link.tell_audit()
    log.close()
    yield made
    made.meter.close()
    control.close()


async def vouched(watched: Accepting) -> dict[str, bool]:
    """Whether what is said to be cosigned is found to be, in every log and by each of its witnesses."""
    logs = (await watched.ask("GET", "/audit/logs")).json()["items"]
    return {
        f"{one['log']} by {name}": cosigned_at(read_note(one["cosigned"]), name, parse_public(key)) is not None
        for one in logs
        if one["cosigned"]
        for name, key in one["witnesses"].items()
    }


async def test_what_is_accepted_goes_on_and_what_was_known_is_kept(watched: Accepting) -> None:
    before, ours = watched.known(), watched.known(CONTROL)
    other = await watched.replaced()
    answer = await watched.accept()
    assert answer.status_code == 200, answer.text
    assert await vouched(watched) == {"local by kasbah/witness/control": True}

    found = await watched.seen()
    assert (found["trouble"], found["shown"], found["size"]) == ("", None, SHOWN)
    (broken,) = found["breaks"]
    assert (broken["accepted_by"], broken["reason"]) == ("admin", WHY)
    assert "another key" in broken["trouble"]
    assert (broken["public_key"], broken["cosigned"]) == (before.public_key, before.cosigned)
    with watched.control.office.store.read() as tx:
        (kept,) = tx.audit.breaks()
    assert (kept.note, kept.witnessed) == (before.note, ours.cosigned), "what it had cosigned of ours, too"

    (entry,) = watched.entries("accept_audit_log")
    details = dict(entry.details)
    assert (entry.actor, details["reason"], details["site"]) == ("admin", WHY, "local")
    assert (details["known_key"], details["accepted_root"]) == (before.public_key, read_text(kept.accepted_note))

    other.say("route", "services/4")
    for _ in range(2):
        await watched.link.tell_audit()
    assert other.trouble == ""
    assert watched.known().cosigned_size == len(other.leaves())
    assert watched.known(CONTROL).cosigned_size > 0, "and it cosigns ours again, by its new key"
    assert set((await vouched(watched)).values()) == {True}
    other.close()


def read_text(note: str) -> str:
    return note.splitlines()[2]


async def test_a_refused_log_grows_and_is_accepted_from_where_it_was_refused(watched: Accepting) -> None:
    other = await watched.replaced()
    for number in range(5):
        other.say("unroute", f"services/{number}")
        await watched.link.tell_audit()
    assert len(watched.entries("refuse_log")) == 1
    assert (await watched.accept()).json()["size"] == SHOWN
    for _ in range(2):
        await watched.link.tell_audit()
    assert (watched.known().trouble, watched.known().cosigned_size) == ("", SHOWN + 6)
    other.close()


async def test_another_log_than_the_one_that_was_seen_is_not_accepted(watched: Accepting) -> None:
    (await watched.replaced()).close()
    seen = (await watched.seen())["shown"]
    CLOCK.advance(timedelta(minutes=2))
    (await watched.replaced("third", entries=5)).close()
    answer = await watched.accept(public_key=seen["public_key"], root=seen["root"])
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "another_log")
    assert watched.known().trouble
    assert [dict(one.details)["shown_entries"] for one in watched.entries("refuse_log")] == ["5", str(SHOWN)]
    assert (await watched.accept()).json()["size"] == 5


@pytest.mark.parametrize("key", ["another", "the same"])
async def test_a_log_that_is_shorter_than_what_was_known_is_refused_at_once(watched: Accepting, key: str) -> None:
    """It never could prove that it begins with what was known, so that nobody waits for it to."""
    log = await watched.start()
    for number in range(20):
        log.say("route", f"services/{number}")
    await watched.link.tell_audit()
    log.close()
    assert (watched.known().trouble, watched.known().size) == ("", len(log_lines(watched, "audit")))
    (watched.folder / "short").mkdir()
    if key == "the same":
        shutil.copy(watched.folder / "audit" / "audit.key", watched.folder / "short" / "audit.key")
    (await watched.replaced("short", entries=1)).close()
    assert watched.known().trouble == (
        "it is signed by another key than before" if key == "another" else "it has 1 entries, and 22 were known"
    )
    assert (await watched.accept()).status_code == 200


def log_lines(watched: Watched, name: str) -> list[str]:
    return (watched.folder / name / "entries").read_text().splitlines()


async def test_who_shows_another_log_at_each_call_fills_no_log(watched: Accepting) -> None:
    for number in range(4):
        (await watched.replaced(f"log-{number}")).close()
    assert len(watched.entries("refuse_log")) == 1


async def test_it_breaks_again_and_both_breaks_are_told(watched: Accepting) -> None:
    for name in ("another", "third"):
        (await watched.replaced(name)).close()
        assert (await watched.accept()).status_code == 200
    assert len((await watched.seen())["breaks"]) == 2
    assert len(watched.entries("accept_audit_log")) == 2


async def test_who_may_not_is_refused_and_nothing_changes(watched: Accepting) -> None:
    (await watched.replaced()).close()
    for role in ("auditor", "operator", "deployer"):
        made = await watched.ask("POST", "/tokens", {"name": role, "grants": [{"role": role}]})
        answer = await watched.accept(made.json()["token"])
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "action_missing")
    assert watched.known().trouble


@pytest.mark.parametrize("reason", ["", "  . "], ids=["none", "nothing said"])
async def test_without_a_reason_nothing_is_accepted(watched: Accepting, reason: str) -> None:
    (await watched.replaced()).close()
    assert (await watched.accept(reason=reason)).status_code == 400
    assert watched.known().trouble


async def test_what_is_not_refused_or_not_there_cannot_be_accepted(watched: Accepting) -> None:
    answer = await watched.accept()
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "log_not_refused")
    body = {"public_key": "k", "root": "r", "reason": WHY}
    for name in ("nowhere", CONTROL):
        answer = await watched.ask("POST", f"/audit/logs/{name}/accept", body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "log_not_found")


async def test_what_is_no_log_of_the_site_cannot_be_accepted(watched: Accepting) -> None:
    identity = watched.ledger.identity
    assert identity is not None
    log = watched.link.audit = SiteLog(watched.folder / "stranger", "in-other", identity.site, CLOCK.now)
    await watched.link.tell_audit()
    assert (await watched.seen())["trouble"].startswith("it calls itself")
    answer = await watched.accept()
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "no_log_shown")
    log.close()
