"""Where a service is, as the API shows it."""

from __future__ import annotations

from pydantic import Field

from kasbah.api.manifest import DataSection
from kasbah.api.shape import Shape
from kasbah.domain.site import SiteKind


class WherePlace(Shape):
    """A site that has something of the service. What nobody declared of it is None."""

    site: str
    kind: SiteKind
    what: list[str] = Field(description="What of the service is there.")
    country: str | None
    operator: str | None = Field(description="Who runs the place.")
    operator_home: str | None
    owners: str | None = Field(description="Who owns the operator.")
    exposure: list[str] | None = Field(description="The jurisdictions able to compel the operator.")
    administered_from: list[str] | None
    certificates: list[str]
    customer_keys: bool | None
    confidential: bool | None
    isolation: list[str]
    isolation_missing: list[str]
    egress: str
    signed: bool = Field(description="Whether the owner of the installation has signed what is said of it.")


class WhereAnswer(Shape):
    """Where a service is. `control_plane` says what the control plane itself holds of it."""

    service: str
    data: DataSection
    places: list[WherePlace]
    control_plane: str = (
        "its name, label, configuration, counts and reasons; no source, build, log, request or answer. A backup of the "
        "control plane holds the same; secrets are in it only sealed, and their key is not"
    )
