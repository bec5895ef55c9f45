"""Where packages come from: what the package managers would be told, and nothing that is no address."""

from __future__ import annotations

import pytest

from kasbah.agent.build.indexes import NPM, PYPI, indexes

OWN = (*NPM, *PYPI)


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, OWN),
        ({"PATH": "/usr/bin", "HOME": "https://not.an.index"}, OWN),
        ({"PIP_INDEX_URL": "https://pypi.example/simple"}, (*NPM, "pypi.example:443")),
        ({"UV_DEFAULT_INDEX": "mirror=http://pypi.example:8080/simple"}, (*NPM, "pypi.example:8080")),
        ({"UV_INDEX": "a=https://a.example/x b=https://b.example:444"}, ("a.example:443", "b.example:444", *OWN)),
        ({"PIP_EXTRA_INDEX_URL": "https://me:secret@c.example"}, ("c.example:443", *OWN)),
        ({"npm_config_registry": "http://npm.example/"}, ("npm.example:80", *PYPI)),
        ({"HTTPS_PROXY": "http://proxy.example:3128", "no_proxy": "x.example"}, ("proxy.example:3128", *OWN)),
        ({"https_proxy": "proxy.example:3128"}, ("proxy.example:3128", *OWN)),
        ({"PIP_FIND_LINKS": "/opt/wheels file:///opt/more https://w.example/list"}, ("w.example:443", *OWN)),
        ({"UV_INDEX": "https://[::1]/x http://host:badport/ ://", "PIP_INDEX_URL": ""}, OWN),
        ({"UV_INDEX_STRATEGY": "unsafe-best-match"}, OWN),
    ],
)
def test_indexes(environment: dict[str, str], found: tuple[str, ...]) -> None:
    assert indexes(environment) == tuple(sorted(found))
