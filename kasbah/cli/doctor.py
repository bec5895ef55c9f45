"""`kasbah doctor`: looks at this machine and its installation; each finding says what it means and the next step.

It needs no installation, changes nothing, and fails (exit code 1) only for what keeps Kasbah from running.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from kasbah.api.quantities import format_size
from kasbah.cli import context, render
from kasbah.cli.addresses import Address, parse_address
from kasbah.cli.client import Client, Document
from kasbah.cli.exits import ExitCode
from kasbah.cli.options import DataDir, OutputOption
from kasbah.cli.processes import bind_error, listener
from kasbah.cli.record import DataFolder, data_folder
from kasbah.cli.render import Output
from kasbah.domain.site import CLOSABLE, ENFORCED, FIRST_SITE, OPEN
from kasbah.errors import Denied, KasbahError
from kasbah.settings import DEFAULT_API, DEFAULT_GATEWAY

SHARED_NETWORK = "the machine's network, and call anything or nothing"
EGRESS_MEANS = {
    OPEN: "open: replicas may call out freely, so sensitive data and services with egress have no place here",
    CLOSABLE: "closable: replicas can be kept from calling anything, and not from calling all but some",
}
NETWORK_PROGRAMS = (("ip", "iproute2"), ("nft", "nftables"))
LITTLE_DISK = 2 * 2**30
NO_DISK = 200 * 2**20
PROGRAM_SECONDS = 10
NO_CERTIFICATE = "put NAME.crt and NAME.key into the folder given with --certificates"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: `state` is ok, warn or fail; `next` is what to do about it."""

    name: str
    state: str
    found: str
    next: str = ""


def doctor(data_dir: DataDir = None, output: OutputOption = Output.TABLE) -> None:
    """Look at this machine and its installation, and say what is wrong."""
    checks = list(_checks(data_folder(data_dir)))
    if output is not Output.TABLE:
        render.document([asdict(check) for check in checks], output)
    else:
        for check in checks:
            _print(check)
    if any(check.state == "fail" for check in checks):
        raise typer.Exit(ExitCode.FAILED)


def _print(check: Check) -> None:
    render.fields({f"{check.state:4}  {check.name}": check.found})
    if check.next:
        render.fields({"        next:": check.next})


def _checks(folder: DataFolder) -> Iterator[Check]:
    yield _system()
    yield _python()
    yield _uv()
    yield from (_program("node", "Node apps"), _program("npm", "Node apps"))
    yield from _network_programs()
    yield _envoy()
    yield _disk(folder)
    yield _names()
    running = folder.locked()
    if not running:
        yield _port("API port", parse_address(DEFAULT_API, option="--api"), "--api")
        yield _port("gateway port", parse_address(DEFAULT_GATEWAY, option="--gateway"), "--gateway")
    yield from _installation(folder, running)


def _system() -> Check:
    found = f"{platform.system()} {platform.release()}, {platform.machine()}"
    if sys.platform != "linux":
        return Check("system", "fail", found, "run Kasbah on Linux")
    return Check("system", "ok", found)


def _python() -> Check:
    return Check("Python", "ok", f"{platform.python_version()} at {sys.executable}")


def _uv() -> Check:
    from uv import find_uv_bin

    try:
        return _version("uv", find_uv_bin(), "Python apps cannot be built")
    except FileNotFoundError:
        return Check("uv", "fail", "not there: Python apps cannot be built", "install Kasbah again, uv comes with it")


def _envoy() -> Check:
    try:
        from kasbah.agent.gateway.protos import envoy_binary

        return _version("Envoy", str(envoy_binary()), "there is no gateway")
    except (ImportError, OSError, KasbahError) as error:
        return Check("Envoy", "fail", f"not there: {error}", "install Kasbah again, Envoy comes with it")


def _program(name: str, use: str) -> Check:
    path = shutil.which(name)
    if path is None:
        return Check(name, "warn", f"not there: {use} cannot be built here", f"install {name} to deploy {use}")
    return _version(name, path, f"{use} cannot be built here")


def _network_programs() -> Iterator[Check]:
    """What own networks for replicas are made with; only root can make them."""
    if os.getuid() != 0:
        yield Check(
            "privileges", "warn", f"not root: replicas share this user and {SHARED_NETWORK}",
            "run Kasbah as root to keep replicas further apart, or give strangers a machine each",
        )  # fmt: skip
        return
    absent = [package for name, package in NETWORK_PROGRAMS if shutil.which(name) is None]
    if absent:
        use = f"replicas share {SHARED_NETWORK}"
        yield Check("networks", "warn", f"{' and '.join(absent)} not there: {use}", f"install {' and '.join(absent)}")
    else:
        yield Check("networks", "ok", "ip and nft are there")


