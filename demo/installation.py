"""The installation under demonstration, driven by the real command line and by nothing else. What is waited for is
looked up at the API, which answers many times while a command starts.

Its data folder and its context file are its own, so that an installation the reader already has is neither touched nor
forgotten. Every command has a deadline, and runs in a session of its own: Ctrl-C is the demonstration's to handle.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from demo.load import Request, Target, call

COMMAND_SECONDS = 120.0
DEPLOY_SECONDS = 900.0
STATE_SECONDS = 60.0
ENDING_SECONDS = 10.0
POLL_SECONDS = 0.05
TAIL = 15
LONGEST_LINE = 2**20
PREFERRED = {"--gateway": 8080, "--api": 7070}

Document = dict[str, Any]
"""JSON that a command printed; `docs/` has its schema."""


class Failed(Exception):
    """A command, or something that was waited for, that did not work; its text ends with the last lines it wrote."""


def _ignore(line: str) -> None:
    """Nobody reads along."""


class Installation:
    """A Kasbah on this machine, its data below `folder`."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self.folder = folder
        self.context = folder.with_name(f"{folder.name}.context.json")
        self._binary = binary
        own = {"KASBAH_CONTEXT": str(self.context)}
        others = {name: value for name, value in os.environ.items() if name not in ("KASBAH_URL", "KASBAH_TOKEN")}
        self.env = {**others, **own}
        self._api = self._token = ""

    async def up(self) -> None:
        """Start it in Morocco, on the usual ports where they are free, so that other sites can join. Cancelling waits
        until it is up: what has only begun to start cannot be taken down."""
        ports = [part for option, port in PREFERRED.items() for part in (option, f"127.0.0.1:{_free_or_any(port)}")]
        place = ("--country", "MA", "--sites", "127.0.0.1:0")
        starting = asyncio.create_task(self.json("up", "-d", "--data-dir", str(self.folder), *ports, *place))
        try:
            said = await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.gather(starting, return_exceptions=True)
            raise
        self._api, self._token = str(said.get("api", "")), str(said.get("token", ""))

    async def down(self) -> None:
        """Stop it and everything it runs."""
        await self.command("down", "--data-dir", str(self.folder))

    async def take_down_leftover(self) -> bool:
        """End and remove what an earlier demonstration left, but for the package managers' caches."""
        if not self.folder.exists():
            return False
        await self.down()
        kept = self.folder / "agent" / "cache"
        for entry in [*self.folder.iterdir(), *(self.folder / "agent").glob("*")]:
            if entry == kept or (entry == kept.parent and kept.exists()):
                continue
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink(missing_ok=True)
        return True

    async def deploy(self, path: Path, on_line: Callable[[str], None]) -> None:
        """Deploy a folder and wait until it serves."""
        await self.command("deploy", str(path), on_line=on_line, seconds=DEPLOY_SECONDS)

    async def create_key(self, name: str) -> str:
        """A new key for every service."""
        return str((await self.json("keys", "create", name))["key"])

    async def last_lines(self, name: str) -> list[str]:
        """What a service's replicas wrote last; nothing where that cannot be read."""
        try:
            return (await self.command("logs", name, "--tail", str(TAIL))).splitlines()
        except Failed:
            return []

    async def describe(self, name: str) -> Document:
        """Everything known about a service, as `kasbah describe` shows it."""
        return await self._seen(f"services/{name}")

    async def site(self, name: str) -> Document:
        """Everything known about a site, as `kasbah sites describe` shows it."""
        return await self._seen(f"sites/{name}")

    async def sleep(self, name: str, state: str) -> None:
        """Put a service to sleep, and wait until it is `state`: `frozen` or `stopped`."""
        await self.command("sleep", name, *(["--stop"] if state == "stopped" else []))
        await self.reaches(name, state)

    async def reaches(self, name: str, state: str) -> None:
        """Wait until a service is `state`."""
        seen: Document = {}

        async def look() -> bool:
            seen.update(await self.describe(name))
            return bool(seen["state"] == state)

        if not await eventually(look, STATE_SECONDS):
            reason = seen.get("reason") or "no reason given"
            raise Failed(f"{name} is {seen.get('state')} ({reason}) and not {state} after {STATE_SECONDS:.0f} s")

    async def _seen(self, path: str) -> Document:
        api = Target(address=self._api.removeprefix("http://"), host="api", key=self._token)
        found = await call(api, Request(path=f"/api/v1/{path}"))
        if found.fault is not None:
            raise Failed(f"the API does not say what is known of {path}: {found.detail}")
        document: Document = json.loads(found.body)
        return document

    async def json(self, *arguments: str) -> Any:
        """What the command printed, read as JSON."""
        output = await self.command(*arguments, "-o", "json")
        try:
            return json.loads(output)
        except ValueError:
            raise Failed(f"`kasbah {' '.join(arguments)} -o json` did not print JSON but: {output[:200]!r}") from None

    async def command(
        self,
        *arguments: str,
        on_line: Callable[[str], None] = _ignore,
        seconds: float = COMMAND_SECONDS,
        expect: int = 0,
    ) -> str:
        """What the command printed. Raises Failed where it does not end in time with the exit code `expect`."""
        return await run(self.argv(*arguments), env=self.env, on_line=on_line, seconds=seconds, expect=expect)

    def argv(self, *arguments: str) -> list[str]:
        """The command, as the operating system takes it."""
        return [str(self._binary), *arguments]

    def sites_url(self) -> str:
        """Where other sites dial in."""
        return str(json.loads((self.folder / "control" / "endpoint.json").read_text())["sites"])

    def gateway(self) -> str:
        """Where the gateway of the first site answers, HOST:PORT."""
        return str(json.loads((self.folder / "agent" / "endpoint.json").read_text())["gateway"])


async def run(
    argv: list[str],
    *,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] = _ignore,
    seconds: float,
    expect: int = 0,
) -> str:
    """What a command printed on standard output; `on_line` hears every line of both outputs as it comes."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=LONGEST_LINE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    tail: deque[str] = deque(maxlen=TAIL)
    output: list[str] = []

    async def read(stream: asyncio.StreamReader, *, keep: bool) -> None:
        async for line in stream:
            text = line.decode(errors="replace").rstrip()
            tail.append(text)
            on_line(text)
            if keep:
                output.append(text)

    shown = " ".join([Path(argv[0]).name, *argv[1:]])
    try:
        async with asyncio.timeout(seconds):
            await asyncio.gather(read(process.stdout, keep=True), read(process.stderr, keep=False))
            code = await process.wait()
    except TimeoutError:
        raise Failed(_with_tail(f"`{shown}` did not end within {seconds:.0f} s", tail)) from None
    finally:
        await _ended(process)
    if code != expect:
        how = f"failed with exit code {code}" if code else f"worked, and was to end with exit code {expect}"
        raise Failed(_with_tail(f"`{shown}` {how}", tail))
    return "\n".join(output)


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    """Whether `condition` came true in time, asked again and again."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + seconds
    while not await condition():
        if loop.time() >= give_up:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """All at once. The first error ends the others, and is raised."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """See a command off that was left half-way, and what it started."""
    if process.returncode is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), ENDING_SECONDS)
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _with_tail(message: str, tail: deque[str]) -> str:
    return "\n".join([message, *(f"  | {line}" for line in tail)])


def _free_or_any(port: int) -> int:
    """The port, or 0 where somebody listens on it."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])
