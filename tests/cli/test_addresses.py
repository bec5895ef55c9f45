"""HOST:PORT, countries and domains as people type them; names made from folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from kasbah.cli.addresses import Address, parse_address, parse_country, parse_domain, parse_peers, parse_tls
from kasbah.cli.application import valid_name
from kasbah.domain.service import name_error
from kasbah.errors import Invalid


@pytest.mark.parametrize(
    ("text", "address", "reachable"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080), "127.0.0.1:8080"),
        ("localhost:0", Address("127.0.0.1", 0), "127.0.0.1:0"),
        ("0.0.0.0:80", Address("0.0.0.0", 80), "127.0.0.1:80"),
        ("[::]:80", Address("::", 80), "[::1]:80"),
        ("[::1]:65535", Address("::1", 65535), "[::1]:65535"),
    ],
)
def test_addresses(text: str, address: Address, reachable: str) -> None:
    assert parse_address(text, option="--api") == address
    assert str(address.reachable) == reachable


@pytest.mark.parametrize(
    "text", ["", "8080", ":8080", "host:80", "1.2.3.4:", "1.2.3.4:70000", "1.2.3.4:-1", "1.2.3.4:x"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_address(text, option="--gateway")
    assert caught.value.where == "--gateway"


def test_countries() -> None:
    assert parse_country("ma") == "MA"
    for wrong in ("Morocco", "XX", "EU", "M", ""):
        with pytest.raises(Invalid):
            parse_country(wrong)


@pytest.mark.parametrize("wrong", ["", "-a", "a..b", "a b", "http://a", "a" * 64])
def test_what_is_no_domain(wrong: str) -> None:
    assert parse_domain("Apps.Example.org.") == "apps.example.org"
    with pytest.raises(Invalid):
        parse_domain(wrong)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("hello", "hello"),
        ("My App_2.0", "my-app-2-0"),
        ("2024-report", "report"),
        ("kasbah", "app-kasbah"),
        ("خدمة", "app"),
        ("a--b", "a-b"),
        ("x" * 60, "x" * 40),
        ("", "app"),
    ],
)
def test_a_folder_gives_a_valid_name(folder: str, name: str) -> None:
    assert valid_name(folder) == name
    assert name_error(name) is None


def test_certificates_are_for_tls() -> None:
    assert parse_tls(None, None) is None
    assert str(parse_tls("127.0.0.1:8443", Path("certificates"))) == "127.0.0.1:8443"
    for wrong in ((None, Path("certificates")), ("8443", None)):
        with pytest.raises(Invalid) as refusal:
            parse_tls(*wrong)
        assert refusal.value.hint
        assert refusal.value.code == "usage"


def test_other_sites_must_reach_what_they_are_told() -> None:
    assert parse_peers(None, None) is None
    assert parse_peers(None, None, tunnel=True) is None
    assert parse_peers("192.0.2.1:9443", None) == "192.0.2.1:9443"
    assert parse_peers("0.0.0.0:9443", "gateway.example.org:9443") == "0.0.0.0:9443"


@pytest.mark.parametrize(
    ("listen", "reached_at", "tunnel", "where"),
    [
        pytest.param("0.0.0.0:9443", None, False, "--peers", id="every address"),
        pytest.param("9443", None, False, "--peers", id="no host"),
        pytest.param("0.0.0.0:9443", "0.0.0.0:9443", False, "--peers-address", id="every address, told"),
        pytest.param(None, "192.0.2.1:9443", False, "--peers-address", id="nobody listens there"),
        pytest.param("192.0.2.1:9443", None, True, "--tunnel", id="a tunnel beside"),
    ],
)
def test_what_other_sites_could_not_reach(listen: str | None, reached_at: str | None, tunnel: bool, where: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_peers(listen, reached_at, tunnel=tunnel)
    assert (refusal.value.code, refusal.value.where) == ("usage", where)
    assert refusal.value.hint
