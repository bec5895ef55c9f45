"""Where packages come from: what the package managers would ask, where these keep their files, and nothing else."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import uv

from kasbah.agent.build.indexes import UVS_OWN, Indexes, _said, ends, of_python, proxies

pytestmark = pytest.mark.real

OWN = "https://own.example/simple"


@contextmanager
def index(status: int, kind: str, page: str, *, stumbles: int = 0) -> Iterator[tuple[str, list[str]]]:
    """An index of packages: its address, and the paths that it was asked for. The first times it answers 503."""
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = page.encode()
            self.send_response(status if len(asked) > stumbles else 503)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, ("own.example:443",)),
        ({"PATH": "/usr/bin", "HOME": "https://not.an.index"}, ("own.example:443",)),
        ({"UV_DEFAULT_INDEX": "mirror=http://a.example:8080/simple"}, ("a.example:8080",)),
        ({"UV_INDEX_URL": "https://a.example/simple", "UV_DEFAULT_INDEX": ""}, ("a.example:443",)),
        ({"UV_INDEX": "a=https://a.example/x b=https://b:secret@b.example:444"}, None),
        (
            {"UV_FIND_LINKS": "/opt/wheels,file:///opt/more,https://w.example/list"},
            ("own.example:443", "w.example:443"),
        ),
        ({"UV_INDEX": "https://[::1]/x http://host:badport/ :// ="}, ("own.example:443",)),
        ({"UV_INDEX_STRATEGY": "https://no.example"}, ("own.example:443",)),
    ],
)
def test_what_uv_asks(environment: dict[str, str], found: tuple[str, ...] | None) -> None:
    wanted = found or ("own.example:443", "a.example:443", "b.example:444")
    assert tuple(ends(of_python(environment, OWN))) == wanted


def test_proxies() -> None:
    environment = {
        "HTTPS_PROXY": "proxy.example:3128",
        "http_proxy": "http://me@other.example",
        "NO_PROXY": "x.example",
    }
    assert tuple(ends(proxies(environment))) == ("proxy.example:3128", "other.example:80")


async def test_uv_says_which_index_is_its_own() -> None:
    """What is read of its help is there, in the version that we have."""
    found = UVS_OWN.search(await _said(uv.find_uv_bin(), "help", "pip", "install"))
    assert found is not None
    assert len(list(ends([found.group(1)]))) == 1


@pytest.mark.parametrize(
    ("kind", "page"),
    [
        ("application/vnd.pypi.simple.v1+json", json.dumps({"files": [{"url": "https://files.example/a.whl"}]})),
        ("text/html", '<a href="https://files.example/a.whl#sha256=1">a</a> <a href="../b.whl">b</a>'),
    ],
)
async def test_an_index_says_where_its_files_are(kind: str, page: str) -> None:
    with index(200, kind, page) as (address, asked):
        indexes = Indexes({"UV_DEFAULT_INDEX": f"{address}/simple", "NPM_CONFIG_REGISTRY": "http://npm.example"})
        wanted = {address.removeprefix("http://"), "files.example:443"}
        for _ in range(2):
            assert wanted <= set(await indexes.ends()) <= {*wanted, "npm.example:80"}
        assert asked == ["/simple/pip/"]


async def test_an_index_that_does_not_answer_is_there_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what it said before counts."""
    monkeypatch.setattr("kasbah.agent.build.indexes.FRESH_SECONDS", 0.0)
    monkeypatch.setattr("kasbah.agent.build.indexes.RETRY_SECONDS", 0.0)
    nobody = Indexes({"UV_DEFAULT_INDEX": "http://127.0.0.1:1/simple", "NPM_CONFIG_REGISTRY": "http://npm.example"})
    assert "127.0.0.1:1" in await nobody.ends()
    with index(404, "text/plain", "nothing here") as (address, _):
        empty = Indexes({"UV_DEFAULT_INDEX": address})
        assert address.removeprefix("http://") in await empty.ends()
    with index(200, "text/html", '<a href="https://files.example/a.whl">') as (address, _):
        known = Indexes({"UV_DEFAULT_INDEX": address})
        assert "files.example:443" in await known.ends()
    assert "files.example:443" in await known.ends()


async def test_an_index_that_stumbles_is_asked_again() -> None:
    with index(200, "text/html", '<a href="https://files.example/a.whl">', stumbles=2) as (address, asked):
        assert "files.example:443" in await Indexes({"UV_DEFAULT_INDEX": address, "PATH": "/nowhere"}).ends()
        assert len(asked) == 3


async def test_an_index_that_does_not_answer_is_not_asked_each_time() -> None:
    with index(404, "text/plain", "nothing here") as (address, asked):
        indexes = Indexes({"UV_DEFAULT_INDEX": address, "PATH": "/nowhere"})
        assert await indexes.ends() == await indexes.ends() == (address.removeprefix("http://"),)
        assert asked == ["/pip/"]


async def test_a_page_that_names_the_world_opens_little_of_it() -> None:
    page = "".join(f'<a href="https://files{number}.example/a.whl">a</a>' for number in range(100))
    with index(200, "text/html", page + '<a href="https://no_such..host/a">') as (address, _):
        found = await Indexes({"UV_DEFAULT_INDEX": address, "PATH": "/nowhere"}).ends()
    assert len(found) == 17


async def test_a_page_without_end_is_not_read_to_its_end() -> None:
    with index(200, "text/html", '<a href="https://files.example/a.whl">' + "x" * 2**23) as (address, _):
        assert "files.example:443" in await Indexes({"UV_DEFAULT_INDEX": address}).ends()
