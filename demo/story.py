"""The second act: several sites, and the law between them, told step by step by the commands themselves.

Each step says in plain words what it shows, then the command, then the lines of its output that matter. What does not
hold ends the story with Failed.
"""

from __future__ import annotations

import asyncio
import shlex
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from demo.failover import steady_calls
from demo.installation import Failed, Installation, eventually, together
from demo.load import Request, Target, call
from demo.report import Screen
from demo.sites import Sites
from demo.story_files import CLAIMS, OPEN, SITES, write_app, write_policy

OTHERS = ("paris", "lyon", "virginia")
SETTLE_SECONDS = 30.0
BEFORE_SECONDS, AFTER_SECONDS = 1.0, 3.0
CALLERS = 4


class Story:
    """Told with an installation that is up; its files and the other sites' data are below `folder`."""

    def __init__(self, installation: Installation, screen: Screen, folder: Path) -> None:
        self._installation = installation
        self._screen = screen
        self._files = folder / "files"
        self._sites = Sites(installation, folder / "at")

    async def tell(self) -> None:
        """All of it, in order."""
        shutil.rmtree(self._files, ignore_errors=True)
        self._files.mkdir(parents=True)
        await self._who_they_are()
        await self._sensitive_data()
        await self._the_same_file_with_a_lower_label()
        await self._a_site_is_lost()
        await self._a_change_that_goes_too_far()
        await self._what_an_auditor_gets()
        self._screen.say("\nThe story holds: every step did what it says.", "bold green")

    async def end(self) -> None:
        """Take down the other sites, and those that an earlier story left."""
        await self._sites.end()
        await asyncio.to_thread(shutil.rmtree, self._files, ignore_errors=True)

    async def _who_they_are(self) -> None:
        self._heading(
            "1. Who the sites are, and who says so",
            "Casablanca is the bank's own machine room (`local`), Paris and Lyon are sovereign clouds, Virginia is a "
            "public one. The owner of the installation signs the facts; each site joins with a key of its own.",
        )
        file = self._files / "sites.yaml"
        file.write_text(SITES)
        await self._shown("sites", "apply", "-f", str(file))
        with self._screen.step(f"{', '.join(OTHERS)} join, each by a token and a code that is compared"):
            await together(*(self._sites.join(name) for name in OTHERS))
        await self._shown("sites", "list")
        facts = await self._shown("sites", "describe", "virginia", keep=("country", "operator", "exposure", "prices"))
        _expect("Old Dominion Cloud" in facts, "the facts about Virginia do not name its operator")
        for name in ("local", *OTHERS):
            signed = (await self._installation.site(name))["signed"]
            _expect(signed, f"the facts about {name} are not signed")
        self._screen.say("  All of this is signed with the owner's key.", "green")

    async def _sensitive_data(self) -> None:
        self._heading(
            "2. Customers' claims: sensitive, personal, under Moroccan law 09-08",
            "Virginia is the cheapest, and is refused, with the rule and where it is written.",
        )
        app = str(write_app(self._files / "claims", "claims", CLAIMS, "{objective: price}"))
        told = await self._shown("plan", app, keep=("  site ", "ma-0908.transfer  "))
        _expect("ma-0908.transfer" in told and "Loi 09-08" in told, "the plan does not cite the rule")
        await self._deploy(app)
        await self._is_at("claims", {"local"})
        await self._refused_at("claims", "virginia", "ma-0908.transfer")

    async def _the_same_file_with_a_lower_label(self) -> None:
        self._heading(
            "3. The same file with a lower label",
            "A brochure is internal data: every site is lawful, so the price decides.",
        )
        app = str(write_app(self._files / "brochure", "brochure", OPEN, "{objective: price}"))
        await self._deploy(app)
        await self._is_at("brochure", {"virginia"})
        await self._shown("where", "brochure", keep=("site ", "has ", "reached by"))

    async def _a_site_is_lost(self) -> None:
        self._heading(
            "4. A site is lost while customers call",
            "The CNDP authorises the transfer of these claims to Paris and Lyon (form F118): only now may they be "
            "there. They are put at both, callers come in at Casablanca, and the site that answers is killed.",
        )
        approval = ("--service", "claims", "--site", "paris", "--site", "lyon", "--evidence", "CNDP, file 1234/2026")
        await self._shown("policy", "approval", "add", "cndp-f118", *approval, "--expires", "2027-11-30")
        await self._deploy(str(write_app(self._files / "claims", "claims", CLAIMS, "{sites: 2, avoid: [local]}")))
        await self._is_at("claims", {"paris", "lyon"})
        await self._refused_at("claims", "virginia", "ma-0908.transfer")
        await self._lose_a_site(Target(address=self._installation.gateway(), host="claims.localhost"))

    async def _lose_a_site(self, target: Target) -> None:
        first = await self._answered_by(target)
        other = "lyon" if first == "paris" else "paris"
        lost = asyncio.Event()
        calling = asyncio.create_task(steady_calls(target, CALLERS, BEFORE_SECONDS, AFTER_SECONDS, lost))
        try:
            await asyncio.sleep(BEFORE_SECONDS)
            killed = self._sites.joined[first].kill()
            lost.set()
            self._screen.say(f"  SIGKILL at {first}: {', '.join(sorted({one.split()[0] for one in killed}))}", "yellow")
            seen = await calling
        finally:
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)
        for line in seen.lines():
            self._screen.say(f"  {line}")
        _expect(seen.tally.failed == 0, f"{seen.tally.failed} requests failed: {seen.tally.example}")
        _expect(set(seen.after) <= {first, other}, f"a site answered that may not: {sorted(seen.after)}")
        _expect(other in seen.after, f"nothing was answered by {other} after {first} was lost")

    async def _answered_by(self, target: Target) -> str:
        """The site that answers, once one does."""
        found: list[str] = []

        async def answered() -> bool:
            outcome = await call(target, Request())
            found[:] = [outcome.body.decode()] if outcome.fault is None else []
            return found in (["paris"], ["lyon"])

        if not await eventually(answered, SETTLE_SECONDS):
            raise Failed(f"{target.host} is not answered by Paris or Lyon at Casablanca's gateway")
        return found[0]

    async def _a_change_that_goes_too_far(self) -> None:
        self._heading(
            "5. A stricter rule that would stop a service",
            "The board wants nothing in the United States. The plan shows what that ends; applying it is refused until "
            "somebody says that he has seen it.",
        )
        file = str(write_policy(self._files, await self._installation.command("policy", "file")))
        told = await self._shown("policy", "plan", "-f", file)
        _expect("brochure" in told and "house.home" in told, "the plan does not name the service that ends")
        refused = await self._shown("policy", "apply", "-f", file, "--reason", "the board", expect=6)
        _expect("the limit is 0" in refused, "the refusal does not say what it rests on")
        await self._is_at("brochure", {"virginia"})

    async def _what_an_auditor_gets(self) -> None:
        self._heading(
            "6. What the auditor gets",
            "One file and one key, checked without a server or a network. Then one byte of it is changed.",
        )
        file = self._files / "audit.tar"
        made = await self._installation.json("audit", "export", str(file))
        self._command("audit", "export", str(file))
        self._screen.say(f"  key: {made['key']}")
        verify = ("audit", "verify", str(file), "--key", str(made["key"]))
        _expect("ok" in await self._shown(*verify), "the export does not verify")
        contents = bytearray(file.read_bytes())
        place = contents.index(b"start_deploy")
        contents[place] ^= 1
        file.write_bytes(contents)
        self._screen.say(f"  one bit of byte {place} is changed", "yellow")
        await self._shown(*verify, expect=1)

    async def _deploy(self, app: str) -> None:
        self._command("deploy", app)
        await self._installation.deploy(Path(app), self._served)

    def _served(self, line: str) -> None:
        if "waiting for the source" in line or line.endswith("serving") or "  http" in line:
            self._screen.output(line)

    async def _is_at(self, name: str, sites: Collection[str]) -> None:
        """Wait until a service serves at exactly these sites."""
        seen: set[str] = set()

        async def look() -> bool:
            placements = (await self._installation.describe(name))["placements"]
            seen.clear()
            seen.update(one["site"] for one in placements)
            return seen == set(sites)

        if not await eventually(look, SETTLE_SECONDS):
            raise Failed(f"{name} is at {', '.join(sorted(seen)) or 'no site'} and not at {', '.join(sorted(sites))}")
        self._screen.say(f"  {name} is placed at {' and '.join(sorted(sites))}.", "green")

    async def _refused_at(self, name: str, site: str, rule: str) -> None:
        explained = {one["site"]: one for one in (await self._installation.json("explain", name))["sites"]}
        told = explained[site]
        _expect(told["verdict"] == "refused", f"{name} is {told['verdict']} at {site}")
        _expect(rule in [one["id"] for one in told["rules"]], f"{rule} is not why {name} is refused at {site}")

    def _heading(self, title: str, plain: str) -> None:
        self._screen.say(f"\n{title}", "bold")
        self._screen.say(plain)

    def _command(self, *arguments: str) -> None:
        self._screen.say(f"  $ kasbah {shlex.join(arguments)}".replace(str(self._files) + "/", ""), "cyan")

    async def _shown(self, *arguments: str, keep: Iterable[str] = (), expect: int = 0) -> str:
        """Run a command, show it and what it says, both outputs; with `keep` only the lines with one of these words."""
        self._command(*arguments)
        lines: list[str] = []
        await self._installation.command(*arguments, on_line=lines.append, expect=expect)
        words = tuple(keep)
        for line in lines:
            if not words or any(word in line for word in words):
                self._screen.output(line)
        return "\n".join(lines)


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Failed(otherwise)
