"""Which sites run a service? Every site gets a verdict and its reason, the refused ones too.

It asks only whether a site can: whether it is there, builds this runtime and is large enough. Whether it *may* (labels
and policy) is a later question of admission's. Nothing fits is an answer, not an error: the rollout waits and says why.
"""

from __future__ import annotations

from dataclasses import dataclass

from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.placement import Placement, SiteVerdict, Verdict
from kasbah.domain.revision import Resources, Runtime

TOOLS = {Runtime.PYTHON: "uv", Runtime.NODE: "node and npm"}
"""What a site needs to build each runtime; a plain command needs nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFacts:
    """What a site said of itself. `seen` is false until it has reported once; 0 cpus or memory: it did not say.
    `keeps_egress`: it can keep replicas from calling what their service's file does not name."""

    site: SiteId
    name: str
    seen: bool
    connected: bool
    runtimes: tuple[str, ...] = ()
    cpus: float = 0.0
    memory: int = 0
    keeps_egress: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a revision asks of a site. `limits_egress`: its file says what its replicas may call."""

    runtime: Runtime
    resources: Resources = Resources()
    limits_egress: bool = False


def place(service: ServiceId, needs: Needs, sites: tuple[SiteFacts, ...]) -> Placement:
    """The first site that can run it is chosen; others that could are possible."""
    verdicts: list[SiteVerdict] = []
    chosen = False
    for site in sites:
        refusal = _refusal(needs, site)
        if refusal is not None:
            verdicts.append(refusal)
        elif chosen:
            verdicts.append(
                SiteVerdict(site=site.site, verdict=Verdict.POSSIBLE, reason="another site runs it already")
            )
        else:
            chosen = True
            verdicts.append(
                SiteVerdict(site=site.site, verdict=Verdict.CHOSEN, reason="the first site that can run it")
            )
    return Placement(service=service, verdicts=tuple(verdicts))


def _refusal(needs: Needs, site: SiteFacts) -> SiteVerdict | None:
    """Why this site cannot run it, the first reason found; None where it can."""
    cpu, memory = needs.resources.cpu, needs.resources.memory
    if not site.seen:
        return _refused(site, "it has never reported", "start its agent: kasbah agent")
    if not site.connected:
        return _refused(site, "it does not report at present", "look at its agent; the deploy goes on once it is back")
    if needs.runtime is not Runtime.COMMAND and needs.runtime.value not in site.runtimes:
        tools = TOOLS[needs.runtime]
        return _refused(site, f"it cannot build {needs.runtime.value}", f"install {tools} there, and restart its agent")
    if needs.limits_egress and not site.keeps_egress:
        hint = "run its agent as root with iproute2 and nftables (kasbah doctor), or remove egress from kasbah.yaml"
        return _refused(site, "the service's egress is limited, which it cannot keep (egress: open)", hint)
    if cpu is not None and site.cpus and cpu > site.cpus:
        return _refused(site, f"a replica asks for {cpu:g} CPUs and it has {site.cpus:g}", "lower resources.cpu")
    if memory is not None and site.memory and memory > site.memory:
        reason = f"a replica asks for {memory / 2**20:.0f} MiB and it has {site.memory / 2**20:.0f} MiB"
        return _refused(site, reason, "lower resources.memory")
    return None


def _refused(site: SiteFacts, reason: str, hint: str) -> SiteVerdict:
    return SiteVerdict(site=site.site, verdict=Verdict.REFUSED, reason=reason, hint=hint)
