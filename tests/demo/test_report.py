"""What the report says, and that its verdict is right."""

from __future__ import annotations

import io

from rich.console import Console

from demo.load import Fault, Outcome, Tally
from demo.report import Played, Report, Screen
from demo.scenes import scenes

GOOD = Tally.of([Outcome(milliseconds=12.3, status=200, body=b"hello")])
BAD = Tally.of([Outcome(milliseconds=12.3, fault=Fault.CONNECTION, detail="ConnectionResetError: reset")])
WAKE = {
    "id": "w1",
    "rung": "stopped",
    "held": 500,
    "total_ms": 95.25,
    "phases": {"queue": 1.5, "start": 2.0, "ready": 80.0, "first_byte": None},
}


def told(report: Report) -> str:
    out = io.StringIO()
    Screen(Console(file=out, width=120)).report(report)
    return out.getvalue()


def report(tally: Tally = GOOD) -> Report:
    played = [Played(title="the first call", app="web", tally=tally, wake="w1", shown="42 is the answer")]
    return Report(deployed=["web"], played=played, wakes={"w1": WAKE}, seconds=12)


def test_a_good_run() -> None:
    text = told(report())
    assert report().well
    assert "1 apps deployed, 1 requests sent, nothing failed, 12 s in all" in text
    assert "42 is the answer" in text
    waking = next(line for line in text.splitlines() if line.startswith("web: the first call"))
    assert waking.split()[-7:] == ["stopped", "1.5", "2.0", "80.0", "-", "95.2", "500"]


def test_a_failed_request_is_named() -> None:
    assert not report(BAD).well
    assert "FAILED web, the first call: 1 x connection error; the first: ConnectionResetError: reset" in told(
        report(BAD)
    )


def test_a_problem_is_a_failure_though_every_request_succeeded() -> None:
    troubled = report()
    troubled.problems.append("deploy api: `kasbah deploy api` failed with exit code 1\n  | boom")
    assert not troubled.well
    assert "boom" in told(troubled)


def test_nothing_shown_is_not_well() -> None:
    assert not Report().well
    assert not Report(deployed=["web"]).well


def test_what_was_skipped_is_named() -> None:
    skipped = report()
    skipped.skipped["hello-node"] = "needs node, which this machine lacks"
    assert skipped.well
    assert "Skipped:  hello-node (needs node, which this machine lacks)" in told(skipped)


def test_only_what_is_deployed_is_shown() -> None:
    assert scenes([]) == []
    assert {scene.app for scene in scenes(["hello-python", "other"])} == {"hello-python", "other"}
    assert {(scene.app, scene.asleep) for scene in scenes(["other"])} == {("other", "stopped"), ("other", "frozen")}
