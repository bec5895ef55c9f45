"""What goes wrong is told clearly, with where and what next, and harms nobody: the neighbour goes on serving."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support import PROBE, Site, app, eventually, free_port, probe, resident_bytes

from demo.load import Request, burst, call

pytestmark = pytest.mark.real

USAGE, FAILED, CONFLICT = 2, 1, 6


@pytest.fixture(autouse=True)
def neighbour(site: Site, probed: str) -> Iterator[None]:
    """Whatever a test does, another service serves before and after, in one and the same replica."""
    before = site.get(probed).json()["replica"]
    yield
    assert site.get(probed).json()["replica"] == before


MANIFESTS = {
    "a typo in the YAML": ("services:\n  web:\n    command: [run\n    access: public\n", ("kasbah.yaml:4", "]")),
    "a tab in the YAML": ("services:\n\tweb: {}\n", ("kasbah.yaml:2",)),
    "an unknown key": ("services:\n  web:\n    comand: ./run\n", ("kasbah.yaml:3", "comand", "did you mean command")),
    "a wrong type": ("services:\n  web:\n    command: x\n    port: eighty\n", ("kasbah.yaml:4", "port", "'eighty'")),
    "a wrong value": ("services:\n  web:\n    access: pubic\n", ("kasbah.yaml:3", "did you mean public")),
    "one name twice": (
        "services:\n  web:\n    command: a\n  web:\n    command: b\n",
        ("kasbah.yaml:4", "web", "twice"),
    ),
    "a missing folder": ("services:\n  web:\n    source: ./wbe\n", ("kasbah.yaml:3", "wbe")),
    "a bad name": ("services:\n  My_Web:\n    command: a\n", ("kasbah.yaml:2", "My_Web", "lower-case")),
    "an image": ("services:\n  web:\n    image: nginx\n", ("kasbah.yaml:3", "image", "container")),
    "nothing": ("", ("kasbah.yaml", "services")),
}


@pytest.mark.parametrize(("manifest", "told"), MANIFESTS.values(), ids=MANIFESTS.keys())
def test_a_file_that_cannot_be_right(site: Site, tmp_path: Path, manifest: str, told: tuple[str, ...]) -> None:
    (tmp_path / "kasbah.yaml").write_text(manifest)
    answer = site.run("deploy", tmp_path)
    assert (answer.code, answer.out) == (USAGE, "")
    for words in told:
        assert words in answer.err, answer.err
    assert "Traceback" not in answer.err


def test_a_folder_that_is_not_there(site: Site, tmp_path: Path) -> None:
    answer = site.run("deploy", tmp_path / "nowhere")
    assert (answer.code, "nowhere" in answer.err) == (USAGE, True), answer.err


def failed_deploy(site: Site, folder: Path, *told: str) -> str:
    """A deploy that fails, and says why with these words; what it said."""
    answer = site.run("deploy", folder)
    assert answer.code == FAILED, answer.said
    for words in told:
        assert words in answer.err, answer.err
    return answer.err


LISTEN = (
    "import http.server as h, os, threading, time\n"
    "server = h.ThreadingHTTPServer(('127.0.0.1', int(os.environ.get('OTHER') or os.environ['PORT'])),"
    " h.SimpleHTTPRequestHandler)\n"
)
SCRIPT = "services:\n  {name}:\n    command: python3 -u run.py\n    access: public\n{more}"
"""A file of a service whose one script is run.py, with more lines below it."""


def script(folder: Path, name: str, text: str, more: str = "") -> Path:
    """An app that is one script."""
    return app(folder, SCRIPT.format(name=name, more=more), run__py=text)


class TestADeployThatFails:
    """The deploy says why and shows the last lines; the service says `failed`, and a good deploy mends it."""

    def test_the_build_fails(self, site: Site, tmp_path: Path) -> None:
        folder = app(tmp_path / "unbuildable", run__py="print(1)", requirements__txt="flask==999\n")
        said = failed_deploy(site, folder, "building", "flask==999")
        assert re.search(r"^\s+\| .*flask", said, re.MULTILINE), f"the builder's last lines are not shown:\n{said}"
        assert "flask==999" in site.ok("logs", "unbuildable", "--build")

    def test_the_command_does_not_exist(self, site: Site, tmp_path: Path) -> None:
        for number, command in enumerate(("[./missing-program]", "missing-program --port $PORT")):
            manifest = f"services:\n  uncommanded:\n    command: {command}\n"
            folder = app(tmp_path / str(number), manifest, readme__txt="no program here")
            failed_deploy(site, folder, "missing-program", "not found")

    def test_it_never_listens(self, site: Site, tmp_path: Path) -> None:
        more = "    deadlines: {startup: 3s}\n"
        folder = script(tmp_path, "silent", "import time; print('thinking'); time.sleep(600)", more)
        failed_deploy(site, folder, "did not listen on port", "PORT", "3s", "deadlines.startup", "thinking")
        assert site.describe("silent")["state"] == "failed"

    def test_it_listens_elsewhere(self, site: Site, tmp_path: Path) -> None:
        port = free_port()
        more = f"    deadlines: {{startup: 3s}}\n    env: {{OTHER: {port}}}\n"
        folder = script(tmp_path, "elsewhere", f"{LISTEN}server.serve_forever()\n", more)
        failed_deploy(site, folder, f"listens on port {port}", "PORT", f"`port: {port}`")

    def test_it_ends_before_it_listens(self, site: Site, tmp_path: Path) -> None:
        folder = script(tmp_path, "mended", "print('no database', flush=True)\nraise SystemExit(3)\n")
        failed_deploy(site, folder, "exited with code 3", "no database")
        seen = site.describe("mended")
        assert (seen["state"], "exited with code 3" in seen["reason"]) == ("failed", True)
        assert site.get("mended").status_code == 503
        site.deploy(script(tmp_path, "mended", f"{LISTEN}server.serve_forever()\n"))
        assert site.get("mended").status_code == 200

    def test_the_old_revision_goes_on(self, site: Site, tmp_path: Path) -> None:
        site.deploy(script(tmp_path, "kept", f"{LISTEN}server.serve_forever()\n"))
        serving = site.describe("kept")["revision"]
        failed_deploy(site, script(tmp_path, "kept", "raise SystemExit(3)\n"), "exited with code 3")
        seen = site.describe("kept")
        assert (seen["revision"], seen["state"]) == (serving, "running")
        assert site.get("kept").status_code == 200


def test_an_app_that_dies_again_and_again(site: Site, tmp_path: Path) -> None:
    """It starts well and ends a second later: restarted with back-off, and why is shown; a sleeper stays asleep."""
    dying = (
        f"{LISTEN}threading.Thread(target=server.serve_forever, daemon=True).start()\n"
        "time.sleep(1)\nprint('out of luck', flush=True)\nraise SystemExit(7)\n"
    )
    site.deploy(script(tmp_path, "dying", dying, "    scaling: {min: 1}\n"))
    seen = site.becomes("dying", lambda seen: sum(one["exit"] is not None for one in seen["replicas"]) >= 2, "restarts")
    ended = [one for one in seen["replicas"] if one["exit"]]
    assert {one["exit"] for one in ended} == {"exited with code 7"}
    assert "out of luck" in ended[0]["tail"]
    assert "exited with code 7" in seen["reason"]
    # Between two ends it runs for a second, and there is nothing to tell.
    eventually(lambda: "exited with code 7" in site.ok("ps"), lambda: "the list never says why it is restarted")
    described = site.ok("describe", "dying")
    assert "exited with code 7" in described
    assert "out of luck" in described
    assert "out of luck" in site.ok("logs", "dying")
    answer = site.get("dying")
    if answer.status_code != 200:
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] in ("start_failed", "unavailable")
        assert int(answer.headers["retry-after"]) >= 1
    site.ok("delete", "dying", "--yes")


class TestAFixedPort:
    """Whoever answers there is not the replica unless the replica listens."""

    def test_that_another_program_has(self, site: Site, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            crowded = script(tmp_path, "crowded", fixed(port), f"    port: {port}\n")
            if "own-network" in site.isolation():
                site.deploy(crowded)  # its ports are its own
                assert site.get("crowded").status_code == 200
            else:
                failed_deploy(site, crowded, "already in use")

    def test_that_the_old_revision_has(self, site: Site, tmp_path: Path) -> None:
        port = free_port()
        more = f"    port: {port}\n"
        site.deploy(script(tmp_path, "settled", fixed(port), more))
        broken = "import time; time.sleep(1); raise SystemExit(3)\n"
        failed_deploy(site, script(tmp_path, "settled", broken, more), "exited with code 3")
        assert site.get("settled").status_code == 200


def fixed(port: int) -> str:
    """A program that takes a second before it listens on this very port."""
    listen = LISTEN.replace("int(os.environ.get('OTHER') or os.environ['PORT'])", str(port))
    return f"import time; time.sleep(1)\n{listen}server.serve_forever()\n"


class TestDeploysAtTheSameTime:
    def test_the_later_one_wins(self, site: Site, tmp_path: Path) -> None:
        slow = probe(tmp_path / "first", {"contended": {"env": {"VERSION": "first", "START_SECONDS": "4"}}})
        quick = probe(tmp_path / "second", {"contended": {"env": {"VERSION": "second"}}})
        with site.popen("deploy", slow) as first:
            eventually(lambda: _rollout(site, "contended") == "starting", lambda: "the first never started")
            site.deploy(quick)
            _, said = first.communicate(timeout=60)
        assert first.returncode == CONFLICT, said
        assert "was deployed meanwhile" in said, said
        assert site.get("contended").json()["version"] == "second"
        assert site.describe("contended")["rollout"]["state"] == "done"


def _rollout(site: Site, name: str) -> str:
    with contextlib.suppress(AssertionError):
        return str(site.describe(name)["rollout"]["state"])
    return ""


class TestCallers:
    """What callers do wrong wakes nothing, costs little, and is answered in the OpenAI error shape."""

    @pytest.fixture(scope="class")
    @staticmethod
    def guarded(site: Site) -> str:
        entry = {"access": "key", "env": {"START_SECONDS": "2"}}
        site.deploy(probe(site.home / "guarded", {"guarded": entry}))
        return "guarded"

    def test_without_a_good_key(self, site: Site, guarded: str) -> None:
        made = site.json("keys", "create", "revoked", "--service", guarded)
        other = site.json("keys", "create", "elsewhere", "--service", "probe")["key"]
        site.ok("keys", "revoke", made["id"])
        site.sleep(guarded, "stopped")
        with httpx.Client(base_url=f"http://{site.gateway}", headers={"host": f"{guarded}.localhost"}) as client:

            def told(key: str | None) -> tuple[int, str]:
                answer = client.get("/", headers={} if key is None else {"authorization": f"Bearer {key}"})
                error = answer.json()["error"]
                assert error["message"], answer.text
                return answer.status_code, error["code"]

            eventually(lambda: told(made["key"])[0] == 401, lambda: "a revoked key still opens")
            assert told(None) == (401, "missing_api_key")
            assert told("ksb_wrong")[0] == 401
            assert told(other)[0] == 403
        assert site.describe(guarded)["state"] == "stopped"

    def test_headers_over_the_limit(self, site: Site, guarded: str) -> None:
        site.sleep(guarded, "stopped")
        with site.client(guarded) as client:
            answer = client.get("/", headers={"x-large": "x" * 200_000})
            assert answer.status_code == 431
            assert "headers" in answer.json()["error"]["message"]
        assert site.describe(guarded)["state"] == "stopped"

    def test_what_is_no_http(self, site: Site) -> None:
        host, port = site.target("guarded").endpoint
        with socket.create_connection((host, port), timeout=30) as raw:
            raw.sendall(b"\x16\x03\x01 hello\r\n\r\n")
            assert raw.recv(65_536).startswith(b"HTTP/1.1 400")

    def test_an_unknown_host(self, site: Site) -> None:
        answer = httpx.get(f"http://{site.gateway}/", headers={"host": "nobody.localhost"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "service_not_found")

    async def test_callers_who_leave_while_they_wait(self, site: Site, guarded: str) -> None:
        await asyncio.to_thread(site.sleep, guarded, "stopped")
        target = site.target(guarded)
        impatient = [asyncio.create_task(call(target, Request())) for _ in range(50)]
        await asyncio.to_thread(site.becomes, guarded, lambda seen: seen["waiting_requests"] > 0, "has anybody waiting")
        for one in impatient:
            one.cancel()
        await asyncio.gather(*impatient, return_exceptions=True)
        await asyncio.to_thread(
            site.becomes, guarded, lambda seen: seen["waiting_requests"] == 0, "forgets those who left"
        )
        tally = await burst(target, Request(), 20)
        assert tally.failed == 0, tally
        assert json.loads(tally.body)["begun"] <= 20, "the app was given calls whose callers had left"


def test_two_gigabytes_into_a_sleeping_app(site: Site, probed_uploads: str) -> None:
    size, block = 2 * 2**30, bytes(2**20)
    watched = {part: site.pid(part) for part in ("agent", "envoy", "control")}
    before = {part: resident_bytes(pid) for part, pid in watched.items()}
    peak = dict(before)
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            for part, pid in watched.items():
                peak[part] = max(peak[part], resident_bytes(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with site.client(probed_uploads) as client:
            answer = client.post(
                "/discard", content=(block for _ in range(size // len(block))), headers={"content-length": str(size)}
            )
    finally:
        over.set()
        watcher.join()
    assert answer.json() == {"bytes": size}
    grown = {part: (peak[part] - before[part]) // 2**20 for part in watched}
    assert max(grown.values()) < 100, f"grew by MiB: {grown}"


@pytest.fixture
def probed_uploads(site: Site, tmp_path: Path) -> str:
    """A service that is stopped and takes a while to start, so that much of an upload would be held for it."""
    site.deploy(probe(tmp_path, {"uploads": {"command": f"sleep 2 && exec {PROBE}"}}))
    site.sleep("uploads", "stopped")
    return "uploads"


class TestUp:
    def test_again_on_the_same_folder(self, site: Site) -> None:
        answer = site.run("up", "-d", "--data-dir", site.data_dir, "--gateway", "127.0.0.1:0", "--api", "127.0.0.1:0")
        assert answer.code == CONFLICT, answer.said
        assert str(site.data_dir) in answer.err
        assert "kasbah down" in answer.err

    @pytest.mark.parametrize("option", ["--gateway", "--api"])
    def test_where_the_port_is_taken(self, site: Site, tmp_path: Path, option: str) -> None:
        ports = {"--gateway": "127.0.0.1:0", "--api": "127.0.0.1:0", option: site.gateway}
        words = [word for pair in ports.items() for word in pair]
        answer = site.run("up", "-d", "--data-dir", tmp_path / "data", *words, KASBAH_CONTEXT=str(tmp_path / "context"))
        assert answer.code == CONFLICT, answer.said
        assert site.gateway.rpartition(":")[2] in answer.err
        assert option in answer.err
        assert site.run("down", "--data-dir", tmp_path / "data").code == 0
