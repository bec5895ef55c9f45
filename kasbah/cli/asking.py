"""Asks before something that has no way back."""

from __future__ import annotations

import sys

import typer

from kasbah.cli.exits import Failed
from kasbah.errors import Invalid


def confirm(question: str, *, what: str, refused: str) -> None:
    """Ask a person, and go on only with a yes. Raises Invalid where nobody can be asked, and Failed after a no."""
    if not sys.stdin.isatty():
        raise Invalid(f"{what} needs --yes where nobody can be asked", code="usage")
    if not typer.confirm(question, err=True):
        raise Failed(refused, code="not_confirmed")


def confirm_deletion(name: str, question: str) -> None:
    """Ask before something is deleted."""
    confirm(question, what=f"deleting {name}", refused=f"{name} is not deleted")
