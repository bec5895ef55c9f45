"""What others wrote cannot steer the terminal."""

from __future__ import annotations

import json

import pytest
from ruamel.yaml import YAML

from kasbah.cli.main import run
from kasbah.cli.render import Output, document
from kasbah.cli.text import clean, clean_json

HOSTILE = {
    "colours are dropped": ("\x1b[1;31mred\x1b[0m", "red"),
    "a title": ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
    "the cursor": ("a\x1b[2J\x1b[Hb", "a\\x1b[2J\\x1b[Hb"),
    "C1 controls": ("\x9b31m", "\\x9b31m"),
    "a carriage return": ("ok\rERROR", "ok\\x0dERROR"),
    "line ends": ("a\nb", "a\\x0ab"),
    "reordering": ("a\u202etxt.exe", "a\\u202etxt.exe"),
    "an Arabic mark of direction": ("a\u061cb", "a\\u061cb"),
    "half a surrogate": ("\ud800", "\\ud800"),
    "a tab stays": ("a\tb", "a\tb"),
    "Arabic stays": ("خدمة", "خدمة"),
    "Amazigh stays": ("ⵜⴰⵏⴼⵓⵙⵜ", "ⵜⴰⵏⴼⵓⵙⵜ"),
}


@pytest.mark.parametrize(("text", "shown"), HOSTILE.values(), ids=HOSTILE.keys())
def test_text_is_shown_and_not_obeyed(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_only_line_ends_end_lines() -> None:
    assert clean("a\nb\r\nc\x0bd\x85e\u2028f\n", lines=True) == "a\nb\nc\\x0bd\\x85e\\u2028f"


def test_yaml_is_not_obeyed_and_stays_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"a": "x\u202ey\x1b[2J\u061c", "b": "خ é", "c": ["\x85\u2028"], "d": 1}
    document(value, Output.YAML)
    said = capsys.readouterr().out
    assert not set("\x1b\x85\u202e\u2028\u061c") & set(said)
    assert "b: خ é" in said
    assert YAML(typ="safe", pure=True).load(said) == value


def test_wrong_usage_is_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--\x1b]0;owned\x07"]) == 2
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert "\\x1b]0;owned" in said


def test_json_stays_the_same_json() -> None:
    value = {"a": "\x1b]0;t\x07\x9b \u202e \u2028 é خ", "b": ["\n\t"]}
    text = clean_json(json.dumps(value, indent=2, ensure_ascii=False))
    assert json.loads(text) == value
    assert not set("\x1b\x07\x9b\u202e\u2028") & set(text)
    assert "خ" in text
