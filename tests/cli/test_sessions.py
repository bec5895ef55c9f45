"""Sessions at the command line, word for word, against a real installation: a first deploy, and what goes wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from command_line import Answer, Cli, eventually
from pydantic import TypeAdapter

from kasbah.api.public import ServiceDetail
from kasbah.cli.shapes import OUTPUTS

GOLDEN = "cli"
pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

PAGE = "services:\n  page:\n    command: {command}\n    access: {access}\n    deadlines: {{startup: 20s}}\n"
SERVER = "python3 -m http.server --bind 127.0.0.1 $PORT"

SCRUBBED = [
    (r"\b(sv|rv|rp|ro|ky|tk|wk|in|st)-[0-9a-hjkmnp-tv-z]{16}", r"\1-ID"),
    (r"\brq-[0-9a-f]{16}", "rq-ID"),
    (r"\bks[bt]_[\w-]+", "SECRET"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ?", "TIME"),
    (r"\b100(\.\d+){3}:\d+", "127.0.0.1:PORT"),  # as root a replica has an address of its own
    (r"(127\.0\.0\.1|localhost):\d+", r"\1:PORT"),
    (r"\d+(\.\d+)? ms", "N ms"),
    (r"\d+(\.\d+)?(B|Ki)\b", "SIZE"),
    (r"  \d+  TIME", "  PID  TIME"),
    (r" {3,}", "  "),
]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A user of a whole installation."""
    home = tmp_path_factory.mktemp("site")
    cli = Cli(home)
    cli.process("up", "-d", "--data-dir", home / "data", "--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0")
    yield cli
    cli.process("down", "--data-dir", home / "data")


