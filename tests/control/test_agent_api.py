"""The agent's side: signed desired states, reports that wake watchers only when they mean something, usage once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from installed import START, Installed

from kasbah.domain.ids import KeyId, ReplicaId, WakeId
from kasbah.domain.observed import ServiceStatus, UsageBatch, Wake
from kasbah.domain.replica import Exit, Replica, ReplicaState
from kasbah.domain.service import Service, ServiceState
from kasbah.domain.usage import Usage, UsageKey


def seen(service: Service, *replicas: Replica, **more: object) -> ServiceStatus:
    plain = {"service": service.id, "state": ServiceState.RUNNING, "replicas": replicas}
    return ServiceStatus(**(plain | more))  # type: ignore[arg-type]


def replica(service: Service, number: int = 1, **more: object) -> Replica:
    plain = {
        "id": ReplicaId(f"rp-{number}"),
        "service": service.id,
        "revision": service.shares[0].revision,
        "state": ReplicaState.READY,
        "address": "127.0.0.1:4000",
        "since": START,
        "pid": 42,
    }
    return Replica(**(plain | more))  # type: ignore[arg-type]


async def test_the_first_desired_state_is_there_at_once_and_empty(installed: Installed) -> None:
    desired = await installed.agent.desired()
    assert desired.version == (1, 1)
    assert (desired.services, desired.keys, desired.base_domain) == ((), (), "localhost")
    identity = await installed.agent.introduce()
    assert (desired.site, identity.site_name) == (identity.site, "local")


async def test_what_says_nothing_new_makes_no_generation(installed: Installed) -> None:
    await installed.serving()
    before = await installed.agent.desired()
    installed.clock.advance(timedelta(hours=1))
    await installed.agent.report()
    await installed.deploy()
    await installed.post("/services/web/scale", {"max": 1})
    await installed.post("/tokens", {"name": "x", "grants": [{"role": "auditor"}]}, status=201)
    assert await installed.agent.desired(known=before.version) is None
    await installed.post("/services/web/scale", {"max": 2})
    after = await installed.agent.desired(known=before.version)
    assert after.generation == before.generation + 1
    assert after.issued_at == installed.clock.now()


async def test_a_long_poll_gets_the_next_one_as_soon_as_it_is_there(installed: Installed) -> None:
    known = (await installed.agent.desired()).version
    waiting = asyncio.create_task(installed.agent.desired(known=known, wait=20))
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done
    await installed.post("/keys", {"name": "ci"}, status=201)
    assert len((await waiting).keys) == 1


async def test_generations_of_concurrent_writes_are_all_different(installed: Installed) -> None:
    await installed.serving()
    first = (await installed.agent.desired()).generation
    await asyncio.gather(*(installed.post("/services/web/wake") for _ in range(10)))
    assert (await installed.agent.desired()).generation == first + 10


async def test_an_agent_that_is_ahead_gets_nothing_older(installed: Installed) -> None:
    assert await installed.agent.desired(known=(1, 99)) is None
    assert await installed.agent.desired(known=(2, 0)) is None


@pytest.mark.parametrize(("spoken", "status"), [("1", 200), ("0", 200), ("2", 400), ("x", 400), (None, 400)])
async def test_both_sides_speak_a_protocol_or_the_one_before(installed: Installed, spoken, status) -> None:
    headers = {**installed.agent.headers, "x-kasbah-protocol": spoken}
    if spoken is None:
        del headers["x-kasbah-protocol"]
    answer = await installed.agent.client.get("/agent/v1/identity", headers=headers)
    assert answer.status_code == status


async def test_what_is_no_report_is_refused_and_harms_nothing(installed: Installed) -> None:
    for body in (b"", b"{}", b"[]", b"\xff", b'{"site": 1}'):
        answer = await installed.agent.client.post("/agent/v1/status", content=body, headers=installed.agent.headers)
        assert answer.status_code == 400
    assert (await installed.get("/sites"))["items"][0]["seen_at"] is None


@pytest.mark.parametrize(
    ("said", "instead"),
    [
        (b'"cpus":4.0', b'"cpus":NaN'),
        (b'"cpus":4.0', b'"cpus":1e999'),
        (b"2026-03-01T12:00:00Z", b"0001-01-01T00:00:00+23:59"),
        (b"2026-03-01T12:00:00Z", b"2026-03-01T12:00:00"),
    ],
)
async def test_what_could_not_be_read_again_is_not_taken(installed: Installed, said: bytes, instead: bytes) -> None:
    client, headers = installed.agent.client, installed.agent.headers
    plain = (await installed.agent.report()).request.content
    assert said in plain
    answer = await client.post("/agent/v1/status", content=plain.replace(said, instead), headers=headers)
    assert answer.status_code == 400
    batch = b'{"sequence":1,"usage":[[{"service":"s","revision":"r","key":null,"minute":"2026-03-01T12:00:00Z"},{}]]}'
    assert (await client.post("/agent/v1/usage", content=batch, headers=headers)).is_success
    if said in batch:
        answer = await client.post("/agent/v1/usage", content=batch.replace(said, instead), headers=headers)
        assert answer.status_code == 400
    assert (await installed.get("/sites"))["items"][0]["connected"] is True


async def test_a_site_reports_for_itself_only(installed: Installed) -> None:
    identity = await installed.agent.introduce()
    installed.agent.identity = replace(identity, site="st-other")
    assert (await installed.agent.report()).status_code == 403


async def test_a_site_is_connected_while_it_reports(installed: Installed) -> None:
    await installed.serving()
    installed.clock.advance(timedelta(seconds=9))
    assert (await installed.get("/sites"))["items"][0]["connected"] is True
    installed.clock.advance(timedelta(seconds=2))
    assert (await installed.get("/sites"))["items"][0]["connected"] is False
    service = await installed.get("/services/web")
    assert service["state"] == "running"
    assert "does not report at present" in service["reason"]
    await installed.agent.report()
    assert (await installed.get("/sites"))["items"][0]["connected"] is True


async def test_only_what_means_something_is_a_new_version(installed: Installed) -> None:
    await installed.serving()
    agent = installed.agent
    web = await agent.service("web")

    async def version_after(status: ServiceStatus) -> int:
        agent.statuses[web.id] = status
        await agent.report()
        return (await installed.get("/services/web"))["version"]

    ready = seen(web, replica(web))
    first = await version_after(ready)
    busy = seen(web, replica(web, in_flight=7), in_flight=7, waiting_requests=2)
    assert await version_after(busy) == first
    assert (await installed.get("/services/web"))["waiting_requests"] == 2
    assert (await installed.get("/services/web"))["replicas"][0]["in_flight"] == 7
    frozen = seen(web, replica(web, state=ReplicaState.FROZEN), state=ServiceState.FROZEN)
    assert await version_after(frozen) == first + 1
    assert await version_after(frozen) == first + 1
    two = seen(web, replica(web), replica(web, 2))
    assert await version_after(two) == first + 2
    assert (await installed.get("/services/web"))["ready"] == 2
    del agent.statuses[web.id]
    await agent.report()
    assert (await installed.get("/services/web"))["version"] == first + 3
    assert (await installed.get("/services/web"))["state"] == "waiting"


async def test_a_report_that_is_confirmed_keeps_the_site_connected(installed: Installed) -> None:
    await installed.serving()
    await installed.agent.report(mark="first")
    version = (await installed.get("/services/web"))["version"]
    for _ in range(3):
        installed.clock.advance(timedelta(seconds=9))
        assert await installed.agent.confirm("first") == 204
    assert (await installed.get("/sites"))["items"][0]["connected"] is True
    assert (await installed.get("/services/web"))["version"] == version


async def test_only_the_last_report_can_be_confirmed(installed: Installed) -> None:
    assert await installed.agent.confirm("") == 409
    await installed.agent.report(mark="first")
    await installed.agent.report(mark="second")
    assert await installed.agent.confirm("first") == 409
    assert await installed.agent.confirm("second") == 204
    await installed.agent.report()
    assert await installed.agent.confirm("second") == 409, "an agent that marks nothing took over"


async def test_replicas_are_shown_with_how_they_ended(installed: Installed) -> None:
    await installed.serving()
    web = await installed.agent.service("web")
    ended = replica(web, 2, state=ReplicaState.ENDED, exit=Exit(code=1, tail=("Traceback", "boom")))
    installed.agent.statuses[web.id] = seen(web, replica(web), ended)
    await installed.agent.report()
    shown = await installed.get("/services/web")
    assert [(one["pid"], one["exit"]) for one in shown["replicas"]] == [(42, None), (42, "exited with code 1")]
    assert shown["replicas"][1]["tail"] == ["Traceback", "boom"]
    (listed,) = (await installed.get("/services"))["items"]
    assert (listed["replicas"], listed["ready"]) == (1, 1)
    assert listed["placements"] == [{"site": "local", "state": "running", "replicas": 1, "ready": 1, "reason": ""}]


async def test_the_last_twenty_wakes_are_kept_and_completed(installed: Installed) -> None:
    await installed.serving()
    web = await installed.agent.service("web")

    def wake(number: int, first_byte: float | None = None) -> Wake:
        return Wake(
            id=WakeId(f"wk-{number:02}"),
            replica=ReplicaId("rp-1"),
            at=START + timedelta(seconds=number),
            rung="frozen",
            queue_ms=1.0,
            start_ms=2.0,
            ready_ms=3.0,
            first_byte_ms=first_byte,
            held=number,
        )

    for number in range(25):
        installed.agent.statuses[web.id] = seen(web, wakes=(wake(number),))
        await installed.agent.report()
    installed.agent.statuses[web.id] = seen(web, wakes=(wake(24, 4.0),))
    await installed.agent.report()
    wakes = (await installed.get("/services/web"))["wakes"]
    assert [one["id"] for one in wakes] == [f"wk-{number:02}" for number in range(24, 4, -1)]
    assert wakes[0]["phases"] == {"queue": 1.0, "start": 2.0, "ready": 3.0, "first_byte": 4.0}
    assert (wakes[0]["total_ms"], wakes[1]["total_ms"]) == (10.0, 6.0)


async def test_a_batch_of_usage_is_counted_once(installed: Installed) -> None:
    await installed.serving()
    web = await installed.agent.service("web")
    key = UsageKey(service=web.id, revision=web.shares[0].revision, key=KeyId("ky-1"), minute=START)
    batch = UsageBatch(sequence=1, usage=((key, Usage(requests=3, failed=1, bytes_in=5, bytes_out=7)),))
    for sent in (batch, batch, replace(batch, sequence=2), batch):
        answer = await installed.agent.send_usage(sent)
        assert answer.json() == {"acknowledged": sent.sequence}
    (usage,) = (await installed.get("/usage"))["items"]
    assert (usage["requests"], usage["failed"], usage["bytes_in"], usage["bytes_out"]) == (6, 2, 10, 14)
    assert (await installed.get("/services/web"))["usage"]["requests"] == 6
    for beyond in (Usage(requests=2**63), Usage(bytes_in=-1)):
        sent = replace(batch, sequence=9, usage=((key, beyond),))
        assert (await installed.agent.send_usage(sent)).status_code == 400
    assert (await installed.agent.send_usage(replace(batch, sequence=2**63))).status_code == 400
