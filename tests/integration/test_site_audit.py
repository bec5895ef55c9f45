"""The site's own audit log: in files, across kills and damage; requests in batches; each log watched by the other."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from watched_logs import CLOCK, NOW, Watched

from kasbah.agent.audit.file import EntryFile
from kasbah.agent.audit.log import SiteLog
from kasbah.agent.audit.requests import Requests, prove_request
from kasbah.agent.meter import Meter
from kasbah.api.agent import AuditAnswer
from kasbah.api.audit_export import Head, verify_export, write_export
from kasbah.api.checkpoints import Checkpoint, read_note, sign_checkpoint
from kasbah.api.signing import load_or_make_key, parse_public, public_text
from kasbah.control.app import build
from kasbah.control.usecases.checkpoint import CONTROL
from kasbah.decide.merkle import is_included, leaf_hash, root_of
from kasbah.decide.tiles import grow, nodes_in
from kasbah.domain.audit import Entry, Outcome, commit, decode, encode
from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import InstallationId, ProjectId, ServiceId, SiteId
from kasbah.domain.label import Label, Level
from kasbah.domain.service import Access, Scaling, Service, Sleep
from kasbah.settings import ControlSettings


def leaf_of(number: int) -> bytes:
    return encode(Entry(sequence=number, at=NOW, actor="kasbah", act="route", object=f"services/{number}"))


def opened(folder: Path) -> SiteLog:
    return SiteLog(folder, "in-1", "st-1", CLOCK.now)


def entries(log: SiteLog) -> list[Entry]:
    return [decode(one) for one in log.leaves()]


def root_in_memory(leaves: list[bytes]) -> bytes:
    tiles = grow(0, lambda *_: b"", [leaf_hash(one) for one in leaves])
    return root_of(len(leaves), nodes_in(lambda level, number: tiles[level, number]))


# --- the file ---


@pytest.mark.parametrize("counts", [(3, 2), (255, 2), (256, 1), (513, 300)], ids=str)
def test_the_tree_is_that_of_the_entries_before_and_after_a_start(tmp_path: Path, counts: tuple[int, int]) -> None:
    leaves: list[bytes] = []
    for count in counts:
        file = EntryFile(tmp_path)
        assert (file.size, file.torn) == (len(leaves), 0)
        for _ in range(count):
            leaves.append(leaf_of(len(leaves)))
            file.append(leaves[-1])
        assert list(file.leaves()) == leaves
        assert root_of(file.size, nodes_in(file.tile)) == root_in_memory(leaves)
        file.close()


def test_wherever_the_last_entry_is_torn_it_is_cut_and_the_others_stay(tmp_path: Path) -> None:
    file = EntryFile(tmp_path)
    for number in range(5):
        file.append(leaf_of(number))
    file.close()
    whole, hashes = (tmp_path / "entries").read_bytes(), (tmp_path / "hashes").read_bytes()
    start = whole.rindex(b"{")
    for kept in range(start, len(whole)):
        for records in (hashes, hashes[:-40], hashes[:-7], b""):
            (tmp_path / "entries").write_bytes(whole[:kept])
            (tmp_path / "hashes").write_bytes(records)
            again = EntryFile(tmp_path)
            assert (again.size, again.torn) == (4, kept - start)
            assert (tmp_path / "entries").stat().st_size == start
            again.append(leaf_of(4))
            assert list(again.leaves()) == [leaf_of(number) for number in range(5)]
            assert root_of(5, nodes_in(again.tile)) == root_in_memory(list(again.leaves()))
            again.close()


WRITER = """
import sys
from pathlib import Path
from test_site_audit import opened
log = opened(Path(sys.argv[1]))
for number in range(100_000):
    print(log.say("route", f"services/{number}"), flush=True)
