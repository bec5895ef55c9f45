"""Draws what a fleet is made of: sites, labels, laws, services. Each in the oracle's words, and in Kasbah's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from random import Random
from typing import Any

from lawful_oracle import UNMARKED, Land, Mark, Said, Statute

from kasbah.api.public import DeployRequest
from kasbah.domain.charter import Capacity, Charter, Fact, Facts, Lawbook, Prices
from kasbah.domain.ids import Digest, InstallationId, SiteId
from kasbah.domain.label import Label, Level
from kasbah.domain.law import Pack
from kasbah.domain.site import SiteKind
from kasbah.packs import shipped

NAMES = ("claims", "search", "payroll", "scans", "ledger")
FOR_HOLDERS = "ledger"
"""The one that holders of keys alone may call."""
ROOM = (0.5, 1.0, 2.0, 1.0, 2.0)
"""The CPUs that a replica of each asks for, where sites can be full."""
PLACES = ("rabat", "paris", "virginia", "zurich", "berlin", "dubai", "fes", "oslo", "lyon")
KINDS = tuple(one.value for one in SiteKind)
COUNTRIES = ("MA", "MA", "FR", "FR", "DE", "US", "CH", "AE", None)
CERTIFICATES = ("SecNumCloud", "HDS", "DGSSI-L1", "DGSSI-L2")
LEVELS = ("public", "internal", "restricted", "sensitive", "vital")
SHIPPED = frozenset(pack.name for pack in shipped() if not pack.draft)
APPROVALS = ("gdpr-safeguards", "cndp-f118", "cndp-sensitive", "agents-level")
"""Those that lift a rule of the shipped law."""

OUTSIDE = ("mailer", "crm", "bank")
UNDECLARED = "nobody.example"
ENTRIES = (
    "api.mailer.example",
    "api.mailer.example:443",
    "crm.example:443",
    "198.51.100.0/24",
    "198.51.100.16/28",
    "203.0.113.7:5432",
    UNDECLARED,
)
"""What files list, and where places outside are called, but for the last."""
TARGETS = (
    "api.mailer.example:443",
    "api.mailer.example:25",
    "crm.example:443",
    "crm.example:80",
    "198.51.100.20:443",
    "198.51.100.200:443",
    "203.0.113.7:5432",
    "nobody.example:443",
)
"""What replicas try to call: for each entry, something in it alone too."""
MARKS: tuple[Mark | None, ...] = (
    None,
    None,
    Mark(level=0),
    Mark(level=1),
    Mark(level=1, under=frozenset({"agents"})),
    Mark(level=1, about=frozenset({"source-code"})),
    Mark(level=1, about=frozenset({"financial"})),
    Mark(level=2, about=frozenset({"personal"}), under=frozenset({"gdpr"})),
    Mark(level=2, about=frozenset({"personal", "health"}), under=frozenset({"gdpr"})),
    Mark(level=2, about=frozenset({"personal"}), under=frozenset({"ma-0908"})),
    Mark(level=2, about=frozenset({"health"}), under=frozenset({"ma-0908"})),
    Mark(level=2, about=frozenset({"health"}), under=frozenset({"fr-hds"})),
    Mark(level=2, about=frozenset({"financial"}), under=frozenset({"house"})),
    Mark(level=2),
    Mark(level=3, about=frozenset({"financial"}), under=frozenset({"ma-0520"})),
    Mark(level=3, under=frozenset({"eu-sovereign"})),
    Mark(level=3, under=frozenset({"fr-state"})),
    Mark(level=3, under=frozenset({"agents"})),
    Mark(level=3, about=frozenset({"personal"})),
    Mark(level=4),
    Mark(level=4, under=frozenset({"ma-0520"})),
    Mark(level=1, about=frozenset({"financial"}), under=frozenset({"ma-bank"})),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Theme:
    """What a fleet's life turns about: the labels that there are, the house's rules that are in every law and what goes
    stale by it, how much more often than usually something befalls it (by the act's name), how often hours pass, and
    the most sites. `beside` is what there is besides (BESIDE), `entries` what places outside are called by and files
    list, `pins` the rules that sites' own owners may pin. `first` is the seed of the first life that is tried."""

    marks: tuple[Mark | None, ...] = MARKS
    house: frozenset[str] = frozenset()
    stale_after: Mapping[int, timedelta] = field(default_factory=dict)
    often: Mapping[str, int] = field(default_factory=dict)
    jumps: float = 0.1
    most_sites: int = 7
    beside: frozenset[str] = frozenset()
    entries: tuple[str, ...] = ENTRIES
    pins: tuple[str, ...] = ("no-money-here", "nothing-sensitive", "nothing-public", "money-passes-at-home")
    first: int = 0


BESIDE = frozenset({"calls", "pins", "room"})
"""What lives may have besides: services that call others and the outside, and sites that cannot limit that; packs that
sites' own owners pin; sites that are full."""
ANYTHING = Theme(beside=BESIDE)

DOMESTIC = "resource has domestic && resource.domestic"
MONEY, CODE = (f'principal.label.categories.contains("{one}")' for one in ("financial", "source-code"))
HOUSE = {
    "nothing": ("action", "principal.label.level > 4", "false"),
    "money-at-home": ("action", MONEY, DOMESTIC),
    "no-rented-clouds": ("action", 'principal.label.level >= 1 && resource.kind == "public"', "false"),
    "board": ("action", 'principal.label.regimes.contains("house")', 'context.approvals.contains("board")'),
    "money-enters-at-home": ('action == Kasbah::Action::"Forward"', MONEY, DOMESTIC),
    "code-is-built-at-home": ('action == Kasbah::Action::"Build"', CODE, DOMESTIC),
    "errs": ("action", f"{MONEY} && principal.label.level * 9223372036854775807 > 0", "false"),
}
"""The house's own rules, by the names that the oracle knows them by: the action, when they forbid, and unless. The
first is in every version; what the last multiplies is more than a Long holds from level 2 on."""
SENDING = {
    "money-is-sent-home": ('action == Kasbah::Action::"Egress"', MONEY, DOMESTIC),
    "nothing-at-the-edge": ("action", 'principal.label.level >= 1 && resource.kind == "edge"', "false"),
}
"""Those of lives in which services call the outside."""
PINS = {
    "no-money-here": ("action", MONEY, "false"),
    "nothing-sensitive": ("action", "principal.label.level >= 3", "false"),
    "nothing-public": ("action", "principal.label.level == 0", "false"),
    "money-passes-at-home": ('action == Kasbah::Action::"Forward"', MONEY, DOMESTIC),
}
"""Those that the owners of sites pin there."""
RULE = """
@id("house.{name}") @title("x") @advice("x") @cite("x") @verified("2026-01-01") @approval("{approval}")
forbid (principal, {action}, resource) when {{ {when} }} unless {{ {unless} }};
"""


def facts(draw: Random, today: date) -> Land:
    """A site as its owner may declare it today."""
    country = draw.choice(COUNTRIES)
    said: dict[str, Said] = {}

    def say(name: str, value: object, *, chance: float) -> None:
        if value is not None and draw.random() < chance:
            said[name] = _said(draw, value, today)

    say("country", country, chance=1)
    compelling = frozenset({draw.choice(("US", "FR", "MA", country or "AE"))}) if draw.random() < 0.3 else frozenset()
    own = frozenset({country} if country else ())
    say("exposure", (own | compelling) or None, chance=0.75)
    say("administered_from", frozenset({draw.choice(("MA", "MA", "IN"))}), chance=0.5)
    say("customer_keys", draw.random() < 0.7, chance=0.4)
    say("confidential", draw.random() < 0.7, chance=0.4)
    held = tuple(_said(draw, name, today) for name in CERTIFICATES if draw.random() < 0.35)
    return Land(kind=draw.choice(KINDS), said=said, certificates=held)


def _said(draw: Random, value: object, today: date) -> Said:
    since = today + timedelta(days=draw.choice((-300, -300, -1, -1, 0, 1)))
    until = None if draw.random() < 0.55 else max(since, today) + timedelta(days=draw.choice((0, 0, 1, 2, 5)))
    return Said(value=value, since=since, until=until)


def charter(
    installation: InstallationId, site: SiteId, name: str, version: int, land: Land, draw: Random, key: str
) -> Charter:
    """What the owner signs of it. What policy does not speak of is drawn here."""
    held = {
        name: Fact(value=one.value, source="a contract", since=one.since, until=one.until)
        for name, one in land.said.items()
    }
    today = date(2020, 1, 1)
    for other, value in (
        ("operator", draw.choice(("Maroc Cloud", "OVH", "Amazon"))),
        ("prices", Prices(cpu_hour=draw.choice((0.01, 0.02, 0.05)), gib_hour=0.01)),
        ("carbon", draw.choice((20.0, 300.0, 700.0))),
        ("capacity", Capacity(cpus=draw.choice((2.0, 8.0)))),
    ):
        if draw.random() < 0.5:
            held[other] = Fact(value=value, source="a contract", since=today)
    certificates = tuple(
        Fact(value=str(one.value), source="a paper", since=one.since, until=one.until) for one in land.certificates
    )
    return Charter(
        installation=installation,
        site=site,
        name=name,
        version=version,
        kind=SiteKind(land.kind),
        facts=Facts(certificates=certificates, **held),  # type: ignore[arg-type]
        gateway_key=key,
        hosts=land.hosts,
    )


def statute(draw: Random, number: int, theme: Theme) -> Statute:
    """The next law."""
    without = {draw.choice(sorted(SHIPPED - {"base"}))} if draw.random() < 0.25 else set()
    with_ = {"ma-bank"} if draw.random() < 0.3 else set()
    house = theme.house | frozenset(one for one in HOUSE if draw.random() < 0.2)
    if "calls" in theme.beside:
        house |= frozenset(one for one in SENDING if draw.random() < 0.3)
    stale = {
        draw.choice((2, 3, 4)): timedelta(seconds=draw.choice((20, 60, 3_600)))
        for _ in range(draw.choice((0, 0, 1, 2)))
    }
    home = draw.choice((None, None, None, "MA", "FR"))
    return Statute(
        number=number,
        packs=(SHIPPED - without) | with_ | {"house"},
        house=house,
        home=home,
        stale_after={**stale, **theme.stale_after},
    )


def lawbook(installation: InstallationId, law: Statute) -> Lawbook:
    """What the owner signs of it."""
    rules = "".join(_rule(name) for name in (*HOUSE, *SENDING) if name in law.house | {"nothing"})
    house = Pack(name="house", title="The house's own", version=law.number, policies=rules)
    packs = tuple(pack for pack in shipped() if pack.name in law.packs)
    return Lawbook(
        installation=installation,
        version=law.number,
        home=law.home,
        packs=(*packs, house) if "house" in law.packs else packs,
        stale_after=dict(law.stale_after),
    )


def _rule(name: str) -> str:
    action, when, unless = {**HOUSE, **SENDING, **PINS}[name]
    return RULE.format(name=name, approval=name if name == "board" else "none", action=action, when=when, unless=unless)


def pinned(rules: frozenset[str]) -> tuple[Pack, ...]:
    """The pack that a site's own owner pins."""
    if not rules:
        return ()
    text = "".join(_rule(name) for name in sorted(rules)).replace('@id("house.', '@id("own.')
    return (Pack(name="own", title="The site's own", version=1, policies=text),)


def approvals(law: Statute, theme: Theme) -> tuple[str, ...]:
    """The approvals that lift something in this law."""
    sent = ["agents-egress"] if "calls" in theme.beside and "agents" in law.packs else []
    found = [one for one in APPROVALS if {"gdpr": "gdpr", "cndp": "ma-0908", "agen": "agents"}[one[:4]] in law.packs]
    board = ["board"] if "board" in law.house else []
    return (*found, *board, *(["bam-notified"] if "ma-bank" in law.packs else []), *sent)


def label(mark: Mark) -> Label:
    return Label(level=Level(mark.level), categories=tuple(sorted(mark.about)), regimes=tuple(sorted(mark.under)))


def source(name: str, number: int) -> Digest:
    """One of a service's sources: it is known by its digest whose it is."""
    return Digest(f"sha256:{NAMES.index(name):02d}{number:02d}" + "0" * 60)


def owner_of(digest: str) -> str:
    return NAMES[int(digest[7:9])]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """What a service's file says of its calls: what it lists outside (None: nothing is said), and which services."""

    listed: tuple[str, ...] | None = None
    calls: tuple[str, ...] = ()


def outside(draw: Random, theme: Theme, today: date) -> Land:
    """A place that is only called, as its owner may declare it today."""
    hosts = draw.sample([one for one in theme.entries if one != UNDECLARED], draw.choice((1, 1, 2)))
    return replace(facts(draw, today), hosts=tuple(hosts))


def file(draw: Random, name: str, theme: Theme, known: Sequence[str]) -> File:
    """What a service calls; more of what is `known` than of the rest."""
    pool = sorted(known) * 2 + list(theme.entries)
    listed = draw.choice((None, None, (), *(tuple(sorted({*draw.sample(pool, count)})) for count in (1, 1, 2, 3))))
    others = draw.sample([one for one in NAMES if one != name], draw.choice((0, 0, 0, 0, 1, 1, 2)))
    return File(listed=listed, calls=tuple(sorted(others)))


def request(
    draw: Random, name: str, mark: Mark | None, sites: Sequence[str], says: File, *, crowded: bool
) -> tuple[DeployRequest, dict[str, Any]]:
    """A deploy, and what it asks of its placement: how many sites, which only, which not."""
    asked: dict[str, Any] = {"sites": draw.choice((1, 1, 1, 2, 3)), "only": [], "avoid": []}
    if draw.random() < 0.15:
        asked["only"] = sorted(draw.sample(sorted(sites), min(2, len(sites))))
    if draw.random() < 0.15:
        asked["avoid"] = [draw.choice(sorted(sites))]
    objective = draw.choice((None, None, "price", "carbon"))
    config: dict[str, Any] = {
        "runtime": "python",
        "command": ["python", "app.py"],
        "access": "key" if name == FOR_HOLDERS else "public",
        "placement": asked if objective is None else {**asked, "objective": objective},
        "rollout": {"strategy": draw.choice(("rolling", "blue-green")), "watch": "10s"},
        "scaling": {"min": 0, "max": 2},
    }
    if mark is not None:
        config["data"] = {"level": LEVELS[mark.level], "categories": sorted(mark.about), "regimes": sorted(mark.under)}
    room = ROOM[NAMES.index(name)]
    if crowded:
        config["scaling"] = {"min": draw.choice((0, 0, 1, 1, 2, 4)), "max": 4}
        config["resources"] = {"cpu": room}
    if says.listed is not None:
        config["egress"] = list(says.listed)
    config["calls"] = list(says.calls)
    body = {"config": config, "source": source(name, draw.randrange(3)), "source_size": 1_000}
    return DeployRequest.model_validate(body), {**asked, "room": room if crowded else 0.0}


def mark_of(mark: Mark | None) -> Mark:
    return UNMARKED if mark is None else mark
