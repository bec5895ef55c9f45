"""Joins an installation: asks with a token, shows a code, and waits until a person has approved it.

The control plane is trusted only as far as the token says: its authority must have the fingerprint that is in it. What
is learnt (who we are, whom we trust) goes to the ledger, where the agent finds it.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from datetime import timedelta

import httpx
from cryptography import x509

from kasbah.agent.identity import Identity
from kasbah.agent.ledger import Ledger
from kasbah.agent.paths import Paths
from kasbah.api import agent as protocol
from kasbah.api.joining import CONTROL_NAME, JoinAnswer, JoinPending, JoinToken, certificate_fingerprint, code_of
from kasbah.domain.ids import InstallationId, SiteId
from kasbah.errors import Conflict, Denied, Invalid, Unavailable

SNI = {"sni_hostname": CONTROL_NAME}
CALL_SECONDS = 10.0
PAUSE_SECONDS = 0.5


def join(
    paths: Paths, url: str, token: JoinToken, *, show: Callable[[str], None], patience: timedelta
) -> protocol.Identity:
    """Become the site that the token names. `show` is given the code that a person has to approve. Raises Conflict
    where this folder is a site's already, Denied where another authority answers."""
    paths.make()
    ledger, identity = Ledger(paths.ledger), Identity(paths.identity)
    if ledger.identity is not None:
        raise Conflict(
            f"{paths.data_dir} is the site {ledger.identity.site_name!r} already",
            hint="start it with `kasbah agent`, or join from another --data-dir",
            code="joined_already",
        )
    authority = _authority(url, token)
    with _client(url, ssl.create_default_context(cadata=authority), token) as client:
        pending = JoinPending.model_validate_json(_asked(client, identity).content)
        if pending.code != code_of(identity.fingerprint()):
            raise Denied("the control plane shows another key than ours", hint="make another token, and try again")
        show(pending.code)
        answer = JoinAnswer.model_validate_json(_approved(client, pending.id, patience).content)
    if answer.owner_key != token.owner:
        raise Denied(
            "the control plane names another owner than the token", hint="ask whoever made the token: is it the same?"
        )
    identity.take(answer.certificate, authority)
    known = protocol.Identity(
        installation=InstallationId(answer.installation),
        site=SiteId(answer.site),
        site_name=answer.site_name,
        public_key=answer.public_key,
        owner_key=answer.owner_key,
    )
    ledger.pin(known)
    return known


def _authority(url: str, token: JoinToken) -> str:
    """The authority's certificate, PEM: asked of whoever answers, and taken only with the fingerprint in the token."""
    with httpx.Client(base_url=url, verify=False, timeout=CALL_SECONDS, trust_env=False) as client:
        text = _call(client, "GET", "/agent/v1/authority").text
    try:
        found = certificate_fingerprint(x509.load_pem_x509_certificate(text.encode()))
    except ValueError as error:
        raise Invalid(f"{url} does not answer as Kasbah does", where="--control-url") from error
    if found != token.authority:
        raise Denied(
            f"{url} is not the control plane that made this token: its authority has another fingerprint",
            hint="check the address; if it is right, somebody is in between: do not join",
            code="other_authority",
        )
    return text


def _client(url: str, trust: ssl.SSLContext, token: JoinToken) -> httpx.Client:
    headers = {"authorization": f"Bearer {token.secret}"}
    return httpx.Client(base_url=url, verify=trust, headers=headers, timeout=CALL_SECONDS, trust_env=False)


def _asked(client: httpx.Client, identity: Identity) -> httpx.Response:
    return _call(client, "POST", "/agent/v1/join", {"csr": identity.request()})


def _approved(client: httpx.Client, request: str, patience: timedelta) -> httpx.Response:
    deadline = time.monotonic() + patience.total_seconds()
    while time.monotonic() < deadline:
        answer = _call(client, "GET", f"/agent/v1/join/{request}")
        if answer.status_code == httpx.codes.OK:
            return answer
        time.sleep(PAUSE_SECONDS)
    raise Unavailable(
        "nobody approved it meanwhile", hint="make another token, and have it approved: kasbah sites approve NAME CODE"
    )


def _call(client: httpx.Client, method: str, path: str, body: object = None) -> httpx.Response:
    try:
        answer = client.request(method, path, json=body, extensions=SNI)
    except httpx.HTTPError as error:
        raise Unavailable(
            f"the control plane does not answer at {client.base_url}: {error}",
            hint="sites dial in where `kasbah up --sites HOST:PORT` listens",
        ) from error
    if answer.is_success:
        return answer
    try:
        told = answer.json()["error"]
        message, hint, code = told["message"], told.get("hint", ""), told.get("code", "")
    except (ValueError, KeyError, TypeError):
        message, hint, code = f"the control plane answered {answer.status_code}", "", ""
    raise Denied(message, hint=hint, code=code)
