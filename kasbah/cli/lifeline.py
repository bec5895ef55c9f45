"""A part ends when its supervisor is gone, even killed: it holds one end of a pipe whose other end died with it.

What serves callers (the gateway, the replicas) holds no end of it and goes on.
"""

from __future__ import annotations

import os
import signal
import threading


def follow(descriptor: int) -> None:
    """Send this process SIGTERM once the other end of `descriptor` is closed."""
    os.set_inheritable(descriptor, False)
    threading.Thread(target=_wait, args=(descriptor,), name="lifeline", daemon=True).start()


def _wait(descriptor: int) -> None:
    while os.read(descriptor, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