"""


@pytest.mark.real
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}) as writer:
        assert writer.stdout is not None
        acknowledged = -1
        while acknowledged < 300:
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        told = writer.stdout.read().split()
    acknowledged = max([acknowledged, *map(int, told)])
    log = opened(tmp_path)
    found = entries(log)
    assert [one.sequence for one in found] == list(range(len(found)))
    assert len([one for one in found if one.act == "route"]) > acknowledged
    log.close()


# --- the log ---


def test_a_torn_entry_is_said_and_the_log_goes_on(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.say("route", "services/1")
    before = read_note(log.word().checkpoint).checkpoint
    log.close()
    with (tmp_path / "entries").open("ab") as file:
        file.write(b'{"act":"rou')
    again = opened(tmp_path)
    assert [one.act for one in entries(again)] == ["route", "cut_torn_entry"]
    assert dict(entries(again)[-1].details)["bytes"] == "11"
    assert read_note(again.word().checkpoint).checkpoint.origin == before.origin
    again.close()


def test_a_full_disk_loses_entries_says_how_many_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(tmp_path)
    log.say("route", "services/1")
    sync = os.fdatasync

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    assert [log.say("route", f"services/{number}") for number in (2, 3)] == [-1, -1]
    assert Requests(log, tmp_path / "requests").tell(7, 0, LINES) is None
    monkeypatch.setattr(os, "fdatasync", sync)
    assert log.say("route", "services/4") == 2
    assert [(one.act, dict(one.details).get("entries")) for one in entries(log)] == [
        ("route", None),
        ("lose_entries", "3"),
        ("route", None),
    ]
    log.close()
    again = opened(tmp_path)
    assert len(entries(again)) == 3
    again.close()


def test_services_that_come_and_go_are_logged_with_their_labels(tmp_path: Path) -> None:
    log = opened(tmp_path)
    blank = DesiredState(
        installation=InstallationId("in-1"),
        epoch=1,
        generation=1,
        site=SiteId("st-1"),
        issued_at=NOW,
        base_domain="localhost",
        services=(),
        keys=(),
    )
    web = Service(
        id=ServiceId("sv-1"),
        project=ProjectId("pr-1"),
        name="web",
        hosts=(),
        access=Access.KEY,
        label=Label(level=Level.INTERNAL),
        scaling=Scaling(),
        sleep=Sleep(),
        revisions=(),
        shares=(),
    )
    raised = replace(web, label=Label(level=Level.VITAL, regimes=("gdpr",)))
    log.accept(None, replace(blank, services=(web,)), b"1")
    log.accept(replace(blank, services=(web,)), replace(blank, services=(raised,)), b"2")
    log.accept(replace(blank, services=(raised,)), blank, b"3")
    told = [(one.act, dict(one.details).get("label")) for one in entries(log) if one.object == "services/sv-1"]
    assert told == [("route", "1 internal"), ("route", "4 vital; gdpr"), ("unroute", "4 vital; gdpr")]
    log.close()


def test_a_log_that_is_not_what_was_signed_says_so_under_another_life(tmp_path: Path) -> None:
    log = opened(tmp_path)
    for number in range(3):
        log.say("route", f"services/{number}")
    log.word()
    log.close()
    lines = (tmp_path / "entries").read_bytes().splitlines(keepends=True)
    (tmp_path / "entries").write_bytes(lines[0] + lines[1].replace(b"services/1", b"services/9") + lines[2])
    (tmp_path / "hashes").unlink()
    again = opened(tmp_path)
    assert entries(again)[-1].act == "cut_log"
    assert read_note(again.word().checkpoint).checkpoint.origin.endswith("/2")
    again.close()
    third = opened(tmp_path)
    assert [one.act for one in entries(third)].count("cut_log") == 1
    third.close()


def test_the_site_s_log_is_exported_and_verified_as_any_other(tmp_path: Path) -> None:
    log = opened(tmp_path)
    for number in range(300):
        log.say("route", f"services/{number}")
    word = log.word()
    file = tmp_path / "export"
    file.write_bytes(b"".join(write_export(Head(key=word.public_key, checkpoint=word.checkpoint), log.leaves())))
    with file.open("rb") as export:
        assert verify_export(export, parse_public(word.public_key), word.public_key).findings == []
    log.close()


# --- requests ---

LINES = [f"1767225600\tsv-{number % 3}/rv-1\tky-{number}\t200\t-\t5\t10\t20".encode() for number in range(700)]


def length(lines: list[bytes]) -> int:
    return sum(len(line) + 1 for line in lines)


def test_requests_are_one_entry_a_batch_and_each_can_be_proved_until_it_is_forgotten(tmp_path: Path) -> None:
    log = opened(tmp_path)
    requests = Requests(log, tmp_path / "requests")
    sequence = requests.tell(7, 0, LINES)
    assert sequence is not None
    (entry,) = entries(log)
    details = dict(entry.details)
    assert (entry.act, details["requests"], details["sv-0"]) == ("requests", "700", "234")
    assert b"ky-" not in encode(entry)
    for index in (0, 255, 256, 699):
        proved = prove_request(tmp_path / "requests", sequence, index)
        assert proved.line == LINES[index]
        leaf = leaf_hash(commit(proved.salt, proved.line).encode())
        assert is_included(leaf, index, proved.size, proved.proof, bytes.fromhex(details["root"]))
        other = leaf_hash(commit(proved.salt, LINES[index - 1]).encode())
        assert not is_included(other, index, proved.size, proved.proof, bytes.fromhex(details["root"]))
    requests.forget(most=0)
    with pytest.raises(LookupError, match="not kept any more"):
        prove_request(tmp_path / "requests", sequence, 0)
    log.close()


def test_lines_that_are_read_again_after_kills_are_logged_once(tmp_path: Path) -> None:
    """Each start reads from where the meter had counted to: the beginning, three times over."""
    counts = []
    for read in (10, 10, 15, 15, 18):
        log = opened(tmp_path)
        Requests(log, tmp_path / "requests").tell(7, 0, LINES[:read])
        counts = [dict(one.details)["requests"] for one in entries(log)]
        log.close()
    assert counts == ["10", "5", "3"]
    log = opened(tmp_path)
    requests = Requests(log, tmp_path / "requests")
    requests.tell(7, length(LINES[:18]), LINES[18:20])
    requests.tell(8, 0, LINES[:4])
    assert [dict(one.details)["requests"] for one in entries(log)][3:] == ["2", "4"]
    log.close()


def test_another_file_with_the_inode_of_the_last_is_logged(tmp_path: Path) -> None:
    log = opened(tmp_path)
    requests = Requests(log, tmp_path / "requests")
    requests.tell(7, 0, LINES[:10])
    requests.tell(7, 0, LINES[20:23])
    requests.tell(7, 0, LINES[30:50])
    assert [dict(one.details)["requests"] for one in entries(log)] == ["10", "3", "20"]
    log.close()


def test_the_meter_tells_of_each_line_once_even_where_it_is_killed_before_it_counted(tmp_path: Path) -> None:
    access, log = tmp_path / "access.log", opened(tmp_path / "audit")
    access.write_bytes(b"\n".join(LINES[:5]) + b"\n")
    requests = Requests(log, tmp_path / "requests")
    meter = Meter(access, tmp_path / "usage.db")

    def killed(inode: int, position: int, lines: list[bytes]) -> None:
        requests.tell(inode, position, lines)
        raise KeyboardInterrupt

    meter.tell = killed
    with pytest.raises(KeyboardInterrupt):
        meter.read()
    meter.tell = requests.tell
    with access.open("ab") as file:
        file.write(b"\n".join(LINES[5:8]) + b"\n")
    assert meter.read() == 8
    assert [dict(one.details)["requests"] for one in entries(log)] == ["5", "3"]
    meter.close()
    log.close()


# --- two logs that watch each other ---


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    control = build(ControlSettings(data_dir=tmp_path / "data", country="MA"), CLOCK)
    made = Watched(control, tmp_path / "site")
    yield made
    made.meter.close()
    control.close()


async def test_each_cosigns_the_other_as_it_grows(watched: Watched) -> None:
    log = await watched.start()
    for number in range(3):
        log.say("route", f"services/{number}")
        watched.write(f"{number}")
        await watched.link.tell_audit()
        site, control = watched.known(), watched.known(CONTROL)
        assert (site.trouble, site.cosigned_size) == ("", len(log.leaves()))
        assert control.cosigned_size == control.size
        assert len(read_note(control.cosigned).lines) == 2
        watched.sign()
    acts = [one.act for one in entries(log)]
    assert acts.count("pin_log") == 1
    log.close()


async def test_a_site_that_rewrote_its_log_is_refused_and_stays_so(watched: Watched) -> None:
    log = await watched.start()
    log.say("route", "services/1")
    await watched.link.tell_audit()
    log.close()
    good = watched.known().cosigned
    other = await watched.start("another")
    (watched.folder / "another" / "audit.key").write_bytes((watched.folder / "audit" / "audit.key").read_bytes())
    other.close()
    other = await watched.start("another")
    for number in range(9):
        other.say("unroute", f"services/{number}")
    for _ in range(2):
        await watched.link.tell_audit()
        found = watched.known()
        assert "do not begin with" in found.trouble
        assert found.cosigned == good
    assert "do not begin with" in other.trouble
    with watched.control.office.store.read() as tx:
        refused = tx.audit.page(before=None, limit=9, act="refuse_log")
    assert len(refused) == 1
    assert decode(refused[0].leaf).outcome is Outcome.REFUSED
    other.close()


async def test_another_key_and_another_name_are_refused(watched: Watched) -> None:
    log = await watched.start()
    await watched.link.tell_audit()
    log.close()
    other = await watched.start("another")
    await watched.link.tell_audit()
    assert "another key" in watched.known().trouble
    other.close()


async def test_a_site_sees_that_the_control_plane_s_log_was_rewritten_and_does_not_cosign_it(watched: Watched) -> None:
    log = await watched.start()
    watched.write("one")
    await watched.link.tell_audit()
    before = watched.known(CONTROL)
    key = load_or_make_key(watched.control.folder.audit_key)
    seen = read_note(before.note).checkpoint
    forged = sign_checkpoint(key, Checkpoint(origin=seen.origin, size=seen.size + 5, root=b"f" * 32))
    answer = AuditAnswer(
        known=len(log.leaves()), trouble="", public_key=public_text(key), checkpoint=forged.text, proof=()
    )
    for _ in range(2):
        assert not log.hear(answer)
    refused = [one for one in entries(log) if one.act == "refuse_log"]
    assert len(refused) == 1
    assert "do not begin with" in refused[0].reason
    assert read_note(log.word().cosigned).checkpoint == seen
    stranger = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
    other = replace(answer, public_key=public_text(stranger), checkpoint=sign_checkpoint(stranger, seen).text)
    log.hear(other)
    assert read_note(log.word().cosigned).checkpoint == seen
    log.close()


async def test_a_proof_for_another_size_is_asked_for_again_and_accuses_nobody(watched: Watched) -> None:
    """A control plane that was restored knows less of the site's log than the site remembers."""
    log = await watched.start()
    for number in range(4):
        log.say("route", f"services/{number}")
        await watched.link.tell_audit()
        if number == 1:
            old = watched.known()
    with watched.control.office.note() as work:
        work.tx.audit.put_log(old)
    log.say("route", "services/4")
    await watched.link.tell_audit()
    found = watched.known()
    assert (found.trouble, found.size) == ("", len(log.leaves()))
    log.close()


async def test_a_word_that_is_none_is_refused(watched: Watched) -> None:
    log = await watched.start()
    word = log.word()
    transport = httpx.ASGITransport(app=watched.control.asgi)
    token = watched.control.folder.site_token.read_text().strip()
    headers = {"authorization": f"Bearer {token}", "x-kasbah-protocol": "1"}
    async with httpx.AsyncClient(transport=transport, base_url="http://c", headers=headers) as client:
        for body in (b"{}", b"[]", b'{"public_key":"x","checkpoint":"y","told":0,"proof":[],"seen":0,"cosigned":""}'):
            answer = await client.post("/agent/v1/audit", content=body)
            assert answer.status_code == 400, answer.text
    assert base64.b64decode(word.public_key.partition(":")[2])
    log.close()
