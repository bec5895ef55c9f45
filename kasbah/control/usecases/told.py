"""What was each site told last? Read once from its desired state, and not at each change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kasbah.api.agent import DESIRED_STATE
from kasbah.control.store.interface import Transaction
from kasbah.domain.desired import DesiredState, Pass
from kasbah.domain.ids import Digest, ServiceId, SiteId
from kasbah.domain.label import Label


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What was told in a site's desired state: the labels of its services, the services whose sources it keeps, what
    passes there, and what the law took last."""

    labels: Mapping[ServiceId, Label] = field(default_factory=dict)
    standby: frozenset[ServiceId] = frozenset()
    passing: frozenset[Pass] = frozenset()
    cut: str = ""
    withdrawn: str = ""

    @property
    def lies(self) -> frozenset[ServiceId]:
        """The services of which something lies there."""
        return self.standby | self.labels.keys()


@dataclass(slots=True)
class Reached:
    """What each site was told last, read once, not at each change."""

    known: dict[SiteId, tuple[Digest, Told]] = field(default_factory=dict)

    def by(self, tx: Transaction, site: SiteId, contents: Digest | None) -> Told:
        """What is told in the site's newest desired state, which has these contents; nothing where there is none."""
        if contents is None:
            return Told()
        known = self.known.get(site)
        if known is not None and known[0] == contents:
            return known[1]
        document = tx.sites.desired(site)
        assert document is not None, "its contents are known"
        return what_is_told(DESIRED_STATE.validate_json(document.body))


def what_is_told(state: DesiredState) -> Told:
    """What a desired state tells."""
    return Told(
        labels={one.id: one.label for one in state.services},
        standby=frozenset(one.id for one in state.standby),
        passing=state.passing,
        cut=state.cut,
        withdrawn=state.withdrawn,
    )
