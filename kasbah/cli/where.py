"""`kasbah where`: where a service is, who controls those places, which laws reach them, and how they are secured."""

from __future__ import annotations

from kasbah.cli import context, render
from kasbah.cli.client import Client, Document, service_path
from kasbah.cli.options import DEFAULT_PROJECT, OutputOption, ProjectOption, ServiceName
from kasbah.cli.render import Output

UNKNOWN = "not declared"


def where(name: ServiceName, project: ProjectOption = DEFAULT_PROJECT, output: OutputOption = Output.TABLE) -> None:
    """Show where a service is, who controls that place, and which laws reach it.

    Told from what sites report: replicas, builds, sources, logs, volumes; and from what their owner declares of them.
    """
    with Client(context.find(), project=project) as client:
        found = client.get(service_path(name, "where"))
    if output is not Output.TABLE:
        render.document(found, output)
        return
    if not found["places"]:
        render.say(f"Nothing of {name} is anywhere. What it waits for: kasbah describe {name}")
    for place in found["places"]:
        render.fields(_lines(place))
    render.fields({"control plane": found["control_plane"]})


def _lines(place: Document) -> Document:
    exposure = place["exposure"]
    keys = {True: "keys held by the customer", False: "keys held by the operator", None: ""}[place["customer_keys"]]
    secured = [*place["certificates"], keys, "confidential computing" if place["confidential"] else ""]
    missing = f"; missing: {', '.join(place['isolation_missing'])}" if place["isolation_missing"] else ""
    return {
        f"site {place['site']}": f"{place['kind']}, in {place['country'] or 'a country that nobody declared'}",
        "  has": ", ".join(place["what"]),
        "  run by": " ".join(filter(None, (place["operator"] or UNKNOWN, _home(place)))),
        "  owned by": place["owners"] or UNKNOWN,
        "  reached by the law of": ", ".join(exposure) if exposure else UNKNOWN,
        "  administered from": ", ".join(place["administered_from"] or [UNKNOWN]),
        "  secured by": ", ".join(filter(None, secured)) or "no certificate that anybody declared",
        "  replicas kept apart by": f"{', '.join(place['isolation']) or 'unknown'}{missing}",
        "  what replicas may call": place["egress"],
        "  said by": "" if place["signed"] else "nobody has signed what is said of this site",
    }


def _home(place: Document) -> str:
    return f"(home {place['operator_home']})" if place["operator_home"] else ""
