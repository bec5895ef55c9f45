"""Whether own networks work here: one is made and tried, from both sides, before any replica depends on it."""

from __future__ import annotations

import os
import socket

from kasbah.agent.confine import network, programs
from kasbah.agent.confine.kernel import StepFailed
from kasbah.agent.confine.network import Street

PATIENCE_SECONDS = 5.0


def try_out(street: Street, slot: int, stranger: int) -> None:
    """Raises StepFailed where a namespace cannot be made, or keeps out the wrong ones. Run it in a process of its own,
    whose parent is in the machine's network; `stranger` is another user's number."""
    file = network.make(street, (slot,), os.getppid())[slot]
    try:
        _try(street, street.address(slot), file, stranger)
    finally:
        programs.nft(network.evict(street, slot, None))


def _try(street: Street, address: str, file: int, stranger: int) -> None:
    home = os.open(network.OWN, os.O_RDONLY | os.O_CLOEXEC)
    network.enter(file)
    # A socket stays in the network it was made in.
    inside, caller = socket.create_server(("127.0.0.1", 0)), socket.socket()
    network.enter(home)
    port = inside.getsockname()[1]
    _expect(_reaches(socket.socket(), address, port), "the gateway's side cannot reach it")
    with socket.create_server((street.gateway, 0)) as ours:
        _expect(not _reaches(caller, street.gateway, ours.getsockname()[1]), "it reaches this machine")
    os.seteuid(stranger)
    try:
        _expect(not _reaches(socket.socket(), address, port), "users of this machine reach it past the gateway")
    finally:
        os.seteuid(0)


def _reaches(caller: socket.socket, address: str, port: int) -> bool:
    with caller:
        caller.settimeout(PATIENCE_SECONDS)
        try:
            caller.connect((address, port))
        except OSError:
            return False
    return True


def _expect(true: bool, otherwise: str) -> None:
    if not true:
        raise StepFailed(1, otherwise, "own network")
