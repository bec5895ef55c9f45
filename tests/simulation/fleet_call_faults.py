"""Faults in what services may call (see `fleet_faults.py`). What each site decides is what its replicas get, so that
most show under an honest control plane too, which asks only at a deploy and where it places."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fleet_draw import Theme
from fleet_faults import ALLOWED, Faults, Patch, marks

from kasbah.control.usecases import outbound
from kasbah.decide import admission, egress, last_word, refusals
from kasbah.domain.law import Admission, Purpose

BOTH = (outbound, last_word)


def what_lists_nothing_may_call_anything(patch: Patch) -> None:
    """Whatever its level."""
    made = egress.exits

    def open_(label: Any, revision: Any, *asked: Any, **more: Any) -> Any:
        return replace(made(label, revision, *asked, **more), anywhere=revision.egress is None)

    for module in BOTH:
        patch.setattr(module, "exits", open_)


def a_list_is_for_sensitive_data_alone(patch: Patch) -> None:
    """Data that may go anywhere goes there, whatever its file lists."""
    made = egress.exits

    def open_(label: Any, revision: Any, *asked: Any, **more: Any) -> Any:
        free = made(label, replace(revision, egress=None), *asked, **more).anywhere
        return replace(made(label, revision, *asked, **more), anywhere=free)

    for module in BOTH:
        patch.setattr(module, "exits", open_)


def a_place_outside_is_at_home(patch: Patch) -> None:
    """Where it is said to be is ignored."""
    made = egress.outside_of

    def at_home(charter: Any, place: Any) -> Any:
        return made(charter, replace(place, country="MA", domestic=True))

    for module in BOTH:
        patch.setattr(module, "outside_of", at_home)


def a_place_outside_is_where_it_was(patch: Patch) -> None:
    """What is known of it is remembered when something else is said."""
    made, known = egress.outside_of, {}

    def remembered(charter: Any, place: Any) -> Any:
        return known.setdefault(charter.site, made(charter, place))

    for module in BOTH:
        patch.setattr(module, "outside_of", remembered)


def one_place_outside_of_several_is_asked_about(patch: Patch) -> None:
    asked = egress._to_the_outside
    patch.setattr(egress, "_to_the_outside", lambda entry, to, ask, places: asked(entry, to, ask, places[:1]))


def a_part_of_a_network_is_the_whole(patch: Patch) -> None:
    """One place that has a part of what is listed answers for the rest."""
    patch.setattr(egress, "covers", egress.meets)


def what_nobody_declared_is_open(patch: Patch) -> None:
    asked = egress._to_the_outside

    def open_(entry: str, to: Any, ask: Any, places: Any) -> Any:
        return asked(entry, to, lambda site, place: ALLOWED if place is egress.UNKNOWN else ask(site, place), places)

    patch.setattr(egress, "_to_the_outside", open_)


def a_call_is_asked_about_as_a_forward(patch: Patch) -> None:
    asked = admission._ask

    def forwarded(read: Any, data: Any, places: Any, purpose: Any, approvals: Any) -> list[Admission]:
        return asked(read, data, places, Purpose.FORWARD if purpose is Purpose.EGRESS else purpose, approvals)

    patch.setattr(admission, "_ask", forwarded)


def what_lists_nothing_may_call_what_is_refused_by_name(patch: Patch) -> None:
    """Where nothing is known, it may be; so it may be anywhere."""
    patch.setattr(egress, "_barred", lambda *asked: ())


def a_lower_service_is_called(patch: Patch) -> None:
    """And holds the caller's data under its own label."""
    patch.setattr(egress, "at_least", lambda label, other: True)


def a_service_is_called_wherever_it_is(patch: Patch) -> None:
    asked = egress._to_a_service
    patch.setattr(
        egress,
        "_to_a_service",
        lambda label, name, found, *more: asked(label, name, replace(found, sites=()), *more),
    )


def what_cannot_be_limited_runs_all_the_same(patch: Patch) -> None:
    """Sensitive data at a site where replicas call what they like."""
    for module in (refusals, last_word):
        patch.setattr(module, "kept", lambda *asked: True)


def sensitive_data_is_placed_where_nothing_is_limited(patch: Patch) -> None:
    """The sites refuse it, and it stays placed there."""
    patch.setattr(refusals, "kept", lambda *asked: True)


# --- the site's own, under a control plane that asks nobody -----------------------------------------------------------


def a_site_runs_what_it_cannot_limit(patch: Patch) -> None:
    patch.setattr(last_word, "kept", lambda *asked: True)


def a_site_lets_replicas_call_what_their_files_say(patch: Patch) -> None:
    patch.setattr(last_word, "limited", lambda revision, *asked: revision)


def a_site_s_own_keys_open_what_is_refused(patch: Patch) -> None:
    patch.setattr(last_word, "_opening", lambda key, called: key)


RESTRICTED = (marks(2), marks(2, "personal", "gdpr"), marks(2, "personal", "ma-0908"))
OUTSIDE = Theme(marks=RESTRICTED, often={"move_outside": 12, "deploy": 12}, most_sites=3, beside=frozenset({"calls"}))
ANYWHERE = replace(OUTSIDE, marks=(marks(0), marks(1), marks(1, "financial")))
CALLED = replace(OUTSIDE, marks=(marks(1), *RESTRICTED, marks(3)), often={"deploy": 12, "redeclare": 8}, most_sites=5)
SENT = replace(OUTSIDE, marks=(marks(1, "financial"),), house=frozenset({"money-is-sent-home"}))
LIMITS = replace(OUTSIDE, marks=(marks(3), marks(2)), often={"refit": 14, "deploy": 6})

PARTS = replace(
    OUTSIDE, entries=("198.51.100.0/24", "198.51.100.16/28", "api.mailer.example", "api.mailer.example:443")
)
AWAY = replace(CALLED, marks=(marks(0), marks(1)), house=frozenset({"nothing-at-the-edge"}))

HONEST_CALLS: Faults = {
    what_lists_nothing_may_call_anything: OUTSIDE,
    a_list_is_for_sensitive_data_alone: ANYWHERE,
    a_place_outside_is_at_home: OUTSIDE,
    a_place_outside_is_where_it_was: OUTSIDE,
    one_place_outside_of_several_is_asked_about: OUTSIDE,
    a_part_of_a_network_is_the_whole: PARTS,
    what_nobody_declared_is_open: OUTSIDE,
    a_call_is_asked_about_as_a_forward: SENT,
    what_lists_nothing_may_call_what_is_refused_by_name: replace(ANYWHERE, house=frozenset({"nothing-at-the-edge"})),
    a_lower_service_is_called: CALLED,
    a_service_is_called_wherever_it_is: AWAY,
    what_cannot_be_limited_runs_all_the_same: LIMITS,
    sensitive_data_is_placed_where_nothing_is_limited: LIMITS,
}
UNGUARDED_CALLS: Faults = {
    a_site_runs_what_it_cannot_limit: LIMITS,
    a_site_lets_replicas_call_what_their_files_say: OUTSIDE,
    a_site_s_own_keys_open_what_is_refused: CALLED,
}
