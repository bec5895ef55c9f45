"""`kasbah exec`: a command inside a replica, its input and output carried through the site's own door."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import ssl
import sys
import termios
import threading
import tty
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Annotated, Any, NoReturn

import httpx
import typer
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect

from kasbah.api import visits as wire
from kasbah.api.signing import EXEC
from kasbah.cli import context
from kasbah.cli.client import Client, Document, error_of, service_path
from kasbah.cli.exits import Failed, for_people
from kasbah.cli.options import DEFAULT_PROJECT, DeployerKeyOption, ProjectOption, ServiceName
from kasbah.cli.render import say
from kasbah.cli.signing import errand
from kasbah.cli.text import clean
from kasbah.errors import Invalid, Unavailable

CONNECT_SECONDS = 10.0
NOT_FOUND, NOT_EXECUTABLE = 127, 126
AS_SHELLS_SAY = {"command_not_found": NOT_FOUND, "not_executable": NOT_EXECUTABLE, "bad_interpreter": NOT_EXECUTABLE}
STANDARD_INPUT, STANDARD_OUTPUT, STANDARD_ERROR = range(3)


def visit(
    name: ServiceName,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="-- COMMAND...", help="The command and its arguments.")
    ] = None,
    replica: Annotated[str | None, typer.Option("--replica", help="In this replica.")] = None,
    interactive: Annotated[
        bool, typer.Option("--interactive", "-i", help="Send standard input also where it is a terminal.")
    ] = False,
    terminal: Annotated[
        bool | None,
        typer.Option("--tty/--no-tty", "-t/-T", help="Give it a terminal. [default: where there is one on both sides]"),
    ] = None,
    project: ProjectOption = DEFAULT_PROJECT,
    deployer_key: DeployerKeyOption = None,
) -> int:
    """Run a command inside a replica.

    It is confined as the replica is, and ends with this program; the exit status is the command's.
    """
    if not command:
        raise Invalid("no command was given", hint=f"kasbah exec {clean(name)} -- COMMAND...", code="usage")
    ours = os.isatty(STANDARD_INPUT) and os.isatty(STANDARD_OUTPUT)
    if terminal and not ours:
        raise Invalid("--tty needs a terminal as standard input and output", hint="leave it out", code="usage")
    on_terminal = ours if terminal is None else terminal
    with Client(context.find(), project=project) as client:
        way = client.post(
            service_path(name, "exec-door"), {"program": os.fsencode(command[0]).decode(errors="replace")}
        )
        said = errand(deployer_key, name, EXEC, way, command)
    with _ended_by_signals(), _connected(way, said) as connection:
        sends = on_terminal or interactive or not os.isatty(STANDARD_INPUT)
        return _Visit(connection, name, on_terminal=on_terminal, sends=sends).run(command, replica)


class _Visit:
    """One command under way."""

    def __init__(self, connection: ClientConnection, name: str, *, on_terminal: bool, sends: bool) -> None:
        self._connection = connection
        self._name = name
        self._on_terminal = on_terminal
        self._sends = sends
        self._under_way = 0
        self._taken = threading.Condition()
        self._resized, self._resize = os.pipe()

    def run(self, command: list[str], replica: str | None) -> int:
        """Carry everything until the command has ended; its exit status."""
        try:
            size = _size() if self._on_terminal else None
            self._connection.send(wire.control(argv=command, terminal=size, replica=replica))
            threading.Thread(target=self._stay, daemon=True).start()
            with ExitStack() as stack:
                outcome = self._carry(stack)
        except ConnectionClosed as error:
            raise Unavailable(
                f"the connection to {self._name} was lost, and the command ended with it",
                hint="`kasbah describe` says how its replicas are; `kasbah doctor` looks at the site",
                code="connection_lost",
            ) from error
        if "exit" in outcome:
            return int(outcome["exit"])
        return self._failed(outcome["error"])

    def _carry(self, stack: ExitStack) -> Document:
        """Write what comes; the last word. Until the command runs, Ctrl-C is ours."""
        while True:
            message = self._connection.recv()
            kind, payload = wire.read(message if isinstance(message, bytes) else message.encode())
            if kind == wire.OUTPUT:
                _write(STANDARD_OUTPUT, payload)
            elif kind == wire.ERRORS:
                _write(STANDARD_ERROR, payload)
            elif "exit" in payload or "error" in payload:
                return dict(payload)
            elif "taken" in payload:
                with self._taken:
                    self._under_way -= payload["taken"]
                    self._taken.notify()
            elif "waking" in payload:
                say(f"{self._name} sleeps: waking it")
            elif "replica" in payload:
                if self._on_terminal:
                    stack.enter_context(_raw())
                    signal.signal(signal.SIGWINCH, lambda *_: os.write(self._resize, b"."))
                if self._sends:
                    threading.Thread(target=self._send, daemon=True).start()

    def _send(self) -> None:
        """Send standard input, no more of it than the command takes."""
        try:
            while True:
                with self._taken:
                    self._taken.wait_for(lambda: self._under_way + wire.CHUNK <= wire.WINDOW)
                part = os.read(STANDARD_INPUT, wire.CHUNK)
                with self._taken:
                    self._under_way += len(part)
                self._connection.send(wire.data(wire.INPUT, part))
                if not part:
                    return
        except (ConnectionClosed, OSError):
            return

    def _stay(self) -> None:
        """Say that we are here, and how large the terminal has become."""
        try:
            if not self._sends:
                self._connection.send(wire.data(wire.INPUT, b""))
            while True:
                ready, _, _ = select.select([self._resized], [], [], wire.STILL_SECONDS)
                if ready:
                    os.read(self._resized, 4096)
                    self._connection.send(wire.control(resize=_size()))
                else:
                    self._connection.send(wire.control(still=True))
        except (ConnectionClosed, OSError):
            return

    def _failed(self, told: Document) -> int:
        code = str(told.get("code", ""))
        if code in AS_SHELLS_SAY:
            print(for_people(Failed(str(told["message"]))), file=sys.stderr)
            return AS_SHELLS_SAY[code]
        if "status" in told:
            raise error_of(int(told["status"]), told)
        raise Failed(str(told["message"]), hint=str(told.get("hint", "")), code=code)


@contextmanager
def _connected(way: Document, said: Mapping[str, str]) -> Iterator[ClientConnection]:
    """A connection to the site's door, cut at the end: a close that waits for the other side would keep who leaves."""
    address = str(way["address"])
    url = httpx.URL(address if "://" in address else f"http://{address}")
    secure = url.scheme == "https"
    try:
        peer = socket.create_connection((url.host, url.port or (443 if secure else 80)), timeout=CONNECT_SECONDS)
        connection = connect(
            f"{'wss' if secure else 'ws'}://{way['host']}{way['path']}",
            sock=peer,
            ssl=ssl.create_default_context() if secure else None,
            server_hostname=url.host if secure else None,
            additional_headers={"authorization": f"Bearer {way['ticket']}", **said},
            compression=None,
            proxy=None,
            open_timeout=CONNECT_SECONDS,
            ping_interval=None,
            max_size=wire.LONGEST_MESSAGE,
        )
    except (OSError, InvalidHandshake, TimeoutError) as error:
        raise Unavailable(
            f"the site's gateway at {address} runs no command: {error}",
            hint="an older agent knows no exec; is its address reachable from this machine? see `kasbah doctor`",
            code="gateway_unreachable",
        ) from error
    with connection:
        try:
            yield connection
        finally:
            with suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)


@contextmanager
def _raw() -> Iterator[None]:
    """Hand every key to the other side; put the terminal back however this ends."""
    before = termios.tcgetattr(STANDARD_INPUT)
    try:
        tty.setraw(STANDARD_INPUT)
        yield
    finally:
        termios.tcsetattr(STANDARD_INPUT, termios.TCSADRAIN, before)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """End by way of every `finally` also when told to by a signal."""
    before = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _frame: Any) -> NoReturn:
    raise SystemExit(128 + number)


def _size() -> tuple[int, int]:
    found = shutil.get_terminal_size()
    try:
        found = os.get_terminal_size(STANDARD_OUTPUT)
    except OSError:
        pass
    return found.lines, found.columns


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
