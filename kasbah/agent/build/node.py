"""Building a Node source with npm: `npm ci` by its lock (or `npm install`, the lock kept), its `build` script, and
then only what production needs.

`node_modules` ends up beside the source, with a link in its place: replicas may be given a copy of the source, never
one of the packages.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kasbah.agent.build.launch import SYSTEM_PREFIXES, Launch
from kasbah.agent.build.workshop import Workshop
from kasbah.errors import BuildFailed

LOCK = "package-lock.json"
OTHER_LOCKS = ("yarn.lock", "pnpm-lock.yaml", "bun.lock", "bun.lockb")
INSTALLING = ("preinstall", "install", "postinstall", "prepare")


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """What the build needs of package.json. `needs_npm`: there is something to install or to run."""

    needs_npm: bool
    builds: bool


async def build_node(shop: Workshop) -> Launch:
    """Build the source in `shop`. Raises BuildFailed."""
    node = _tool("node")
    package = read_package(shop.app / "package.json")
    prefixes = dict.fromkeys((node.parent.parent, node.resolve().parent.parent))
    shop = replace(shop, readable=tuple(one for one in prefixes if one not in SYSTEM_PREFIXES))
    if package.needs_npm:
        await _install(shop, _tool("npm"), package)
    _set_aside(shop)
    return Launch(
        path=(shop.env / "node_modules" / ".bin", node.parent),
        variables={"NODE_ENV": "production"},
        readable=tuple(prefixes),
    )


def read_package(path: Path) -> Package:
    """What package.json asks for; nothing, where there is none. Raises BuildFailed where it cannot be read."""
    if not path.is_file():
        return Package(needs_npm=False, builds=False)
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BuildFailed(f"package.json cannot be read: {error}", hint="correct it and deploy again") from error
    if not isinstance(found, dict):
        raise BuildFailed("package.json is not an object", hint="correct it and deploy again")
    scripts = _table(found, "scripts")
    depends = any(found.get(f"{kind}ependencies") for kind in ("d", "devD", "optionalD", "peerD"))
    builds = "build" in scripts
    installs = any(name in scripts for name in INSTALLING)
    return Package(needs_npm=depends or builds or installs or bool(found.get("workspaces")), builds=builds)


def _table(parent: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = parent.get(name)
    return found if isinstance(found, dict) else {}


def _tool(name: str) -> Path:
    found = shutil.which(name)
    if found is None:
        raise BuildFailed(f"this app needs {name}, which the site does not have", hint="install Node.js on the site")
    return Path(found)


async def _install(shop: Workshop, npm: Path, package: Package) -> None:
    kept = shop.folder / LOCK
    if kept.is_file():
        (shop.app / LOCK).unlink(missing_ok=True)
        shutil.copyfile(kept, shop.app / LOCK)
        shop.hand_over(shop.app / LOCK)
        shop.log.note("using the versions resolved before")
    locked = (shop.app / LOCK).is_file()
    if not locked:
        _mention_other_locks(shop)
    shop.log.step("installing packages" if locked else "resolving and installing packages")
    scope = "--include=dev" if package.builds else "--omit=dev"
    await _npm(shop, npm, "ci" if locked else "install", scope, doing="installing the packages")
    if not locked and os.path.lexists(shop.app / LOCK):
        shop.keep(shop.app / LOCK, LOCK)
    if package.builds:
        shop.log.step("running npm run build")
        await _npm(shop, npm, "run", "build", doing="the build script", production=True)
        await _npm(shop, npm, "prune", "--omit=dev", doing="removing what only the build needed")


def _mention_other_locks(shop: Workshop) -> None:
    for name in OTHER_LOCKS:
        if (shop.app / name).is_file():
            shop.log.note(f"{name} is not followed: npm resolves the versions from package.json")


async def _npm(shop: Workshop, npm: Path, *words: str, doing: str, production: bool = False) -> None:
    path = os.environ.get("PATH", "/usr/bin:/bin")
    settings = {
        "PATH": f"{npm.parent}:{path}",
        "NPM_CONFIG_CACHE": str(shop.cache / "npm"),
        "NPM_CONFIG_AUDIT": "false",
        "NPM_CONFIG_FUND": "false",
        "NPM_CONFIG_UPDATE_NOTIFIER": "false",
        "NPM_CONFIG_LOGLEVEL": "error",
        **({"NODE_ENV": "production"} if production else {}),
    }
    await shop.run((str(npm), *words), doing=doing, env=settings)


def _set_aside(shop: Workshop) -> None:
    """Move the packages out of the source, and leave a link."""
    inside, beside = shop.app / "node_modules", shop.env / "node_modules"
    if inside.is_symlink() or beside.is_symlink():
        raise shop.failed("the build has made a link of node_modules")
    if not inside.is_dir():
        return
    outward = {link: link.resolve() for link in _links(inside) if not link.resolve().is_relative_to(inside)}
    inside.rename(beside)
    inside.symlink_to(beside)
    for link, target in outward.items():  # packages of a workspace are links to the source
        moved = beside / link.relative_to(inside)
        moved.unlink()
        moved.symlink_to(target)


def _links(modules: Path) -> list[Path]:
    """The packages that are links: `node_modules/NAME` and `node_modules/@SCOPE/NAME`."""
    scopes = [one for one in modules.glob("@*") if one.is_dir() and not one.is_symlink()]
    return [path for folder in (modules, *scopes) for path in folder.iterdir() if path.is_symlink()]
