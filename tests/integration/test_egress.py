"""What a replica may call: what its service's file names, and nothing else, looked at from inside.

The outside is a network namespace of the test's own; every address in it answers where nothing is limited.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import outside
import pytest
from site_runner import Site, site_in

from kasbah.agent.confine import programs
from kasbah.domain.ids import ReplicaId
from kasbah.domain.site import ENFORCED

pytestmark = [
    pytest.mark.real,
    pytest.mark.root,
    pytest.mark.skipif(os.getuid() != 0, reason="only root limits what replicas call"),
    pytest.mark.skipif(bool(programs.absent()), reason="install iproute2 and nftables"),
]

A = ReplicaId("rp-a")
FIRST, OTHER, OTHER_PORT = outside.FIRST, outside.SECOND, outside.ON_OTHER_PORT

CALLS = """
import socket, sys
for target in sys.argv[1:]:
    host, _, port = target.rpartition(':')
    try:
        socket.create_connection((host, int(port)), 2 if host.startswith('169.254.') else 20).close()
        print('reached')
    except ConnectionRefusedError:
        print('refused')
    except TimeoutError:
        print('silence')
"""

CALLS_WHEN_TOLD = (
    """
import os, socket, sys, time
while not os.path.exists('go'):
    time.sleep(0.01)
"""
    + CALLS
)


@pytest.fixture(scope="module", autouse=True)
def world() -> Iterator[None]:
    with outside.outside():
        yield


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="kasbah-test-") as root:
        async with site_in(Path(root)) as site:
            assert (await site.driver.isolation()).egress == ENFORCED
            yield site


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Hosts that the agent finds, by name."""
    known: dict[str, str] = {}
    ask: Callable[..., object] = socket.getaddrinfo

    def answer(host: str, *arguments: object, **options: object) -> object:
        return ask(known.get(host, host), *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return known


async def calls(site: Site, egress: tuple[str, ...] | None, *targets: str, replica: str = A) -> list[str]:
    return await site.run(replica, CALLS, *targets, egress=egress)


async def test_without_a_word_everything_outside_is_reached(site: Site) -> None:
    assert await calls(site, None, FIRST, OTHER, OTHER_PORT) == ["reached"] * 3


async def test_an_empty_list_closes_all(site: Site) -> None:
    assert await calls(site, (), FIRST, OTHER, OTHER_PORT) == ["refused"] * 3


@pytest.mark.parametrize(
    ("entry", "reached"),
    [
        (FIRST, [FIRST]),
        (outside.ADDRESS, [FIRST, OTHER_PORT]),
        ("198.51.100.0/24", [FIRST, OTHER, OTHER_PORT]),
        ("198.51.100.8/31:8123", [OTHER]),
    ],
)
async def test_what_is_named_is_reached_and_nothing_else(site: Site, entry: str, reached: list[str]) -> None:
    targets = (FIRST, OTHER, OTHER_PORT)
    assert await calls(site, (entry,), *targets) == [
        "reached" if target in reached else "refused" for target in targets
    ]


async def test_link_local_addresses_are_refused_even_where_they_are_named(site: Site) -> None:
    target = f"{outside.METADATA}:{outside.PORT}"
    assert await calls(site, (target, FIRST), target, FIRST) == ["silence", "reached"]


async def test_names_are_found_without_a_name_server(site: Site, names: dict[str, str]) -> None:
    names["api.example.test"] = outside.ADDRESS
    target = f"api.example.test:{outside.PORT}"
    assert await calls(site, (target,), target, OTHER) == ["reached", "refused"]


async def test_a_name_that_moves_is_followed(
    site: Site, names: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kasbah.drivers.egress.FRESH_SECONDS", 0.0)
    names["api.example.test"] = outside.ADDRESS
    target = f"api.example.test:{outside.PORT}"
    await site.python(A, CALLS_WHEN_TOLD, target, FIRST, OTHER, egress=(target,))
    names["api.example.test"] = outside.OTHER
    await site.driver.renew()
    (site.paths.replicas / A / "app" / "go").touch()
    assert (await site.ended(A)).code == 0
    assert await site.lines(A) == ["reached", "refused", "reached"]


async def test_limits_outlive_the_runner(site: Site) -> None:
    await site.python(A, CALLS_WHEN_TOLD, FIRST, OTHER, egress=(FIRST,))
    await site.kill_runner()
    await site.ensure()
    (site.paths.replicas / A / "app" / "go").touch()
    await site.ended(A)
    assert await site.lines(A) == ["reached", "refused"]


async def test_the_gateway_is_reached_by_those_who_may(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gateway, socket.create_server(("127.0.0.1", 0)) as private:
        called_at = await site.driver.lead_to(f"127.0.0.1:{gateway.getsockname()[1]}")
        beside = f"{called_at.rpartition(':')[0]}:{private.getsockname()[1]}"
        assert await calls(site, ("service:shop",), called_at, beside, FIRST) == ["reached", "refused", "refused"]
        assert await calls(site, (), called_at, replica="rp-b") == ["refused"]
        assert await calls(site, None, called_at, beside, replica="rp-c") == ["reached", "refused"]
