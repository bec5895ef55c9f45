"""What the command line itself prints as JSON, beyond the shapes of the API: for the documentation and the tests.

`OUTPUTS` says which command prints what.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from kasbah.api.credentials import KeyMade, KeyView, SecretView, TokenMade, TokenView
from kasbah.api.projects import ProjectView, SpaceView
from kasbah.api.public import (
    ErrorBody,
    PlanAnswer,
    RolloutView,
    ServiceDetail,
    ServiceView,
    Shape,
    SiteView,
)


class Up(Shape):
    """Where Kasbah answers, as URLs, and the token that the API takes."""

    api: str
    gateway: str
    data_dir: str
    token: str


class Down(Shape):
    """What was stopped; empty where nothing was running."""

    data_dir: str
    stopped: list[str]


class BackedUp(Shape):
    """The backup that was written. `keys` are the files it needs to be restored, and does not hold."""

    file: str
    installation: str
    created_at: str
    keys: list[str]


class Restored(Shape):
    """The backup that was restored, and the epoch that sites follow from now on."""

    installation: str
    created_at: str
    epoch: int


class Deployed(Shape):
    """What a deploy did. `rollout` is null where this very revision already served."""

    service: ServiceView
    revision: str
    created: bool
    rollout: RolloutView | None


class Part(Shape):
    """A revision's part of the traffic, in percent, and where it alone answers."""

    id: str
    percent: int
    url: str
    host: str


class Finding(Shape):
    """One finding of `doctor`, and the next step."""

    name: str
    state: Annotated[str, Field(pattern="^(ok|warn|fail)$")]
    found: str
    next: str = ""


class Kept(SpaceView):
    """What is kept at one place (`control`, or a site's name) of one kind, and what `gc` freed, or would."""

    where: str


class Versions(Shape):
    """The client's version, and the installation's, null where none is reachable."""

    client: str
    installation: str | None


class Line(Shape):
    """A line that a replica or a build wrote; `logs` prints one object a line."""

    at: str
    replica: str
    stream: str
    text: str


OUTPUTS: dict[str, Any] = {
    "up": Up,
    "down": Down,
    "backup": BackedUp,
    "restore": Restored,
    "doctor": list[Finding],
    "deploy": list[Deployed],
    "deploy --dry-run": list[PlanAnswer],
    "plan": list[PlanAnswer],
    "rollback": RolloutView,
    "traffic": list[Part],
    "rollouts": list[RolloutView],
    "ps": list[ServiceView],
    "describe": ServiceDetail,
    "logs": Line,
    "scale": ServiceView,
    "sleep": ServiceView,
    "wake": ServiceView,
    "keys create": KeyMade,
    "keys list": list[KeyView],
    "env set": RolloutView | None,
    "secrets set": SecretView,
    "secrets list": list[SecretView],
    "tokens create": TokenMade,
    "tokens list": list[TokenView],
    "projects list": list[ProjectView],
    "projects create": ProjectView,
    "projects quota": ProjectView,
    "sites list": list[SiteView],
    "gc": list[Kept],
    "version": Versions,
    "any error, on standard error": ErrorBody,
}
"""What each command prints with `-o json`."""


def schema() -> dict[str, Any]:
    """One JSON Schema for all of it: a definition for each shape."""
    found, rest = TypeAdapter.json_schemas(
        [(name, "serialization", TypeAdapter(shape)) for name, shape in OUTPUTS.items()]
    )
    outputs = {name: shape for (name, _), shape in found.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What kasbah prints with -o json, by command",
        "properties": outputs,
        **rest,
    }
