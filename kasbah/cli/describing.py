"""What `describe` prints for people: a service, its revisions, replicas and last wakes."""

from __future__ import annotations

from kasbah.cli import render
from kasbah.cli.client import Document


def show(detail: Document) -> None:
    """Print everything known about a service."""
    render.fields(_summary(detail))
    _section("Revisions", ("REVISION", "SHARE", "BUILD", "TRIAL", "MADE", "COMMAND"), detail["revisions"], _revision)
    _section(
        "Replicas",
        ("REPLICA", "STATE", "REVISION", "IN FLIGHT", "PID", "SINCE", "ADDRESS"),
        detail["replicas"],
        _replica,
    )
    _section(
        "Wakes",
        ("AT", "FROM", "QUEUE", "START", "READY", "FIRST BYTE", "TOTAL", "HELD", "ERROR"),
        detail["wakes"],
        _wake,
    )
    for one in [*detail["revisions"], *detail["replicas"]]:
        _last_words(one)


def _summary(detail: Document) -> dict[str, object]:
    usage, scaling, rungs = detail["usage"], detail["scaling"], detail["sleep"]
    return {
        "Name": detail["name"],
        "State": detail["state"],
        "Reason": detail["reason"],
        "URL": detail["url"],
        "Address": f"{detail['address']}  (Host: {detail['host']})",
        "Domains": ", ".join(detail["domains"]),
        "Access": detail["access"],
        "Data": _label(detail),
        "Sites": ", ".join(f"{one['site']} ({one['state']})" for one in detail["placements"]),
        "Scaling": f"{scaling['min']} to {scaling['max']} replicas, {scaling['concurrency']} requests each",
        "Volumes": ", ".join(f"{one['name']} ({one['size']}) at {one['path']}" for one in detail["volumes"]),
        "Sleep": f"frozen after {rungs['freeze_after']}, stopped after {rungs['stop_after']}",
        "Waiting": detail["waiting_requests"] or None,
        "Usage": f"{usage['requests']} requests, {usage['failed']} failed",
        "Deployed": render.moment(detail["deployed_at"]),
        "Rollout": _rollout(detail["rollout"]),
    }


def _label(detail: Document) -> str:
    level = detail["data"]["level"] + ("" if detail["data_declared"] else " (none declared, so it counts as this)")
    return render.label(level, detail["data"])


def _rollout(rollout: Document | None) -> str:
    """The last rollout, where it is not simply done."""
    if rollout is None or rollout["state"] == "done":
        return ""
    more = rollout["reason"] or rollout["step"]
    return f"{rollout['state']} (revision {rollout['revision']}){': ' + more if more else ''}"


def _section(title: str, headers: tuple[str, ...], items: list[Document], row: object) -> None:
    if not items:
        return
    assert callable(row)
    print(f"\n{title}")
    render.table(headers, [row(item) for item in items], empty="")


def _revision(one: Document) -> tuple[object, ...]:
    return (
        one["id"],
        "" if one["percent"] is None else f"{one['percent']}%",
        one["build"],
        one["trial"],
        render.moment(one["created_at"]),
        " ".join(one["command"])[:60],
    )


def _replica(one: Document) -> tuple[object, ...]:
    return (
        one["id"],
        one["state"],
        one["revision"],
        one["in_flight"],
        one["pid"] or "",
        render.moment(one["since"]),
        one["address"],
    )


def _wake(one: Document) -> tuple[object, ...]:
    phases = [one["phases"].get(name) for name in ("queue", "start", "ready", "first_byte")]
    return (
        render.moment(one["at"]),
        one["rung"],
        *(_milliseconds(phase) for phase in [*phases, one["total_ms"]]),
        one["held"],
        one["error"],
    )


def _last_words(one: Document) -> None:
    reason = one.get("reason") or one.get("exit")
    if not reason:
        return
    render.fields({f"\n{one['id']}": reason})
    for line in one["tail"]:
        render.fields({"  |": line})


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} ms"
