"""The audit log of the control plane: every write leaves an entry, a refusal too, and nothing that anybody sent."""

from __future__ import annotations

import base64
import hashlib
import inspect
import json
import re
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from charters import standing_in
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from installed import START, Installed, request

from kasbah.api.agent import DESIRED_STATE
from kasbah.api.checkpoints import Checkpoint, is_signed, read_note, sign_checkpoint
from kasbah.api.signing import public_text
from kasbah.clock import ManualClock
from kasbah.control import backup
from kasbah.control.app import Control, build
from kasbah.control.folder import Folder
from kasbah.control.http import joining, policy, sites
from kasbah.control.loops.tidy import SALTS_KEPT, Tidy
from kasbah.control.store.audit_logs import AuditLog
from kasbah.control.usecases.uphold import uphold
from kasbah.decide.merkle import leaf_hash, root_of
from kasbah.decide.tiles import grow, nodes_in
from kasbah.domain.audit import Entry, Outcome, commit, decode, encode
from kasbah.settings import ControlSettings

UNSEEN = "sha256:" + "c" * 64
CONTENT = "s3cr3t-content-of-a-caller"
OTHER, OTHER_ROOT = Ed25519PrivateKey.from_private_bytes(b"o" * 32), b"r" * 32
"""What a site's log shows that was refused."""


def entries(control: Control) -> list[Entry]:
    with control.office.store.read() as tx:
        return [decode(leaf) for leaf in tx.audit.leaves(0, tx.audit.size())]


def since(control: Control, size: int) -> list[Entry]:
    return entries(control)[size:]


def size_of(control: Control) -> int:
    return len(entries(control))


# --- every write ---

WRITES: dict[str, tuple[str, Any]] = {
    "POST /services/{name}/deploys": ("/services/web/deploys", request(env={"NAME": CONTENT})),
    "POST /services/{name}/scale": ("/services/web/scale", {"min": 0, "max": 4}),
    "POST /services/{name}/env": ("/services/web/env", {"set": {"NAME": CONTENT}}),
    "POST /services/{name}/traffic": ("/services/web/traffic", {"shares": [{"revision": "REVISION", "percent": 100}]}),
    "POST /services/{name}/sleep": ("/services/web/sleep", {"rung": "frozen"}),
    "POST /services/{name}/wake": ("/services/web/wake", None),
    "POST /services/{name}/rollback": ("/services/web/rollback", None),
    "POST /services/{name}/log-door": ("/services/web/log-door", None),
    "POST /services/{name}/exec-door": ("/services/web/exec-door", {"program": "/bin/ls"}),
    "POST /services/{name}/upload-doors": ("/services/web/upload-doors", {"digest": UNSEEN, "size": 5}),
    "DELETE /services/{name}": ("/services/web", None),
    "POST /projects": ("/projects", {"name": "second"}),
    "POST /projects/{name}/quota": ("/projects/default/quota", {"services": 100}),
    "DELETE /projects/{name}": ("/projects/old", None),
    "PUT /secrets/{name}": ("/secrets/fresh", {"value_base64": base64.b64encode(CONTENT.encode()).decode()}),
    "PUT /secrets/{name}/label": ("/secrets/old/label", {"level": "restricted"}),
    "DELETE /secrets/{name}": ("/secrets/old", None),
    "POST /keys": ("/keys", {"name": "caller"}),
    "DELETE /keys/{key}": ("/keys/old", None),
    "POST /keys/{key}/disable": ("/keys/old/disable", None),
    "POST /keys/{key}/enable": ("/keys/old/enable", None),
    "POST /tokens": ("/tokens", {"name": "robot", "grants": [{"role": "auditor"}]}),
    "POST /tokens/{token}/disable": ("/tokens/old/disable", None),
    "POST /tokens/{token}/enable": ("/tokens/old/enable", None),
    "POST /sites/{site}/drain": ("/sites/local/drain", {}),
    "POST /sites/{site}/tokens": ("/sites/local/tokens", None),
    "DELETE /tokens/{token}": ("/tokens/old", None),
    "POST /gc": ("/gc", {"keep": 1}),
    "POST /audit/logs/{log}/accept": (
        "/audit/logs/local/accept",
        {"public_key": public_text(OTHER), "root": base64.b64encode(OTHER_ROOT).decode(), "reason": "ticket 81"},
    ),
    "POST /sites/{name}/gc-door": ("/sites/local/gc-door", None),
    "POST /sites/{name}/volumes-door": ("/sites/local/volumes-door", None),
}
"""Each route that writes, or opens a door, and a call that it takes."""

