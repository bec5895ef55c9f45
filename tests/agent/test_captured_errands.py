"""A captured control plane writes itself tickets: for logs of sensitive services, and for commands inside of them. A
site shows and runs nothing of that which a deployer did not sign whom the owner named.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from test_captured_control import CONTROL, IDENTITY, INSTALLATION, NOW, law
from test_captured_deploys import ANNE, BERT, CLAIMS, CODE, PROJECT, Deploys, named, signed

from kasbah.agent.visitors import Visitors
from kasbah.api.errands import LONGEST, ticket_of, words_of, write_errand
from kasbah.api.signing import EXEC, READ_LOGS, Ticket, write_ticket
from kasbah.domain.errand import Errand
from kasbah.domain.ids import InstallationId, ProjectId
from kasbah.domain.label import Label, Level
from kasbah.errors import Denied

COMMAND = ("cat", "patients.db")
RESTRICTED = Label(level=Level.RESTRICTED)


@pytest.fixture
def site(tmp_path: Path) -> Deploys:
    """It runs claims, which is sensitive."""
    made = Deploys(tmp_path / "ledger")
    made.word.take_law(IDENTITY, law(1))
    assert made.serve(CODE, attested=signed()) == ["claims"]
    return made


def ticket(act: str = EXEC, service: str = CLAIMS.id) -> Ticket:
    return Ticket(act=act, object=service, site=IDENTITY.site, expires_at=NOW + timedelta(minutes=5), holder="tk-a")


SHELL = ticket()


def text(of: Ticket) -> str:
    """As the control plane, captured or not, signs it."""
    return write_ticket(CONTROL, of)


def errand(key: Ed25519PrivateKey = ANNE, of: Ticket = SHELL, argv: tuple[str, ...] = COMMAND, **more: object) -> str:
    plain = Errand(
        installation=INSTALLATION,
        project=PROJECT,
        service="claims",
        act=of.act,
        words=words_of(argv),
        ticket=ticket_of(text(of)),
    )
    return write_errand(key, replace(plain, **more))  # type: ignore[arg-type]


def refused(site: Deploys, said: str, of: Ticket = SHELL, argv: tuple[str, ...] = COMMAND) -> str | None:
    return site.word.refuses_errand(IDENTITY, of, text(of), words_of(argv), said)


def test_a_deployer_s_own_errand_is_done(site: Deploys) -> None:
    assert refused(site, errand()) is None
    logs = ticket(READ_LOGS)
    assert refused(site, errand(of=logs, argv=()), logs, ()) is None


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "no deployer has signed it"),
        ("nonsense", "no deployer has signed it"),
        ("A" * (LONGEST + 4), "no deployer has signed it"),
        (errand()[:-8], "no deployer has signed it"),
        (errand(CONTROL), "has not named its deployer"),
        (errand(BERT), "has not named its deployer"),
        (errand(argv=("true",)), "signed something else"),
        (errand(act=READ_LOGS), "signed something else"),
        (errand(service="front"), "signed something else"),
        (errand(project=ProjectId("pr-2")), "signed something else"),
        (errand(installation=InstallationId("in-other")), "signed something else"),
        (errand(of=replace(ticket(), expires_at=NOW + timedelta(minutes=9))), "signed something else"),
    ],
    ids=["nothing", "nonsense", "long", "cut", "control", "bert", "command", "act", "service", "project", "other",
         "ticket"],
)  # fmt: skip
def test_what_a_captured_control_plane_says_is_not_enough(site: Deploys, said: str, why: str) -> None:
    assert why in (refused(site, said) or "")


def test_a_deployer_who_is_named_no_more_or_for_less(site: Deploys) -> None:
    site.serve(CODE, attested=signed(), deployers=(named(max_level=Level.RESTRICTED),))
    assert "not named for this project" in (refused(site, errand()) or "")
    site.serve(CODE, attested=signed(), deployers=(named(expires_at=NOW + timedelta(days=1)),))
    assert refused(site, errand()) is None
    site.clock.advance(timedelta(days=1))
    assert "has not named its deployer" in (refused(site, errand()) or ""), "though nothing was said anew"
    site.serve(CODE, attested=signed(), deployers=())
    assert "has not named its deployer" in (refused(site, errand()) or "")


def test_a_lower_label_that_nobody_signed_opens_nothing(site: Deploys) -> None:
    site.serve(CODE, service=replace(CLAIMS, label=RESTRICTED))
    assert "no deployer" in (refused(site, "") or "")


def test_a_service_that_the_site_is_told_of_no_more_is_as_sensitive_as_it_was(site: Deploys) -> None:
    site.tell(RESTRICTED, services=())
    assert refused(site, "") is not None
    assert refused(site, "", ticket(service="sv-never-seen")) is not None


def test_what_is_less_than_sensitive_needs_no_signature(tmp_path: Path) -> None:
    site = Deploys(tmp_path / "ledger")
    site.word.take_law(IDENTITY, law(1))
    site.serve(CODE, service=replace(CLAIMS, label=RESTRICTED))
    assert refused(site, "") is None


def test_the_refusal_says_what_to_do(site: Deploys) -> None:
    visitors = Visitors(nobody_is_asked, site.word)
    of = ticket()
    visitors.refuse_unsigned(IDENTITY, of, text(of), words_of(COMMAND), errand())
    with pytest.raises(Denied, match="from level 3 on") as raised:
        visitors.refuse_unsigned(IDENTITY, of, text(of), words_of(COMMAND), "")
    assert raised.value.code == "errand_unsigned"
    assert "--deployer-key" in raised.value.hint


async def nobody_is_asked(visitors: tuple[object, ...]) -> tuple[object, ...]:
    raise AssertionError
