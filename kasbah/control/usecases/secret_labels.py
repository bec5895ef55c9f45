"""Labels secrets, and refuses a deploy that would take one to where it may not be; `decide/secret_use.py` says when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kasbah.control.store.records import SecretRecord, ServiceRecord
from kasbah.control.usecases.secrets import secret_named, users
from kasbah.control.usecases.work import Work
from kasbah.decide.secret_use import refuses_secret
from kasbah.domain.ids import SecretId
from kasbah.domain.label import Label, covers, label_text, label_words
from kasbah.domain.secret import SecretUse
from kasbah.errors import Conflict, Denied


def label_secret(work: Work, project: str, name: str, label: Label) -> SecretRecord:
    """Say how sensitive a secret is: more than was said before, or the same. Refused while a service that is labelled
    lower uses it."""
    found = secret_named(work, project, name)
    if found.label is not None and not covers(label, found.label):
        raise Denied(
            f"this lowers the label of the secret {name!r} from {label_words(found.label)} to {label_words(label)}",
            where="label",
            hint="set another secret: what this one opens was said to be more sensitive",
            code="label_lowered",
        )
    used = users(work, found.project).get(found.id, ())
    low = sorted(one.name for one in used if refuses_secret(one.label, label, {}) is not None)
    if low:
        raise Conflict(
            f"the secret {name!r} is used by {', '.join(low)}, labelled lower than {label_words(label)}",
            hint="label what uses it as high and deploy that, or deploy it without the secret",
            code="secret_used_lower",
        )
    made = replace(found, label=label)
    work.journal.detail(secret=found.id, label=label_text(label))
    work.tx.secrets.put(made)
    return made


def check_secrets(work: Work, service: ServiceRecord, uses: Iterable[SecretUse]) -> None:
    """Refuse a service that may not be given what its file names."""
    named = [(use, found) for use in uses if (found := work.tx.secrets.get(SecretId(use.secret))) is not None]
    shared = users(work, service.project) if any(found.label is None for _, found in named) else {}
    for use, found in named:  # without the service's own key, which is no secret of the project's
        others = {one.name: one.label for one in shared.get(found.id, ()) if one.id != service.id}
        why = refuses_secret(service.label, found.label, others)
        if why is not None:
            raise Denied(
                f"{service.name} may not have the secret {found.name!r}: {why}",
                where=f"config.secrets.{use.variable}",
                hint=_hint(found),
                code="secret_refused",
            )


def _hint(secret: SecretRecord) -> str:
    if secret.label is None:
        return (
            f"say how sensitive it is: kasbah secrets label {secret.name} LEVEL; or set another secret for this service"
        )
    return "label the service as high, or give it another secret"
