"""What Envoy itself answers, in the OpenAI error shape; answers of services and of our filters pass untouched."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from kasbah.agent.gateway import names
from kasbah.agent.gateway.wiring import HEADER_KILOBYTES

Json = dict[str, Any]

GATE_UNAVAILABLE = HTTPStatus.FAILED_DEPENDENCY
"""How the gate says 503: Envoy takes a 5xx of the gate's own for the gate being broken, and drops what it said."""
REPLICA_LOST = "The service did not answer: its replica ended or refused the connection."


NO_LAWFUL_SITE = "No site that may have this request answers at the moment."
SITE_LOST = "The site that serves this was lost before it had answered."
NOT_PLACED = "This site does not serve this host, and sends on nothing that another site sent."
NO_ENTRY = "The site that sent this request may not take requests for this service."


def of_the_cold() -> list[Json]:
    """The replica died: the gateway, which knows what may be repeated, is told how far the request had come. What the
    gate said with `GATE_UNAVAILABLE` leaves as 503, body and all."""
    unavailable: Json = {"filter": status(GATE_UNAVAILABLE), "status_code": int(HTTPStatus.SERVICE_UNAVAILABLE)}
    no_gate: Json = {"and_filter": {"filters": [flags("UAEX"), status(HTTPStatus.SERVICE_UNAVAILABLE)]}}
    return [
        lost(names.UNSENT, "UF", "NC"),
        unavailable,
        mapper(no_gate, 503, "unavailable", "This site cannot wake services at the moment."),
        mapper(flags("UO"), 429, "too_many_requests", "This service is at its limit of requests."),
        lost(names.UNANSWERED, "UH", "UC", "UR", "URX", "LR"),
    ]


def of_the_peers() -> list[Json]:
    """What a request from another site meets: its gateway, which knows who else may have it, is told how far it came.
    A 403 before it was admitted is of the filter that knows which sites may send what; any other is of keys."""
    outside = {"header_filter": {"header": {"name": names.ENTRY_HEADER, "present_match": True, "invert_match": True}}}
    denied = mapper({"and_filter": {"filters": [status(403), outside]}}, 403, "policy_denied", NO_ENTRY)
    return [_told(denied, names.UNSENT), *of_itself()]


def of_itself() -> list[Json]:
    """What meets a request that this site asks itself for, and could ask others for."""
    return [
        lost(names.UNSENT, "UF", "NC"),
        *_of_any_service(),
        lost(names.UNANSWERED, "UH", "UC", "UR", "URX", "LR", "UAEX"),
        *_unread(),
    ]


def of_the_hop() -> list[Json]:
    """What meets a request that was to go through a tunnel: as if the connection to the other site had broken."""
    unsent = mapper(flags("UF", "UH", "NC"), 503, "no_lawful_site", NO_LAWFUL_SITE)
    broken = mapper(flags("UC", "UR", "URX", "LR"), 503, "unavailable", SITE_LOST)
    return [_told(unsent, names.UNSENT), _told(broken, names.LOST)]


def lost(how_far: str, *of: str) -> Json:
    """A request that its replica did not answer, or never had."""
    return _told(mapper(flags(*of), 503, "unavailable", REPLICA_LOST), how_far)


def _told(found: Json, how_far: str) -> Json:
    """The same, saying how far the request came."""
    added = found.get("headers_to_add", [])
    return found | {"headers_to_add": [*added, {"header": {"key": names.RETRY_HEADER, "value": how_far}}]}


def flags(*found: str) -> Json:
    """Answers of Envoy's own that have any of these flags."""
    return {"response_flag_filter": {"flags": list(found)}}


def status(code: int) -> Json:
    """Answers of Envoy's own with this status."""
    value = {"default_value": code, "runtime_key": f"kasbah.status.{code}"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def of_the_gateway() -> list[Json]:
    """What callers meet. What was to cross and reached nobody: no site that may have it answers."""
    return [
        mapper(flags("NR", "NC"), 503, "unavailable", "This service is not available."),
        *_of_any_service(),
        mapper(_crossing("UH", "UF"), 503, "no_lawful_site", NO_LAWFUL_SITE),
        mapper(_crossing("UC", "UR", "URX", "LR"), 503, "unavailable", SITE_LOST),
        mapper(flags("UH", "UF", "UC", "UR", "URX", "LR", "UAEX"), 503, "unavailable", REPLICA_LOST),
        *_unread(),
    ]


def _of_any_service() -> list[Json]:
    return [
        mapper(flags("UO"), 429, "too_many_requests", "This service is at its limit of requests."),
        mapper(flags("UT"), 504, "deadline_exceeded", "The service did not answer within its deadline."),
        mapper(flags("SI"), 504, "idle", "Nothing was sent for longer than the service allows."),
    ]


def _unread() -> list[Json]:
    large = f"The request's headers are larger than {HEADER_KILOBYTES} KiB."
    return [
        mapper(status(431), 431, "headers_too_large", large),
        mapper(status(400), 400, "bad_request", "This is no valid HTTP request."),
    ]


def _crossing(*found: str) -> Json:
    """These, of requests that were to be sent on to another site."""
    crosses = {"header_filter": {"header": {"name": names.ENTRY_HEADER, "present_match": True}}}
    return {"and_filter": {"filters": [crosses, flags(*found)]}}


def mapper(matching: Json, http: int, code: str, message: str) -> Json:
    """An answer of Envoy's own, in our words."""
    kind = "server_error" if http >= 500 else "rate_limit_error" if http == 429 else "invalid_request_error"
    found: Json = {
        "filter": matching,
        "status_code": http,
        "body_format_override": {"json_format": error_body(code, kind, message), "content_type": "application/json"},
    }
    if http in (429, 503):
        found["headers_to_add"] = [{"header": {"key": "retry-after", "value": "1"}, "append_action": "ADD_IF_ABSENT"}]
    return found


def error_body(code: str, kind: str, message: str) -> Json:
    """An error in the shape the OpenAI clients read."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
