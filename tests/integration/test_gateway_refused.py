"""A real Envoy that refuses what it is told, or is told something that is wrong: what was to go goes all the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from real_gateway import Site, end, paths_in, replica, saying, virtual_host

pytestmark = pytest.mark.real

NONE = ()


@pytest.fixture
async def gateway(tmp_path: Path, descriptors: Path) -> AsyncIterator[Site]:
    paths = paths_in(tmp_path, descriptors)
    site = Site(paths)
    await site.open()
    yield site
    await site.leave()
    end(paths)


async def test_what_may_not_be_served_any_more_goes_though_the_rest_is_refused(gateway: Site) -> None:
    async with replica(saying("here")) as address:
        await gateway.route(address)
        await gateway.route(address, name="stays")
        twice = virtual_host("odd", NONE, hosts=("odd.localhost", "odd.localhost"))
        hosts = tuple(one for one in gateway.wanted.hosts if one.name == "stays")
        await gateway.apply(replace(gateway.wanted, hosts=(*hosts, twice)))
        assert "odd.localhost" in gateway.controller.error
        assert (await gateway.get()).status_code == 404
        assert (await gateway.get(name="stays")).text == "here"
        await gateway.apply(replace(gateway.wanted, hosts=hosts))
        assert gateway.controller.error == ""


@pytest.mark.parametrize("host", ["notes.localhost", "Notes.Localhost", "kasbah.localhost"])
async def test_one_service_that_is_wrong_keeps_no_other_from_changing(gateway: Site, host: str) -> None:
    async with replica(saying("here")) as address:
        await gateway.route(address)
        await gateway.route(address, name="goes")
        thief = virtual_host("thief", NONE, hosts=(host,))
        hosts = tuple(one for one in gateway.wanted.hosts if one.name != "goes")
        await gateway.apply(replace(gateway.wanted, hosts=(*hosts, thief)))
        assert "thief" in gateway.controller.error
        assert (await gateway.get()).text == "here"
        assert (await gateway.get(name="goes")).status_code == 404


async def test_an_agent_that_starts_with_something_wrong_serves_the_rest(tmp_path: Path, descriptors: Path) -> None:
    paths = paths_in(tmp_path, descriptors)
    site = Site(paths)
    known = virtual_host("notes", NONE)
    thief = virtual_host("thief", NONE, hosts=known.hosts)
    site.wanted = replace(site.wanted, hosts=(known, thief))
    try:
        await site.open()
        assert "thief" in site.controller.error
        assert (await site.get()).status_code == 503, "it is known, and has no revision yet"
    finally:
        await site.leave()
        end(paths)
