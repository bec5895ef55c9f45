"""What the story hands to Kasbah: who the sites are, one app under several labels, and a rule that goes too far."""

from __future__ import annotations

from pathlib import Path

SITES = """\
sites:
  local:                                  # Casablanca
    kind: on-prem
    source: the bank's register of premises
    country: MA
    operator: Banque Atlas
    operator_home: MA
    exposure: [MA]
    prices: {cpu_hour: 0.09, gib_hour: 0.012}
  paris:
    kind: sovereign
    source: operator's contract, annex 2
    country: FR
    operator: Nuage de Paris
    operator_home: FR
    exposure: [FR]
    prices: {cpu_hour: 0.05, gib_hour: 0.006}
  lyon:
    kind: sovereign
    source: operator's contract, annex 1
    country: FR
    operator: Nuage du Rhone
    operator_home: FR
    exposure: [FR]
    prices: {cpu_hour: 0.06, gib_hour: 0.007}
  virginia:
    kind: public
    source: operator's terms of service
    country: US
    operator: Old Dominion Cloud
    operator_home: US
    exposure: [US]
    prices: {cpu_hour: 0.02, gib_hour: 0.002}
"""
APP = """\
import http.server, os

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = os.environ["KASBAH_SITE"].encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

where = (os.environ.get("HOST", "127.0.0.1"), int(os.environ["PORT"]))
http.server.ThreadingHTTPServer(where, Answer).serve_forever()
"""
MANIFEST = """\
services:
  {name}:
    command: [python3, app.py]
    access: public
    data: {label}
    placement: {placement}
    rollout: {{watch: 0s}}
"""
CLAIMS = "{level: sensitive, categories: [personal, financial], regimes: [ma-0908]}"
OPEN = "{level: internal}"
HOUSE = {
    "pack.yaml": "name: house\ntitle: The bank's own rules\nversion: 1\n",
    "rules.cedar": """\
@id("house.home") @title("Nothing of ours is in the United States") @advice("Choose a site elsewhere.")
@cite("the board, 26 November 2026") @verified("2026-11-26") @needs("country")
forbid (principal, action in Kasbah::Action::"Process", resource)
unless { resource has country && resource.country != "US" };
""",
    "tests.yaml": """\
- name: in the United States
  data: {level: internal}
  site: {kind: public, country: US}
  expect: refused
  by: [house.home]
- name: in Morocco
  data: {level: internal}
  site: {kind: public, country: MA}
  expect: allowed
""",
}


def write_app(folder: Path, name: str, label: str, placement: str) -> Path:
    """An app that answers with the name of its site, under this name and label."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kasbah.yaml").write_text(MANIFEST.format(name=name, label=label, placement=placement))
    (folder / "app.py").write_text(APP)
    return folder


def write_policy(folder: Path, current: str) -> Path:
    """The law as `kasbah policy file` printed it, with the bank's own pack besides."""
    house = folder / "packs" / "house"
    house.mkdir(parents=True, exist_ok=True)
    for name, text in HOUSE.items():
        (house / name).write_text(text)
    file = folder / "policy.yaml"
    file.write_text(with_house(current))
    return file


def with_house(policy: str) -> str:
    """A policy file with one more pack. Raises ValueError where it names none."""
    lines = policy.splitlines()
    if "packs:" not in lines:
        raise ValueError("the policy file names no packs")
    lines.insert(lines.index("packs:") + 1, "  house: {path: packs/house}")
    return "\n".join([*lines, ""])
