"""The protocol between an agent and the control plane: HTTP, the agent dials, and what travels is the domain itself.

    GET  /agent/v1/desired?epoch=E&generation=G&wait=S   200: the document, signed in a header; 204: nothing newer
    POST /agent/v1/status   SiteStatus                   204
    POST /agent/v1/still    nothing                      204: the last status is still true; 409: send it whole
    POST /agent/v1/usage    UsageBatch                   200 {"acknowledged": SEQUENCE}
    GET  /agent/v1/secrets/SECRET/VERSION                200: the value's bytes, if the desired state names it
    GET  /agent/v1/identity                              the installation, the site's id and the public key to pin

A status carries its mark, `x-kasbah-status`, and `still` names the mark of the status it confirms: thousands of
services that sleep are not told over and over. A control plane that has another status, or was started since, answers
409; one that does not know the call answers 404. Either is sent the whole status.

Each call carries `Authorization: Bearer SITE_TOKEN` and, as `x-kasbah-protocol`, the version it speaks. The desired
state's signature covers the exact bytes of the body.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter

from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import InstallationId, SiteId
from kasbah.domain.observed import SiteStatus, UsageBatch

SIGNATURE_HEADER = "x-kasbah-signature"
PROTOCOL_HEADER = "x-kasbah-protocol"
STATUS_HEADER = "x-kasbah-status"
MAX_WAIT_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who the agent is to the installation, and the public key it pins."""

    installation: InstallationId
    site: SiteId
    site_name: str
    public_key: str


DESIRED_STATE = TypeAdapter(DesiredState)
SITE_STATUS = TypeAdapter(SiteStatus)
USAGE_BATCH = TypeAdapter(UsageBatch)
IDENTITY = TypeAdapter(Identity)
