"""Waits for a rollout and shows its steps as they happen."""

from __future__ import annotations

import time
from collections.abc import Callable

from kasbah.cli.client import WAIT_SECONDS, Client, Document, service_path
from kasbah.cli.exits import Failed
from kasbah.cli.progress import Progress
from kasbah.errors import Conflict

ENDS = frozenset({"done", "failed", "superseded"})
SERVES = frozenset({*ENDS, "watching"})
"""Where there is nothing left to wait for: what is watched serves, and turns back by itself if it must."""


def follow(
    client: Client,
    rollout: Document,
    name: str,
    progress: Progress,
    *,
    seconds: float,
    look: Callable[[Document], None],
) -> Document:
    """Wait until `rollout` has ended, or has moved all traffic and is only watched, and give how; `look` is shown every
    state of it. Raises Failed where it takes longer than `seconds`."""
    give_up = time.monotonic() + seconds
    shown = ""
    while True:
        line = _line(rollout)
        if line != shown and rollout["state"] not in ("failed", "superseded"):
            progress.step(name, line)
            shown = line
        if rollout["state"] in SERVES:
            progress.end()
            return rollout
        look(rollout)
        late = _late(name, seconds, f"{line}. Its rollout goes on", code="still_rolling_out")
        rollout = _later(client, f"/rollouts/{rollout['id']}", rollout, give_up, late)


def follow_build(client: Client, name: str, progress: Progress, *, seconds: float) -> None:
    """Wait until a service that needs no rollout, but was sent its source again, is built where it is to run. Raises
    Failed where it is not, or not within `seconds`."""
    give_up = time.monotonic() + seconds
    shown, service = "", client.get(service_path(name))
    while service["state"] in ("waiting", "building") and service["placements"]:
        line = f"building: {service['reason']}" if service["state"] == "building" else service["reason"]
        if line != shown:
            progress.step(name, line)
            shown = line
        late = _late(name, seconds, f"{line}. It is built all the same", code="still_building")
        service = _later(client, service_path(name), service, give_up, late)
    progress.end()
    if service["state"] == "failed":
        raise Failed(
            f"{name} does not start where its source was sent again: {service['reason']}",
            hint=f"`kasbah logs {name} --build` and `kasbah logs {name}` show more",
            code="start_failed",
        )


def _later(client: Client, path: str, seen: Document, give_up: float, late: Failed) -> Document:
    """What was seen, once its version is another or a wait is over. Raises `late` once the time to give up has come."""
    left = give_up - time.monotonic()
    if left <= 0:
        raise late
    return client.get(path, after=seen["version"], wait=max(1, min(WAIT_SECONDS, int(left))))


def _late(name: str, seconds: float, what: str, *, code: str) -> Failed:
    return Failed(
        f"after {seconds:.0f} s {name} is no further than this: {what}",
        hint=f"watch it with `kasbah describe {name}`, or give --timeout",
        code=code,
    )


def check(rollout: Document, name: str) -> None:
    """Raise what a rollout that did not get there says about it."""
    if rollout["state"] == "failed":
        raise Failed(
            f"{name} did not roll out: {rollout['reason']}",
            hint=f"`kasbah logs {name} --build` and `kasbah logs {name}` show more"
            + ("; what served before still serves" if rollout["previous"] else ""),
            code="rollout_failed",
            tail=tuple(rollout["tail"]),
        )
    if rollout["state"] == "superseded":
        raise Conflict(f"{name}: this rollout was given up: {rollout['reason']}", code="superseded")


def _line(rollout: Document) -> str:
    if rollout["state"] == "waiting":
        return str(rollout["step"] or rollout["reason"] or "waiting")
    if rollout["state"] in ("done", "watching"):
        return "serving" if rollout["percent"] or rollout["strategy"] != "manual" else "ready, with no traffic yet"
    if rollout["state"] == "building" and rollout["step"]:
        return f"building: {rollout['step']}"
    return str(rollout["step"] or rollout["state"])
