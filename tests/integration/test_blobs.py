"""The blob store: verified on the way in, whole or absent, safe to fill from several sides."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import resource
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kasbah.agent.blobs import PIECE, BlobStore
from kasbah.agent.paths import Paths
from kasbah.domain.ids import Digest
from kasbah.errors import Invalid, TooLarge, Unavailable
from kasbah.settings import Limits

RAW = os.urandom(3 * PIECE)
BODY = gzip.compress(RAW, 1)
DIGEST = Digest("sha256:" + hashlib.sha256(RAW).hexdigest())
LIMIT = 2**30


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path)


@pytest.fixture
def store(paths: Paths) -> BlobStore:
    return BlobStore(paths, Limits())


async def chunks(body: bytes, *, size: int = 300_000, then: Exception | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]
    if then is not None:
        raise then


def held(paths: Paths) -> list[str]:
    return sorted(one.name for one in paths.blobs.iterdir())


async def test_a_bundle_is_stored_once(store: BlobStore, paths: Paths) -> None:
    assert not store.has(DIGEST)
    assert await store.put(DIGEST, chunks(BODY), limit=LIMIT)
    assert store.has(DIGEST)
    assert store.path(DIGEST).read_bytes() == BODY
    assert store.size() == len(BODY)
    assert not await store.put(DIGEST, chunks(b"never read"), limit=LIMIT)
    assert len(held(paths)) == 1


@pytest.mark.parametrize(
    "body",
    [gzip.compress(b"another"), BODY[:-1], BODY[: PIECE + 7], BODY + b"more", b"no gzip at all", b""],
    ids=["another", "cut", "cut early", "trailing", "noise", "empty"],
)
async def test_what_is_not_the_digest_leaves_nothing(store: BlobStore, paths: Paths, body: bytes) -> None:
    with pytest.raises(Invalid):
        await store.put(DIGEST, chunks(body), limit=LIMIT)
    assert held(paths) == []


async def test_more_than_the_limit_is_refused(store: BlobStore, paths: Paths) -> None:
    with pytest.raises(TooLarge):
        await store.put(DIGEST, chunks(BODY), limit=len(BODY) - 1)
    assert held(paths) == []
    small = BlobStore(paths, Limits(source_bytes=len(BODY) - 1))
    with pytest.raises(TooLarge):
        await small.put(DIGEST, chunks(BODY), limit=LIMIT)
    assert held(paths) == []


async def test_an_upload_that_breaks_off_leaves_nothing(store: BlobStore, paths: Paths) -> None:
    with pytest.raises(ConnectionResetError):
        await store.put(DIGEST, chunks(BODY[:PIECE], then=ConnectionResetError()), limit=LIMIT)
    assert held(paths) == []


async def test_a_cancelled_upload_leaves_nothing(store: BlobStore, paths: Paths) -> None:
    arrived = asyncio.Event()

    async def stalled() -> AsyncIterator[bytes]:
        yield BODY[: 2 * PIECE]
        arrived.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(store.put(DIGEST, stalled(), limit=LIMIT))
    await arrived.wait()
    assert len(held(paths)) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert held(paths) == []


async def test_one_digest_from_several_sides(store: BlobStore, paths: Paths) -> None:
    await asyncio.gather(*(store.put(DIGEST, chunks(BODY, size=50_000), limit=LIMIT) for _ in range(4)))
    assert store.path(DIGEST).read_bytes() == BODY
    assert len(held(paths)) == 1


def test_leftovers_go_at_the_next_start(store: BlobStore, paths: Paths) -> None:
    (paths.blobs / ".partial-x").write_text("half")
    BlobStore(paths, Limits())
    assert held(paths) == []


@pytest.mark.parametrize(
    "text", ["", "sha256:abc", "sha256:" + "A" * 64, "sha256:" + "../" * 21 + "a", "sha256:" + "a" * 64 + "\n"]
)
def test_what_is_no_digest_has_no_path(store: BlobStore, text: str) -> None:
    with pytest.raises(Invalid):
        store.path(Digest(text))


async def test_a_disk_that_refuses_is_said_so(store: BlobStore, paths: Paths) -> None:
    """A file size limit stands in for a full disk: both fail the write itself."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PIECE, before[1]))
    try:
        with pytest.raises(Unavailable, match="cannot store"):
            await store.put(DIGEST, chunks(BODY), limit=LIMIT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert held(paths) == []
