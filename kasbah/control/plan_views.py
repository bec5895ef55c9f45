"""What a deploy would do, and why a service is where it is, as the API shows them: with what is said of every site."""

from __future__ import annotations

from collections.abc import Mapping

from kasbah.api import public
from kasbah.api.rules import rule_view
from kasbah.control.usecases.explain import Explained
from kasbah.control.usecases.plan import Plan
from kasbah.control.views import data
from kasbah.decide.egress import Exits, Way
from kasbah.decide.refusals import may_not_call
from kasbah.domain.ids import SiteId
from kasbah.domain.label import Label
from kasbah.domain.placement import Placement


def plan(made: Plan, sites: Mapping[SiteId, str], refused: list[public.QuotaRefusal]) -> public.PlanAnswer:
    """A plan; `sites` are names by id."""
    return public.PlanAnswer(
        service=made.service.name,
        revision=made.revision.id,
        action=made.action,
        changes=list(made.changes),
        sites=_verdicts(made.placement, sites, made.opens),
        egress=_egress(made.service.label, made.exits),
        refused=refused,
    )


def explained(found: Explained) -> public.ExplainAnswer:
    """Why a service is where it is."""
    label = found.service.label
    return public.ExplainAnswer(
        service=found.service.name,
        data=data(label),
        data_declared=label.declared,
        sites=_verdicts(found.placement, {site.id: site.name for site in found.sites}, found.opens),
        deployer=found.deployer,
        unsigned=found.unsigned,
        egress=_egress(label, found.exits),
    )


def _egress(label: Label, found: Exits) -> public.EgressView:
    ways = (*found.ways, *found.barred)
    return public.EgressView(anywhere=found.anywhere, calls=[_call(label, way) for way in ways])


def _call(label: Label, way: Way) -> public.CallView:
    reason, hint = ("", "") if way.admission.allowed else may_not_call(label, way)
    return public.CallView(
        to=way.entry,
        allowed=way.admission.allowed,
        places=list(way.places),
        reason=reason,
        hint=hint,
        rules=[rule_view(rule) for rule in way.admission.rules],
        unmet=[rule_view(rule) for rule in way.admission.unmet],
    )


def _verdicts(
    placement: Placement, names: Mapping[SiteId, str], opens: Mapping[SiteId, tuple[str, ...]]
) -> list[public.SiteVerdictView]:
    return [
        public.SiteVerdictView(
            site=names.get(one.site, one.site),
            verdict=one.verdict,
            reason=one.reason,
            hint=one.hint,
            rank=one.rank,
            rules=[rule_view(rule) for rule in one.rules],
            unmet=[rule_view(rule) for rule in one.unmet],
            opens=list(opens.get(one.site, ())),
        )
        for one in placement.verdicts
    ]
