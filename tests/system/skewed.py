"""`kasbah` by a clock that is off: `python skewed.py SECONDS COMMAND ...`.

A clock namespace does not cover the time of day, and the machine's own clock is everybody's. `kasbah/clock.py` is the
one reader of it, so that a process in which that is replaced, before anything else is loaded, is off in all that it
decides. What TLS checks is read by OpenSSL and Envoy themselves; a control plane that is off certifies accordingly.
"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta

from kasbah import clock


class Skewed(clock.SystemClock):
    """The machine's clock, and so much later."""

    by = timedelta()

    def now(self) -> datetime:
        return super().now() + self.by


if __name__ == "__main__":
    Skewed.by = timedelta(seconds=float(sys.argv.pop(1)))
    clock.SystemClock = Skewed  # type: ignore[misc]
    from kasbah.cli.main import main

    main()
