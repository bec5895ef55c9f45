"""Why does a site not run a service? In words, with what would change it: first the law, then what the site can.

What the law says is never mixed with what a machine can: a site that may not is refused whatever it has.
"""

from __future__ import annotations

from functools import lru_cache

from kasbah.decide.egress import NO_SITE, Way, kept
from kasbah.decide.needs import Needs, SiteFacts
from kasbah.domain.egress import SERVICE
from kasbah.domain.ids import SiteId
from kasbah.domain.label import Label
from kasbah.domain.law import Admission
from kasbah.domain.placement import Constraints, SiteVerdict, Verdict
from kasbah.domain.revision import Runtime
from kasbah.domain.site import CLOSABLE

LABEL_IT = "or label it, if it is less: `data: {level: internal}` in kasbah.yaml"
TOOLS = {Runtime.PYTHON: "uv", Runtime.NODE: "node and npm"}
"""What a site needs to build each runtime; a plain command needs nothing."""
ROUNDING = 1e-6
"""CPUs: sums of tenths are not exact."""


def may_not(site: SiteId, label: Label, answer: Admission) -> SiteVerdict | None:
    """Why data with this label may not be at this site; None where it may."""
    if answer.allowed:
        return None
    cited = answer.rules or answer.unmet
    if answer.rules:
        first = answer.rules[0]
        reason = f"{first.title} [{first.id}]"
    elif answer.unmet:
        level = f"level {int(label.level)} ({label.level.word}"
        asked = "; ".join(rule.unmet for rule in answer.unmet)
        reason = f"its data is of {level}{'' if label.declared else ', as unlabelled data is'}): {asked}"
    else:
        reason = answer.problem
    hints = [_declare(answer.missing)] if answer.missing else []
    hints += [cited[0].advice.removesuffix(".")] if cited else ["see `kasbah policy list`"]
    hints += [] if label.declared else [LABEL_IT]
    return SiteVerdict(
        site=site,
        verdict=Verdict.REFUSED,
        reason=reason,
        hint="; ".join(hints),
        rules=answer.rules,
        unmet=answer.unmet,
    )


def may_not_call(label: Label, way: Way) -> tuple[str, str]:
    """Why data with this label may not be sent there, and what would change it. The way is one that is refused."""
    refusal = may_not(NO_SITE, label, way.admission)
    assert refusal is not None, "what may be called has no refusal"
    if way.places:
        return f"{way.entry} is at {', '.join(way.places)}: {refusal.reason}", refusal.hint
    if way.admission.problem:
        hint = "label the service that is called at least as high, or have this one's data declassified"
        return refusal.reason, hint + ("" if label.declared else f"; {LABEL_IT}")
    if way.entry.startswith(SERVICE):
        return f"it is served where its caller's data may not be: {refusal.reason}", refusal.hint
    hint = (
        f"declare who is there: a place with `hosts: [{way.entry}]` in sites.yaml (`kasbah sites apply -f sites.yaml`)"
    )
    unlabelled = "" if label.declared else f"; {LABEL_IT}"
    return f"nobody declared who is at {way.entry}, and {refusal.reason}", hint + unlabelled


def itself(site: SiteFacts, reason: str) -> SiteVerdict:
    """The refusal of a site that has the last word, and said no."""
    hint = f"ask who runs it (`kasbah sites describe {site.name}` shows its own packs), or let it run elsewhere"
    return _refused(site, f"the site itself refuses it: {reason}", hint)


def _declare(missing: tuple[str, ...]) -> str:
    """How facts that nobody declared are declared."""
    facts = ", ".join(missing)
    here = "with `kasbah up --country`, such as --country MA, or " if missing == ("country",) else ""
    return f"nobody declared the site's {facts}: do so {here}in sites.yaml (`kasbah sites apply -f sites.yaml`)"


