"""`python -m demo [--oneshot]`: what the command line says, and the exit code."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from demo.run import main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--oneshot", action="store_true", help="end after the report; ONESHOT=1 does the same")
    arguments = parser.parse_args()
    root = Path(__file__).resolve().parents[1]
    sys.exit(main(root, oneshot=arguments.oneshot or os.environ.get("ONESHOT", "0") not in ("", "0")))
