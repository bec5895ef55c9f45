"""How long does it take to place 1,000 services, and 10,000, among 100 sites, with nothing known before?

The estate of `admission.py`, with prices and carbon drawn besides; services ask for one of three objectives and one of
three sizes. Beside it, each service of a sample placed by itself, for as many. Then what the control plane does with
all that when one service changes, or one site: from its store, through the decision, to what each site is told.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

from bench import optimum
from bench.admission import QUICK_ROUNDS, ROUNDS, SEED, SITES, estate
from bench.estate import control_plane, move_abroad
from bench.figures import spread
from bench.rows import Row
from kasbah.control.app import Control
from kasbah.control.usecases.placing import placed, survey
from kasbah.control.usecases.uphold import uphold
from kasbah.control.usecases.work import save_service
from kasbah.decide.admission import Admissions
from kasbah.decide.needs import Needs, SiteFacts
from kasbah.decide.placement import place
from kasbah.decide.placer import Placer
from kasbah.decide.together import Asked, place_together
from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.law import Admission, Data, Place, Purpose
from kasbah.domain.placement import Constraints, Objective
from kasbah.domain.revision import Resources, Runtime
from kasbah.packs import shipped_law

GOALS = {1_000: 0.5, 10_000: 5.0}
CONTROLLED, QUICK_CONTROLLED = 10_000, 1_000
SAMPLE, SOME = 50, ServiceId("sv-some")
WEIGHTS = ((), ((Objective.PRICE, 1.0),), ((Objective.PRICE, 1.0), (Objective.CARBON, 1.0)))
SIZES = (Resources(), Resources(cpu=1.0, memory=2**30), Resources(cpu=4.0, memory=2**33))


@dataclass(frozen=True, kw_only=True)
class Took:
    """How long something took, in seconds: in all, and of a processor."""

    wall: float
    cpu: float


def measure(*, quick: bool) -> Iterator[Row]:
    """The rows of this group."""
    for count, goal in GOALS.items():
        rounds = ROUNDS if not quick else QUICK_ROUNDS if count == QUICK_CONTROLLED else 1
        yield from _whole(count, goal, rounds)
    yield from optimum.measure(quick=quick)
    for count in (QUICK_CONTROLLED,) if quick else (QUICK_CONTROLLED, CONTROLLED):
        yield from _controlled(count, GOALS[count])


def _whole(count: int, goal: float, rounds: int) -> Iterator[Row]:
    needs, sites, places = _drawn(count)
    there = dict(zip((site.site for site in sites), places, strict=True))
    whole = [_timed(lambda: _cold(needs, sites, there)) for _ in range(rounds)]
    roomy = [_timed(lambda: _with_room(needs, sites, there)) for _ in range(rounds)]
    law = Admissions(law=shipped_law())
    for one in needs:
        _ask(law, one, there)
    alone = _timed(lambda: [place(SOME, one, sites, _ask(law, one, there)) for one in needs[:SAMPLE]])
    yield _row(
        f"placement of {count:,} services among {SITES} sites, nothing known before",
        whole,
        goal,
        f"{len({*needs}):,} kinds of service",
        beside=alone.wall / SAMPLE * count,
    )
    yield _row(f"the same {count:,}, where each always runs and takes room from the next", roomy, goal)


def _cold(needs: list[Needs], sites: tuple[SiteFacts, ...], there: dict[SiteId, Place]) -> None:
    law, placer = Admissions(law=shipped_law()), Placer(sites=sites)
    for number, one in enumerate(needs):
        placer.place(ServiceId(f"sv-{number}"), one, partial(_ask, law, one, there))


def _with_room(needs: list[Needs], sites: tuple[SiteFacts, ...], there: dict[SiteId, Place]) -> None:
    """The sites have room for twice as much; those that many prefer fill up."""
    law = Admissions(law=shipped_law())
    cpus = 2 * sum(one.resources.cpu or 0.0 for one in needs) / len(sites)
    small = tuple(replace(one, cpus=cpus) for one in sites)
    asked = [
        Asked(service=ServiceId(f"sv-{number}"), needs=replace(one, replicas=1), lawful=partial(_ask, law, one, there))
        for number, one in enumerate(needs)
    ]
    place_together(asked, Placer(sites=small))


def _controlled(count: int, goal: float) -> Iterator[Row]:
    """With a store, signed documents and an audit log."""
    needs, sites, places = _drawn(count)
    with tempfile.TemporaryDirectory() as folder, closing(control_plane(Path(folder), sites, places, needs)) as control:
        services = [_timed(partial(_one_service, control, number)) for number in range(QUICK_ROUNDS)]
        changed = [_timed(partial(_one_site, control, number)) for number in range(QUICK_ROUNDS)]
    name = f"of {count:,} services at {SITES} sites, in the control plane"
    yield _row(f"one service changes {name}", services, goal)
    yield _row(f"one site moves to another country {name}", changed, 2 * goal, "every service is looked at again")


def _one_service(control: Control, number: int) -> None:
    """It is asked to run at one site more."""
    with control.office.write() as work:
        service = work.tx.services.get(ServiceId(f"sv-{number}"))
        assert service is not None
        assert service.serving is not None
        revision = work.tx.revisions.get(service.id, service.serving)
        assert revision is not None
        wanted = replace(service, constraints=replace(service.constraints, sites=2))
        save_service(work, replace(wanted, placement=placed(work, survey(work), wanted, revision.contents)))


def _one_site(control: Control, number: int) -> None:
    with control.office.write() as work:
        move_abroad(work, f"site-{number}")
        uphold(work)


def _timed(act: Callable[[], object]) -> Took:
    wall, cpu = time.perf_counter(), time.process_time()
    act()
    return Took(wall=time.perf_counter() - wall, cpu=time.process_time() - cpu)


def _row(name: str, took: list[Took], goal: float, note: str = "", beside: float | None = None) -> Row:
    ours = median(one.wall for one in took)
    cpu = f"{median(one.cpu for one in took):.2f} s of CPU"
    return Row(
        name=name,
        ours=ours,
        reference=beside,
        reference_name="" if beside is None else "each by itself (of a sample, admission known)",
        ratio=None if beside is None else ours / beside,
        unit="s",
        spread=spread([one.wall for one in took]),
        goal=f"<= {goal:g} s",
        ok=ours <= goal,
        note=f"{note}, {cpu}" if note else cpu,
    )


def _drawn(count: int) -> tuple[list[Needs], tuple[SiteFacts, ...], list[Place]]:
    chance = random.Random(SEED)
    services, places = estate(chance, count)
    sites = tuple(_site(number, chance) for number in range(SITES))
    return [_needs(data, chance) for data in services], sites, places


def _ask(law: Admissions, needs: Needs, places: dict[SiteId, Place]) -> dict[SiteId, Admission]:
    return law.admit_all(Data(label=needs.label), places, Purpose.PLACE)


def _site(number: int, chance: random.Random) -> SiteFacts:
    return SiteFacts(
        site=SiteId(f"st-{number}"),
        name=f"site-{number}",
        seen=True,
        connected=True,
        runtimes=("python", "node", "command"),
        cpus=64.0,
        memory=2**38,
        country=chance.choice(("MA", "FR", "DE")),
        operator=chance.choice("abcdefgh"),
        cpu_hour=chance.uniform(0.01, 0.1),
        gib_hour=chance.uniform(0.001, 0.01),
        carbon=chance.uniform(20, 700),
    )


def _needs(data: Data, chance: random.Random) -> Needs:
    return Needs(
        label=data.label,
        runtime=Runtime.PYTHON,
        resources=chance.choice(SIZES),
        constraints=Constraints(weights=chance.choice(WEIGHTS)),
    )
