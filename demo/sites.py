"""More sites on this machine, each an agent, a gateway and an address of its own, joined as a person has them join.

They end with the demonstration, however that ends: each holds the end of a pipe whose other end is here.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from demo.installation import Failed, Installation, eventually, free_port

CODE = re.compile(r"Its code: (\S+)")
JOIN_SECONDS = 60.0
REPORT_SECONDS = 60.0
END_SECONDS = 30.0


@dataclass(slots=True, kw_only=True)
class Joined:
    """A site that joined, and its agent."""

    name: str
    folder: Path
    agent: asyncio.subprocess.Process

    def kill(self) -> list[str]:
        """SIGKILL for the agent, the gateway, the runner and every replica; the names of what was killed."""
        pids = {"agent": self.agent.pid, **self._recorded()}
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
        return list(pids)

    def _recorded(self) -> dict[str, int]:
        agent = self.folder / "agent"
        files = {"Envoy": agent / "envoy" / "envoy.json", "runner": agent / "runner" / "runner.json"}
        files |= {f"replica {file.stem}": file for file in (agent / "runner").glob("*.replica")}
        return {name: int(json.loads(file.read_text())["pid"]) for name, file in files.items()}


class Sites:
    """The sites besides `local`, their data below `folder`."""

    def __init__(self, installation: Installation, folder: Path) -> None:
        self._installation = installation
        self._folder = folder
        self._lifeline, self._lifeline_end = os.pipe()
        self.joined: dict[str, Joined] = {}

    async def join(self, name: str) -> None:
        """Have a site join, approved by the code that it shows, and wait until it reports."""
        data = self._folder / name
        data.mkdir(parents=True, exist_ok=True)
        token = self._folder / f"{name}.token"
        token.write_text(await self._installation.command("sites", "token", name))
        token.chmod(0o600)
        shown: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def look(line: str) -> None:
            found = CODE.search(line)
            if found is not None and not shown.done():
                shown.set_result(found[1])

        url = self._installation.sites_url()
        where = ("--control-url", url, "--data-dir", str(data))
        joining = asyncio.create_task(
            self._installation.command("join", *where, "--token-file", str(token), on_line=look, seconds=JOIN_SECONDS)
        )
        try:
            await asyncio.wait({joining, shown}, return_when=asyncio.FIRST_COMPLETED)
            if shown.done():
                await self._installation.command("sites", "approve", name, shown.result())
            await joining
        finally:
            joining.cancel()
            await asyncio.gather(joining, return_exceptions=True)
        await self._start(name, data, where)

    async def _start(self, name: str, data: Path, where: tuple[str, ...]) -> None:
        options = ("--gateway", "127.0.0.1:0", "--peers", f"127.0.0.1:{free_port()}")
        with (data / "agent.log").open("ab") as log:
            agent = await asyncio.create_subprocess_exec(
                *self._installation.argv("agent", *where, *options, "--lifeline", str(self._lifeline)),
                env=self._installation.env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(self._lifeline,),
                start_new_session=True,
            )
        self.joined[name] = Joined(name=name, folder=data, agent=agent)

        async def connected() -> bool:
            return bool((await self._installation.site(name))["connected"])

        if not await eventually(connected, REPORT_SECONDS):
            raise Failed(f"{name} does not report; its log is {data / 'agent.log'}")

    async def end(self) -> None:
        """End them all, with everything that they run, and remove their data."""
        for site in self.joined.values():
            if site.agent.returncode is None:
                site.agent.terminate()
        for site in self.joined.values():
            try:
                await asyncio.wait_for(site.agent.wait(), END_SECONDS)
            except TimeoutError:
                site.agent.kill()
                await site.agent.wait()
        await self.take_down_leftover()

    async def take_down_leftover(self) -> None:
        """End and remove what is left of sites, now or from an earlier run; all are tried, whatever fails."""
        left = sorted(path for path in self._folder.glob("*") if path.is_dir())
        downs = (self._installation.command("down", "--data-dir", str(data)) for data in left)
        for outcome in await asyncio.gather(*downs, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
