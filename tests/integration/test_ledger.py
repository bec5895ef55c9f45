"""The ledger on a real disk: what may be written into it, that it is whole whenever its writer dies, and reading it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from owner import Owner

from kasbah.agent.ledger import FORMAT, Ledger
from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import InstallationId, RevisionId, ServiceId, SiteId
from kasbah.domain.revision import Protocol
from kasbah.errors import Conflict, Denied, Invalid, KasbahError

OWNER = Owner()
FILES = ("identity.json", "desired.json", "memory.json")

WRITES_FOR_EVER = """
import json, sys
from pathlib import Path
from kasbah.agent.ledger import Ledger

ledger = Ledger(Path(sys.argv[1]))
for number, line in enumerate(sys.stdin):
    document, signature = json.loads(line)
    ledger.accept(document.encode(), signature)
    ledger.memory.obeyed["sv-a"] = number
    ledger.remember()
    print(number, flush=True)
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path)
    ledger.pin(OWNER.identity)
    return ledger


def kept(ledger: Ledger) -> DesiredState:
    assert ledger.desired is not None
    return ledger.desired


def test_an_empty_folder_is_an_empty_ledger(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert (ledger.identity, ledger.desired) == (None, None)
    assert ledger.memory.proven == {}
    with pytest.raises(Denied, match="no control plane is pinned"):
        ledger.accept(*OWNER.desired(1))


def test_all_of_it_comes_back(ledger: Ledger, tmp_path: Path) -> None:
    ledger.accept(*OWNER.desired(3))
    ledger.memory.proven[RevisionId("rv-a")] = Protocol.H2C
    ledger.memory.obeyed[ServiceId("sv-a")] = 7
    ledger.remember()
    again = Ledger(tmp_path)
    assert (again.identity, again.desired, again.memory) == (ledger.identity, ledger.desired, ledger.memory)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == dict.fromkeys(FILES, 0o600)


def test_an_identity_is_pinned_once(ledger: Ledger, tmp_path: Path) -> None:
    ledger.pin(OWNER.identity)
    with pytest.raises(Conflict) as refused:
        ledger.pin(Owner().identity)
    assert refused.value.code == "another_installation"
    assert Ledger(tmp_path).identity == OWNER.identity


# --- which desired states are taken -----------------------------------------------------------------------------------


@pytest.mark.parametrize("later", [(1, 4), (1, 3), (2, 1)])
def test_newer_ones_are_taken(ledger: Ledger, tmp_path: Path, later: tuple[int, int]) -> None:
    epoch, generation = later
    ledger.accept(*OWNER.desired(3))
    ledger.accept(*OWNER.desired(generation, epoch=epoch))
    assert kept(Ledger(tmp_path)).version == later


STRANGER = Owner()
REFUSED = {
    "older": (OWNER.desired(2), "older"),
    "an older epoch": (OWNER.desired(9, epoch=0), "older"),
    "the same number with other contents": (OWNER.desired(3, base_domain="example.org"), "changed"),
    "another site": (OWNER.desired(4, site=SiteId("st-else")), "denied"),
    "another installation": (OWNER.desired(4, installation=InstallationId("in-else")), "denied"),
    "a stranger's signature": (STRANGER.desired(4), "bad_signature"),
    "no signature": ((OWNER.desired(4)[0], ""), "bad_signature"),
    "changed on its way": ((OWNER.desired(5)[0], OWNER.desired(4)[1]), "bad_signature"),
    "a later protocol": (OWNER.desired(4, protocol=99), "invalid"),
}  # fmt: skip


@pytest.mark.parametrize("which", REFUSED)
def test_what_is_refused_changes_nothing(ledger: Ledger, tmp_path: Path, which: str) -> None:
    (document, signature), code = REFUSED[which]
    ledger.accept(*OWNER.desired(3))
    before = (tmp_path / "desired.json").read_bytes()
    with pytest.raises(KasbahError) as refused:
        ledger.accept(document, signature)
    assert refused.value.code == code
    assert kept(ledger).version == (1, 3)
    assert (tmp_path / "desired.json").read_bytes() == before


def test_a_document_of_another_shape_is_refused(ledger: Ledger) -> None:
    from kasbah.api.signing import DESIRED, sign

    for document in (b"{}", b"[]", b"nonsense", b""):
        with pytest.raises(Invalid, match="cannot be read"):
            ledger.accept(document, sign(OWNER.key, DESIRED, document))


# --- killed, damaged, newer -------------------------------------------------------------------------------------------


@pytest.mark.real
def test_it_is_whole_whenever_its_writer_is_killed(ledger: Ledger, tmp_path: Path) -> None:
    generation = 0
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITES_FOR_EVER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert writer.stdin is not None
        assert writer.stdout is not None
        documents = [OWNER.desired(generation + number) for number in range(1, 200)]
        lines = [json.dumps([document.decode(), signature]) for document, signature in documents]
        writer.stdin.write("\n".join(lines).encode())
        writer.stdin.flush()
        told = [writer.stdout.readline() for _ in range(3)]
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        told += writer.stdout.read().splitlines()
        writer.stdin.close()
        writer.stdout.close()
        again = Ledger(tmp_path)
        assert kept(again).generation >= generation + len(told), "what was told to be written is there"
        assert again.memory.obeyed[ServiceId("sv-a")] >= len(told) - 1
        generation = kept(again).generation


def test_a_file_left_half_written_is_passed_over(ledger: Ledger, tmp_path: Path) -> None:
    ledger.accept(*OWNER.desired(3))
    (tmp_path / "desired.json.new").write_text('{"format": 1, "docum')
    again = Ledger(tmp_path)
    assert kept(again).version == (1, 3)
    again.accept(*OWNER.desired(4))
    assert kept(Ledger(tmp_path)).version == (1, 4)


DAMAGE = ["", "{", "[]", "null", '"x"', "{}", '{"format": "x"}', '{"format": null}', '{"format": 1}', "\x00\x00"]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_told_by_name_and_left(ledger: Ledger, tmp_path: Path, name: str, damage: str) -> None:
    ledger.accept(*OWNER.desired(3))
    ledger.remember()
    (tmp_path / name).write_text(damage)
    with pytest.raises(Invalid, match=name) as told:
        Ledger(tmp_path)
    assert told.value.hint
    assert (tmp_path / name).read_text() == damage


@pytest.mark.parametrize("name", FILES)
def test_a_newer_format_is_refused_and_left(ledger: Ledger, tmp_path: Path, name: str) -> None:
    newer = json.dumps({"format": FORMAT + 1, "whatever": True})
    (tmp_path / name).write_text(newer)
    with pytest.raises(Conflict) as refused:
        Ledger(tmp_path)
    assert refused.value.code == "newer_ledger"
    assert (tmp_path / name).read_text() == newer


def test_a_ledger_that_was_tampered_with_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    ledger.accept(*OWNER.desired(3))
    file = tmp_path / "desired.json"
    file.write_text(file.read_text().replace("localhost", "localh0st"))
    with pytest.raises(Denied, match="not signed") as refused:
        Ledger(tmp_path)
    assert str(file) in refused.value.message
    assert "move it away" in refused.value.hint


def test_a_higher_epoch_forgets_the_orders_obeyed(ledger: Ledger, tmp_path: Path) -> None:
    """A restored control plane numbers its orders on from an older one."""
    ledger.accept(*OWNER.desired(9))
    ledger.memory.obeyed[ServiceId("sv-a")] = 7
    ledger.remember()
    ledger.accept(*OWNER.desired(10))
    assert ledger.memory.obeyed == {"sv-a": 7}
    ledger.accept(*OWNER.desired(1, epoch=2))
    assert ledger.memory.obeyed == {}
    assert Ledger(tmp_path).memory.obeyed == {}
