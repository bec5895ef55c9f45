"""Which services may be given a secret."""

from __future__ import annotations

from kasbah.decide.secret_use import refuses_secret
from kasbah.domain.label import UNLABELLED, Label, Level

PUBLIC, INTERNAL = Label(level=Level.PUBLIC), Label(level=Level.INTERNAL)
PERSONAL = Label(level=Level.RESTRICTED, categories=("personal",), regimes=("gdpr",))


def test_what_is_labelled_as_high_may_have_it() -> None:
    assert refuses_secret(PERSONAL, PERSONAL, {}) is None
    assert refuses_secret(PERSONAL, INTERNAL, {"web": PUBLIC}) is None, "it is said how sensitive it is"


def test_what_is_labelled_lower_may_not() -> None:
    refused = refuses_secret(INTERNAL, PERSONAL, {})
    assert refused == "it is labelled restricted (personal) under gdpr, and the service internal, which is less"
    assert refuses_secret(Label(level=Level.RESTRICTED, regimes=("gdpr",)), PERSONAL, {}), "nor what leaves a word out"


def test_without_a_label_services_of_one_label_share_it() -> None:
    assert refuses_secret(INTERNAL, None, {}) is None
    assert refuses_secret(INTERNAL, None, {"web": INTERNAL}) is None
    assert refuses_secret(UNLABELLED, None, {"web": UNLABELLED}) is None


def test_and_no_others_whoever_came_first() -> None:
    for label, other in ((INTERNAL, PERSONAL), (PERSONAL, INTERNAL)):
        refused = refuses_secret(label, None, {"web": label, "claims": other})
        assert refused is not None
        assert "used by claims" in refused
        assert "web" not in refused
