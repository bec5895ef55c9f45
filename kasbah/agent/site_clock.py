"""A site's time: the later of its machine's clock and of the newest time that the control plane signed.

DATA/agent/ledger/time.json   the newest signed time, moved on by what has passed since; when the control plane was
                              heard last, and how many seconds before this was written; what the machine's clock said
                              then; once a minute at the most

A machine's clock may be set back, by mistake or on purpose, and what has expired must not be good again by that. So a
signed time that was accepted is never gone below: it moves on with seconds that only ever pass, and is kept over
restarts. What the machine's clock said moves it nowhere: a clock that was far ahead for a moment does no lasting harm.
Nor is what was heard last any younger for it, once that clock is set right; and it grows old while no agent runs, by
as much as that clock goes on meanwhile, be it right or not.

A clock that is ahead ends things early, which is the safe side; that, and a clock that is behind, is a note.
"""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from kasbah.agent.files import replace_whole
from kasbah.clock import Clock, SystemClock
from kasbah.decide.skew import KEPT_EVERY, TOLERATED, skew_note
from kasbah.loop import Loop

log = structlog.get_logger()


class SiteClock:
    """See the module. A `Clock`; `own` is the machine's, for what is held against the times of its files."""

    def __init__(self, file: Path, own: Clock | None = None) -> None:
        self.own = own = own or SystemClock()
        self._file = file
        self._signed: tuple[datetime, float] | None = None
        self._skew: timedelta | None = None
        self._kept_at: float | None = None
        self._heard: tuple[datetime, float] | None = None
        self._load()

    def now(self) -> datetime:
        """The time here."""
        own = self.own.now()
        return own if self._signed is None else max(own, self._signed_now(self._signed))

    def even(self) -> datetime:
        """See `Clock`: how long something took is no matter of what was signed."""
        return self.own.even()

    def steady(self) -> float:
        """See `Clock`."""
        return self.own.steady()

    @property
    def signed(self) -> datetime | None:
        """The newest time that the control plane signed, moved on by what has passed since."""
        return None if self._signed is None else self._signed_now(self._signed)

    @property
    def behind(self) -> timedelta:
        """How far the machine's clock is behind the control plane's, below zero where it is ahead: as it was found at
        the last poll; before the first, as far as what was signed tells. Nothing, where that is tolerated."""
        found = max(timedelta(), self.now() - self.own.now()) if self._skew is None else -self._skew
        return found if abs(found) > TOLERATED else timedelta()

    @property
    def heard_at(self) -> datetime | None:
        """When the control plane was heard last; None: never. By a clock that was ahead then and is set right since it
        would lie in the future, and not grow old: it is at least as long ago as seconds have passed."""
        if self._heard is None:
            return None
        at, steady = self._heard
        return min(at, self.now() - timedelta(seconds=self.own.steady() - steady))

    def take(self, signed: datetime, *, just_now: bool = False) -> None:
        """Accept a time that the control plane signed. With `just_now` it was signed a moment ago: what our own clock
        is off by is the difference."""
        if just_now:
            self._skew = self.own.now() - signed
        if self._signed is None or signed > self._signed_now(self._signed):
            self._signed = (signed, self.own.steady())

    def heard(self) -> None:
        """The control plane has answered just now."""
        self._heard = (self.now(), self.own.steady())
        if self._kept_at is None:
            self.keep()

    async def keep_up(self) -> None:
        """Keep it from time to time until cancelled, and once more then."""
        try:
            await Loop("time", lambda: asyncio.to_thread(self.keep), period=KEPT_EVERY).run()
        finally:
            self.keep(at_once=True)

    def keep(self, *, at_once: bool = False) -> None:
        """Write what must outlive this process, where that was long ago. Blocking, for milliseconds."""
        steady = self.own.steady()
        if not at_once and self._kept_at is not None and steady - self._kept_at < KEPT_EVERY.total_seconds():
            return
        self._kept_at = steady
        signed, heard = self.signed, self.heard_at
        kept = {
            "signed": signed and signed.isoformat(),
            "heard": heard and heard.isoformat(),
            "age": (self.now() - heard).total_seconds() if heard else 0.0,
            "own": self.own.now().isoformat(),
        }
        try:
            replace_whole(self._file, json.dumps(kept))
        except OSError as error:
            log.warning("the time is not kept for the next start", file=str(self._file), reason=str(error))

    def notes(self) -> tuple[str, ...]:
        """What the site's owner should look after."""
        note = skew_note(self._skew or timedelta(), self.own.now(), self.signed, str(self._file))
        return (note,) if note else ()

    def _signed_now(self, signed: tuple[datetime, float]) -> datetime:
        at, steady = signed
        return at + timedelta(seconds=self.own.steady() - steady)

    def _load(self) -> None:
        """Take what was kept. What cannot be read is as if it were not there: the desired state in the ledger is signed
        with its time."""
        try:
            kept = json.loads(self._file.read_text())
            signed = kept["signed"] and datetime.fromisoformat(kept["signed"])
            heard = kept["heard"] and datetime.fromisoformat(kept["heard"])
            age = timedelta(seconds=max(0.0, kept.get("age", 0.0)))
            own = self.own.now()
            since = max(timedelta(), own - datetime.fromisoformat(kept["own"])) if "own" in kept else timedelta()
            if any(one is not None and one.tzinfo is None for one in (signed, heard)):
                raise ValueError("a time without its zone")
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            log.warning("the time that was kept cannot be read", file=str(self._file), reason=str(error))
            return
        steady = self.own.steady()
        self._signed = None if signed is None else (signed, steady)
        if heard is not None:
            now = self.now()
            at = min(heard, now - age - since)
            self._heard = (at, steady - (now - at).total_seconds())
