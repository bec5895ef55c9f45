"""Whether a Kasbah that was started answers: its API, its site's agent, and the gateway, asked for themselves.

Standard library only: the supervisor asks, and must start fast.
"""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

from kasbah.cli.addresses import Address
from kasbah.cli.processes import Process
from kasbah.cli.record import DataFolder
from kasbah.domain.site import FIRST_SITE

TIMEOUT_SECONDS = 2.0
REFUSED = (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN)
UNTOLD = {"connected": True, "gateway": "not told", "gateway_error": ""}
"""Of a site that the API tells nobody with this token: the token that the first start made may be switched off, or
revoked. It answers, then, and what the agent itself says of its gateway counts."""


def gateway(folder: DataFolder, api: Address, agent: Process | None) -> str | None:
    """Where the gateway listens (HOST:PORT), once the API answers and knows this agent's site; None until then."""
    endpoint = _endpoint(folder)
    if endpoint is None or agent is None or endpoint.get("pid") != agent.pid:
        return None
    site = _site(folder, api)
    return str(endpoint["gateway"]) if site and site["connected"] and site["gateway"] else None


def sites(folder: DataFolder) -> str:
    """Where other sites dial in, as a URL; "" where they cannot."""
    found = _read(folder.path / "control" / "endpoint.json")
    return str(found.get("sites", "")) if found else ""


def missing(folder: DataFolder, api: Address) -> str:
    """What is not there yet, for people."""
    if not folder.admin_token.exists():
        return "the control plane has not written its token"
    site = _site(folder, api)
    if site is None:
        return f"the API at {api} does not answer"
    if not site["connected"]:
        return "the agent has not reported to the control plane"
    return f"the gateway is not up: {site['gateway_error'] or 'no reason is known'}"


def _endpoint(folder: DataFolder) -> dict[str, Any] | None:
    return _read(folder.path / "agent" / "endpoint.json")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _site(folder: DataFolder, api: Address) -> dict[str, Any] | None:
    """This machine's site as the API shows it; None where the API does not answer."""
    connection = http.client.HTTPConnection(api.host, api.port, timeout=TIMEOUT_SECONDS)
    try:
        token = folder.admin_token.read_text().strip()
        connection.request("GET", f"/api/v1/sites/{FIRST_SITE}", headers={"authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        if answer.status in REFUSED:
            return UNTOLD
        found = json.loads(answer.read()) if answer.status == http.HTTPStatus.OK else None
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return found if isinstance(found, dict) else None
