"""What every body of the API is made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Shape(BaseModel):
    """A body: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")
