"""The sites' side of the control plane, `/agent/v1`, told what fits its types, what nearly fits, and noise.

Whatever it is told, it answers or refuses in our shape, and has no bug; what it refuses changes nothing; usage is
counted once; and whoever looks or deploys afterwards is served. The same few examples at every run; EXAMPLES=N for
more, and new ones (`make fuzz`).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from twisting import MOMENTS, TEXT, WHOLE, mostly, nearly, written

from kasbah.api.agent import PROTOCOL_HEADER, SITE_STATUS, STATUS_HEADER, USAGE_BATCH
from kasbah.api.public import ErrorBody
from kasbah.clock import ManualClock
from kasbah.control.app import Control, build
from kasbah.control.loops.rollout import Rollouts
from kasbah.domain.ids import ReplicaId, RevisionId, RolloutId, ServiceId, SiteId, WakeId
from kasbah.domain.observed import (
    BuildState,
    RevisionStatus,
    ServiceStatus,
    SiteStatus,
    TrialState,
    UsageBatch,
    Wake,
)
from kasbah.domain.replica import Exit, Replica, ReplicaState
from kasbah.domain.service import ServiceState
from kasbah.domain.site import Isolation
from kasbah.domain.usage import Usage, UsageKey
from kasbah.settings import ControlSettings

START = datetime(2026, 3, 1, tzinfo=UTC)
EXAMPLES = int(os.environ.get("EXAMPLES", "0"))
LOOKED_AT = ("/api/v1/sites", "/api/v1/services", "/api/v1/services/web", "/api/v1/usage")
CONFIG = {"runtime": "python", "command": ["python", "app.py"], "data": {"level": "internal"}}


class Told:
    """A control plane with one service, told things in this process."""

    def __init__(self, control: Control) -> None:
        self._database = control.folder.database
        self._transport = httpx.ASGITransport(app=control.asgi, raise_app_exceptions=False)
        self._loop = asyncio.new_event_loop()
        self.numbers = itertools.count(1)
        self._marks = control.office.marks
        self._rollouts = Rollouts(control.office)
        self.admin = control.folder.admin_token.read_text().strip()
        self.token = control.folder.site_token.read_text().strip()
        self.site = self.tell("GET", "identity").json()["site"]
        self.tell("POST", "status", SITE_STATUS.dump_json(self.plain()))
        body = {"config": CONFIG, "source": "sha256:" + "a" * 64, "source_size": 1, "expected_version": None}
        self.api("POST", "/api/v1/services/web/deploys", json=body)
        self.is_served()
        (self.service,) = self.tell("GET", "desired").json()["services"]

    def plain(self) -> SiteStatus:
        """What a site says that runs nothing yet."""
        return SiteStatus(
            site=SiteId(self.site),
            observed_at=START,
            applied=(0, 0),
            gateway_address="127.0.0.1:8080",
            isolation=Isolation(mechanisms=("landlock",), egress="enforced"),
            cpus=4.0,
            memory=2**33,
            runtimes=("python", "command"),
        )

    def tell(self, method: str, path: str, body: bytes = b"", token: str | None = None, **more: Any) -> httpx.Response:
        held = self.token if token is None else token
        headers = {**({"authorization": f"Bearer {held}".encode("latin-1")} if held else {}), PROTOCOL_HEADER: "1"}
        answer = self._ask(method, f"/agent/v1/{path}", headers | more.pop("headers", {}), content=body, **more)
        assert answer.status_code < 500, f"{method} {answer.url} {body!r}: {answer.text}"
        if answer.is_error:
            error = ErrorBody.model_validate_json(answer.content).error
            assert error.request_id == answer.headers["x-request-id"]
        return answer

    def api(self, method: str, path: str, **more: Any) -> httpx.Response:
        answer = self._ask(method, path, {"authorization": f"Bearer {self.admin}"}, **more)
        assert answer.is_success, f"{method} {path}: {answer.text}"
        return answer

    def _ask(self, method: str, path: str, headers: dict[str, Any], **more: Any) -> httpx.Response:
        async def asked() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://api") as client:
                return await client.request(method, path, headers=headers, timeout=20, **more)

        return self._loop.run_until_complete(asked())

    def everything(self) -> tuple[list[str], dict[SiteId, str]]:
        """All that is kept, but for the audit log: what is refused is in that."""
        with closing(sqlite3.connect(self._database)) as database:
            kept = [line for line in database.iterdump() if not line.startswith('INSERT INTO "audit_')]
        return kept, dict(self._marks)

    def counted(self) -> list[tuple[Any, ...]]:
        """The usage that was counted."""
        with closing(sqlite3.connect(self._database)) as database:
            return list(database.execute("select * from usage_total"))

    def is_served(self) -> None:
        """Whoever looks is shown all there is, and rollouts go on."""
        self._loop.run_until_complete(self._rollouts.carry_on())
        for path in LOOKED_AT:
            json.loads(self.api("GET", path).content, parse_constant=_no_json)
        self.api("GET", "/metrics")

    def close(self) -> None:
        self._loop.close()


def _no_json(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    settings = ControlSettings(data_dir=tmp_path_factory.mktemp("told"), country="MA")
    control = build(settings, ManualClock(START))
    told = Told(control)
    yield told
    told.close()
    control.close()


few = settings(
    max_examples=EXAMPLES or 25,
    derandomize=not EXAMPLES,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def _ids(kind: Any, *known: str) -> st.SearchStrategy[Any]:
    return st.sampled_from(known).map(kind) | TEXT.map(kind)


def _some(one: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(one, max_size=2).map(tuple)


def _statuses(told: Told) -> st.SearchStrategy[SiteStatus]:
    """What a site may say: mostly of what there is."""
    service = st.just(ServiceId(told.service["id"])) | _ids(ServiceId, "sv-0000000000000000")
    revision = _ids(RevisionId, told.service["trial"]["revision"])
    rollout = st.none() | _ids(RolloutId, told.service["trial"]["rollout"])
    number = mostly([0.0, 1.5, 40.0], [float("nan"), float("inf"), -1.0, 1e300])
    ended = st.builds(Exit, code=st.none() | WHOLE, signal=st.none() | TEXT, reason=TEXT, tail=_some(TEXT))
    replica = st.builds(
        Replica,
        id=_ids(ReplicaId, "rp-1"),
        service=service,
        revision=revision,
        state=st.sampled_from(ReplicaState),
        address=TEXT,
        since=MOMENTS,
        in_flight=WHOLE,
        pid=st.none() | WHOLE,
        exit=st.none() | ended,
    )
    wake = st.builds(
        Wake,
        id=_ids(WakeId, "wk-1"),
        replica=st.none() | _ids(ReplicaId, "rp-1"),
        at=MOMENTS,
        rung=TEXT,
        queue_ms=number,
        start_ms=number,
        ready_ms=number,
        first_byte_ms=st.none() | number,
        held=WHOLE,
        error=TEXT,
    )
    of_revision = st.builds(
        RevisionStatus,
        revision=revision,
        rollout=rollout,
        build=st.sampled_from(BuildState),
        trial=st.sampled_from(TrialState),
        step=TEXT,
        reason=TEXT,
        tail=_some(TEXT),
        ready=WHOLE,
        trouble=TEXT,
    )
    of_service = st.builds(
        ServiceStatus,
        service=service,
        state=st.sampled_from(ServiceState),
        reason=TEXT,
        obeyed_order=WHOLE,
        waiting_requests=WHOLE,
        in_flight=WHOLE,
        revisions=_some(of_revision),
        replicas=_some(replica),
        wakes=_some(wake),
    )
    return st.builds(
        SiteStatus,
        site=st.just(SiteId(told.site)),
        observed_at=MOMENTS,
        applied=st.tuples(WHOLE, WHOLE),
        gateway_address=TEXT,
        gateway_error=TEXT,
        tls_address=TEXT,
        tls_names=_some(TEXT),
        notes=_some(TEXT),
        isolation=st.builds(Isolation, mechanisms=_some(TEXT), egress=TEXT),
        cpus=number,
        memory=WHOLE,
        drivers=_some(TEXT),
        runtimes=_some(st.just("python") | TEXT),
        services=_some(of_service),
    )


def _batches(told: Told) -> st.SearchStrategy[UsageBatch]:
    """What a site may have metered: mostly of the service that there is."""
    key = st.builds(
        UsageKey,
        service=mostly([ServiceId(told.service["id"])], [ServiceId("sv-0000000000000000"), ServiceId("\0")]),
        revision=_ids(RevisionId, told.service["trial"]["revision"]),
        key=st.none() | _ids(str, "ky-1"),
        minute=MOMENTS,
    )
    plain, odd = st.integers(0, 40), st.integers(0, 40) | WHOLE
    counts = st.builds(Usage, requests=plain, failed=odd, bytes_in=plain, bytes_out=plain, milliseconds=odd)
    usage = st.lists(st.tuples(key, counts), min_size=1, max_size=3).map(tuple)
    return st.builds(UsageBatch, sequence=mostly([0], [-1, 2**53, 10**30]), usage=usage)


def _checked(told: Told, path: str, body: bytes, **more: Any) -> httpx.Response:
    """Tell it. What is refused has changed nothing, and what is taken is looked at."""
    before = told.everything()
    answer = told.tell("POST", path, body, **more)
    if answer.is_error:
        assert told.everything() == before, f"{answer.text} changed something"
    else:
        told.is_served()
    return answer


def test_a_status(told: Told) -> None:
    fits = _statuses(told).map(partial(written, SITE_STATUS))

    @few
    @given(fits | nearly(fits) | st.binary(max_size=200))
    def holds(body: bytes) -> None:
        _checked(told, "status", body, headers={STATUS_HEADER: "a mark"})

    holds()


def test_usage(told: Told) -> None:
    fits = _batches(told).map(partial(written, USAGE_BATCH))
    counted = []

    @few
    @given(fits | nearly(fits) | st.binary(max_size=200))
    def holds(body: bytes) -> None:
        body = body.replace(b'"sequence": 0', f'"sequence": {next(told.numbers)}'.encode())
        before = told.counted()
        if _checked(told, "usage", body).is_success:
            after = told.everything()
            counted.append(told.counted() != before)
            assert told.tell("POST", "usage", body).is_success
            assert told.everything() == after, "counted twice"

    holds()
    assert any(counted), "nothing that was told counts for anything"


QUERY = st.sampled_from(["-1", "0", "1", "9" * 30, "9" * 5_000, "x", "", "nan", "²", "\0", "1e9", "true"])
HEADER = st.binary(max_size=20).map(lambda raw: bytes(one for one in raw if one not in b"\r\n\0"))


def test_the_rest(told: Told) -> None:
    part = st.text(min_size=1, max_size=8) | st.sampled_from(["sc-1", "..", "%2e%2e", "%00", "9" * 5_000])

    @few
    @given(
        st.tuples(QUERY, QUERY, QUERY.filter(lambda one: one != "1")),
        HEADER,
        st.tuples(part, QUERY | part),
        st.binary(max_size=40),
    )
    def holds(numbers: tuple[str, str, str], header: bytes, named: tuple[str, str], body: bytes) -> None:
        before = told.everything()
        told.tell("GET", "desired", params=dict(zip(("epoch", "generation", "wait"), numbers, strict=True)))
        told.tell("POST", "still", body, headers={STATUS_HEADER: header})
        told.tell("GET", "identity", headers={PROTOCOL_HEADER: header})
        secret = "/".join(quote(one, safe="", errors="replace") for one in named)
        told.tell("GET", f"secrets/{secret}", headers={STATUS_HEADER: header})
        assert told.everything() == before

    holds()


@pytest.mark.parametrize("token", ["", "another's", "the administrator's", "\xe9"])
def test_without_the_site_s_token_nothing_is_taken(told: Told, token: str) -> None:
    held = told.admin if token.startswith("the") else token
    statuses, batches = (
        _statuses(told).map(partial(written, SITE_STATUS)),
        _batches(told).map(partial(written, USAGE_BATCH)),
    )

    @settings(few, max_examples=EXAMPLES or 3)
    @given(statuses, batches, st.binary(max_size=200))
    def holds(status: bytes, batch: bytes, noise: bytes) -> None:
        before = told.everything()
        for path, body in (("status", status), ("usage", batch), ("still", b""), ("status", noise), ("usage", noise)):
            assert told.tell("POST", path, body, token=held).status_code == 401
        for path in ("desired", "identity", "secrets/sc-1/1"):
            assert told.tell("GET", path, token=held).status_code == 401
        assert told.everything() == before

    holds()
