"""`kasbah logs`: what replicas and builds wrote, read at the site through its own door."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from kasbah.cli import context, door
from kasbah.cli.client import Client, Document, read_answer, service_path
from kasbah.cli.options import DEFAULT_PROJECT, DeployerKeyOption, ProjectOption, ServiceName
from kasbah.cli.render import Output, say
from kasbah.cli.text import clean, clean_json
from kasbah.errors import Denied, Invalid, NotFound, Unavailable

PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 1.0
UNSIGNED = "errand_unsigned"
"""How a site says that it wants a deployer's signature."""
AGAIN_LINES = 1_000
"""How far back a follower that lost its connection looks for lines it has not shown."""


def logs(
    name: ServiceName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")] = False,
    replica: Annotated[str | None, typer.Option("--replica", help="Only this replica.")] = None,
    tail: Annotated[int, typer.Option("--tail", help="So many of the last lines.", min=0, max=100_000)] = 200,
    build: Annotated[bool, typer.Option("--build", help="What the last build said.")] = False,
    project: ProjectOption = DEFAULT_PROJECT,
    deployer_key: DeployerKeyOption = None,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="Plain lines, or a JSON object each.")
    ] = Output.TABLE,
) -> None:
    """Show what a service's replicas wrote."""
    if output is Output.YAML:
        raise Invalid("logs are lines or json", where="--output", code="usage")
    if build and replica:
        raise Invalid("give either --build or --replica", code="usage")
    if follow:
        # The kernel ends us at once, wherever Ctrl-C finds us. As an exception it would be lost where it is raised in a
        # finalizer, and no handler of Python's is called before the next line comes where it finds us about to wait.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    with Client(context.find(), project=project) as client:
        query: dict[str, str | int] = {"tail": tail, "follow": int(follow)}
        if replica:
            query["replica"] = replica
        if build:
            query["build"] = _last_revision(client, name)
        _Reader(client, deployer_key, name, query, output).read()


class _Reader:
    """Reads lines and prints each once, whatever happens to the connection between."""

    def __init__(
        self, client: Client, deployer_key: Path | None, name: str, query: dict[str, str | int], output: Output
    ) -> None:
        self._client = client
        self._deployer_key = deployer_key
        self._signs = False
        self._name = name
        self._query = query
        self._output = output
        self._again = False
        self._last: dict[str, str] = {}
        """The time of the last line shown, by replica."""

    def read(self) -> None:
        """Print until the end, or for ever when following."""
        give_up: float | None = None
        while True:
            try:
                shown = self._once()
                if not self._query["follow"]:
                    return
                give_up = None if shown else give_up
            except Denied as error:
                if error.code != UNSIGNED or self._signs:
                    raise
                self._signs = True  # what is sensitive asks for that, and for most it would only take time
                continue
            except Unavailable:
                if not self._query["follow"] or (give_up and time.monotonic() > give_up):
                    raise
            give_up = give_up or time.monotonic() + PATIENCE_SECONDS
            say(f"the connection to {self._name}'s logs ended; connecting again")
            time.sleep(PAUSE_SECONDS)
            self._again, self._query["tail"] = True, AGAIN_LINES

    def _once(self) -> int:
        """Print what one connection gives; how many lines it gave."""
        way = self._client.post(service_path(self._name, "log-door"))
        said = self._errand(way) if self._signs else {}
        timeout = httpx.Timeout(connect=5, read=None if self._query["follow"] else 60, write=30, pool=5)
        shown = 0
        with door.open_door(way) as http:
            try:
                with http.stream("GET", way["path"], params=self._query, headers=said, timeout=timeout) as answer:
                    if not answer.is_success:
                        answer.read()
                        read_answer(answer)
                    for line in answer.iter_lines():
                        shown += self._print(line)
            except httpx.HTTPError as error:
                raise door.not_there(way, error) from error
        return shown

    def _errand(self, way: Document) -> dict[str, str]:
        from kasbah.api.signing import READ_LOGS
        from kasbah.cli.signing import errand

        return errand(self._deployer_key, self._name, READ_LOGS, way)

    def _print(self, line: str) -> int:
        try:
            said: Document = json.loads(line)
            who, at = said["replica"], said["at"]
            text, stream = said["text"], said["stream"]
        except (ValueError, KeyError, TypeError):
            return 0
        if self._again and at <= self._last.get(who, ""):
            return 0
        self._last[who] = at
        if self._output is Output.JSON:
            print(clean_json(json.dumps(said, ensure_ascii=False)), flush=True)
        else:
            print(f"{_short(at)} {clean(who)} {'!' if stream == 'stderr' else '|'} {clean(text)}", flush=True)
        return 1


def _last_revision(client: Client, name: str) -> str:
    detail: dict[str, Any] = client.get(service_path(name))
    if detail["rollout"]:
        return str(detail["rollout"]["revision"])
    if not detail["revisions"]:
        raise NotFound(f"{name} has no revision yet")
    return str(detail["revisions"][-1]["id"])


def _short(at: str) -> str:
    """A moment to the second, in UTC."""
    return clean(at).replace("T", " ")[:19]
