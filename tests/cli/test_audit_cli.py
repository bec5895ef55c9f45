"""The audit log as people type it, on a real control plane: looked at, exported, and verified without it."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import pytest
from command_line import Cli

from kasbah.agent.audit.log import SiteLog
from kasbah.agent.audit.requests import Requests
from kasbah.agent.ledger import Ledger
from kasbah.agent.link import Link
from kasbah.agent.meter import Meter
from kasbah.api.checkpoints import read_note
from kasbah.clock import SystemClock
from kasbah.decide.merkle import is_included, leaf_hash
from kasbah.domain.audit import commit

pytestmark = pytest.mark.real

KEY = "ed25519:" + base64.b64encode(bytes(32)).decode()


def test_what_was_done_is_listed_and_narrowed(control: Cli) -> None:
    control("keys", "create", "of-audit")
    control("keys", "revoke", "of-audit")
    found = control("audit", "log", "-o", "json").json
    assert [one["act"] for one in found if one["actor"] == "admin"][:2] == ["end_key", "make_key"]
    made = control("audit", "log", "--act", "make_key", "--actor", "admin", "--limit", "1", "-o", "json").json
    assert len(made) == 1
    credential = made[0]["credential"]
    by_id = control("audit", "log", "--actor", credential, "--since", "1h", "-o", "json").json
    assert {one["actor"] for one in by_id} == {"admin"}
    assert control("audit", "log", "--since", "2100-01-01").out == ""
    assert "no moment" in control("audit", "log", "--since", "lately", code=2).err
    assert "make_key" in control("audit", "log").out


def test_an_entry_is_shown_with_its_proof(control: Cli) -> None:
    sequence = control("audit", "log", "-o", "json").json[-1]["sequence"]
    found = control("audit", "show", str(sequence), "-o", "json").json
    note = read_note(found["checkpoint"])
    proof = [base64.b64decode(one) for one in found["proof"]]
    leaf = leaf_hash(found["leaf"].encode())
    assert is_included(leaf, sequence, note.checkpoint.size, proof, note.checkpoint.root)
    assert json.loads(found["leaf"])["act"] == found["act"]
    assert found["act"] in control("audit", "show", str(sequence)).out
    assert "there is no entry 99999" in control("audit", "show", "99999", code=5).err


def test_an_export_is_verified_without_a_server_and_with_the_key_alone(
    control: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "audit.tar"
    made = control("audit", "export", file, "-o", "json").json
    assert control("audit", "export", file, code=6).err
    assert file.stat().st_mode & 0o777 == 0o600
    alone = Cli(tmp_path / "elsewhere", {"KASBAH_URL": "http://127.0.0.1:1", "KASBAH_TOKEN": "none"})
    (found,) = alone("audit", "verify", file, "--key", made["key"], "-o", "json").json
    assert (found["entries"], found["findings"]) == (made["entries"], [])
    assert "--key" in alone("audit", "verify", file, code=2).err
    assert "no public key" in alone("audit", "verify", file, "--key", "nonsense", code=2).err
    assert "not signed by the key" in alone("audit", "verify", file, "--key", KEY, code=1).out
    assert alone("audit", "verify", tmp_path / "none", "--key", KEY, code=5).err
    whole = bytearray(file.read_bytes())
    place = whole.index(b'"act":"begin"') + 8
    whole[place] ^= 1
    file.write_bytes(whole)
    told = alone("audit", "verify", file, "--key", made["key"], code=1).out
    assert "entry 0" in told
    assert "tile/entries/000" in told


def test_the_installation_s_own_log_is_verified_where_it_is(control: Cli) -> None:
    found = control("audit", "verify", "-o", "json").json
    assert found[0]["log"] == "control"
    assert all(one["findings"] == [] for one in found)
    assert "failed" in control("audit", "verify", "--key", KEY, code=1).out


def test_a_site_s_log_is_exported_and_a_request_proved_from_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "agent" / "audit"
    site = SiteLog(folder, "in-1", "st-1", SystemClock().now)
    site.say("route", "services/1")
    lines = [f"1767225600\tsv-1/rv-1\tky-{number}\t200\t-\t5\t10\t20".encode() for number in range(5)]
    sequence = Requests(site, folder / "requests").tell(7, 0, lines)
    site.word()
    site.say("route", "services/2")
    here = Cli(tmp_path / "home", {})
    data = ("--data-dir", tmp_path / "data")
    made = here("audit", "export", tmp_path / "site.tar", "--of-site", *data, "-o", "json").json
    assert made["entries"] == 2, "as far as it is signed"
    (found,) = here("audit", "verify", tmp_path / "site.tar", "--key", made["key"], "-o", "json").json
    assert (found["log"], found["findings"]) == ("kasbah/in-1/site/st-1/1", [])
    listed = here("audit", "prove", str(sequence), *data, "-o", "json").json
    assert [one["line"].encode() for one in listed] == lines
    proved = here("audit", "prove", str(sequence), "3", *data).json
    leaf = leaf_hash(commit(bytes.fromhex(proved["salt"]), proved["line"].encode()).encode())
    proof = [base64.b64decode(one) for one in proved["proof"]]
    assert is_included(leaf, 3, proved["size"], proof, bytes.fromhex(proved["root"]))
    assert proved["root"].encode() in (tmp_path / "site.tar").read_bytes()
    assert "not kept" in here("audit", "prove", "0", "0", *data, code=5).err
    assert here("audit", "export", tmp_path / "none", "--of-site", "--data-dir", tmp_path, code=5).err
    site.close()


async def show_log(control: Cli, folder: Path, name: str) -> None:
    """Show a log as that of the installation's site."""
    folder.joinpath("ledger").mkdir(exist_ok=True)
    token = Path(control.extra["KASBAH_DEPLOYER_KEY"]).with_name("site.token")
    meter = Meter(folder / "access.log", folder / "usage.db")
    link = Link(control.extra["KASBAH_URL"], token, Ledger(folder / "ledger"), meter, lambda: None)
    await link.introduce()
    identity = Ledger(folder / "ledger").identity
    assert identity is not None
    link.audit = SiteLog(folder / name, identity.installation, identity.site, SystemClock().now)
    await link.tell_audit()
    link.audit.close()
    await link.close()
    meter.close()


def test_a_break_in_a_site_s_log_is_accepted_and_told_for_ever(control: Cli, tmp_path: Path) -> None:
    for name in ("first", "second"):
        asyncio.run(show_log(control, tmp_path, name))
    answer = control("audit", "verify", code=1)
    assert "another key" in answer.out
    assert "kasbah audit accept local --reason" in answer.err
    asked = ("audit", "accept", "local", "--reason", "ticket 81")
    assert "needs --yes" in control(*asked, code=2).err
    control("audit", "verify", code=1)
    assert control(*asked, "--yes", "-o", "json").json["trouble"] == ""
    assert "is not refused" in control(*asked, "--yes", code=6).err
    assert "no audit log" in control("audit", "accept", "nowhere", "--reason", "x", "--yes", code=5).err
    assert "ticket 81" in control("audit", "verify").out
    (one,) = [one for one in control("audit", "verify", "-o", "json").json if one["log"] == "local"]
    assert (one["findings"], one["breaks"][0]["reason"]) == ([], "ticket 81")
