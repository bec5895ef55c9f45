"""`kasbah` by a clock that is off: `python skewed.py FILE COMMAND ...`, by as many seconds as FILE says.

A clock namespace does not cover the time of day, and the machine's own clock is everybody's. `kasbah/clock.py` is the
one reader of it, so that a process in which that is replaced, before anything else is loaded, is off in all that it
decides; who writes the file anew sets its clock while it runs. What TLS checks, and when the gateway served a request,
is read by OpenSSL and Envoy themselves; a control plane that is off certifies accordingly.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime, timedelta
from pathlib import Path

from kasbah import clock


class Skewed(clock.SystemClock):
    """The machine's clock, and so much later."""

    file = Path()

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=float(self.file.read_text()))


def set_clock(file: Path, ahead: float) -> None:
    """Have those who go by this file so many seconds ahead from now on; behind, below 0."""
    new = file.with_suffix(".new")
    new.write_text(str(ahead))
    os.replace(new, file)


if __name__ == "__main__":
    Skewed.file = Path(sys.argv.pop(1))
    clock.SystemClock = Skewed  # type: ignore[misc]
    from kasbah.cli.main import main

    main()
