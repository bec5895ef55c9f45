"""Imports that a command waits for, made quicker. What is imported is the same."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

HTTPX_COMMAND = "httpx._main"
"""httpx's own command line: `import httpx` loads it, and with it click, rich and pygments, where they are installed.
Where it cannot be loaded httpx does without, as it does where they are not."""


@contextmanager
def quick_imports() -> Iterator[None]:
    """Without collecting garbage meanwhile: what imports make stays, and is not looked through again and again, now or
    later. And without what nobody here uses."""
    sys.modules.setdefault(HTTPX_COMMAND, None)  # type: ignore[arg-type]  # None: whoever imports it is told ImportError
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collecting:
            gc.enable()