CHANGES_NOTHING = {"POST /services/{name}/plan", "POST /policy/plan", "POST /sites/plan"}

ALIKE = frozenset(
    {"PUT /sites", "PUT /sites/{site}", "DELETE /sites/{site}", "POST /sites/{site}/approve"}
    | {"POST /policy/lawbooks", "POST /policy/lawbooks/{version}/approve", "POST /policy/lawbooks/{version}/resume"}
    | {"POST /policy/grants", "DELETE /policy/grants/{grant}"}
)
"""Routes whose calls an owner signs: that they write as the others do is seen in what they say."""


def written(control: Control) -> set[str]:
    paths = control.app.openapi()["paths"]
    return {
        f"{method.upper()} {path.removeprefix('/api/v1')}"
        for path, operations in paths.items()
        for method in operations.keys() - {"get"}
    }


async def test_every_route_that_writes_is_tried_here(installed: Installed) -> None:
    assert written(installed.control) == WRITES.keys() | CHANGES_NOTHING | ALIKE


async def test_what_an_owner_signs_is_written_as_everything_is() -> None:
    found = {}
    for module in (policy, sites, joining):
        said = inspect.getsource(module)
        for route in ALIKE:
            verb, path = route.split()
            handler = re.search(rf'\.{verb.lower()}\(\s*"{re.escape(_below(module, path))}".*?(?=\n@|\Z)', said, re.S)
            if handler is not None:
                found[route] = "call.write(" in handler[0]
    assert found == dict.fromkeys(ALIKE, True)


def _below(module: Any, path: str) -> str:
    return path.removeprefix("/policy") if module is policy else path


async def prepare(installed: Installed) -> str:
    """Services, revisions and other objects for calls to act on; the revision that serves."""
    await installed.serving("web", source="sha256:" + "b" * 64)
    made = await installed.deploy("web")
    await installed.agent.serves("web", made["revision"])
    rollout = made["rollout"]
    while rollout["percent"] < 100:
        rollout = await installed.get(f"/rollouts/{rollout['id']}", after=rollout["version"], wait=5)
    await installed.post("/projects", {"name": "old"}, status=201)
    await installed.post("/keys", {"name": "old"}, status=201)
    await installed.post("/tokens", {"name": "old", "grants": [{"role": "auditor"}]}, status=201)
    value = base64.b64encode(b"x").decode()
    assert (await installed.api.put("/secrets/old", json={"value_base64": value})).status_code == 200
    refuse_a_log(installed.control)
    found = await installed.get("/services/web")
    return next(one["id"] for one in found["revisions"] if one["percent"] == 100)


def refuse_a_log(control: Control) -> None:
    """As if the site's log had been refused, and showed another one."""
    with control.office.note() as work:
        (site,) = work.tx.sites.all()
        shown = Checkpoint(origin=f"kasbah/in/site/{site.id}/1", size=1, root=OTHER_ROOT)
        note, key = sign_checkpoint(OTHER, shown).text, public_text(OTHER)
        work.tx.audit.put_log(
            AuditLog(
                log=site.id, public_key=key, note=note, size=1, signed_at=work.now,
                trouble="it was rewritten", offered=note, offered_key=key,
            )
        )  # fmt: skip


@pytest.mark.parametrize("route", WRITES, ids=[one.replace("/", "-").replace(" ", "") for one in WRITES])
async def test_a_write_leaves_an_entry_and_nothing_of_what_was_sent(installed: Installed, route: str) -> None:
    revision = await prepare(installed)
    before = size_of(installed.control)
    path, body = WRITES[route]
    method = route.partition(" ")[0]
    sent = None if body is None else json.loads(json.dumps(body).replace("REVISION", revision))
    answer = await installed.api.request(method, path, json=sent)
    assert answer.is_success, answer.text
    caller = [one for one in since(installed.control, before) if one.actor == "admin"]
    assert len(caller) == 1
    assert caller[0].credential.startswith("tk-")
    assert caller[0].outcome is Outcome.DONE
    operations = installed.control.app.openapi()["paths"]["/api/v1" + route.partition(" ")[2]]
    assert caller[0].act == operations[method.lower()]["operationId"]
    with sqlite3.connect(installed.control.folder.database) as database:
        told = b"".join(row[0] for row in database.execute("SELECT leaf FROM audit_entry"))
    assert CONTENT.encode() not in told
    assert base64.b64encode(CONTENT.encode()) not in told
    assert hashlib.sha256(CONTENT.encode()).hexdigest().encode() not in told


