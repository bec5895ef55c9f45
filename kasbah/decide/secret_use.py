"""May a service be given this secret? Only where its data is labelled as high as the secret is: then the secret is
nowhere where it may not be itself.

A secret that nobody labelled is as sensitive as the data of those that use it: services of one label share it, and no
others.
"""

from __future__ import annotations

from collections.abc import Mapping

from kasbah.domain.label import Label, covers, label_words


def refuses_secret(label: Label, secret: Label | None, others: Mapping[str, Label]) -> str | None:
    """Why a service with this label may not be given a secret, in words; None where it may. `others` are the labels of
    the other services that use it, by name."""
    if secret is not None:
        if covers(label, secret):
            return None
        return f"it is labelled {label_words(secret)}, and the service {label_words(label)}, which is less"
    apart = {name: one for name, one in sorted(others.items()) if not (covers(label, one) and covers(one, label))}
    if not apart:
        return None
    named = ", ".join(f"{name} ({label_words(one)})" for name, one in apart.items())
    return f"it has no label, and is used by {named}, while this service is {label_words(label)}"
