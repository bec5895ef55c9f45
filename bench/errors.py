"""Why something could not be measured."""

from __future__ import annotations


class Unmeasured(Exception):
    """What was to be measured did not work; the text says what happened."""


class Late(KeyboardInterrupt):
    """A group's time is over. Of this kind, because what passes for an error inside an event loop stays inside it."""


class Missing(Unmeasured):
    """A tool that is not here; the text says how to install it."""