async def test_a_write_that_fails_leaves_none_and_one_that_is_repeated_no_second(installed: Installed) -> None:
    before = size_of(installed.control)
    await installed.post("/projects", {"name": "default"}, status=409)
    assert since(installed.control, before) == []
    for _ in range(2):
        await installed.post("/projects", {"name": "once"}, status=201, **{"idempotency-key": "k"})
    assert [one.act for one in since(installed.control, before)] == ["make_project"]


async def test_an_entry_names_its_object_and_what_was_decided_because_of_it(installed: Installed) -> None:
    await installed.agent.report()
    before = size_of(installed.control)
    made = await installed.deploy("web", data={"level": "internal"})
    first, *decided = since(installed.control, before)
    assert (first.act, first.object) == ("start_deploy", "projects/default/services/web/deploys")
    details = dict(first.details)
    assert details["revision"] == made["revision"]
    assert details["label"] == "1 internal"
    assert {one.actor for one in decided} == {"kasbah"}
    assert {dict(one.details)["cause"] for one in decided} == {str(first.sequence)}
    acts = [one.act for one in decided]
    assert acts.index("place") < acts.index("publish") < acts.index("reach")
    key = await installed.post("/keys", {"name": "caller"}, status=201)
    assert entries(installed.control)[-2].object == f"projects/default/keys/{key['id']}"


async def test_what_was_sent_can_be_proved_until_its_salt_is_erased(installed: Installed) -> None:
    body = json.dumps({"name": "caller"}).encode()
    await installed.api.post("/keys", content=body, headers={"content-type": "application/json"})
    made = next(one for one in entries(installed.control) if one.act == "make_key")
    with installed.control.office.store.read() as tx:
        logged = tx.audit.get(made.sequence)
    assert logged is not None
    assert logged.salt is not None
    fingerprint = hashlib.sha256(b"POST /api/v1/keys?\n" + body).hexdigest()
    assert commit(logged.salt, fingerprint.encode()) == made.commitment
    installed.clock.advance(SALTS_KEPT + timedelta(seconds=1))
    await Tidy(installed.control.office).sweep()
    with installed.control.office.store.read() as tx:
        erased = tx.audit.get(made.sequence)
    assert erased is not None
    assert erased.salt is None
    assert entries(installed.control)[-1].act == "erase_salts"


# --- decisions ---


async def test_a_decision_is_in_the_log_before_a_site_can_be_told_of_it(installed: Installed) -> None:
    """In the database's every state that a reader can see, a service that a site is told of has been logged."""
    await installed.agent.report()
    seen = set()

    def look() -> None:
        with installed.control.office.store.read() as tx:
            (site,) = tx.sites.all()
            document = tx.sites.desired(site.id)
            assert document is not None
            leaves = [decode(leaf) for leaf in tx.audit.leaves(0, tx.audit.size())]
        desired = DESIRED_STATE.validate_json(document.body)
        told = {one.object for one in leaves if one.act == "reach"}
        published = {dict(one.details)["contents"] for one in leaves if one.act == "publish"}
        assert {f"services/{one.id}" for one in desired.services} <= told
        assert document.contents in published
        seen.update(one.name for one in desired.services)

    for name in ("one", "two"):
        await installed.deploy(name)
        look()
    assert seen == {"one", "two"}


async def test_what_may_be_nowhere_is_logged_with_the_rules_that_say_so(installed: Installed) -> None:
    await installed.agent.report()
    before = size_of(installed.control)
    await installed.deploy("far", data={"level": "vital", "regimes": ["nobody-knows"]})
    (placed,) = [one for one in since(installed.control, before) if one.act == "place"]
    assert placed.outcome is Outcome.REFUSED
    assert "may be at no site" in placed.reason
    assert any(name.startswith("refused: ") and value == "local" for name, value in placed.details)
    acts = [one.act for one in since(installed.control, before)]
    assert "reach" not in acts


