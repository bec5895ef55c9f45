"""`kasbah up` and `down` for real: one supervisor per folder, parts that come back, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from command_line import COMMAND, Cli, eventually
from own_pack import write_pack

from kasbah.cli.processes import Process, mentioning
from kasbah.cli.record import DataFolder, Record
from kasbah.cli.shapes import Up

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

RULES = """
@id("house.payroll") @title("Payroll stays at home") @advice("Choose a site at home.") @cite("Our own decision")
@verified("2026-11-26") @needs("country")
forbid (principal, action in Kasbah::Action::"Process", resource)
when { principal.label.regimes.contains("house") && !(resource has country && resource.country == "MA") };
"""
FREE = ("--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0")


@pytest.fixture
def data(cli: Cli, tmp_path: Path) -> Iterator[DataFolder]:
    """A data folder; whatever runs on it ends with the test."""
    folder = DataFolder(tmp_path / "data")
    yield folder
    cli.process("down", "--data-dir", folder.path)
    assert remains(folder) == []


def up(cli: Cli, data: DataFolder, *ports: str) -> dict[str, Any]:
    answer = cli.process("up", "-d", "--data-dir", data.path, *(ports or FREE), "-o", "json")
    return Up.model_validate_json(answer.out).model_dump()


def remains(data: DataFolder) -> list[str]:
    """The command lines of what still runs on a data folder."""
    found = [Path(f"/proc/{pid}/cmdline") for pid in mentioning(str(data.path))]
    return [one.read_bytes().replace(b"\0", b" ").decode() for one in found if one.exists()]


def record(data: DataFolder) -> Record:
    found = data.read()
    assert found is not None
    return found


def gateway_answers(url: str) -> bool:
    """Whether the gateway speaks, whatever it says about a host it does not know."""
    try:
        httpx.get(url, headers={"host": "nobody.localhost"}, trust_env=False)
    except httpx.HTTPError:
        return False
    return True


def test_up_detached_then_down_leaves_nothing(cli: Cli, data: DataFolder) -> None:
    ready = up(cli, data)
    assert ready["token"] == data.admin_token.read_text().strip()
    assert data.admin_token.stat().st_mode & 0o077 == 0
    assert gateway_answers(ready["gateway"])
    assert cli("ps", "-o", "json").json == []

    second = cli.process("up", "-d", "--data-dir", data.path, *FREE, code=6)
    assert f"(process {record(data).supervisor.pid})" in second.err

    down = cli.process("down", "--data-dir", data.path, "-o", "json").json
    assert set(down["stopped"]) == {"supervisor", "control", "agent", "gateway and replicas"}
    assert remains(data) == []
    assert cli.process("down", "--data-dir", data.path, "-o", "json").json["stopped"] == []
    assert "no installation is known" in cli("ps", code=3).err

    assert up(cli, data)["api"] == ready["api"], "a free port is kept"


def test_up_in_the_foreground_ends_with_ctrl_c(cli: Cli, data: DataFolder) -> None:
    process = subprocess.Popen(
        [*COMMAND, "up", "--data-dir", str(data.path), *FREE],
        env=cli.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip
    assert process.stderr is not None
    assert "Kasbah is up." in process.stderr.readline()
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "API" in out
    assert remains(data) == []


def test_a_part_that_dies_comes_back(cli: Cli, data: DataFolder) -> None:
    up(cli, data)
    first = record(data).parts["control"]
    os.kill(first.pid, signal.SIGKILL)
    eventually(lambda: record(data).parts["control"] != first)
    eventually(lambda: httpx_ok(f"http://{record(data).api}/livez"))
    assert "control was killed by SIGKILL" in data.log.read_text()


def test_a_killed_supervisor_leaves_the_gateway_and_the_next_takes_over(cli: Cli, data: DataFolder) -> None:
    ready = up(cli, data)
    before = record(data)
    os.kill(before.supervisor.pid, signal.SIGKILL)
    for part in before.parts.values():
        assert part.wait(60), "a part notices that its supervisor is gone"
    assert gateway_answers(ready["gateway"])

    port = ready["gateway"].rpartition(":")[2]
    again = up(cli, data, "--api", "127.0.0.1:0", "--gateway", f"127.0.0.1:{port}")
    assert again["gateway"] == ready["gateway"]
    assert record(data).supervisor != before.supervisor


def test_down_after_the_supervisor_was_killed(cli: Cli, data: DataFolder) -> None:
    up(cli, data)
    os.kill(record(data).supervisor.pid, signal.SIGKILL)
    stopped = cli.process("down", "--data-dir", data.path, "-o", "json").json["stopped"]
    assert "gateway and replicas" in stopped
    assert remains(data) == []


@pytest.mark.parametrize("option", ["--api", "--gateway", "--tls", "--peers"])
def test_a_port_that_is_taken(cli: Cli, data: DataFolder, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = cli.process("up", "-d", "--data-dir", data.path, *FREE, option, f"127.0.0.1:{port}", code=6)
    assert f"127.0.0.1:{port} is already taken by" in answer.err
    assert f"(process {os.getpid()})" in answer.err
    assert option in answer.err


def test_what_keeps_a_detached_start_is_told(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be the data folder" in cli.process("up", "-d", "--data-dir", tmp_path / "file", *FREE, code=2).err
    answer = cli.process("up", "-d", "--data-dir", tmp_path / "d", "--api", "192.0.2.1:0", "-o", "json", code=2)
    error = json.loads(answer.err.splitlines()[-1])["error"]
    assert error["param"] == "--api"


def test_a_part_that_never_starts_is_told_with_its_last_lines(cli: Cli, data: DataFolder) -> None:
    (data.path / "control").mkdir(parents=True)
    (data.path / "control" / "kasbah.db").write_text("this is no database, only a file of that name" * 50)
    answer = cli.process("up", "-d", "--data-dir", data.path, *FREE, code=1)
    assert "the control plane does not start: " in answer.err
    assert "{" not in answer.err, "no lines of logs where the part has said in words what is wrong"
    assert remains(data) == []


def test_a_pid_that_became_somebody_elses_is_left_alone(data: DataFolder, cli: Cli) -> None:
    data.make()
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        data.write(
            Record(
                supervisor=Process(stranger.pid, 1),
                api="127.0.0.1:1",
                gateway="127.0.0.1:2",
                parts={"agent": Process(stranger.pid, 1)},
            )
        )
        cli.process("down", "--data-dir", data.path)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def httpx_ok(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def test_packs_of_the_machine_s_owner_are_pinned_and_a_broken_one_starts_nothing(
    cli: Cli, data: DataFolder, tmp_path: Path
) -> None:
    pack = write_pack(tmp_path / "packs" / "house", RULES)
    table = (pack / "tests.yaml").read_text()
    (pack / "tests.yaml").write_text(table.replace("by: [house.payroll]", "by: [house.other]"))
    told = cli.process("up", "-d", "--data-dir", data.path, *FREE, "--packs", tmp_path / "packs", code=2).err
    assert "abroad: it is refused by house.payroll" in told
    assert not data.path.exists()
    (pack / "tests.yaml").write_text(table)
    up(cli, data, *FREE, "--packs", str(tmp_path / "packs"))
    (shown,) = eventually(lambda: cli("sites", "describe", "local", "-o", "json").json["packs"])
    assert (shown["name"], shown["version"]) == ("house", 1)
