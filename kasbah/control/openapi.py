"""Writes the API's OpenAPI document, docs/reference/openapi.json: `python -m kasbah.control.openapi`."""

from __future__ import annotations

import json
from pathlib import Path

from kasbah.control.http.application import make_application

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"


def render() -> str:
    """The document as it is committed."""
    return json.dumps(make_application().openapi(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DOCUMENT.parent.mkdir(parents=True, exist_ok=True)
    DOCUMENT.write_text(render())
    print(f"wrote {DOCUMENT}")
