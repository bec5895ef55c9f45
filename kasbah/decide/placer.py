"""Places many services at the same sites: each question is asked once, however many services ask it.

Of thousands of services few differ in what matters here: label, runtime, resources, constraints, and where they are.
The answer for one is the answer for all that are alike. Who may differ in what the law says of them is asked about
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kasbah.decide.needs import NOWHERE, Current, Needs, SiteFacts
from kasbah.decide.placement import place, place_among, unlawful
from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.label import Label
from kasbah.domain.law import Admission
from kasbah.domain.placement import Placement, SiteVerdict

Lawful = Callable[[], Mapping[SiteId, Admission]]
"""What admission says of each site; asked only where it is not known yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placer:
    """Places services at `sites` as they are at one moment."""

    sites: tuple[SiteFacts, ...]
    _known: dict[tuple[Needs, Current], tuple[SiteVerdict, ...]] = field(default_factory=dict)
    _refused: dict[Label, dict[SiteId, SiteVerdict]] = field(default_factory=dict)

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
        verdicts = self._known.get((needs, now))
        if verdicts is None:
            refused = self._refused.get(needs.label)
            if refused is None:
                refused = self._refused[needs.label] = unlawful(needs.label, self.sites, lawful())
            verdicts = self._known[needs, now] = place_among(service, needs, self.sites, refused, now).verdicts
        return Placement(service=service, verdicts=verdicts)
