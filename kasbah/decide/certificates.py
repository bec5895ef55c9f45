"""Which certificate answers for which host, and which are refused? Expiry is a matter of the time that is given.

What is not sound is refused, and what its file held before goes on serving: a renewal that goes wrong takes nothing
away. A certificate that expires while it serves goes on too, and is told: nothing better is there. Each host has one
certificate, the one that is good the longest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from kasbah.domain.certificate import Certificate

SOON = timedelta(days=14)
"""So long before it expires a certificate is told of; who renews by machine has done it by then."""

MOST_HOSTS = 1_000
"""Each host with a certificate costs the gateway some 0.4 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """`hosts`: the certificate of each name, in the order of names. `kept`: the last good one of each file. `notes`
    say what is wrong or soon will be: the file, why, and the next step."""

    hosts: Mapping[str, Certificate]
    kept: tuple[Certificate, ...]
    notes: tuple[str, ...]


def choose(found: Iterable[Certificate], before: Iterable[Certificate], now: datetime) -> Choice:
    """What serves, of the certificates that were found. `before` is what was `kept` the last time; that of a file that
    is gone is withdrawn."""
    last = {one.file: one for one in before}
    kept: list[Certificate] = []
    notes: list[str] = []
    for one in sorted(found, key=lambda one: one.file):
        good, note = _judge(one, last.get(one.file), now)
        kept += [] if good is None else [good]
        notes += [note] if note else []
    owners = _owners(kept)
    serving = set(owners.values())
    hosts = dict(list(owners.items())[:MOST_HOSTS])
    if len(owners) > MOST_HOSTS:
        notes.append(f"{len(owners)} hosts have certificates, and {MOST_HOSTS} are served: use wildcards")
    notes += [f"{one.file}.crt serves nothing: other files are good for longer; remove it" for one in kept
              if one not in serving]  # fmt: skip
    return Choice(hosts=hosts, kept=tuple(kept), notes=tuple(notes))


def fault(one: Certificate, now: datetime) -> str:
    """Why a certificate cannot begin to serve, and the next step; empty where it can."""
    if one.problem:
        return one.problem
    if not one.fits_key:
        return f"{one.file}.key is not its key: put the two files of one certificate there"
    if not one.names:
        return "it names no host as a subjectAltName: have it issued with the hosts it is for"
    if now < one.not_before:
        return f"it is not valid before {_moment(one.not_before)}: wait, or check this machine's clock"
    if now >= one.not_after:
        return f"it expired on {_moment(one.not_after)}: renew it"
    return ""


def covers(names: Iterable[str], host: str) -> bool:
    """Whether one of these names, wildcards included, stands for the host. A wildcard stands for one label.

    >>> covers(["*.example.org"], "shop.example.org"), covers(["*.example.org"], "a.shop.example.org")
    (True, False)
    """
    _, dot, parent = host.partition(".")
    known = frozenset(names)
    return host in known or (bool(dot) and f"*.{parent}" in known)


def _judge(one: Certificate, last: Certificate | None, now: datetime) -> tuple[Certificate | None, str]:
    """What a file's certificate is from now on, and what must be said of it."""
    wrong = fault(one, now)
    if not wrong:
        soon = now >= one.not_after - SOON
        return one, f"{one.file}.crt expires on {_moment(one.not_after)}: renew it" if soon else ""
    if last is None:
        return None, f"{one.file}.crt is refused: {wrong}; it serves nothing"
    if last.digest == one.digest:
        return last, f"{one.file}.crt serves, though {wrong}"
    return last, f"{one.file}.crt is refused: {wrong}; the one before it goes on, until {_moment(last.not_after)}"


def _owners(kept: Iterable[Certificate]) -> dict[str, Certificate]:
    """Each name's certificate: the one that expires last; of equals, the file that comes first."""
    owners: dict[str, Certificate] = {}
    for one in sorted(kept, key=lambda one: one.file):
        for name in one.names:
            if name not in owners or one.not_after > owners[name].not_after:
                owners[name] = one
    return dict(sorted(owners.items()))


def _moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"
