"""The runner's door: lines of JSON over a Unix socket, several connections, requests answered as they are done.

    {"id": 1, "op": "hello", "token": T, "protocol": 1}        first, on every connection
    {"id": 2, "op": "freeze", "replica": R}      ->   {"id": 2, "ok": {...}}
                                                 or   {"id": 2, "error": {"code", "message", "hint"}}
    {"id": 3, "op": "events"}                    ->   {"id": 3, "ok": {}}, then {"ended": R} for each that ends,
                                                      beginning with those that have ended and are not forgotten;
                                                      {"ending": R} before it, as soon as it answers nobody any more
    {"id": 4, "op": "visit", ...}                ->   {"id": 4, "ok": {}}, then {"visit": {"code"} or {"signal"}}, or
                                                      an error; with three files, and over when the caller leaves

The token is in a file that replicas cannot read: they run as the same user, and could otherwise have themselves
started again with more rights.
"""

from __future__ import annotations

import hmac
import json
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from kasbah.agent.runner import reactor as ready
from kasbah.agent.runner.layout import PROTOCOL
from kasbah.agent.runner.reactor import Reactor
from kasbah.agent.runner.spawn import Failed

LONGEST_REQUEST = 4 * 2**20
MOST_UNSENT = 64 * 2**20
"""A caller that does not read its answers is cut off here."""

READ_SIZE = 256 * 1024
MOST_CONNECTIONS = 128

Request = Mapping[str, Any]
Operation = Callable[[Request, Callable[[object], None]], None]
"""Does what a request asks and answers through its second argument, now or later; or raises Failed."""

Visitor = Callable[[Request, list[int], Callable[[object], None]], Callable[[], None]]
"""Begins a visit with the caller's files, which stay open until it returns; its answer ends the visit."""

MOST_FILES = 3


class Server:
    """Accepts connections on a listening socket."""

    def __init__(
        self,
        listener: socket.socket,
        reactor: Reactor,
        *,
        token: str,
        operations: Mapping[str, Operation],
        visitor: Visitor,
        ended: Callable[[], list[str]],
    ) -> None:
        self.token = token
        self.operations = operations
        self.visitor = visitor
        self.ended = ended
        self.connections: set[Connection] = set()
        self._listener = listener
        self._reactor = reactor
        listener.setblocking(False)
        reactor.watch(listener.fileno(), self._accept)

    def publish(self, event: str, replica: str) -> None:
        """Tell every subscriber of a replica that is `ending` or has `ended`."""
        for connection in [one for one in self.connections if one.subscribed]:
            connection.send({event: replica})

    def flush(self) -> None:
        """Send what can be sent, before the process ends."""
        for connection in list(self.connections):
            connection.flush()

    def _accept(self, _events: int) -> None:
        try:
            peer, _ = self._listener.accept()
        except OSError:  # gone again, or no file descriptor left: the next turn tries again
            return
        if len(self.connections) >= MOST_CONNECTIONS:
            peer.close()
            return
        self.connections.add(Connection(peer, self, self._reactor))


class Connection:
    """One caller."""

    def __init__(self, peer: socket.socket, server: Server, reactor: Reactor) -> None:
        self.subscribed = False
        self._peer = peer
        self._server = server
        self._reactor = reactor
        self._known = False
        self._received = bytearray()
        self._files: list[int] = []
        self._leave: Callable[[], None] | None = None
        self._unsent = bytearray()
        peer.setblocking(False)
        reactor.watch(peer.fileno(), self._ready)

    def send(self, message: object) -> None:
        """Send one line, as far as the caller takes it now; the rest follows."""
        if self._peer.fileno() < 0:
            return
        self._unsent += json.dumps(message, default=_plain).encode() + b"\n"
        self.flush()
        if len(self._unsent) > MOST_UNSENT:
            self._close()

    def flush(self) -> None:
        """Send what the caller takes now."""
        if self._peer.fileno() < 0:
            return
        try:
            while self._unsent:
                del self._unsent[: self._peer.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._close()
            return
        self._reactor.watch(self._peer.fileno(), self._ready, ready.READ | (ready.WRITE if self._unsent else 0))

    def _ready(self, events: int) -> None:
        if events & ready.WRITE:
            self.flush()
        if events & ready.READ and self._peer.fileno() >= 0:
            self._receive()

    def _receive(self) -> None:
        try:
            data, files, _, _ = socket.recv_fds(self._peer, READ_SIZE, MOST_FILES, socket.MSG_CMSG_CLOEXEC)
            self._files += files
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close()
            return
        self._received += data
        *lines, rest = self._received.split(b"\n")
        self._received = rest
        for line in lines:
            self._answer(line)
        if lines or len(self._files) > MOST_FILES:
            self._drop_files()
        if len(rest) > LONGEST_REQUEST:
            self._close()

    def _answer(self, line: bytes | bytearray) -> None:
        number: object = None
        try:
            request = json.loads(line)
            number = request["id"]
            self._do(request, lambda result: self._reply(number, result))
        except Failed as failure:
            self._reply(number, failure)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            self._reply(number, Failed("invalid", f"this is no request: {error!r}"))
        except Exception as error:
            self._reply(number, Failed("internal", f"the runner failed: {error!r}", "its log has more"))
            raise

    def _do(self, request: Request, reply: Callable[[object], None]) -> None:
        operation = request["op"]
        if operation == "hello":
            self._meet(request)
            reply({"protocol": PROTOCOL})
        elif not self._known:
            raise Failed("denied", "say hello first, with the runner's token")
        elif operation == "events":
            reply({})
            self.subscribed = True
            for replica in self._server.ended():
                self.send({"ended": replica})
        elif operation == "visit":
            self._visit(request, reply)
        elif operation in self._server.operations:
            self._server.operations[operation](request, reply)
        else:
            raise Failed("invalid", f"{operation!r} is no operation of this runner")

    def _visit(self, request: Request, reply: Callable[[object], None]) -> None:
        if self._leave is not None:
            raise Failed("invalid", "a connection carries one visit")

        def tell(outcome: object) -> None:
            if isinstance(outcome, Failed):
                reply(outcome)
            else:
                self.send({"visit": outcome})

        self._leave = self._server.visitor(request, self._files, tell)
        reply({})

    def _drop_files(self) -> None:
        for fd in self._files:
            os.close(fd)
        self._files = []

    def _meet(self, request: Request) -> None:
        if not hmac.compare_digest(str(request["token"]).encode(), self._server.token.encode()):
            raise Failed("denied", "this is not the runner's token")
        if request["protocol"] != PROTOCOL:
            raise Failed("conflict", f"this runner speaks version {PROTOCOL}, not {request['protocol']}")
        self._known = True

    def _reply(self, number: object, result: object) -> None:
        if isinstance(result, Failed):
            error = {"code": result.code, "message": result.message, "hint": result.hint}
            self.send({"id": number, "error": error})
        else:
            self.send({"id": number, "ok": result})

    def _close(self) -> None:
        if self._peer.fileno() >= 0:
            self._reactor.unwatch(self._peer.fileno())
            self._peer.close()
        self._drop_files()
        if self._leave is not None:
            self._leave()
        self._server.connections.discard(self)


def _plain(value: object) -> object:
    """Records and facts as objects."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{value!r} cannot be told as JSON")
