"""The examples, each built and run alone: what they are for works, bad input is refused, SIGTERM ends them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import websockets
from example_apps import App, build, running

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

MEGABYTES = 20


@pytest.fixture
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[App]:
    with running(request.param, build(request.param, tmp_path)) as started:
        yield started


@pytest.mark.parametrize("app", ["hello-python"], indirect=True)
def test_hello_python(app: App) -> None:
    with httpx.Client(base_url=app.url, timeout=30) as client:
        assert client.get("/healthz").text == "ok\n"
        made = client.post("/notes", json={"text": "buy mint"})
        assert made.status_code == 201
        assert client.get("/notes").json() == [made.json()]
        assert client.delete(f"/notes/{made.json()['id']}").status_code == 204
        assert client.delete(f"/notes/{made.json()['id']}").status_code == 404
        for bad in ("{", "[]", '{"text": ""}', '{"text": 1}'):
            assert client.post("/notes", content=bad).status_code == 400
        body = bytes(range(256)) * (MEGABYTES * 4096)
        answer = client.post("/digest", content=body).json()
        assert answer == {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    app.stop()
    assert "Finished server process" in (app.folder / "output.log").read_text()


@pytest.mark.parametrize("app", ["hello-node"], indirect=True)
def test_hello_node(app: App) -> None:
    with httpx.Client(base_url=app.url, timeout=30) as client:
        made = client.post("/links", json={"url": "https://example.org/"})
        assert made.status_code == 201
        visit = client.get(f"/{made.json()['code']}")
        assert (visit.status_code, visit.headers["location"]) == (302, "https://example.org/")
        assert client.get("/links").json() == [{**made.json(), "visits": 1}]
        assert client.get("/nothing").status_code == 404
        for bad in ("{", "[]", '{"url": "javascript:alert(1)"}', '{"url": 1}'):
            answer = client.post("/links", content=bad, headers={"content-type": "application/json"})
            assert answer.status_code == 400, bad
    assert app.stop() == 0


async def _event(lines: object) -> dict[str, object]:
    async for line in lines:  # type: ignore[attr-defined]
        if line.startswith("data: "):
            event: dict[str, object] = json.loads(line.removeprefix("data: "))
            return event
    raise AssertionError("the stream ended")


@pytest.mark.parametrize("app", ["live"], indirect=True)
async def test_live(app: App) -> None:
    address = app.url.replace("http", "ws") + "/ws"
    async with (
        asyncio.timeout(30),
        httpx.AsyncClient(base_url=app.url) as client,
        client.stream("GET", "/events") as stream,
    ):
        lines = stream.aiter_lines()
        assert await _event(lines) == {"type": "viewers", "watching": 1, "talking": 0}
        async with websockets.connect(address) as socket:
            assert json.loads(await socket.recv()) == {"type": "viewers", "watching": 1, "talking": 1}
            assert (await _event(lines))["talking"] == 1
            await socket.send("salam")
            said = {"type": "message", "text": "salam"}
            assert json.loads(await socket.recv()) == said
            assert await _event(lines) == said
        assert (await _event(lines))["talking"] == 0
        app.process.terminate()
        assert [line async for line in lines if line.startswith("data")] == []
    assert await asyncio.to_thread(app.stop) is not None


@pytest.mark.parametrize("app", ["semantic-search"], indirect=True)
def test_semantic_search(app: App) -> None:
    with httpx.Client(base_url=app.url, timeout=30) as client:
        assert client.get("/healthz").status_code == 200
        found = client.post("/search", json={"query": "my bank card was stolen", "limit": 3}).json()["results"]
        assert len(found) == 3
        assert found[0]["text"].startswith("If your bank card is lost or stolen")
        assert [result["score"] for result in found] == sorted((r["score"] for r in found), reverse=True)
        lamp = client.post("/search", json={"query": "where do I report a broken street lamp?", "limit": 1}).json()
        assert "Street lights" in lamp["results"][0]["text"]
        for bad in ("{", "[]", '{"query": ""}', '{"query": "a", "limit": 0}', '{"query": "a", "limit": true}'):
            assert client.post("/search", content=bad).status_code == 400, bad
        assert client.post("/search", content=json.dumps({"query": "a" * 20_000})).status_code == 413
    assert not (app.folder / ".cache" / "Microsoft").exists()


@pytest.mark.parametrize("app", ["hello-binary"], indirect=True)
def test_hello_binary(app: App) -> None:
    with httpx.Client(base_url=app.url, timeout=30) as client:
        first, second = client.get("/"), client.post("/anything", content=bytes(MEGABYTES * 2**20))
        assert (first.status_code, second.status_code) == (200, 200)
        assert second.text.startswith("hello from C: answer 3 ")
        chunked = client.post("/", content=iter([b"one", b"two"]))
        assert chunked.status_code == 411
    assert app.stop() == 0
