"""Asks before something goes for good."""

from __future__ import annotations

import sys

import typer

from kasbah.cli.exits import Failed
from kasbah.errors import Invalid


def confirm_deletion(name: str, question: str) -> None:
    """Ask a person, and go on only with a yes. Raises Invalid where nobody can be asked, and Failed after a no."""
    if not sys.stdin.isatty():
        raise Invalid(f"deleting {name} needs --yes where nobody can be asked", code="usage")
    if not typer.confirm(question, err=True):
        raise Failed(f"{name} is not deleted", code="not_confirmed")
