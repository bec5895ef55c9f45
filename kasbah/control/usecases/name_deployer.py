"""Names the deployer whose key lies in the data folder, while the owner's key is at hand: for all projects, for a year,
again at a start once half of that is over. So whoever started Kasbah deploys beside it and meets no signatures.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from kasbah.api.owner import DEPLOYER, sign_document
from kasbah.control.ownership import Ownership
from kasbah.control.store.lawbooks import GrantRecord
from kasbah.control.usecases.describe import installation_of
from kasbah.control.usecases.found_law import FOUNDER
from kasbah.control.usecases.work import Work, new_id
from kasbah.domain.grant import Deployer, GrantKind
from kasbah.domain.ids import GrantId
from kasbah.errors import KasbahError

NAME = "local"
TERM = timedelta(days=365)


def name_deployer(work: Work, owner: Ownership, key: str) -> None:
    """Name the holder of this public key, unless he is for long enough, or the owner's key is not at hand."""
    if owner.key is None or _named_until(work, key) > work.now + TERM / 2:
        return
    document = Deployer(
        installation=installation_of(work).id,
        name=NAME,
        key=key,
        evidence="the key in the data folder, named by a start of Kasbah beside the owner's key",
        issued_at=work.now,
        expires_at=work.now + TERM,
    )
    signed = sign_document(owner.key, DEPLOYER, document)
    made = GrantRecord(
        id=GrantId(new_id("grant")),
        kind=GrantKind.DEPLOYER,
        document=signed.document,
        signature=signed.signature,
        expires_at=document.expires_at,
        author=FOUNDER,
        at=work.now,
    )
    work.tx.grants.add(made)
    work.journal.say("make_grant", f"policy/grants/{made.id}", kind=made.kind.value, name=NAME)


def _named_until(work: Work, key: str) -> datetime:
    found = [work.now]
    for record in work.tx.grants.live(work.now):
        if record.kind is GrantKind.DEPLOYER:
            try:
                grant = work.library.grant(record.kind, record.signed)
            except KasbahError:
                continue  # what the owner did not sign names nobody
            if isinstance(grant, Deployer) and grant.key == key and not grant.projects:
                found.append(grant.expires_at)
    return max(found)
