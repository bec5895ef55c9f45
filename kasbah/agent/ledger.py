"""What the agent must not forget: who it is, the desired state it acts on, and what it has already done.

Each is written whole before it is acted on (a new file, fsync, rename), with the version of its format. From the ledger
alone the agent restarts with the control plane away. A desired state that is not newer, or not signed by the pinned
key, or for another site or installation, is refused; a ledger of a newer format is refused and left as it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import ValidationError

from kasbah.api.agent import DESIRED_STATE, IDENTITY, Identity
from kasbah.api.signing import DESIRED, parse_public, verify
from kasbah.domain.desired import PROTOCOL, DesiredState
from kasbah.domain.ids import RevisionId, ServiceId
from kasbah.domain.revision import Protocol
from kasbah.errors import Conflict, Denied, Invalid

FORMAT = 1
Found = TypeVar("Found")


@dataclass(slots=True)
class Memory:
    """What was done: revisions that have shown that they start, with what they speak, and orders obeyed."""

    proven: dict[RevisionId, Protocol] = field(default_factory=dict)
    obeyed: dict[ServiceId, int] = field(default_factory=dict)


class Ledger:
    """The files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.identity: Identity | None = self._read_identity()
        self.desired: DesiredState | None = self._read_desired()
        self.memory = self._read_memory()

    def pin(self, identity: Identity) -> None:
        """Take this identity, once. Raises Conflict where another is pinned already."""
        if self.identity is not None:
            if self.identity != identity:
                raise Conflict(
                    f"this site belongs to installation {self.identity.installation}, and the control plane says "
                    f"{identity.installation}",
                    hint="point the agent at its own control plane, or give it an empty data folder",
                    code="another_installation",
                )
            return
        self._write("identity.json", {"identity": json.loads(IDENTITY.dump_json(identity))})
        self.identity = identity

    def accept(self, document: bytes, signature: str) -> DesiredState:
        """Check a desired state, write it, and answer with it. Raises Denied or Invalid where it cannot be taken."""
        desired = self._checked(document, signature)
        if self.desired is not None and desired.version < self.desired.version:
            raise Denied(f"desired state {desired.version} is older than {self.desired.version}", code="older")
        if self.desired is not None and desired.version == self.desired.version and desired != self.desired:
            raise Denied(f"desired state {desired.version} came twice with different contents", code="changed")
        if self.desired is not None and desired.epoch > self.desired.epoch:
            self._forget_orders(desired)
        self._write("desired.json", {"document": document.decode(), "signature": signature})
        self.desired = desired
        return desired

    def _forget_orders(self, desired: DesiredState) -> None:
        """A restored control plane numbers its orders on from those that it remembers, which are all old."""
        self.memory.obeyed = {one.id: one.order.number for one in desired.services if one.order is not None}
        self.remember()

    def remember(self) -> None:
        """Write the memory."""
        self._write(
            "memory.json",
            {"proven": dict(self.memory.proven), "obeyed": dict(self.memory.obeyed)},
        )

    def _checked(self, document: bytes, signature: str) -> DesiredState:
        if self.identity is None:
            raise Denied("no control plane is pinned yet")
        if not verify(parse_public(self.identity.public_key), DESIRED, document, signature):
            raise Denied("the desired state is not signed by the pinned key", code="bad_signature")
        try:
            desired = DESIRED_STATE.validate_json(document)
        except ValidationError as error:
            raise Invalid(f"the desired state cannot be read: {error.error_count()} problems") from error
        if not PROTOCOL - 1 <= desired.protocol <= PROTOCOL:
            raise Invalid(f"the desired state speaks protocol {desired.protocol}, this agent {PROTOCOL}")
        if (desired.site, desired.installation) != (self.identity.site, self.identity.installation):
            raise Denied(f"the desired state is for site {desired.site}, this is {self.identity.site}")
        return desired

    def _read_identity(self) -> Identity | None:
        return self._read("identity.json", lambda found: IDENTITY.validate_python(found["identity"]))

    def _read_desired(self) -> DesiredState | None:
        return self._read("desired.json", lambda found: self._checked(found["document"].encode(), found["signature"]))

    def _read_memory(self) -> Memory:
        return self._read("memory.json", _parse_memory) or Memory()

    def _read(self, name: str, parse: Callable[[dict[str, Any]], Found]) -> Found | None:
        path = self._folder / name
        try:
            found: dict[str, Any] = json.loads(path.read_text())
            version = int(found["format"])
            return parse(found) if version <= FORMAT else _refuse_newer(path, version)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Invalid(
                f"{path} is damaged: {type(error).__name__}",
                hint="move it away; the control plane sends the desired state again",
            ) from error

    def _write(self, name: str, contents: dict[str, Any]) -> None:
        fresh = self._folder / f"{name}.new"
        with open(fresh, "w", opener=_private) as file:
            json.dump({"format": FORMAT, **contents}, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._folder / name)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _parse_memory(found: dict[str, Any]) -> Memory:
    return Memory(
        proven={RevisionId(one): Protocol(protocol) for one, protocol in found["proven"].items()},
        obeyed={ServiceId(one): int(number) for one, number in found["obeyed"].items()},
    )


def _refuse_newer(path: Path, version: int) -> NoReturn:
    raise Conflict(
        f"{path} was written by a newer Kasbah (format {version}, this one knows {FORMAT})",
        hint="upgrade this agent; replicas go on running meanwhile",
        code="newer_ledger",
    )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
