"""The agent's entry point: one process for one data folder."""

from __future__ import annotations

import os

import uvloop

from kasbah.agent.app import Agent
from kasbah.agent.paths import Paths
from kasbah.errors import KasbahError, first_of
from kasbah.settings import AgentSettings


def run(settings: AgentSettings) -> None:
    """Run the agent until SIGTERM or SIGINT. Blocking. Raises KasbahError where it cannot start."""
    # What is built is read by replicas, which may have users of their own; the folder above it is closed to others.
    os.umask(0o022)
    paths = Paths(settings.data_dir.resolve())
    paths.make()
    with paths.held():
        try:
            uvloop.run(Agent(settings, paths).run())
        except BaseExceptionGroup as group:
            expected = group.subgroup(KasbahError)
            raise (first_of(expected) if expected is not None else group) from None
