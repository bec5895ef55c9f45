"""What do the owner's grants allow now, and until when? Approvals for a service at a site; whether its label may fall.

A grant that has expired, or is dated in the future, is not there. What an answer used is told with its expiry, so that
it is asked for again then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from kasbah.domain.grant import Approval, Declassification, Deployer, Grant
from kasbah.domain.ids import ProjectId, ServiceId, SiteId
from kasbah.domain.label import Label, combine, covers

Allowed = Callable[[frozenset[str]], bool]
"""Whether it is allowed with these approvals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """The grants in force at a moment."""

    approvals: tuple[Approval, ...] = ()
    declassifications: tuple[Declassification, ...] = ()
    deployers: tuple[Deployer, ...] = ()

    def approved(self, service: ServiceId, project: ProjectId, site: SiteId) -> dict[str, datetime]:
        """What is approved for this service at this site: each by its name, and until when."""
        found: dict[str, datetime] = {}
        for one in self.approvals:
            if (service in one.services or project in one.projects) and (not one.sites or site in one.sites):
                found[one.name] = max(found.get(one.name, one.expires_at), one.expires_at)
        return found

    def lowered(self, service: ServiceId, label: Label) -> datetime | None:
        """Until when this service's label may be as low as `label`; None where it may not be."""
        until = [one.expires_at for one in self.declassifications if one.service == service and covers(label, one.to)]
        return max(until, default=None)


def in_force(grants: Iterable[Grant], now: datetime) -> Grants:
    """Those that hold at this moment."""
    held = [one for one in grants if one.issued_at <= now < one.expires_at]
    return Grants(
        approvals=tuple(one for one in held if isinstance(one, Approval)),
        declassifications=tuple(one for one in held if isinstance(one, Declassification)),
        deployers=tuple(one for one in held if isinstance(one, Deployer)),
    )


def used_until(approved: dict[str, datetime], allowed: Allowed) -> datetime | None:
    """When an answer that is a yes ends with the first of the approvals it rests on; None where it rests on none."""
    names = frozenset(approved)
    if not names or allowed(frozenset()):
        return None
    needed = [name for name in names if not allowed(names - {name})]
    return min(approved[name] for name in needed or names)


def kept(declared: Label | None, asked: Label) -> Label | None:
    """The most that was ever declared of a service's data, once `asked` is declared too. What is not declared adds
    nothing: it only stands for sensitive."""
    if not asked.declared:
        return declared
    return asked if declared is None else combine(declared, asked)


def lowers(declared: Label | None, asked: Label) -> bool:
    """Whether a label says less than was declared before, so that only a declassification allows it."""
    return declared is not None and not covers(asked, declared)
