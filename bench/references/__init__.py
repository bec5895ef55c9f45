"""What Kasbah is measured beside: configurations written by hand, filled in and started.

Each is a context that gives the port it listens on and the processes that carry the requests.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from uv import find_uv_bin

from bench.errors import Missing
from bench.processes import family, free_port, started, tool, until_listening
from kasbah.agent.gateway.protos import envoy_binary

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".kasbah" / "bench"
INSTALL_SECONDS = 300.0
LITELLM_SECONDS = 240.0
LITELLM = "litellm[proxy]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A proxy that runs. `key` is what it wants to be shown, empty where it asks for none."""

    name: str
    port: int
    pids: tuple[int, ...]
    key: str = ""
    host: str = "app.localhost"


@contextmanager
def envoy(folder: Path, upstream: int) -> Iterator[Proxy]:
    """The hand-written configuration, on the binary that Kasbah uses, with as many worker threads."""
    key, port = f"bench-{secrets.token_hex(24)}", free_port()
    _write_keys(folder / "keys.lua", key)
    config = _filled("envoy.yaml", folder, port=port, upstream=upstream)
    log = folder / "envoy.log"
    command = (
        str(envoy_binary()), "-c", str(config), "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning",
        "--file-flush-interval-msec", "100", "--file-flush-min-size-kb", "16",
    )  # fmt: skip
    with started(command, log=log) as pid:
        until_listening(port, seconds=20, log=log)
        yield Proxy(name="Envoy, written by hand", port=port, pids=(pid,), key=key)


@contextmanager
def nginx(folder: Path, upstream: int) -> Iterator[Proxy]:
    """nginx, which only passes requests on."""
    program, port = tool("nginx", "nginx-light"), free_port()
    config = _filled("nginx.conf", folder, port=port, upstream=upstream)
    log = folder / "nginx.log"
    with started((program, "-c", str(config), "-e", str(log), "-p", str(folder)), log=log) as pid:
        until_listening(port, seconds=10, log=log)
        yield Proxy(name="nginx, plain", port=port, pids=tuple(family(pid)))


@contextmanager
def litellm(folder: Path, upstream: int) -> Iterator[Proxy]:
    """LiteLLM's proxy with one worker, in an environment of its own that is kept for the next time."""
    program = litellm_program()
    key, port = f"sk-{secrets.token_hex(24)}", free_port()
    config = _filled("litellm.yaml", folder, port=port, upstream=upstream, key=key)
    log = folder / "litellm.log"
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    env = {**kept, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "NO_PROXY": "*"}
    command = (str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1")
    with started(command, log=log, env=env) as pid:
        until_listening(port, seconds=LITELLM_SECONDS, log=log)
        yield Proxy(name="LiteLLM's proxy", port=port, pids=tuple(family(pid)), key=key, host="127.0.0.1")


def litellm_program() -> Path:
    """LiteLLM, installed if it is not there. Raises Missing where that does not work."""
    program = CACHE / "litellm" / "bin" / "litellm"
    if program.exists():
        return program
    uv = find_uv_bin()
    python = str(CACHE / "litellm" / "bin" / "python")
    for command in (("venv", "--quiet", "--clear", str(CACHE / "litellm")),
                    ("pip", "install", "--quiet", "--python", python, LITELLM)):  # fmt: skip
        try:
            ran = subprocess.run(
                [uv, *command], capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False, cwd=HERE
            )
        except subprocess.TimeoutExpired:
            raise Missing(f"{LITELLM} could not be installed within {INSTALL_SECONDS:.0f} s") from None
        if ran.returncode != 0:
            last = (ran.stderr.strip() or "no reason given").splitlines()[-1]
            raise Missing(f"{LITELLM} cannot be installed from PyPI: {last}")
    return program


def _write_keys(file: Path, key: str) -> None:
    """The script that Kasbah's gateway runs, with one key in it."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    text = resources.files("kasbah.agent.gateway").joinpath("keys.lua").read_text()
    file.write_text(f"local DATA = [==[\n{digest}=ky-bench,bench,,\n]==]\n{text}")


def _filled(name: str, folder: Path, **values: object) -> Path:
    """A template of this folder, filled in."""
    file = folder / name
    file.touch(mode=0o600)
    file.write_text(Template((HERE / name).read_text()).substitute(folder=folder, **values))
    return file
