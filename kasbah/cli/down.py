"""`kasbah down`: stops the supervisor of a data folder and, where it was killed before, what it left behind."""

from __future__ import annotations

import os
import signal
import time

from kasbah.cli import context, render
from kasbah.cli.addresses import parse_address
from kasbah.cli.exits import Failed
from kasbah.cli.options import DataDir, OutputOption
from kasbah.cli.processes import mentioning
from kasbah.cli.record import DataFolder, Record, data_folder
from kasbah.cli.render import Output
from kasbah.cli.supervisor import AGENT_GRACE_SECONDS, CONTROL_GRACE_SECONDS, end_data_plane

STOP_SECONDS = AGENT_GRACE_SECONDS + CONTROL_GRACE_SECONDS + 60
POLL_SECONDS = 0.05
EXIT_SECONDS = 10.0
"""The lock is let go of as the process ends: so much later it is gone."""


def down(data_dir: DataDir = None, output: OutputOption = Output.TABLE) -> None:
    """Stop Kasbah on this machine, and everything it runs."""
    folder = data_folder(data_dir)
    stopped = stop(folder)
    if output is not Output.TABLE:
        render.document({"data_dir": str(folder.path), "stopped": stopped}, output)
    elif stopped:
        render.say(f"Kasbah is down: stopped {', '.join(stopped)}.")
    else:
        render.say(f"Nothing was running on {folder.path}.")


def stop(folder: DataFolder) -> list[str]:
    """Stop whatever runs on `folder`; the names of what was stopped. Doing it again does nothing."""
    if not folder.path.is_dir():
        return []
    record = folder.read()
    running = [name for name, part in record.parts.items() if part.alive] if record else []
    if folder.locked():
        _stop_supervisor(folder, record)
        running = ["gateway and replicas", *running, "supervisor"]
    else:
        for part in record.parts.values() if record else ():
            part.end(grace=AGENT_GRACE_SECONDS)
        running = [*(["gateway and replicas"] if mentioning(f"{folder.path}/agent/") else []), *running]
        end_data_plane(folder)
    if record is not None:
        api = parse_address(record.api, option="up.json").reachable
        context.forget(context.path(), f"http://{api}")
    return running


def _stop_supervisor(folder: DataFolder, record: Record | None) -> None:
    if record is None or not record.supervisor.alive:
        raise Failed(
            f"{folder.path} is in use, but not by a supervisor that is known",
            hint="it may just be starting: try again",
        )
    os.kill(record.supervisor.pid, signal.SIGTERM)
    give_up = time.monotonic() + STOP_SECONDS
    while folder.locked():
        if time.monotonic() > give_up:
            raise Failed(f"the supervisor (process {record.supervisor.pid}) does not end", hint=f"see {folder.log}")
        time.sleep(POLL_SECONDS)
    record.supervisor.wait(EXIT_SECONDS)
