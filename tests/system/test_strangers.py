"""Apps that know nothing of Kasbah deploy as they are, answer, sleep to the bottom and answer again."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from support import APPS, Site, app

from demo.load import Request, burst

pytestmark = pytest.mark.real

SAYS = {
    "flask": "Hello from Flask",
    "django": "Hello from Django",
    "fastapi": "Hello from FastAPI",
    "express": "Hello from Express",
    "node": "Hello from Node, 0 bytes",
    "c": "Hello from C",
    "static": "Hello from a file",
}
NEEDS = {"express": "npm", "node": "node", "c": "cc"}
NAMES = {"c": "plain-c"}
STATIC = """\
services:
  static:
    source: .
    command: python3 -m http.server $PORT
"""


def copied(kind: str, tmp_path: Path) -> Path:
    """The app's folder, as its author has it. Skips the test by name where its toolchain is missing."""
    tool = NEEDS.get(kind)
    if tool and shutil.which(tool) is None:
        pytest.skip(f"{kind} needs {tool}")
    if kind == "static":
        return app(tmp_path / kind, STATIC, index__html="<p>Hello from a file</p>")
    folder = Path(shutil.copytree(APPS / kind, tmp_path / kind))
    if kind == "c":
        subprocess.run(["cc", "-O2", "-o", "server", "server.c"], cwd=folder, check=True, timeout=60)
    return folder


@pytest.mark.parametrize("kind", SAYS)
def test_deployed_unchanged(site: Site, tmp_path: Path, kind: str) -> None:
    name = NAMES.get(kind, kind)
    site.deploy(copied(kind, tmp_path))

    def answers() -> None:
        answer = site.get(name)
        assert (answer.status_code, SAYS[kind] in answer.text) == (200, True), answer.text

    answers()
    for rung in ("frozen", "stopped"):
        site.sleep(name, rung)
        answers()
        tally = asyncio.run(burst(site.target(name), Request(), 20))
        assert tally.failed == 0, tally
    site.sleep(name, "stopped")


class TestGrpc:
    """HTTP/2 without TLS, trailers and streams both ways, with a key as metadata."""

    @pytest.fixture(scope="class")
    @staticmethod
    def echo(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
        site.deploy(copied("grpc", tmp_path_factory.mktemp("strangers")))
        yield "grpc"
        site.sleep("grpc", "stopped")

    @pytest.fixture
    def channel(self, site: Site, echo: str) -> Iterator[grpc.Channel]:
        with grpc.insecure_channel(site.gateway, [("grpc.default_authority", f"{echo}.localhost")]) as channel:
            yield channel

    @pytest.mark.parametrize("rung", [None, "frozen", "stopped"])
    def test_calls_of_every_kind(self, site: Site, echo: str, channel: grpc.Channel, rung: str | None) -> None:
        credentials = [("authorization", f"Bearer {site.key}")]

        def ask(method: Callable[..., object], message: object) -> object:
            return method(message, metadata=credentials, timeout=60)

        if rung:
            site.sleep(echo, rung)
        assert ask(channel.unary_unary("/echo.Echo/Shout"), b"salam") == b"SALAM"
        assert list(ask(channel.unary_stream("/echo.Echo/Letters"), b"abc")) == [b"a", b"b", b"c"]
        assert list(ask(channel.stream_stream("/echo.Echo/Chat"), iter([b"12", b"34"]))) == [b"21", b"43"]

    def test_without_a_key(self, channel: grpc.Channel) -> None:
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/echo.Echo/Shout")(b"salam", timeout=60)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