async def test_a_label_that_rises_past_a_site_is_logged_as_withdrawn(installed: Installed) -> None:
    await installed.serving("web", data={"level": "internal"})
    before = size_of(installed.control)
    await installed.deploy("web", data={"level": "restricted", "categories": ["personal"], "regimes": ["gdpr"]})
    (placed,) = [one for one in since(installed.control, before) if one.act == "place"]
    assert placed.outcome is Outcome.REFUSED
    (gone,) = [one for one in since(installed.control, before) if one.act == "withdraw"]
    assert dict(gone.details)["site"] == "local"
    (asked,) = [one for one in since(installed.control, before) if one.act == "start_deploy"]
    assert dict(asked.details)["label_before"] == "1 internal"


async def test_what_the_law_takes_and_gives_back_is_logged(installed: Installed) -> None:
    await installed.serving("web", data={"level": "sensitive", "categories": ["personal"], "regimes": ["ma-0908"]})
    before = size_of(installed.control)
    with installed.control.office.write() as work:
        (site,) = work.tx.sites.all()
        work.tx.sites.save(standing_in(site, "US"))
        assert uphold(work)
    placed, _, gone = since(installed.control, before)
    assert (placed.act, placed.outcome, placed.actor) == ("place", Outcome.REFUSED, "kasbah")
    assert any("ma-0908.transfer" in name and value == "local" for name, value in placed.details)
    assert gone.act == "withdraw"
    assert "ma-0908.transfer" in gone.reason
    with installed.control.office.write() as work:
        work.tx.sites.save(site)
        uphold(work)
    placed, _, back = entries(installed.control)[-3:]
    assert (placed.act, placed.outcome, back.act) == ("place", Outcome.DONE, "reach")


async def test_loops_act_in_the_installation_s_own_name(installed: Installed) -> None:
    await installed.serving("web")
    moved = [one for one in entries(installed.control) if one.act == "roll_out"]
    assert [dict(one.details)["state"] for one in moved][-1] == "done"
    assert {(one.actor, one.credential) for one in moved} == {("kasbah", "")}


async def test_a_secret_that_is_given_to_a_site_is_logged(installed: Installed) -> None:
    value = base64.b64encode(CONTENT.encode()).decode()
    await installed.api.put("/secrets/fresh", json={"value_base64": value})
    await installed.serving("web", secrets={"TOKEN": "fresh"})
    desired = await installed.agent.desired()
    assert desired is not None
    (use,) = desired.services[0].revisions[0].secrets
    path = f"/agent/v1/secrets/{use.secret}/{use.version}"
    given = await installed.agent.client.get(path, headers=installed.agent.headers)
    assert given.text == CONTENT
    last = entries(installed.control)[-1]
    assert (last.actor, last.act, last.object) == ("site local", "secret", f"secrets/{use.secret}/{use.version}")


# --- refusals ---


async def test_refusals_are_logged_and_a_flood_of_them_is_counted(installed: Installed) -> None:
    made = await installed.post("/tokens", {"name": "reader", "grants": [{"role": "auditor"}]}, status=201)
    before = size_of(installed.control)
    headers = {"authorization": f"Bearer {made['token']}"}
    for _ in range(5):
        assert (await installed.api.delete("/services/web", headers=headers)).status_code == 403
        strangers = {"authorization": "Bearer kst_nobody"}
        assert (await installed.api.get("/services", headers=strangers)).status_code == 401
    told = since(installed.control, before)
    assert [(one.actor, one.act, one.outcome) for one in told] == [
        ("reader", "remove", Outcome.REFUSED),
        ("unknown", "list_all", Outcome.REFUSED),
    ]
    assert told[0].credential == made["id"]
    assert told[0].reason.startswith("action_missing: ")
    assert "kst_nobody" not in told[1].reason
    installed.clock.advance(timedelta(minutes=2))
    assert (await installed.api.delete("/services/web", headers=headers)).status_code == 403
    assert dict(entries(installed.control)[-1].details)["times"] == "5"


async def test_a_stranger_at_the_agent_s_side_is_logged(installed: Installed) -> None:
    before = size_of(installed.control)
    headers = {**installed.agent.headers, "authorization": "Bearer kss_nobody"}
    assert (await installed.agent.client.post("/agent/v1/still", headers=headers)).status_code == 401
    (told,) = since(installed.control, before)
    assert (told.actor, told.act, told.outcome) == ("unknown", "still", Outcome.REFUSED)


# --- checkpoints ---


def start(data: Path) -> Control:
    return build(ControlSettings(data_dir=data, country="MA"), ManualClock(START))


