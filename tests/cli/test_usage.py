"""Exit codes and error shapes, by the real command line against a real control plane without a site."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import COMMAND, Cli

from kasbah.api.public import ErrorBody

pytestmark = pytest.mark.real


def error_of(text: str) -> ErrorBody:
    return ErrorBody.model_validate_json(text)


def test_help_is_quick_and_plain(cli: Cli) -> None:
    answer = cli.process("--help")
    assert "up       Start Kasbah" in answer.out
    assert "130  interrupted" in answer.out
    assert "\x1b" not in answer.out
    assert cli.process().out == answer.out


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from kasbah.cli.main import run; run(['--help']); print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("httpx", "pydantic", "rich", "asyncio", "ruamel", "fastapi"):
        assert f"'{heavy}'" not in loaded


def test_ps_imports_no_shapes(control: Cli) -> None:
    code = "import sys; from kasbah.cli.main import run; run(['ps', '-o', 'json']); print(sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=control.env
    ).stdout
    for heavy in ("kasbah.api.public", "ruamel", "fastapi", "cryptography"):
        assert f"'{heavy}'" not in loaded


USAGE = [
    ("dploy",),
    ("ps", "--nope"),
    ("ps", "-o", "xml"),
    ("scale", "a"),
    ("scale", "a", "1", "--min", "2"),
    ("scale", "a", "-1"),
    ("up", "--country", "XX"),
    ("up", "--api", "7070"),
    ("up", "--gateway", "host:80"),
    ("up", "--base-domain", "a b"),
    ("keys", "create"),
    ("tokens", "create", "me"),
    ("deploy", "/nowhere"),
    ("deploy", "--timeout", "5"),
    ("completion", "csh"),
    ("logs", "a", "-o", "yaml"),
]


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_wrong_usage(control: Cli, arguments: tuple[str, ...]) -> None:
    assert "rror: " in control(*arguments, code=2).err


def test_wrong_usage_as_json(control: Cli) -> None:
    answer = control("ps", "--nope", "-o", "json", code=2)
    assert error_of(answer.err).error.code == "usage"


def test_a_mistyped_command_finds_the_right_one(cli: Cli) -> None:
    assert "Did you mean 'describe'?" in cli("descrbe", code=2).err


def test_nothing_is_known(cli: Cli) -> None:
    answer = cli.process("ps", code=3)
    assert "kasbah up" in answer.err
    assert answer.out == ""
    assert error_of(cli("ps", "-o", "json", code=3).err).error.code == "no_installation"


def test_nobody_answers(cli: Cli) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    there = Cli(cli.home, {"KASBAH_URL": f"http://127.0.0.1:{port}", "KASBAH_TOKEN": "x"})
    assert "is not reachable" in there("ps", code=3).err


def test_a_proxy_of_the_environment_is_not_asked_about_this_machine(control: Cli) -> None:
    proxied = Cli(
        control.home, {**control.extra, "HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    )
    assert proxied("ps", "-o", "json").json == []


def test_someone_else_answers(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"],
        cwd=tmp_path / "empty",
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        found = re.search(r"port (\d+)", server.stdout.readline())
        assert found
        there = Cli(cli.home, {"KASBAH_URL": f"http://127.0.0.1:{found[1]}", "KASBAH_TOKEN": "x"})
        assert "not as Kasbah does" in there("ps", code=3).err
    finally:
        server.kill()
        server.wait()


def test_a_wrong_token(control: Cli) -> None:
    stranger = Cli(control.home, {**control.extra, "KASBAH_TOKEN": "wrong"})
    assert error_of(stranger("ps", "-o", "json", code=4).err).error.code


def test_a_token_that_may_not(control: Cli) -> None:
    token = control("tokens", "create", "reader", "--role", "auditor", "--everywhere").out.strip()
    reader = Cli(control.home, {**control.extra, "KASBAH_TOKEN": token})
    assert reader("ps", "-o", "json").json == []
    reader("keys", "create", "x", code=4)
    control("tokens", "revoke", "reader")
    reader("ps", code=4)


@pytest.mark.parametrize("command", ["describe", "wake", "sleep", "logs"])
def test_no_such_service(control: Cli, command: str) -> None:
    control(command, "nobody", code=5)
    control(command, "../tokens", code=5)


def test_deleting_asks_or_is_told(control: Cli) -> None:
    control("delete", "nobody", code=5)
    control("delete", "nobody", "--yes", code=5)


def test_keys(control: Cli) -> None:
    made = control("keys", "create", "caller", "-o", "json").json
    assert made.keys() == {"id", "key", "opens_up_to"}
    assert made["opens_up_to"] == "vital", "the installation's first deployer signed it"
    listed = control("keys", "list", "-o", "json")
    assert [one["name"] for one in listed.json] == ["caller"]
    assert made["key"] not in listed.out
    control("keys", "revoke", made["id"])
    control("keys", "create", "caller", "--service", "nobody", code=2)


def test_yaml(control: Cli) -> None:
    assert control("ps", "-o", "yaml").out == "[]\n"


def test_deploying_where_there_is_no_site_waits_and_says_why(control: Cli, tmp_path: Path) -> None:
    (tmp_path / "kasbah.yaml").write_text("services: {lonely: {command: ./run, access: public}}")
    (tmp_path / "run").write_text("#!/bin/sh\n")
    planned = control("plan", tmp_path, "-o", "json").json
    assert [one["action"] for one in planned] == ["create"]
    assert control("ps", "-o", "json").json == []
    answer = control("deploy", tmp_path, "--timeout", "1s", code=1)
    assert "Its rollout goes on" in answer.err
    control("deploy", tmp_path, "--no-wait", "--service", "other", code=5)
    control("delete", "lonely", "--yes")


def test_a_bad_file_is_told_whole(control: Cli, tmp_path: Path) -> None:
    (tmp_path / "kasbah.yaml").write_text("services:\n  web:\n    acess: key\n    port: x\n")
    answer = control("deploy", tmp_path, code=2)
    assert "kasbah.yaml:3: services.web.acess: unknown key; did you mean access?" in answer.err
    assert "kasbah.yaml:4: services.web.port: " in answer.err
    assert error_of(control("plan", tmp_path, "-o", "json", code=2).err).error.code == "invalid_file"


def test_a_folder_that_says_nothing(control: Cli, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing that runs")
    assert "command:" in control("plan", tmp_path, code=2).err


def test_what_was_found_out_is_shown(control: Cli, tmp_path: Path) -> None:
    (tmp_path / "My App").mkdir()
    (tmp_path / "My App" / "package.json").write_text('{"scripts": {"start": "node server.js"}}')
    (tmp_path / "My App" / "server.js").write_text("")
    answer = control("plan", tmp_path / "My App")
    assert "my-app: node, starts with" in answer.err
    assert "my-app  would be created" in answer.out


def test_doctor_without_an_installation(cli: Cli) -> None:
    found = {one["name"]: one["state"] for one in cli("doctor", "-o", "json").json}
    assert found["Envoy"] == found["uv"] == "ok"
    assert found["installation"] == "warn"


def test_doctor_tells_a_site_that_was_only_declared_from_one_that_fails(control: Cli, tmp_path: Path) -> None:
    file = tmp_path / "sites.yaml"
    file.write_text("sites:\n  paris: {kind: public}\n  mailer: {kind: public, hosts: [10.0.0.0/8]}\n")
    key = control.extra["KASBAH_DEPLOYER_KEY"].replace("deployer.key", "owner.key")
    control("sites", "apply", "-f", file, "--owner-key", key)
    found = {one["name"]: one for one in control("doctor", "-o", "json", code=1).json}
    assert found["site local"]["state"] == "fail"
    assert (found["site paris"]["state"], found["site paris"]["found"]) == ("warn", "it never reported")
    assert "kasbah sites token paris" in found["site paris"]["next"]
    assert not [name for name in found if name.startswith(("site paris:", "site mailer"))]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(cli: Cli, shell: str) -> None:
    assert "_KASBAH_COMPLETE" in cli("completion", shell).out


def test_words_are_completed(control: Cli) -> None:
    asked = Cli(
        control.home,
        {**control.extra, "_KASBAH_COMPLETE": "complete_bash", "COMP_WORDS": "kasbah de", "COMP_CWORD": "1"},
    )
    assert asked.process().out.split() == ["deploy", "describe", "delete", "deployers", "declassify"]


def test_versions(control: Cli, cli: Cli) -> None:
    assert control("version", "-o", "json").json["installation"]
    assert cli("version", "-o", "json").json["installation"] is None


def test_the_schema_is_printed(cli: Cli) -> None:
    assert cli("schema").json["title"] == "kasbah.yaml"


def test_a_reader_that_leaves_causes_no_noise(cli: Cli) -> None:
    line = f"{shlex.join(COMMAND)} schema | head -c 1"
    done = subprocess.run(line, shell=True, env=cli.env, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("{", "")
