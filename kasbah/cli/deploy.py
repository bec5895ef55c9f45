"""`kasbah deploy` and `kasbah plan`: from a folder to a URL.

    PATH > application.load > pack > POST deploys > the source through the site's door > the rollout, watched

Services of one file are deployed one after the other, in its order; the first that fails ends it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from kasbah.api.bundle import Bundle, pack
from kasbah.api.quantities import format_size, parse_duration
from kasbah.cli import context, door, explain, render, rollouts
from kasbah.cli.application import Candidate, load
from kasbah.cli.client import Client, Document, service_path
from kasbah.cli.exits import Failed
from kasbah.cli.options import DEFAULT_PROJECT, DeployerKeyOption, OutputOption, ProjectOption
from kasbah.cli.progress import Progress, progress
from kasbah.cli.render import Output
from kasbah.cli.signing import Signer
from kasbah.errors import Invalid, KasbahError, Unavailable

PATIENCE_SECONDS = 20.0
"""A control plane that restarts meanwhile ends no deploy."""

PathArgument = Annotated[Path, typer.Argument(metavar="[PATH]", help="A folder, or a kasbah.yaml.")]
NameOption = Annotated[
    str | None, typer.Option("--name", help="The service's name, for a folder without a file. [default: the folder's]")
]
ServiceOption = Annotated[str | None, typer.Option("--service", help="Only this service of the file.")]


def deploy(
    path: PathArgument = Path(),
    name: NameOption = None,
    service: ServiceOption = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return once the source is there.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done; as `kasbah plan`.")] = False,
    timeout: Annotated[str, typer.Option("--timeout", help="How long to wait for each service.")] = "30m",
    deployer: DeployerKeyOption = None,
    project: ProjectOption = DEFAULT_PROJECT,
    output: OutputOption = Output.TABLE,
) -> None:
    """Deploy a folder, or the services of a kasbah.yaml.

    A folder needs no file if it has a pyproject.toml, requirements.txt or package.json; what is found out is shown.
    """
    if dry_run:
        plan(path, name=name, service=service, deployer=deployer, project=project, output=output)
        return
    seconds = _seconds(timeout)
    candidates = load(path, name=name, only=service)
    with Client(context.find(), project=project, patience=PATIENCE_SECONDS) as client, progress(output) as steps:
        results, signer = [], Signer(client, project, deployer)
        for candidate in candidates:
            results.append(_deploy(client, candidate, signer, steps, seconds=None if no_wait else seconds))
            if output is Output.TABLE:
                _check(results[-1])
                _print(results[-1])
    if output is not Output.TABLE:
        render.document(results, output)
        for one in results:
            _check(one)


def plan(
    path: PathArgument = Path(),
    name: NameOption = None,
    service: ServiceOption = None,
    deployer: DeployerKeyOption = None,
    project: ProjectOption = DEFAULT_PROJECT,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what a deploy would do, and change nothing."""
    candidates = load(path, name=name, only=service)
    with Client(context.find(), project=project) as client, progress(output) as steps:
        plans, signer = [], Signer(client, project, deployer)
        for candidate in candidates:
            with _packed(candidate, steps) as bundle:
                plans.append(client.post(service_path(candidate.name, "plan"), _request(candidate, bundle, signer)))
    if output is not Output.TABLE:
        render.document(plans, output)
        return
    for one in plans:
        _print_plan(one)


def _deploy(
    client: Client, candidate: Candidate, signer: Signer, steps: Progress, *, seconds: float | None
) -> Document:
    name = candidate.name
    with _packed(candidate, steps) as bundle:
        answer = client.post(service_path(name, "deploys"), _request(candidate, bundle, signer))
        rollout, source = answer["rollout"], _Source(client, name, bundle, steps)
        source.send(answer["uploads"])
        if rollout is not None and seconds is not None:
            rollout = _wait(client, rollout, name, steps, seconds, source)
        elif rollout is not None:
            source.send_if_awaited(rollout, patience=PATIENCE_SECONDS)
        elif source.sent_to and seconds is not None:
            rollouts.follow_build(client, name, steps, seconds=seconds)
    return {
        "service": _as_listed(client.get(service_path(name))),
        "revision": answer["revision"],
        "created": answer["created"],
        "rollout": rollout,
    }


def _wait(client: Client, rollout: Document, name: str, steps: Progress, seconds: float, source: _Source) -> Document:
    def look(state: Document) -> None:
        # No site was there when the deploy was asked for; when one comes, the source is still with us.
        with suppress(Unavailable):
            source.send_if_awaited(state, patience=0)

    try:
        ended = rollouts.follow(client, rollout, name, steps, seconds=seconds, look=look)
    except KeyboardInterrupt:
        render.say(f"{name}: the rollout goes on; watch it with `kasbah describe {name}`")
        raise
    rollouts.check(ended, name)
    return ended


