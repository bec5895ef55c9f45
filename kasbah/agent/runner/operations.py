"""What the runner can be asked: each request's fields, read and handed to the keeper."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kasbah.agent import confine
from kasbah.agent.confine.network import Rule
from kasbah.agent.runner import journal
from kasbah.agent.runner.keeper import Keeper, Reply
from kasbah.agent.runner.server import Operation, Request, Visitor
from kasbah.agent.runner.spawn import Calls, Failed, Order


def operations(keeper: Keeper, facts: confine.Facts, leave: Callable[[], None]) -> Mapping[str, Operation]:
    """The operations by name. `leave` ends the runner."""

    def isolation(_request: Request, reply: Reply) -> None:
        reply(facts)

    def list_all(_request: Request, reply: Reply) -> None:
        reply([held.record for held in keeper.held.values()])

    def start(request: Request, reply: Reply) -> None:
        keeper.start(_order(request["order"]), reply)

    def permit(request: Request, reply: Reply) -> None:
        keeper.permit(request["replica"], _calls(request["egress"]), reply)

    def gateway(request: Request, reply: Reply) -> None:
        keeper.lead_to(str(request["host"]), int(request["port"]), reply)

    def supply(request: Request, reply: Reply) -> None:
        """Let builds that may call package indexes only find them there; answers with the user that they run as."""
        if keeper.networks is None or facts.closed_builder is None:
            raise Failed("conflict", "this machine cannot keep builds to package indexes", "see `kasbah doctor`")
        indexes = [(str(address), int(port)) for address, port in request["indexes"]]
        done = {"user": facts.closed_builder}
        keeper.networks.supply(indexes, lambda problem: reply(Failed("unavailable", problem) if problem else done))

    def network(_request: Request, reply: Reply) -> None:
        reply({"network": keeper.networks.street.network if keeper.networks is not None else ""})

    def freeze(request: Request, reply: Reply) -> None:
        keeper.freeze(request["replica"], reply)

    def thaw(request: Request, reply: Reply) -> None:
        keeper.thaw(request["replica"], reply)

    def stop(request: Request, reply: Reply) -> None:
        keeper.stop(request["replica"], float(request["drain"]))
        reply({})

    def forget(request: Request, reply: Reply) -> None:
        keeper.forget(request["replica"])
        reply({})

    def tail(request: Request, reply: Reply) -> None:
        lines = keeper.tail(request["replica"], int(request["lines"]))
        reply([parsed for line in lines if (parsed := journal.split(line)) is not None])

    def shutdown(request: Request, reply: Reply) -> None:
        def gone() -> None:
            reply({})
            leave()

        keeper.shutdown(float(request["drain"]), gone)

    return {
        "isolation": isolation,
        "list": list_all,
        "start": start,
        "permit": permit,
        "gateway": gateway,
        "supply": supply,
        "network": network,
        "freeze": freeze,
        "thaw": thaw,
        "stop": stop,
        "forget": forget,
        "tail": tail,
        "shutdown": shutdown,
    }


def visitor(keeper: Keeper) -> Visitor:
    """Begins a visit with the files that came along; answers with what ends it."""

    def visit(request: Request, files: list[int], tell: Reply) -> Callable[[], None]:
        begun = keeper.visit(_order(request["order"]), files, terminal=bool(request["terminal"]), tell=tell)
        return lambda: keeper.visits.end(begun)

    return visit


def _order(fields: Mapping[str, object]) -> Order:
    argv, env, readable = fields["argv"], fields["env"], fields["readable"]
    cpu, memory, port = fields["cpu"], fields["memory"], fields["port"]
    files = fields.get("files", {})
    if not isinstance(argv, list) or not argv or not isinstance(env, dict) or not isinstance(readable, list):
        raise ValueError("an order has a list `argv` that is not empty, an object `env` and a list `readable`")
    return Order(
        replica=str(fields["replica"]),
        service=str(fields["service"]),
        revision=str(fields["revision"]),
        argv=tuple(str(word) for word in argv),
        env={str(name): str(value) for name, value in env.items()},
        app=Path(str(fields["app"])),
        port=int(str(port)),
        readable=tuple(Path(str(path)) for path in readable),
        cpu=None if cpu is None else float(str(cpu)),
        memory=None if memory is None else int(str(memory)),
        files={_below(name): base64.b64decode(str(contents)) for name, contents in _object(files).items()},
        hosts={str(name): str(address) for name, address in _object(fields.get("hosts", {})).items()},
        calls=None if fields.get("egress") is None else _calls(fields["egress"]),
        volumes={str(name): _below(path) for name, path in _object(fields.get("volumes", {})).items()},
    )


def _below(path: object) -> str:
    """A path in the replica's own folder."""
    text = str(path)
    if not text or text.startswith("/") or not {".", ".."}.isdisjoint(text.split("/")):
        raise ValueError(f"{text[:100]!r} is not in the replica's own folder")
    return text


def _object(found: object) -> Mapping[str, object]:
    if not isinstance(found, dict):
        raise ValueError("an order's `files`, `hosts` and `volumes` are objects")
    return found


def _calls(fields: Any) -> Calls:
    return Calls(
        entries=tuple(str(one) for one in fields["calls"]),
        rules=tuple(Rule(network=str(net), port=None if port is None else int(port)) for net, port in fields["rules"]),
        names={str(name): tuple(str(one) for one in found) for name, found in fields["names"].items()},
    )
