"""Which numbers of the machine an installation takes for its replicas, and what it does where they are taken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kasbah.agent import confine
from kasbah.agent.confine import network, programs
from kasbah.agent.confine.kernel import StepFailed
from kasbah.agent.runner import __main__ as runner
from kasbah.agent.runner import claims
from kasbah.agent.runner.layout import Layout

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.getuid() != 0, reason="only root gives replicas users and networks of their own"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Claims that are the test's own."""
    monkeypatch.setattr(claims, "FOLDER", tmp_path / "claims")
    return tmp_path / "claims"


def home(tmp_path: Path, name: str) -> Path:
    path = tmp_path / name
    path.mkdir(exist_ok=True)
    return path


def test_two_installations_have_blocks_of_their_own(tmp_path: Path) -> None:
    first, second = claims.claim(home(tmp_path, "a"), 7), claims.claim(home(tmp_path, "b"), 7)
    assert (first.block, second.block) == (7, 8)
    assert claims.claim(home(tmp_path, "b"), 7).block == 8, "one that comes again gets its own"
    assert not first.release()
    assert second.release(), "the last to leave is told so"


def test_a_block_whose_home_is_gone_is_free(tmp_path: Path) -> None:
    gone = home(tmp_path, "gone")
    claims.claim(gone, 7)
    gone.rmdir()
    assert claims.claim(home(tmp_path, "a"), 7).block == 7


@pytest.mark.parametrize(("files", "line"), [("NAMED", "x:x:{number}:0::/:"), ("DELEGATED", "x:{number}:65536")])
def test_numbers_that_the_machine_knows_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: str, line: str
) -> None:
    known = tmp_path / "known"
    known.write_text(line.format(number=claims.FIRST_USER + 7 * network.SIZE + 100) + "\n")
    monkeypatch.setattr(claims, files, (known,))
    block = claims.claim(home(tmp_path, "a"), 7).block
    assert block > 7


def test_a_slot_is_used_again_as_late_as_can_be(tmp_path: Path) -> None:
    claim = claims.claim(home(tmp_path, "a"), 7)
    first = claim.take()
    claim.give_back(first)
    others = [claim.take() for _ in range(claims.SLOTS - 4)]
    assert first not in others
    assert not {claims.TRIAL_SLOT, claims.BUILDER_SLOT, claims.CLOSED_BUILDER_SLOT} & set(others)
    assert claim.take() == first
    with pytest.raises(claims.NoClaim):
        claim.take()


def test_addresses_that_are_routed_already_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    routes: list[str] = []
    monkeypatch.setattr(network, "_routes", lambda _block: routes)
    assert network.street(7, "t").network == "100.64.112.0/20"
    routes.append("100.64.112.0/20")
    assert network.street(7, "t").network == "100.64.112.0/20", "an earlier runner of this installation left that"
    routes.append("100.64.0.0/10")
    assert network.street(7, "t").network == "198.18.112.0/20"
    routes.append("198.18.119.1")
    with pytest.raises(StepFailed, match="routed elsewhere"):
        network.street(7, "t")


def test_without_its_programs_own_network_is_missing_and_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "PATH", str(tmp_path))
    where = home(tmp_path, "a")
    layout = Layout(
        home=where, replicas=where, logs=where, volumes=where, socket=where / "s", log_file_bytes=1, log_files=1
    )
    claim, street, lacking = runner._numbers(layout)
    assert claim is not None
    assert street is None
    assert "install iproute2 and nftables" in lacking[confine.OWN_NETWORK]
