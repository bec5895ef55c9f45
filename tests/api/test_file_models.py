"""The file's models: what crosses to the control plane comes out as it went in. How it is read: tests/cli."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kasbah.api.manifest import File, ResolvedService, ServiceSection, resolve, schema
from kasbah.domain.label import UNLABELLED, Level
from kasbah.domain.service import Access

PLAIN = resolve(ServiceSection(), runtime="python", command=("python", "app.py"))
DURATIONS = st.integers(1, 10**8).map(lambda milliseconds: timedelta(milliseconds=milliseconds))


def resolved(**fields: Any) -> ResolvedService:
    return ResolvedService.model_validate({"runtime": "command", "command": ["serve"], **fields})


def test_the_defaults_are_the_careful_ones() -> None:
    assert PLAIN.access is Access.KEY
    assert PLAIN.label == UNLABELLED
    assert (PLAIN.scaling.min, PLAIN.scaling.max) == (0, 1)


def test_what_was_declared_wins_over_what_was_found_only_where_it_is_said() -> None:
    section = ServiceSection.model_validate({"port": 8_000, "env": {"DEBUG": False, "WORKERS": 2}})
    made = resolve(section, runtime="node", command=("node", "server.js"))
    assert (made.runtime, made.command, made.port) == ("node", ("node", "server.js"), 8_000)
    assert made.env == {"DEBUG": "false", "WORKERS": "2"}


@given(
    st.builds(
        lambda memory, freeze, startup, least, more, env: resolved(
            resources={"memory": memory},
            sleep={"freeze_after": freeze, "stop_after": None},
            deadlines={"startup": startup},
            scaling={"min": least, "max": max(least + more, 1)},
            env=env,
        ),
        st.none() | st.integers(64 * 2**20, 2**45),
        st.none() | DURATIONS,
        DURATIONS,
        st.integers(0, 50),
        st.integers(0, 50),
        st.dictionaries(
            st.from_regex(r"[A-Z]{1,3}", fullmatch=True), st.text(st.characters(codec="utf-8", exclude_characters="\0"))
        ),
    )
)
def test_it_crosses_to_the_control_plane_unchanged(service: ResolvedService) -> None:
    assert ResolvedService.model_validate_json(service.model_dump_json()) == service


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"acess": "key"}, "acess"),
        ({"scaling": {"min": 2, "max": 1}}, "min (2) is above max (1)"),
        ({"scaling": {"concurrency": 9, "max_concurrency": 2}}, "above max_concurrency"),
        ({"port": 80, "scaling": {"max": 2}}, "only one replica can listen"),
        ({"env": {"PORT": "1"}}, "set by Kasbah itself"),
        ({"deadlines": {"startup": "0s"}}, "longer than nothing"),
        ({"resources": {"memory": "9" * 400 + "Ti"}}, "too large"),
        ({"sleep": {"stop_after": "9" * 400 + "d"}}, "too long"),
        ({"data": {"level": "secret"}}, "level"),
        ({"placement": {"callers": ["paris"]}}, "write objective: latency"),
        ({"placement": {"objective": {"price": 1}, "callers": ["paris"]}}, "write objective: latency"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ServiceSection.model_validate(fields)
    assert words in str(caught.value)


@pytest.mark.parametrize("objective", ["latency", {"price": 1, "latency": 0.5}])
def test_callers_count_for_latency(objective: object) -> None:
    section = ServiceSection.model_validate({"placement": {"objective": objective, "callers": ["paris", "local"]}})
    assert section.placement.to_domain().callers == ("paris", "local")


def test_a_declared_label_is_the_domain_s() -> None:
    section = ServiceSection.model_validate(
        {"data": {"level": "vital", "categories": ["health", "health"], "regimes": ["gdpr"]}}
    )
    assert (section.label.level, section.label.categories) == (Level.VITAL, ("health",))
    assert section.label.declared


def test_the_schema_is_one_and_takes_what_the_models_take() -> None:
    made = schema()
    jsonschema.Draft202012Validator.check_schema(made)
    validator = jsonschema.Draft202012Validator(made)
    whole = {"services": {"web": {"source": ".", "sleep": {"stop_after": "1h"}, "resources": {"memory": "1Gi"}}}}
    assert validator.is_valid(whole)
    File.model_validate(whole)
    for wrong in ({"services": {"web": {"acess": "key"}}}, {"services": {}}, {"service": {}}):
        assert not validator.is_valid(wrong)
        with pytest.raises(ValidationError):
            File.model_validate(wrong)
