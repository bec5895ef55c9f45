"""Whether a Kasbah that was started answers: its API, its site's agent, and the gateway, asked for themselves.

Standard library only: the supervisor asks, and must start fast.
"""

from __future__ import annotations

import http.client
import json
from typing import Any

from kasbah.cli.addresses import Address
from kasbah.cli.processes import Process
from kasbah.cli.record import DataFolder

TIMEOUT_SECONDS = 2.0


def gateway(folder: DataFolder, api: Address, agent: Process | None) -> str | None:
    """Where the gateway listens (HOST:PORT), once the API answers and knows this agent's site; None until then."""
    endpoint = _endpoint(folder)
    if endpoint is None or agent is None or endpoint.get("pid") != agent.pid:
        return None
    site = _site(folder, api)
    return str(endpoint["gateway"]) if site and site["connected"] and site["gateway"] else None


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
    try:
        found = json.loads((folder.path / "agent" / "endpoint.json").read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _site(folder: DataFolder, api: Address) -> dict[str, Any] | None:
    """This machine's site as the API shows it; None where the API does not answer."""
    connection = http.client.HTTPConnection(api.host, api.port, timeout=TIMEOUT_SECONDS)
    try:
        token = folder.admin_token.read_text().strip()
        connection.request("GET", "/api/v1/sites", headers={"authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        items = json.loads(answer.read())["items"] if answer.status == 200 else []
    except (OSError, ValueError, KeyError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return items[0] if items else None
