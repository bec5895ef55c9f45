"""Signs what tests deploy through the API, as the command line does with the deployer's key of the data folder."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from kasbah.api.attesting import attest, contents_of, digest_of, revision_of
from kasbah.api.manifest import ResolvedService
from kasbah.api.owner import load
from kasbah.control.app import Control
from kasbah.control.usecases.change_env import current_env
from kasbah.control.usecases.work import Work
from kasbah.dev import Dev
from kasbah.domain.attestation import Attestation
from kasbah.domain.ids import InstallationId, ProjectId
from kasbah.domain.label import UNLABELLED, Label
from kasbah.domain.revision import Revision
from kasbah.domain.service import Access
from kasbah.errors import KasbahError

SIGNED = re.compile(r"/api/v1/services/([^/]+)/(deploys|plan|env)")


def signature(
    key: Ed25519PrivateKey,
    revision: Revision,
    *,
    installation: str,
    project: str,
    service: str,
    at: datetime,
    label: Label = UNLABELLED,
    domains: tuple[str, ...] = (),
    public: bool | None = None,
) -> dict[str, Any]:
    """What the API takes as a deployer's signature."""
    made = attest(
        key,
        Attestation(
            installation=InstallationId(installation),
            project=ProjectId(project),
            service=service,
            contents=digest_of(contents_of(revision)),
            label=label,
            domains=domains,
            public=public,
            signed_at=at,
        ),
    )
    return {"key": made.key, **asdict(made.signed)}


class Signing(httpx.AsyncBaseTransport):
    """Speaks to a control plane through `inner`, and signs what is deployed unless it says `attested` itself."""

    def __init__(self, inner: httpx.AsyncBaseTransport, control: Control) -> None:
        self._inner = inner
        self._control = control

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        found = SIGNED.fullmatch(request.url.path)
        if request.method == "POST" and found is not None:
            project = request.url.params.get("project", "default")
            body = self._signed(project, found[1], found[2], await request.aread())
            headers = {name: value for name, value in request.headers.items() if name != "content-length"}
            request = httpx.Request("POST", request.url, headers=headers, content=body)
        return await self._inner.handle_async_request(request)

    def _signed(self, project: str, service: str, what: str, raw: bytes) -> bytes:
        try:
            body = json.loads(raw)
            if "attested" in body:
                return raw
            with self._control.office.read() as work:
                revision, more = _changed(work, project, service, body) if what == "env" else _asked(body)
                installation = work.tx.installations.get()
                assert installation is not None
                owner = next(one for one in work.tx.installations.projects() if one.name == project)
                at = work.now
        except (ValueError, KeyError, TypeError, StopIteration, ValidationError, KasbahError):
            return raw  # what is refused for another reason is nobody's to sign
        body["attested"] = signature(
            load(self._control.folder.deployer_key),
            revision,
            installation=installation.id,
            project=owner.id,
            service=service,
            at=at,
            **more,
        )
        return json.dumps(body).encode()


def _asked(body: Any) -> tuple[Revision, dict[str, Any]]:
    config = ResolvedService.model_validate(body["config"])
    more = {"label": config.label, "domains": config.domains, "public": config.access is Access.PUBLIC}
    return revision_of(config, body["source"], body["source_size"]), more


def _changed(work: Work, project: str, service: str, body: Any) -> tuple[Revision, dict[str, Any]]:
    contents = current_env(work, project, service).contents
    env = {**dict(contents.env), **body.get("set", {})}
    kept = tuple(sorted((one, value) for one, value in env.items() if one not in body.get("unset", ())))
    found = next(one for one in work.tx.services.all() if one.name == service)
    more = {"label": found.label, "domains": found.domains, "public": found.access is Access.PUBLIC}
    return replace(contents, env=kept), more


def signing(dev: Dev) -> Dev:
    """An installation in one process, with a caller who signs."""
    transport = Signing(httpx.ASGITransport(app=dev.control.asgi), dev.control)
    return replace(
        dev, api=httpx.AsyncClient(transport=transport, base_url=dev.api.base_url, headers=dict(dev.api.headers))
    )
