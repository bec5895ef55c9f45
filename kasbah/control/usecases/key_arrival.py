"""Where is a key known as it is now? At the sites that act on the desired state that says it, or on a newer one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kasbah.api.credentials import KeyArrival
from kasbah.control.usecases.keys import find_key
from kasbah.control.usecases.sites import connected
from kasbah.control.usecases.work import Work
from kasbah.domain.ids import SiteId


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """By site, the (epoch, generation) of the desired state that says what the key is."""

    versions: Mapping[SiteId, tuple[int, int]]

    def arrival(self, work: Work) -> KeyArrival:
        """Who acts on less at present. A site that never reported knows no key."""
        sites = [one for one in work.tx.sites.all() if one.report is not None and one.id in self.versions]
        behind = [one for one in sites if one.report and one.report.applied < self.versions[one.id]]
        away = [one.name for one in behind if not connected(one, work.now)]
        return KeyArrival(behind=[one.name for one in behind], away=away)


def key_due(work: Work, project: str, name_or_id: str) -> Due:
    """What each site has to act on. Raises NotFound where there is no such key."""
    find_key(work, project, name_or_id)
    told = work.tx.sites.told()
    return Due(versions={site: (epoch, generation) for site, (epoch, generation, _) in told.items()})
