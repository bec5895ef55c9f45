"""What the agent must not forget: who it is, the desired state it acts on, and what it has already done.

Each is written whole before it is acted on (a new file, fsync, rename), with the version of its format. From the ledger
alone the agent restarts with the control plane away. A desired state that is not newer, or not signed by the pinned
key, or for another site or installation, is refused; a ledger of a newer format is refused and left as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import structlog
from pydantic import ValidationError

from kasbah.agent.files import replace_whole
from kasbah.api.agent import DESIRED_STATE, IDENTITY, Identity
from kasbah.api.signing import DESIRED, parse_public, verify
from kasbah.decide.sound import unsound
from kasbah.domain.desired import PROTOCOL, DesiredState
from kasbah.domain.ids import RevisionId, ServiceId
from kasbah.domain.revision import Protocol
from kasbah.errors import Conflict, Denied, Invalid

log = structlog.get_logger()

FORMAT = 1
AGAIN = "move it away; the control plane sends the desired state again"
Found = TypeVar("Found")
Judge = Callable[[Identity, DesiredState], DesiredState]


@dataclass(slots=True)
class Memory:
    """What was done: revisions that have shown that they start, with what they speak, and orders obeyed."""

    proven: dict[RevisionId, Protocol] = field(default_factory=dict)
    obeyed: dict[ServiceId, int] = field(default_factory=dict)


class Ledger:
    """The files in `folder`. `told` is the desired state as it was signed, `desired` what the site acts on of it: what
    `judge` lets pass, all of it where there is none."""

    def __init__(self, folder: Path, judge: Judge | None = None) -> None:
        self._folder = folder
        self._judge = judge
        self.identity: Identity | None = self._read_identity()
        self.told: DesiredState | None = self._read_desired()
        self.desired: DesiredState | None = self._judged()
        self.memory = self._read_memory()

    def rejudge(self) -> bool:
        """Ask again what of the desired state this site acts on; whether that has changed."""
        before, self.desired = self.desired, self._judged()
        return self.desired != before

    def _judged(self) -> DesiredState | None:
        if self._judge is None or self.told is None or self.identity is None:
            return self.told
        try:
            return self._judge(self.identity, self.told)
        except OSError:
            raise
        except Exception:  # no answer is a no
            log.exception("what may be here cannot be said: nothing may")
            return replace(self.told, services=(), forwarded=(), standby=(), lanes=(), peers=())

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

    def pin_owner(self, key: str) -> None:
        """Pin the owner's key, where none was pinned yet: this site is older than owners are."""
        if self.identity is not None and not self.identity.owner_key and key:
            identity, self.identity = replace(self.identity, owner_key=key), None
            self.pin(identity)

    def accept(self, document: bytes, signature: str) -> DesiredState:
        """Check a desired state, write it, and answer with it. Raises Denied or Invalid where it cannot be taken."""
        desired = self._checked(document, signature)
        if self.told is not None and desired.version < self.told.version:
            raise Denied(f"desired state {desired.version} is older than {self.told.version}", code="older")
        if self.told is not None and desired.version == self.told.version and desired != self.told:
            raise Denied(f"desired state {desired.version} came twice with different contents", code="changed")
        if self.told is not None and desired.epoch > self.told.epoch:
            self._forget_orders(desired)
        self._try(desired)
        self._write("desired.json", {"document": document.decode(), "signature": signature})
        self.told = desired
        self.desired = self._judged()
        return desired

    def _try(self, desired: DesiredState) -> None:
        """Raises Invalid where what may be here of this cannot even be said: what was told before goes on, and what has
        an end in it ends."""
        if self._judge is None or self.identity is None:
            return
        try:
            self._judge(self.identity, desired)
        except OSError:
            raise
        except Exception as error:  # whatever was written into it
            raise Invalid(f"the desired state cannot be judged: {error!r}", code="unsound") from error

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
        if (problem := unsound(desired)) is not None:
            raise Invalid(f"the desired state cannot be taken: {problem}", code="unsound")
        if not PROTOCOL - 1 <= desired.protocol <= PROTOCOL:
            raise Invalid(f"the desired state speaks protocol {desired.protocol}, this agent {PROTOCOL}")
        if (desired.site, desired.installation) != (self.identity.site, self.identity.installation):
            raise Denied(f"the desired state is for site {desired.site}, this is {self.identity.site}")
        return desired

    def _read_identity(self) -> Identity | None:
        return self._read("identity.json", _parse_identity)

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
        except (Denied, Invalid) as error:
            raise type(error)(f"{path} cannot be acted on: {error.message}", hint=AGAIN, code=error.code) from error
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise Invalid(f"{path} is damaged: {type(error).__name__}", hint=AGAIN) from error

    def _write(self, name: str, contents: dict[str, Any]) -> None:
        replace_whole(self._folder / name, json.dumps({"format": FORMAT, **contents}))


def _parse_identity(found: dict[str, Any]) -> Identity:
    identity = IDENTITY.validate_python(found["identity"])
    parse_public(identity.public_key)
    return identity


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
