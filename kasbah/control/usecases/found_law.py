"""The first law: where an installation has none and its owner's key is at hand, the packs that come with Kasbah.

Later versions of these packs change nothing by themselves: what was signed holds until the owner signs something else.
"""

from __future__ import annotations

from dataclasses import replace

from kasbah.api.owner import LAWBOOK, sign_document
from kasbah.control.ownership import Ownership
from kasbah.control.store.lawbooks import LawbookRecord, LawbookState
from kasbah.control.usecases.describe import installation_of
from kasbah.control.usecases.work import Work
from kasbah.domain.charter import Lawbook
from kasbah.errors import Invalid
from kasbah.packs import shipped

FOUNDER = "the first start"


def recorded_owner(work: Work) -> str | None:
    """The public half of the owner's key, as the store has it."""
    return installation_of(work).owner_key


def found_law(work: Work, owner: Ownership) -> None:
    """Take this owner for the installation's, and give it a law if it has none."""
    installation = installation_of(work)
    if installation.owner_key is None:
        work.tx.installations.save(replace(installation, owner_key=owner.public))
    work.library.trust(owner.verifier, installation.id)
    if work.tx.lawbooks.newest():
        return
    if owner.key is None:
        raise Invalid(
            "this installation has no law, and its owner's key is not at hand to sign one",
            where="owner.key",
            hint="put the owner's key into the data folder for this start",
            code="owner_key",
        )
    first = Lawbook(
        installation=installation.id,
        version=1,
        home=None,
        packs=tuple(pack for pack in shipped() if not pack.draft),
    )
    signed = sign_document(owner.key, LAWBOOK, first)
    work.tx.lawbooks.add(
        LawbookRecord(
            version=first.version,
            document=signed.document,
            signature=signed.signature,
            state=LawbookState.IN_FORCE,
            based_on=None,
            author=FOUNDER,
            author_id=None,
            at=work.now,
            reason="what comes with Kasbah",
            changed_at=work.now,
        )
    )
