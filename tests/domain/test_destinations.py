"""What a service may call, as its file writes it."""

from __future__ import annotations

import pytest

from kasbah.domain.egress import Destination, destination


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("api.example.com:443", Destination(host="api.example.com", port=443)),
        ("API.Example.com.", Destination(host="api.example.com")),
        ("db", Destination(host="db")),
        ("192.0.2.7", Destination(network="192.0.2.7/32")),
        ("192.0.2.7:5432", Destination(network="192.0.2.7/32", port=5432)),
        ("10.0.0.0/8", Destination(network="10.0.0.0/8")),
        ("10.0.0.0/8:443", Destination(network="10.0.0.0/8", port=443)),
        ("service:shop", Destination(service="shop")),
    ],
)
def test_what_an_entry_means(text: str, means: Destination) -> None:
    assert destination(text) == means


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("https://api.example.com", "api.example.com:443"),
        ("api.example.com:0", "ports are 1 to 65535"),
        ("api.example.com:65536", "ports are 1 to 65535"),
        ("api.example.com:", "ports are 1 to 65535"),
        ("10.0.0.1/8", "do you mean 10.0.0.0/8"),
        ("10.0.0.0/33", "no IPv4 address or network"),
        ("300.0.0.1", "no IPv4 address or network"),
        ("2001:db8::1", "IPv4"),
        ("[2001:db8::1]:443", "IPv4"),
        ("2001:db8::/32", "IPv4"),
        ("*.example.com", "is no destination"),
        ("a b", "is no destination"),
        ("a\nb", "is no destination"),
        ("", "is no destination"),
        ("service:", "service:NAME"),
        ("service:Shop!", "service:NAME"),
        ("x" * 64, "is no destination"),
    ],
)
def test_what_is_no_entry_says_why(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        destination(text)
    assert words in str(refused.value)
