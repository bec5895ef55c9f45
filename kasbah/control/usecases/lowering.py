"""May a deploy lower a service's label? Only with a declassification that its owner signed and that has not ended."""

from __future__ import annotations

import shlex

from kasbah.control.store.records import ServiceRecord
from kasbah.control.usecases.law_now import LawNow
from kasbah.decide.grants import lowers
from kasbah.domain.label import label_words
from kasbah.errors import Denied


def check_label(law: LawNow, service: ServiceRecord) -> None:
    """Refuse a label that says less than was declared of the service's data before, unless that is declassified."""
    if not lowers(service.declared, service.label) or service.declared is None:
        return
    if law.grants.lowered(service.id, service.label) is not None:
        return
    raise Denied(
        f"this lowers the label of {service.name!r} from {label_words(service.declared)} to "
        f"{label_words(service.label)}, and no declassification in force allows it",
        where="config.data",
        hint=f"leave the label as it was, or have the owner sign: {command(service)}",
        code="label_lowered",
    )


def command(service: ServiceRecord) -> str:
    """The command that declassifies a service as far as its label asks for."""
    label = service.label
    parts = ["kasbah", "declassify", service.name, "--to", label.level.word]
    for word in label.categories:
        parts += ["--category", word]
    for word in label.regimes:
        parts += ["--regime", word]
    return shlex.join(parts) + " --evidence WHERE --expires DATE"
