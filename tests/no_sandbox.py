"""For tests in which nothing is built that could do harm."""

from __future__ import annotations

from kasbah.agent.build.sandbox import Sandbox


async def no_sandbox(*, closed: bool) -> Sandbox:
    """A sandbox that keeps nothing apart."""
    return Sandbox()
