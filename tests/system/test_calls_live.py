"""What a replica may call, from inside it: services through the gateway, and the world outside."""

from __future__ import annotations

import json
import os
from pathlib import Path

import outside
import pytest
from support import Site, app, eventually

from kasbah.agent.confine import programs

CONFLICT = 6
pytestmark = [
    pytest.mark.real,
    pytest.mark.root,
    pytest.mark.skipif(os.getuid() != 0, reason="only root gives replicas networks of their own"),
    pytest.mark.skipif(bool(programs.absent()), reason="install iproute2 and nftables"),
]

SERVES = "python3 -m http.server $PORT --bind 127.0.0.1"
FILE = """
services:
  {name}:
    source: .
    command: {command}
    runtime: command
    access: {access}
    data: {label}
    calls: {calls}
    {more}
    rollout: {{watch: 0s}}
"""
SENSITIVE, INTERNAL = "{level: sensitive}", "{level: internal}"

ASKS = """
import http.client, json, os, sys
address = os.environ["KASBAH_URL_" + sys.argv[1].upper()].split("/")[2]
answers = {}
for host, key in (pair.split("=") for pair in sys.argv[2:]):
    connection = http.client.HTTPConnection(address, timeout=20)
    given = {"own": os.environ["KASBAH_KEY"], "": None}.get(key, key)
    connection.request("GET", "/", headers={"host": host, **({"authorization": "Bearer " + given} if given else {})})
    answer = connection.getresponse()
    body = answer.read().decode()
    answers[host + "=" + key[:3]] = body.strip() if answer.status == 200 else answer.status
print(json.dumps(answers))
"""

REACHES = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).close()
    print("reached")
except OSError:
    print("refused")
"""


def deployed(site: Site, folder: Path, name: str, label: str, *, access: str = "public", **more: str) -> Path:
    """A service that says its own name."""
    calls, rest = more.pop("calls", "[]"), "\n    ".join(f"{key}: {value}" for key, value in more.items())
    text = FILE.format(name=name, command=SERVES, access=access, label=label, calls=calls, more=rest)
    path = app(folder / name, text, index__html=name, asks__py=ASKS, reaches__py=REACHES)
    site.deploy(path)
    return path


def inside(site: Site, name: str, *arguments: str) -> str:
    return site.ok("exec", name, "--", "python3", *arguments).strip()


def test_a_replica_reaches_the_services_that_it_calls_and_no_others(site: Site, tmp_path: Path) -> None:
    deployed(site, tmp_path, "ledger", SENSITIVE)
    deployed(site, tmp_path, "bolted", SENSITIVE, access="key")
    deployed(site, tmp_path, "beside", SENSITIVE)
    deployed(site, tmp_path, "asker", SENSITIVE, calls="[ledger, bolted]")
    asked = [
        *("ledger.localhost=own", "bolted.localhost=own", "ledger.localhost=", f"ledger.localhost={site.key}"),
        *("beside.localhost=own", f"beside.localhost={site.key}", "kasbah.localhost=own", "nobody.localhost="),
    ]
    said = json.loads(inside(site, "asker", "asks.py", "ledger", *asked))
    project = f"={site.key[:3]}"
    assert said == {
        "ledger.localhost=own": "ledger",
        "bolted.localhost=own": "bolted",
        "ledger.localhost=": 401,
        f"ledger.localhost{project}": 403,
        "beside.localhost=own": 403,
        f"beside.localhost{project}": 403,
        "kasbah.localhost=own": 403,
        "nobody.localhost=": 403,
    }
    assert site.get("beside").text.strip() == "beside", "others call it as before"


def test_a_service_of_a_lower_label_is_not_called(site: Site, tmp_path: Path) -> None:
    deployed(site, tmp_path, "notice", INTERNAL)
    text = FILE.format(name="teller", command=SERVES, access="public", label=SENSITIVE, calls="[notice]", more="")
    refused = site.run("deploy", app(tmp_path / "teller", text, index__html="teller"))
    assert refused.code == 4, refused.said
    assert "notice is labelled 1 internal, and would get data labelled 3 sensitive" in refused.err


def test_what_nobody_declared_is_refused_with_what_to_write(site: Site, tmp_path: Path) -> None:
    text = FILE.format(
        name="payer", command=SERVES, access="public", label=SENSITIVE, calls="[]", more="egress: [192.0.2.7:443]"
    )
    path = app(tmp_path / "payer", text, index__html="payer")
    refused = site.run("deploy", path)
    assert refused.code == 4, refused.said
    assert "nobody declared who is at 192.0.2.7:443" in refused.err
    assert "hosts: [192.0.2.7:443]" in refused.err
    assert "refused" in site.ok("plan", path)
    file = tmp_path / "sites.yaml"
    file.write_text("sites:\n  vault:\n    kind: on-prem\n    hosts: [192.0.2.0/24]\n")
    site.ok("sites", "apply", "-f", file)
    assert "is called" in site.ok("sites", "list")
    site.deploy(path)
    assert "allowed: it is at vault" in site.ok("explain", "payer")
    (replica,) = site.describe("payer")["replicas"]
    file.write_text("sites:\n  vault:\n    kind: public\n    country: US\n    hosts: [192.0.2.0/24]\n")
    beyond = site.run("sites", "apply", "-f", file)
    assert (beyond.code, "what 1 of" in beyond.err, "--even-so" in beyond.err) == (CONFLICT, True, True), beyond.said
    assert "192.0.2.7:443" in site.ok("sites", "plan", "-f", file)
    in_use = site.run("sites", "remove", "vault")
    assert (in_use.code, "services call 'vault': payer" in in_use.err) == (CONFLICT, True), in_use.said
    site.ok("sites", "apply", "-f", file, "--even-so")

    def another() -> bool:
        """What could call it has ended, and the one that serves now may not."""
        states = {one["id"]: one["state"] for one in site.describe("payer")["replicas"]}
        return states.pop(replica["id"], "ended") == "ended" and "ready" in states.values()

    eventually(another, lambda: f"it goes on: {site.describe('payer')}", seconds=20)
    assert site.get("payer").text.strip() == "payer"
    assert "payer may not call 192.0.2.7:443" in site.ok("sites", "describe", "local")
    assert "refused: 192.0.2.7:443 is at vault" in site.ok("explain", "payer")
    site.ok("sites", "remove", "vault")


def test_without_a_word_nothing_outside_is_reached_but_by_what_may_be_anywhere(site: Site, tmp_path: Path) -> None:
    deployed(site, tmp_path, "closed", SENSITIVE)
    deployed(site, tmp_path, "open", INTERNAL)
    with outside.outside():
        target = (outside.ADDRESS, str(outside.PORT))
        assert inside(site, "closed", "reaches.py", *target) == "refused"
        assert inside(site, "open", "reaches.py", *target) == "reached"
    assert [site.json("explain", name)["egress"]["anywhere"] for name in ("closed", "open")] == [False, True]
