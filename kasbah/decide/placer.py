"""Places many services at the same sites: each question is asked once, however many services ask it.

Of thousands of services few differ in what matters here: label, runtime, resources, constraints, and where they are.
The answer for one is the answer for all that are alike. Who may differ in what the law says of them is asked about
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from kasbah.decide.needs import NOWHERE, Current, Needs, SiteFacts
from kasbah.decide.placement import place, place_among, unlawful
from kasbah.decide.refusals import is_full
from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.label import Label
from kasbah.domain.law import Admission
from kasbah.domain.placement import Placement, SiteVerdict

Lawful = Callable[[], Mapping[SiteId, Admission]]
"""What admission says of each site; asked only where it is not known yet."""

Verdicts = tuple[SiteVerdict, ...]


@dataclass(slots=True, kw_only=True)
class Placer:
    """Places services at `sites` as they are at one moment, and with the room that was taken since."""

    sites: tuple[SiteFacts, ...]
    _known: dict[tuple[Needs, Current], tuple[int, Verdicts]] = field(default_factory=dict)
    """What was answered, after how much of `_taken`."""
    _refused: dict[Label, dict[SiteId, SiteVerdict]] = field(default_factory=dict)
    _taken: list[int] = field(default_factory=list)
    """Where room was taken, by place in `sites`, in the order in which it was."""

    def place(
        self,
        service: ServiceId,
        needs: Needs,
        lawful: Lawful,
        now: Current = NOWHERE,
        *,
        alone: bool = False,
        turned_away: Mapping[SiteId, str] | None = None,
    ) -> Placement:
        """Where it runs, as `place` says. `alone`: the law may say something else of it than of others like it."""
        if alone or turned_away:
            return place(service, needs, self.sites, lawful(), now, turned_away)
        verdicts = self._still_so(needs, now)
        if verdicts is None:
            refused = self._refused.get(needs.label)
            if refused is None:
                refused = self._refused[needs.label] = unlawful(needs.label, self.sites, lawful())
            verdicts = place_among(service, needs, self.sites, refused, now).verdicts
        self._known[needs, now] = (len(self._taken), verdicts)
        return Placement(service=service, verdicts=verdicts)

    def _still_so(self, needs: Needs, now: Current) -> Verdicts | None:
        """What was answered before, unless the room that was taken since may make another answer of it."""
        after, verdicts = self._known.get((needs, now), (0, None))
        since = self._taken[after:] if needs.takes_room else ()
        return None if any(is_full(needs, self.sites[number]) for number in {*since}) else verdicts

    def take(self, needs: Needs, at: Collection[SiteId]) -> None:
        """Have what a service always has there taken from these sites' room."""
        if needs.takes_room:
            self._taken += self._change(needs.room, at, 1)

    def give_back(self, needs: Needs, at: Collection[SiteId]) -> None:
        """The other way round."""
        if needs.takes_room:
            self._change(needs.room, at, -1)
            self._forget()

    def reset(self, sites: tuple[SiteFacts, ...]) -> None:
        """Have the sites as they were before some room was taken."""
        self.sites = sites
        self._forget()

    def _change(self, room: tuple[float, int], at: Collection[SiteId], sign: int) -> list[int]:
        changed = [number for number, one in enumerate(self.sites) if one.site in at] if at else []
        sites = list(self.sites)
        for number in changed:
            one, (cpus, memory) = sites[number], room
            sites[number] = replace(
                one, used_cpus=one.used_cpus + sign * cpus, used_memory=one.used_memory + sign * memory
            )
        self.sites = tuple(sites)
        return changed

    def _forget(self) -> None:
        """Room that became free may make another answer of any."""
        self._taken.clear()
        for needs, now in [key for key in self._known if key[0].takes_room]:
            del self._known[needs, now]
