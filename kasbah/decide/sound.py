"""Can this be a desired state at all? Whoever writes one names things that become paths, lines of a script and names in
a gateway's configuration at the site. A control plane that others have taken over may write anything.

What has an id or a name in it that could mean something else is not taken, whole: an honest control plane makes none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kasbah.domain.desired import DesiredState
from kasbah.domain.revision import Revision
from kasbah.domain.service import Service

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
SHA256 = re.compile(r"[0-9a-f]{64}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
BELOW = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[^/\s\x00][^\s\x00]{0,499}")
"""A folder in another: no way up, nor from the root."""

Text = tuple[str, str, re.Pattern[str]]
"""What it is, how it is written, and how such a thing is written."""


def unsound(desired: DesiredState) -> str | None:
    """The first thing in it that cannot be what it stands for; None where there is none."""
    wrong = next((one for one in _texts(desired) if not one[2].fullmatch(one[1])), None)
    if wrong is not None:
        return f"{wrong[1][:60]!r} cannot be {wrong[0]}"
    return _twice(desired)


def _twice(desired: DesiredState) -> str | None:
    """An id that stands for two: what is built, or known, of one would pass for the other's."""
    known: dict[str, Revision] = {}
    for service in desired.services:
        for one in service.revisions:
            if known.setdefault(one.id, one) != one:
                return f"{one.id} stands for two revisions"
    services = [*(one.id for one in desired.services), *(one.id for one in desired.forwarded)]
    if len(set(services)) < len(services):
        return "a service is in it twice"
    return None


def _texts(desired: DesiredState) -> Iterator[Text]:
    near = (one.site for one in desired.neighbours)
    yield from _ids("a site", desired.site, *(one.site for one in desired.peers), *near)
    for service in desired.services:
        yield from _of_service(service)
    for standby in desired.standby:
        yield from _ids("an id or a name", standby.id, standby.project, standby.name)
        yield "a source", standby.source, DIGEST
    for other in desired.forwarded:
        yield from _ids("an id or a name", other.id, other.project, other.name, other.lane, *other.revisions)
    for lane in desired.lanes:
        yield from _ids("a lane", lane.id)
        yield from _ids("a site", *lane.to, *lane.entries)
    for key in desired.keys:
        yield from _ids("a key's", key.id, key.project, *(key.services or ()))
        yield "a key's SHA-256", key.sha256, SHA256


def _of_service(service: Service) -> Iterator[Text]:
    trial = () if service.trial is None else (service.trial.revision, service.trial.rollout)
    shares = (one.revision for one in service.shares)
    lanes = (service.lane,) if service.lane else ()
    yield from _ids("an id or a name", service.id, service.project, service.name, *lanes, *trial, *shares)
    for revision in service.revisions:
        yield from _ids("an id or a name", revision.id, *revision.calls)
        yield "a source", revision.source, DIGEST
        for use in revision.secrets:
            yield from _ids("a secret", use.secret)
            yield "a variable", use.variable, VARIABLE
        for volume in revision.volumes:
            yield from _ids("a volume", volume.name)
            yield "a folder of the app's own", volume.path, BELOW


def _ids(what: str, *found: str) -> Iterator[Text]:
    return ((what, one, ID) for one in found)