def signed(control: Control) -> tuple[int, str]:
    """The size and origin of the newest checkpoint, which is checked."""
    with control.office.store.read() as tx:
        (log,) = tx.audit.logs()
        note = read_note(log.note)
        assert note.checkpoint.root == root_of(log.size, nodes_in(tx.audit.tile))
    assert note.text == control.folder.audit_checkpoint.read_text()
    assert note.checkpoint.size == log.size
    key = backup_key(control)
    assert is_signed(note, key)
    return log.size, note.checkpoint.origin


def backup_key(control: Control) -> Any:
    from kasbah.api.signing import load_or_make_key

    return load_or_make_key(control.folder.audit_key).public_key()


async def test_the_log_is_signed_soon_after_it_grew(installed: Installed) -> None:
    await installed.post("/keys", {"name": "caller"}, status=201)
    loop = next(one for one in installed.control.running._loops if one.name == "audit")
    await loop._work()
    assert signed(installed.control)[0] == size_of(installed.control)
    assert installed.control.folder.audit_key.stat().st_mode & 0o777 == 0o600


def test_a_start_with_nothing_new_goes_on_and_writes_nothing(tmp_path: Path) -> None:
    first = start(tmp_path)
    before = (size_of(first), signed(first))
    first.close()
    again = start(tmp_path)
    assert (size_of(again), signed(again)) == before
    assert before[1][1].endswith("/control/1")
    again.close()


async def test_a_restore_shows_where_the_log_was_cut(tmp_path: Path) -> None:
    first = start(tmp_path / "data")
    kept = size_of(first)
    file = tmp_path / "backup.tar.gz"
    backup.back_up(first.folder, file, START)
    transport = httpx.ASGITransport(app=first.asgi)
    headers = {"authorization": f"Bearer {first.folder.admin_token.read_text().strip()}"}
    async with (
        first.started(),
        httpx.AsyncClient(transport=transport, base_url="http://api/api/v1", headers=headers) as api,
    ):
        for number in range(3):
            assert (await api.post("/keys", json={"name": f"lost-{number}"})).status_code == 201
        await next(one for one in first.running._loops if one.name == "audit")._work()
    lost, _ = signed(first)
    note = read_note(first.folder.audit_checkpoint.read_text())
    first.close()
    backup.restore(Folder(tmp_path / "data"), file, START)
    after = start(tmp_path / "data")
    cut = entries(after)[kept]
    assert cut.act == "cut_log"
    assert f"a backup was restored: {lost - kept} entries were lost" in cut.reason
    details = dict(cut.details)
    assert (details["entries"], details["signed_entries"]) == (str(kept), str(lost))
    assert details["signed_root"] == base64.b64encode(note.checkpoint.root).decode()
    assert signed(after)[1].endswith("/control/2")
    after.close()
    again = start(tmp_path / "data")
    assert [one.act for one in entries(again)].count("cut_log") == 1
    again.close()


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        pytest.param("DELETE FROM audit_tile", "its entries are not those that were signed", id="no-tree"),
        pytest.param("DELETE FROM audit_entry WHERE sequence >= 1", "entries that were signed are not in", id="cut"),
        pytest.param(
            "UPDATE audit_tile SET hashes = zeroblob(length(hashes)) WHERE level = 0",
            "its entries are not those that were signed",
            id="rewritten",
        ),
    ],
)
def test_a_log_that_was_changed_while_nobody_looked_is_found_out_at_the_start(
    tmp_path: Path, statement: str, told: str
) -> None:
    first = start(tmp_path)
    first.close()
    with sqlite3.connect(first.folder.database) as database:
        database.execute(statement)
    after = start(tmp_path)
    with after.office.store.read() as tx:
        found = tx.audit.page(before=None, limit=5, act="cut_log")
    assert len(found) == 1
    assert told in decode(found[0].leaf).reason
    signed(after)
    leaves = [leaf_hash(encode(one)) for one in entries(after)]
    tiles = grow(0, lambda *_: b"", leaves)
    with after.office.store.read() as tx:
        assert {place: tx.audit.tile(*place) for place in tiles} == tiles
    after.close()


def test_a_log_whose_key_was_lost_goes_on_under_another_name(tmp_path: Path) -> None:
    first = start(tmp_path)
    first.close()
    first.folder.audit_key.unlink()
    after = start(tmp_path)
    assert any(one.act == "cut_log" and "key" in one.reason for one in entries(after))
    assert signed(after)[1].endswith("/control/2")
    after.close()
