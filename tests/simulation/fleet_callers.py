"""Who may call, in simulated fleets: one service is for holders of keys, and a captured control plane opens it to
anybody and to a thief's key. The watch asks what each site makes of that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from fleet_draw import FOR_HOLDERS, Theme
from lawful_oracle import Mark

from kasbah.agent import last_word as site_word
from kasbah.agent import signatures
from kasbah.control.usecases import publish, vouching
from kasbah.decide import callers
from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import KeyId
from kasbah.domain.service import Access, Key

Patch = pytest.MonkeyPatch
FROM = 3
"""From this level on callers are let in by signatures alone."""
THIEF = "ee" * 32


def lets_all_in(patch: Patch) -> None:
    """What a captured control plane tells sites: every service is public, and a thief's key opens all."""
    service, scene = publish._service, publish._scene

    def with_thief(*asked: Any) -> Any:
        made = scene(*asked)
        projects = sorted({one.project for one in made.services})
        keys = (Key(id=KeyId(f"ky-thief-{one}"), project=one, sha256=THIEF) for one in projects[:1])
        return replace(made, keys=(*made.keys, *keys))

    patch.setattr(vouching, "_opens_as_much", lambda *asked: True)
    patch.setattr(publish, "_service", lambda *asked: replace(service(*asked), access=Access.PUBLIC))
    patch.setattr(publish, "_scene", with_thief)


def let_in(desired: DesiredState, mark: Callable[[str], Mark]) -> str | None:
    """Whom a site lets in that nobody let in who may; None where there is nobody. `mark` is by a service's name how
    sensitive its data is, as this site knows it."""
    sensitive = [one for one in desired.services if mark(one.name).level >= FROM]
    for one in sensitive:
        if one.name == FOR_HOLDERS and one.access is Access.PUBLIC:
            return f"lets anybody call {one.name}, which is for holders of keys"
    for key in desired.keys:
        if sensitive and key.sha256 == THIEF and (key.max_level is None or key.max_level >= FROM):
            return f"opens {sensitive[0].name} with a key that nobody signed"
    return None


def a_site_lets_in_whom_it_is_told_to(patch: Patch) -> None:
    patch.setattr(site_word, "held_to", lambda accepted, said: accepted)


def any_word_of_a_deployer_s_lets_all_in(patch: Patch) -> None:
    """That he signed at all is taken for his word that anybody may call."""
    made = callers.Opened
    patch.setattr(callers, "Opened", lambda **said: made(**{**said, "public": True}))


def a_site_takes_every_key(patch: Patch) -> None:
    patch.setattr(signatures, "held_keys", lambda told, own, *more: (*told.keys, *own))


SENSITIVE = Theme(marks=(Mark(level=3),), often={"deploy": 14})
UNGUARDED_CALLERS: Mapping[Callable[[Patch], None], Theme] = {
    a_site_lets_in_whom_it_is_told_to: SENSITIVE,
    any_word_of_a_deployer_s_lets_all_in: SENSITIVE,
    a_site_takes_every_key: SENSITIVE,
}
