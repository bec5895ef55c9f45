"""The documents lead somewhere: links, named files, the changelog, the decisions, and the lock files."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(?<!`)!?\[[^\]]*\]\(([^)\s]+)\)")
NAMED_FILE = re.compile(r"`((?:kasbah|tests|docs|examples|demo|bench)/[\w./-]*\w)/?`")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
DECISION_PARTS = ("## Why", "## What we do", "## What follows")


def documents() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as the usual renderers write them."""
    prose = FENCE.sub("", path.read_text())
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_and_named_files_exist(path: Path) -> None:
    prose = FENCE.sub("", path.read_text())
    broken = []
    for target in LINK.findall(prose):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        to = (path.parent / name).resolve() if name else path
        if not to.exists() or (anchor and to.suffix == ".md" and anchor not in anchors(to)):
            broken.append(target)
    broken += [name for name in NAMED_FILE.findall(prose) if not (ROOT / name).exists()]
    assert not broken


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or not page.exists():
            continue
        reached.add(page)
        if page.suffix == ".md":
            waiting += [(page.parent / target.partition("#")[0]).resolve() for target in LINK.findall(page.read_text())]
    assert {path for path in ROOT.glob("docs/**/*.md") if path not in reached} == set()


def test_the_changelog_has_a_place_for_the_next_change() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"


def test_decisions_are_numbered_without_gaps_and_of_one_shape() -> None:
    decisions = sorted(path for path in (ROOT / "docs/decisions").glob("*.md") if path.name != "README.md")
    assert [path.name[:4] for path in decisions] == [f"{number:04}" for number in range(1, len(decisions) + 1)]
    for path in decisions:
        text = path.read_text()
        assert all(part in text for part in DECISION_PARTS), path.name
        assert len(text.splitlines()) <= 80, f"{path.name}: a decision fits on a page"


def locked(name: str) -> dict[str, str]:
    """The packages of a lock file, with their versions."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))


def test_the_locks_hold_what_the_project_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    base = [*project["project"]["dependencies"], *groups["build"]]
    dev = [one for one in groups["dev"] if isinstance(one, str)]
    for lock, wanted in (("requirements.lock", base), ("requirements-dev.lock", [*base, *dev])):
        names = {re.match(r"[\w.-]+", one).group().lower().replace(".", "-") for one in wanted}
        assert names <= locked(lock).keys(), f"{lock}: run `make lock`"


def test_the_locks_agree() -> None:
    plain, dev = locked("requirements.lock"), locked("requirements-dev.lock")
    assert plain.items() <= dev.items(), "run `make lock`"
