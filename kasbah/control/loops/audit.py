"""Signs the audit log once a second while it grows, and once more when it has stopped. At rest it costs nothing."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.concurrency import run_in_threadpool

from kasbah.api.checkpoints import Note, read_note
from kasbah.control.folder import Folder
from kasbah.control.usecases.checkpoint import resume, sign_log
from kasbah.control.usecases.work import Office


class Checkpoints:
    """Owns the log's key, and the newest checkpoint outside the database."""

    def __init__(self, office: Office, key: Ed25519PrivateKey, folder: Folder) -> None:
        self._office = office
        self._key = key
        self._folder = folder
        self._signed: int | None = None

    def resume(self) -> None:
        """Before anything is written: see that the log is what was signed last, and say so in it where it is not."""
        with self._office.note() as work:
            life = resume(work, self._key, self._kept())
        if life is not None:
            self.sign(life)

    def sign(self, life: int | None = None) -> None:
        """Sign the log, if it has grown."""
        with self._office.note() as work:
            signed = sign_log(work, self._key, life)
        if signed is not None:
            self._folder.write_audit_checkpoint(signed.note)
        self._signed = self._office.grown.size

    async def keep_up(self) -> None:
        """The pass."""
        if self._office.grown.size != self._signed:
            await run_in_threadpool(self.sign)

    def _kept(self) -> Note | None:
        """The newest checkpoint that was written outside the database; None where none was, or none can be read."""
        try:
            return read_note(self._folder.audit_checkpoint.read_text())
        except (FileNotFoundError, ValueError):
            return None