class _Source:
    """The source of one deploy, sent once to each site that is to have it."""

    def __init__(self, client: Client, name: str, bundle: Bundle, steps: Progress) -> None:
        self._client = client
        self._name = name
        self._bundle = bundle
        self._steps = steps
        self.sent_to: set[str] = set()

    def send_if_awaited(self, rollout: Document, *, patience: float) -> None:
        """Send it where it was not sent yet, unless nobody waits for it. Raises Unavailable where no site can take
        it."""
        if rollout["state"] == "waiting":
            self.send(self._doors(patience))

    def send(self, doors: list[Document]) -> None:
        """Send it through each of these doors, or a newer one of the same site. A standby that cannot take it is told,
        and fails nothing."""
        for first in doors:
            if first["site"] in self.sent_to:
                continue
            try:
                self._send(first)
            except KasbahError as error:
                if not first["standby"]:
                    raise
                render.say(f"{self._name}: site {first['site']}, a standby, did not take the source: {error.message}")
            self.sent_to.add(first["site"])

    def _send(self, first: Document) -> None:
        size, count = self._bundle.size, self._bundle.files
        self._steps.step(self._name, f"sending {count} file{'s'[: count != 1]}, {format_size(size)}")

        def sent(gone: int) -> None:
            self._steps.detail(f"{100 * gone // max(size, 1)}%")

        door.send(self._bundle.path, first, lambda: self._again(first), sent)
        self._steps.end()

    def _again(self, first: Document) -> Document:
        """A newer door of the same site."""
        return next((one for one in self._doors(PATIENCE_SECONDS) if one["site"] == first["site"]), first)

    def _doors(self, patience: float) -> list[Document]:
        body = {"digest": self._bundle.digest, "size": self._bundle.size}
        doors = self._client.post(service_path(self._name, "upload-doors"), body, patience=patience)["doors"]
        return list(doors)


@contextmanager
def _packed(candidate: Candidate, steps: Progress) -> Iterator[Bundle]:
    for line in candidate.found:
        steps.step(candidate.name, line)
        steps.end()
    steps.step(candidate.name, f"packing {candidate.folder}")
    bundle = pack(candidate.folder, may_be_empty=candidate.config.runtime == "command")
    steps.end()
    for skipped in bundle.skipped[:5]:
        render.say(f"{candidate.name}: {skipped} is neither a file nor a link, and is left out")
    try:
        yield bundle
    finally:
        bundle.path.unlink(missing_ok=True)


def _request(candidate: Candidate, bundle: Bundle, signer: Signer) -> Document:
    signed = signer.deploy(candidate.name, candidate.config, bundle.digest, bundle.size)
    return {
        **({} if signed is None else {"attested": signed}),
        "config": candidate.config.model_dump(mode="json", exclude_unset=True),
        "source": bundle.digest,
        "source_size": bundle.size,
    }


def _as_listed(detail: Document) -> Document:
    """A service's detail as `ps` lists it."""
    listed = {key: value for key, value in detail.items() if key not in _DETAIL_ONLY}
    return {**listed, "replicas": sum(one["replicas"] for one in detail["placements"])}


_DETAIL_ONLY = frozenset(
    {
        "scaling",
        "sleep",
        "rollout_rules",
        "resources",
        "deadlines",
        "revisions",
        "replicas",
        "wakes",
        "rollout",
        "waiting_requests",
        "usage",
    }
)


def _print(result: Document) -> None:
    service, rollout = result["service"], result["rollout"]
    name, url = service["name"], service["url"]
    if rollout is None and not result["created"]:
        render.say(f"{name}: nothing to roll out: revision {result['revision']} serves already")
    if rollout is not None and rollout["state"] not in rollouts.SERVES:
        render.say(f"{name}: the rollout goes on; watch it with `kasbah describe {name}`")
    if rollout is not None and rollout["state"] == "watching":
        render.say(f"{name}: watched for a while; if it fails, traffic turns back to revision {rollout['previous']}")
    render.fields({name: url})
    keyed = service["access"] == "key"
    header = " -H 'Authorization: Bearer KEY'" if keyed else ""
    render.say(f"  call it:  curl{header} {shlex.quote(url)}")
    address = service["address"] if "://" in service["address"] else f"http://{service['address']}"
    host = shlex.quote(f"Host: {service['host']}")
    render.say(f"  or, where that name is not known:  curl{header} -H {host} {shlex.quote(address + '/')}")
    if keyed:
        whose = "" if service["project"] == DEFAULT_PROJECT else f" --project {service['project']}"
        render.say(f"  make a KEY:  kasbah keys create NAME --service {name}{whose}")
    if not service["data_declared"]:
        render.say(f"  no label is declared for its data, so it counts as {service['data']['level']}")


def _check(result: Document) -> None:
    """Raise where a service that serves was changed so that it may be nowhere."""
    service = result["service"]
    if result["rollout"] is None and service["state"] == "waiting" and not service["placements"]:
        raise Failed(
            f"{service['name']} was changed, and runs nowhere now: {service['reason']}",
            hint="see `kasbah plan` for what would change that; what was there ended, as its label asks",
            code="no_lawful_site",
        )


def _print_plan(plan: Document) -> None:
    words = {"create": "would be created", "update": "would be updated", "none": "would not change"}
    render.fields({plan["service"]: f"{words.get(plan['action'], plan['action'])} (revision {plan['revision']})"})
    for change in plan["changes"]:
        render.fields({"  change": change})
    explain.show_sites(plan["sites"])
    explain.show_egress(plan["egress"])
    for one in plan.get("refused", ()):
        render.fields({f"  quota {one['quota']}": f"refused: {one['reason']}", "    hint": one["hint"]})


def _seconds(text: str) -> float:
    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise Invalid(str(error), where="--timeout", code="usage") from error
