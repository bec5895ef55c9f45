"""What the second act hands to Kasbah and makes of what it saw; the act itself is run by `make demo`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from demo import story_files
from demo.failover import Seen, steady_calls
from demo.load import Fault, Outcome, Target

PARIS = Outcome(milliseconds=3, status=200, body=b"paris")
LYON = Outcome(milliseconds=9, status=200, body=b"lyon")
LOST = Outcome(milliseconds=5, fault=Fault.CONNECTION, detail="reset")


def test_who_answered_before_and_after_is_told_apart() -> None:
    seen = Seen.of([PARIS, PARIS], [PARIS, LYON, LYON])
    assert seen.lines() == [
        "answered before: paris 2; after: lyon 2, paris 1",
        "5 requests, 0 failed, the slowest took 9 ms",
    ]


def test_a_failed_request_counts_and_is_no_site_s_answer() -> None:
    seen = Seen.of([PARIS], [LOST])
    assert (seen.tally.requests, seen.tally.failed, dict(seen.after)) == (2, 1, {})
    assert "after: none" in seen.lines()[0]


async def test_callers_end_in_time_though_nobody_answers_and_nothing_is_lost() -> None:
    nobody = Target(address="127.0.0.1:1", host="claims.localhost")
    seen = await asyncio.wait_for(steady_calls(nobody, 2, 0.05, 0.05, asyncio.Event()), 10)
    assert seen.tally.requests >= 2
    assert seen.tally.failed == seen.tally.requests


def test_a_policy_file_gets_the_house_s_pack_and_keeps_what_it_had() -> None:
    text = story_files.with_house("home: MA\npacks:\n  base:\n  gdpr:\n    version: 1\nlimit: 2\n")
    assert YAML(typ="safe").load(text) == {
        "home": "MA",
        "packs": {"house": {"path": "packs/house"}, "base": None, "gdpr": {"version": 1}},
        "limit": 2,
    }


def test_a_policy_file_without_packs_is_told() -> None:
    with pytest.raises(ValueError, match="no packs"):
        story_files.with_house("home: MA\n")


def test_only_label_name_and_placement_differ(tmp_path: Path) -> None:
    claims = story_files.write_app(tmp_path / "claims", "claims", story_files.CLAIMS, "{objective: price}")
    brochure = story_files.write_app(tmp_path / "brochure", "brochure", story_files.OPEN, "{objective: price}")
    assert (claims / "app.py").read_text() == (brochure / "app.py").read_text()
    one, other = ((folder / "kasbah.yaml").read_text() for folder in (claims, brochure))
    assert one.replace("claims", "brochure").replace(story_files.CLAIMS, story_files.OPEN) == other
