"""Projects and what is kept, as people type it: a real control plane without a site, and every command that names
something of a project."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import Cli

from kasbah.cli import deploy as deploying
from kasbah.cli.main import COMMANDS, load

pytestmark = pytest.mark.real

PAGE = "services:\n  page:\n    command: sleep 1000\n    scaling: {max: 2}\n    resources: {cpu: 1, memory: 64Mi}\n"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "kasbah.yaml").write_text(PAGE)
    return tmp_path


def deploy(cli: Cli, app: Path, *more: str, code: int = 3) -> str:
    """Ask for a deploy. No site is there to take the source, so where nothing else is wrong it ends with 3."""
    return cli("deploy", app, "--no-wait", *more, code=code).err


def test_projects_are_made_listed_and_deleted(control: Cli) -> None:
    control("projects", "create", "oasis")
    control("projects", "create", "oasis", code=6)
    control("projects", "create", "No Name", code=2)
    listed = control("projects", "list")
    assert [line.split()[0] for line in listed.out.splitlines()] == ["NAME", "default", "oasis"]
    control("projects", "delete", "oasis")
    control("projects", "delete", "oasis", code=5)
    control("projects", "delete", "default", code=6)
    control("projects", "delete", "../tokens", code=5)


def test_the_option_wins_over_the_environment(control: Cli) -> None:
    for name in ("one", "two"):
        control("projects", "create", name)
        control("keys", "create", f"of-{name}", "--project", name)
    of_one = Cli(control.home, {**control.extra, "KASBAH_PROJECT": "one"})
    assert [key["name"] for key in of_one("keys", "list", "-o", "json").json] == ["of-one"]
    assert [key["name"] for key in of_one("keys", "list", "-p", "two", "-o", "json").json] == ["of-two"]
    assert control("keys", "list", "-o", "json").json == []
    of_one("keys", "revoke", "of-two", code=5)
    nowhere = Cli(control.home, {**control.extra, "KASBAH_PROJECT": "nowhere"})
    assert "no project 'nowhere'" in nowhere("ps", code=5).err
    for name in ("one", "two"):
        control("projects", "delete", name)


def test_a_quota_is_set_shown_and_lifted(control: Cli) -> None:
    control("projects", "create", "tight")
    shown = control("projects", "quota", "tight", "--services", "1", "--cpu", "0.5", "--memory", "8Gi").out
    assert re.split(r"  +", shown.splitlines()[1].strip()) == ["tight", "0 of 1", "0", "0 of 0.5", "0B of 8Gi", "0B"]
    lifted = control("projects", "quota", "tight", "--services", "none", "-o", "json").json
    assert (lifted["quota"]["services"], lifted["quota"]["memory"]) == (None, 8 * 2**30)
    assert control("projects", "quota", "tight", "-o", "json").json == lifted
    for wrong in (("--services", "x"), ("--memory", "8 camels"), ("--cpu", "-1"), ("--force",)):
        control("projects", "quota", "tight", *wrong, code=2)
    control("projects", "delete", "tight")


def test_a_deploy_beyond_a_quota_is_refused_and_its_plan_says_so(
    control: Cli, app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploying, "PATIENCE_SECONDS", 0.0)  # no site comes, however long one waits
    control("projects", "create", "small")
    control("projects", "quota", "small", "--replicas", "1")
    told = deploy(control, app, "-p", "small", code=4)
    assert "project 'small' may have 1 replica: it has 0 replicas, and this makes 2 replicas" in told
    assert "kasbah projects quota small --replicas" in told
    planned = control("plan", app, "-p", "small").out
    assert "refused: project 'small' may have 1 replica" in planned
    control("projects", "quota", "small", "--replicas", "2")
    deploy(control, app, "-p", "small")
    assert control("ps", "-p", "small", "-o", "json").json[0]["project"] == "small"
    assert control("ps", "-o", "json").json == []
    everywhere = control("ps", "-A").out.splitlines()
    assert [line.split()[:2] for line in everywhere] == [["PROJECT", "NAME"], ["small", "page"]]
    control("describe", "page", code=5)
    control("describe", "page", "-p", "small")
    below = control("projects", "quota", "small", "--replicas", "1", code=6).err
    assert "page 2 replicas" in below
    control("projects", "quota", "small", "--replicas", "1", "--force")
    control("scale", "page", "--max", "3", "-p", "small", code=4)
    control("projects", "delete", "small", code=6)
    control("delete", "page", "--yes", "-p", "small")
    control("projects", "delete", "small")


def test_gc_says_when_a_site_is_away(control: Cli) -> None:
    answer = control("gc", "--dry-run", code=3)
    assert "does not report" in answer.err
    assert "control  revisions" in answer.out, "what could be asked is shown"
    control("gc", "--keep", "0", code=2)


def test_every_command_that_names_something_of_a_project_takes_one() -> None:
    without = []
    for name in COMMANDS:
        command = load(name)
        for path, one in _with_children(name, command):
            arguments = {param.help for param in one.params if param.param_type_name == "argument"}
            options = {option for param in one.params for option in param.opts}
            named = "The service." in arguments or path.startswith(("keys ", "secrets "))
            if named and not {"--project", "-p"} <= options:
                without.append(path)
    assert not without


def _with_children(path, command):
    children = getattr(command, "commands", {})
    if not children:
        yield path, command
    for name, child in children.items():
        yield from _with_children(f"{path} {name}", child)
