"""What was wrong in a body, where, and what was probably meant: pydantic's findings in our words.

The nearest right key comes from what the OpenAPI document says of the operation, so it knows every body there is.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from starlette.requests import Request

from kasbah.errors import Invalid

PLACES = {"body": "", "query": "", "path": "", "header": ""}
"""Where a value came from is not part of a field's path."""


def explain(finding: Mapping[str, Any], request: Request) -> Invalid:
    """The error for pydantic's first finding in a request."""
    location = tuple(finding["loc"])
    path = ".".join(str(part) for part in location if part not in PLACES)
    if finding["type"] == "json_invalid":
        return Invalid("the body is not JSON", hint="send a JSON object", code="not_json")
    if finding["type"] == "extra_forbidden":
        return _unknown(path, str(location[-1]), _keys_at(request, location[1:-1]))
    if finding["type"] == "missing":
        return Invalid(f"{path or 'the body'} is missing", where=path, hint="send it", code="missing")
    if location == ("body",):
        return Invalid("the body is no JSON object", hint="send one, with content-type: application/json")
    message = str(finding["msg"]).removeprefix("Value error, ")
    return Invalid(f"{path or 'the body'}: {message}", where=path, hint="correct it and send it again")


def refuse_unknown_query(request: Request) -> None:
    """Refuse a query that the operation would ignore: a misspelt `limit` must not go unnoticed."""
    if request.query_params:
        route: Any = request.scope["route"]
        known = sorted(_query_names(route.dependant))
        for name in request.query_params:
            if name not in known:
                raise _unknown(name, name, known)


def _query_names(dependant: Dependant) -> set[str]:
    names = {parameter.alias for parameter in dependant.query_params}
    return names.union(*(_query_names(inner) for inner in dependant.dependencies))


def _unknown(path: str, key: str, known: Sequence[str]) -> Invalid:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}" if known else "leave it out"
    return Invalid(f"{path} is not known", where=path, hint=hint, code="unknown_key")


def _keys_at(request: Request, path: Sequence[Any]) -> list[str]:
    """The keys that the body of the request's operation has at `path`; empty where the path leads nowhere."""
    route: Any = request.scope["route"]
    # Of this route alone: the document of all takes half a second to make.
    document = get_openapi(title="", version="", routes=[route])
    body = document["paths"].get(route.path, {}).get(request.method.lower(), {}).get("requestBody", {})
    schema = _resolve(document, body.get("content", {}).get("application/json", {}).get("schema", {}))
    for part in path:
        inner = schema.get("items") if isinstance(part, int) else schema.get("properties", {}).get(part)
        schema = _resolve(document, inner or {})
    return sorted(schema.get("properties", {}))


def _resolve(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema itself, where it is a reference, or the object in a choice of several."""
    for choice in schema.get("anyOf", ()):
        if "$ref" in choice:
            return _resolve(document, choice)
    if "$ref" not in schema:
        return schema
    found: Any = document
    for step in schema["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return _resolve(document, found)