def cannot(needs: Needs, site: SiteFacts, *, here: bool) -> SiteVerdict | None:
    """Why this site cannot run it, the first reason found; None where it can. `here`: it is there already, so its share
    of the room is its own, and a site that is silent for a moment keeps it."""
    constraints = needs.constraints
    if (constraints.only or constraints.avoid) and (unwanted := _unwanted(constraints, site)) is not None:
        return unwanted
    if not site.seen:
        return _refused(site, "it has never reported", "start its agent: kasbah agent")
    if not site.connected and not here:
        return _refused(site, "it does not report at present", "look at its agent; the deploy goes on once it is back")
    if needs.runtime is not Runtime.COMMAND and needs.runtime not in site.runtimes:
        tools = TOOLS[needs.runtime]
        return _refused(site, f"it cannot build {needs.runtime.value}", f"install {tools} there, and restart its agent")
    if needs.insists and not kept(site.egress, needs.reach):
        return _cannot_limit(needs, site)
    small = _too_small(needs, site)
    return small if small is not None or here or not needs.takes_room else _full(needs, site)


def _cannot_limit(needs: Needs, site: SiteFacts) -> SiteVerdict:
    """What to do where a site cannot keep a service from calling what it may not."""
    hints = ["run its agent as root with iproute2 and nftables (kasbah doctor says what is missing)"]
    if site.egress == CLOSABLE:
        hints.append("or let it call nothing: `egress: []`, and no `calls`")
    hints += [] if needs.label.declared else [LABEL_IT]
    return _refused(site, f"what it calls cannot be limited there (egress: {site.egress})", "; ".join(hints))


def _unwanted(constraints: Constraints, site: SiteFacts) -> SiteVerdict | None:
    if constraints.only and site.name not in constraints.only:
        return _refused(site, "kasbah.yaml names other sites", "add it to placement.only")
    if site.name in constraints.avoid:
        return _refused(site, "kasbah.yaml avoids it", "take it from placement.avoid")
    return None


def _too_small(needs: Needs, site: SiteFacts) -> SiteVerdict | None:
    cpu, memory = needs.resources.cpu, needs.resources.memory
    if cpu is not None and site.cpus and cpu > site.cpus:
        return _refused(site, f"a replica asks for {cpu:g} CPUs and it has {site.cpus:g}", "lower resources.cpu")
    if memory is not None and site.memory and memory > site.memory:
        reason = f"a replica asks for {_mib(memory)} and it has {_mib(site.memory)}"
        return _refused(site, reason, "lower resources.memory")
    return None


def _full(needs: Needs, site: SiteFacts) -> SiteVerdict | None:
    """What other services ask for is not given twice."""
    cpu, memory = needs.room
    if _lacks_cpu(cpu, site):
        return _taken(site.site, f"{cpu:g} CPUs", f"{site.used_cpus:g} of {site.cpus:g}", "resources.cpu")
    if _lacks_memory(memory, site):
        used = f"{_mib(site.used_memory)} of {_mib(site.memory)}"
        return _taken(site.site, _mib(memory), used, "resources.memory")
    return None


@lru_cache(maxsize=10_000)
def _taken(site: SiteId, asked: str, taken: str, key: str) -> SiteVerdict:
    """The same for all who ask for as much."""
    hint = f"free some there, declare more (capacity), or lower {key}"
    return SiteVerdict(
        site=site, verdict=Verdict.REFUSED, reason=f"it asks for {asked}, and {taken} are taken", hint=hint
    )


def is_full(needs: Needs, site: SiteFacts) -> bool:
    """Whether a site has too little room left for a service that is not there."""
    cpu, memory = needs.room
    return _lacks_cpu(cpu, site) or _lacks_memory(memory, site)


def _lacks_cpu(asked: float, site: SiteFacts) -> bool:
    return bool(asked and site.cpus and site.used_cpus + asked > site.cpus + ROUNDING)


def _lacks_memory(asked: int, site: SiteFacts) -> bool:
    return bool(asked and site.memory and site.used_memory + asked > site.memory)


def _mib(size: float) -> str:
    return f"{size / 2**20:.0f} MiB"


def _refused(site: SiteFacts, reason: str, hint: str) -> SiteVerdict:
    return SiteVerdict(site=site.site, verdict=Verdict.REFUSED, reason=reason, hint=hint)