@pytest.fixture
def app(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder whose service is `page`."""

    def make(command: str = SERVER, access: str = "key") -> Path:
        folder = tmp_path / "app"
        folder.mkdir(exist_ok=True)
        (folder / "index.html").write_text("hello")
        (folder / "kasbah.yaml").write_text(PAGE.format(command=command, access=access))
        return folder

    return make


class Session:
    """What was typed and what came back, made the same from run to run."""

    def __init__(self, cli: Cli, folder: Path) -> None:
        self._cli = cli
        self._folder = folder
        self.text = ""

    def type(self, line: str, code: int = 0) -> Answer:
        """Run a command line; `APP` in it is the app's folder."""
        words = [str(self._folder) if word == "APP" else word for word in line.split()]
        answer = self._cli(*words, code=code)
        said = "".join(f"! {one}\n" for one in _steady(answer.err.splitlines()))
        self.text += self._scrub(f"$ kasbah {line}\n{answer.out}{said}? {answer.code}\n\n")
        return answer

    def _scrub(self, text: str) -> str:
        text = text.replace(str(self._folder), "APP")
        for pattern, to in SCRUBBED:
            text = re.sub(pattern, to, text)
        return "\n".join(line.rstrip() for line in text.split("\n"))


def _steady(lines: list[str]) -> list[str]:
    """Without the steps of a rollout: which of them are seen depends on how fast they are."""
    return [line for line in lines if not re.match(r"page: (building|starting|waiting|moving)", line)]


def test_a_first_deploy(there: Cli, app: Callable[..., Path], golden: Any) -> None:
    session = Session(there, app())
    session.type("plan APP")
    session.type("deploy APP")
    session.type("deploy APP")
    session.type("ps")
    session.type("describe page")
    session.type("scale page --max 3")
    session.type("scale page 0 --max 3", code=2)
    session.type("keys create me --service page")
    session.type("keys list")
    session.type("keys revoke me")
    session.type("keys revoke me", code=5)
    session.type("delete page", code=2)
    session.type("delete page --yes")
    session.type("delete page --yes", code=5)
    session.type("ps")
    golden.check("first-deploy.txt", session.text)


def test_nothing_yet(control: Cli, tmp_path: Path, golden: Any) -> None:
    session = Session(control, tmp_path)
    (tmp_path / "kasbah.yaml").write_text("services:\n  web:\n    acess: public\n    port: '80a'\n    source: ./wbe\n")
    session.type("ps")
    session.type("ps -o json")
    session.type("keys list")
    session.type("describe web", code=5)
    session.type("describe web -o json", code=5)
    session.type("deploy APP", code=2)
    session.type("scale web", code=2)
    session.type("logs web", code=5)
    session.type("sites list")
    golden.check("nothing-yet.txt", session.text)


def test_it_serves_sleeps_and_wakes_as_its_json_says(there: Cli, app: Callable[..., Path]) -> None:
    (deployed,) = there("deploy", app(access="public"), "-o", "json").json
    service = deployed["service"]

    def call() -> httpx.Response:
        return httpx.get(
            f"http://{service['address']}/", headers={"host": service["host"]}, trust_env=False, timeout=60
        )

    def detail() -> ServiceDetail:
        return ServiceDetail.model_validate(there("describe", "page", "-o", "json").json)

    assert call().text == "hello"
    eventually(lambda: detail().usage.requests == 1)  # the site has seen it end
    assert there("sleep", "page", "--stop", "-o", "json").json["name"] == "page"
    eventually(lambda: detail().state.value == "stopped")
    assert call().text == "hello"
    woken = eventually(lambda: detail() if detail().wakes and detail().replicas else None)
    assert woken.wakes[0].rung == "stopped"
    assert woken.replicas[0].pid
    listed = TypeAdapter(OUTPUTS["ps"]).validate_python(there("ps", "-o", "json").json)
    assert [(one.name, one.site, one.access.value) for one in listed] == [("page", "local", "public")]
    eventually(lambda: '"GET / HTTP/1.1" 200' in there("logs", "page").out)
    assert "GET /" in there("logs", "page", "-o", "json", "--tail", "5").out
    TypeAdapter(OUTPUTS["sites list"]).validate_python(there("sites", "list", "-o", "json").json)
    TypeAdapter(OUTPUTS["doctor"]).validate_python(there("doctor", "-o", "json").json)
    there("delete", "page", "--yes")


def test_a_key_opens_what_is_closed(there: Cli, app: Callable[..., Path]) -> None:
    (deployed,) = there("deploy", app(), "-o", "json").json
    service = deployed["service"]
    made = there("keys", "create", "caller", "--service", "page", "-o", "json").json
    low = there("keys", "create", "low", "--max-level", "internal", "-o", "json").json

    def status(**headers: str) -> int:
        host = {"host": service["host"]}
        return httpx.get(f"http://{service['address']}/", headers=host | headers, trust_env=False).status_code

    assert status() == 401
    eventually(lambda: status(authorization=f"Bearer {made['key']}") == 200)
    assert status(authorization=f"Bearer {low['key']}") == 403, "what is not labelled counts as sensitive"
    there("keys", "disable", "caller")
    eventually(lambda: status(authorization=f"Bearer {made['key']}") == 401)
    there("keys", "enable", "caller")
    eventually(lambda: status(authorization=f"Bearer {made['key']}") == 200)
    there("keys", "revoke", made["id"])
    eventually(lambda: status(authorization=f"Bearer {made['key']}") == 401)
    there("delete", "page", "--yes")


def test_a_deployer_of_a_project_has_what_he_needs_and_no_more(there: Cli, app: Callable[..., Path]) -> None:
    there("projects", "create", "shop")
    token = there(
        "tokens", "create", "ci", "--role", "deployer", "--project", "shop", "--kind", "software", "--expires", "30d"
    ).out.strip()
    robot = Cli(there.home, {"KASBAH_TOKEN": token, "KASBAH_PROJECT": "shop"})
    robot("deploy", app(access="public"))
    assert [one["name"] for one in robot("ps", "-o", "json").json] == ["page"]
    assert robot("explain", "page", "-o", "json").json["service"] == "page"
    assert "Serving HTTP" in robot("logs", "page").out or robot("exec", "page", "--", "true").code == 0
    assert "sites" in robot("doctor").out
    assert "label_ceiling" not in robot("describe", "page", "--project", "default", code=5).err
    assert "may not key.create" in robot("keys", "create", "x", code=4).err
    there("tokens", "disable", "ci")
    assert "switched off" in robot("ps", code=4).err
    there("tokens", "enable", "ci")
    robot("delete", "page", "--yes")


FAILING = {
    "ends at once": ("sh -c 'echo last words; exit 3'", "last words"),
    "does not exist": ("[./nothing-here]", "nothing-here"),
}


@pytest.mark.parametrize(("command", "told"), FAILING.values(), ids=FAILING.keys())
def test_a_deploy_that_fails_says_why(there: Cli, app: Callable[..., Path], command: str, told: str) -> None:
    answer = there("deploy", app(command), code=1)
    assert "page did not roll out" in answer.err
    assert told in answer.err
    there("delete", "page", "--yes")
