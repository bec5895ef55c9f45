"""The installation's authority: what it certifies is good where clocks are off, and names nobody else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from kasbah.agent.identity import Identity
from kasbah.control.access.authority import csr_of, load_or_make_authority, load_or_make_ec_key
from kasbah.domain.ids import InstallationId, SiteId

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.mark.parametrize("off", [timedelta(hours=-2), timedelta(hours=2)], ids=["behind", "ahead"])
def test_it_is_good_by_a_clock_that_is_hours_off(tmp_path: Path, off: timedelta) -> None:
    authority = load_or_make_authority(tmp_path, InstallationId("in-1"), NOW)
    csr, _ = csr_of(Identity(tmp_path / "site").request())
    texts = (
        authority.pem,
        authority.for_site(csr, SiteId("st-1"), NOW),
        authority.for_control(load_or_make_ec_key(tmp_path / "tls.key"), "127.0.0.1", NOW),
    )
    for text in texts:
        made = x509.load_pem_x509_certificate(text.encode())
        assert made.not_valid_before_utc <= NOW + off < made.not_valid_after_utc