def _version(name: str, path: str, otherwise: str) -> Check:
    try:
        told = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return Check(name, "fail", f"{path} does not run, so {otherwise}: {error}", f"install {name} again")
    version = re.search(r"\d+(\.\d+)+", told.replace(path, ""))
    return Check(name, "ok", f"{version[0] if version else told.strip()[:60]} at {path}")


def _disk(folder: DataFolder) -> Check:
    there = next(one for one in (folder.path, *folder.path.parents) if one.exists())
    if not os.access(there, os.W_OK):
        return Check("data folder", "fail", f"{there} cannot be written to", "choose another with --data-dir")
    free = shutil.disk_usage(there).free
    found = f"{folder.path}, {format_size(free)} free"
    if free < NO_DISK:
        return Check("data folder", "fail", found, "free some disk space")
    if free < LITTLE_DISK:
        return Check("data folder", "warn", found, "builds may need more: free some disk space")
    return Check("data folder", "ok", found)


def _names() -> Check:
    try:
        socket.getaddrinfo("kasbah-doctor.localhost", 80)
    except OSError:
        return Check(
            "names", "warn", "*.localhost is not known to programs here",
            "use curl or a browser, which know it, or send the Host header that `kasbah ps -o json` shows",
        )  # fmt: skip
    return Check("names", "ok", "*.localhost is known")


def _port(name: str, address: Address, option: str) -> Check:
    if bind_error(address.host, address.port) is None:
        return Check(name, "ok", f"{address} is free")
    holder = listener(address.port)
    who = f"{Path(holder[1].partition(' ')[0]).name} (process {holder[0]})" if holder else "another program"
    return Check(name, "warn", f"{address} is taken by {who}", f"stop it, or `kasbah up {option} {address.host}:0`")


def _installation(folder: DataFolder, running: bool) -> Iterator[Check]:
    record = folder.read()
    if running and record:
        yield Check("supervisor", "ok", f"process {record.supervisor.pid} on {folder.path}")
    try:
        found = context.find()
        with Client(found) as client:
            view = client.get("/installation")
            yield Check("installation", "ok", f"version {view['version']} at {found.url}, known from {found.origin}")
            for site in list(client.pages("/sites")):
                yield from _site(site)
    except Denied as error:  # a token for some projects alone
        yield Check("sites", "warn", error.message, error.hint)
    except KasbahError as error:
        yield Check("installation", "fail" if running else "warn", error.message, error.hint)


def _site(site: Document) -> Iterator[Check]:
    name = f"site {site['name']}"
    if site["hosts"]:
        return  # it runs nothing: it is only called
    if not site["seen_at"] and site["name"] != FIRST_SITE:
        yield Check(name, "warn", "it never reported", f"have it join, by `kasbah sites token {site['name']}`")
        return
    if not site["connected"]:
        seen = render.moment(site["seen_at"]) or "never"
        yield Check(name, "fail", f"not connected, last seen {seen}", "is its agent running?")
    if site["gateway_error"]:
        yield Check(f"{name}: gateway", "fail", site["gateway_error"], "see the agent's log")
    else:
        yield Check(f"{name}: gateway", "ok", site["gateway"])
    if site["tls"]:
        hosts = ", ".join(site["tls_names"])
        found = f"{site['tls']} for {hosts}" if hosts else f"{site['tls']}, but there is no certificate that is good"
        yield Check(f"{name}: TLS", "ok" if hosts else "warn", found, "" if hosts else NO_CERTIFICATE)
    yield from (Check(f"{name}: note", "warn", note) for note in site["notes"])
    yield Check(f"{name}: isolation", "ok", ", ".join(site["isolation"]) or "none")
    for mechanism, reason in site["isolation_missing"].items():
        yield Check(f"{name}: {mechanism}", "warn", f"not in force: {reason}", "replicas are kept apart without it")
    if site["egress"] == ENFORCED:
        yield Check(f"{name}: egress", "ok", "enforced: replicas call what the egress of their service names")
    elif site["egress"] in EGRESS_MEANS:
        yield Check(
            f"{name}: egress", "warn", EGRESS_MEANS[site["egress"]],
            "run the agent as root with iproute2 and nftables to have it kept",
        )  # fmt: skip
