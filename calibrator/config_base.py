"""The types that every section of the configuration is made of."""

from datetime import UTC, date, datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field


def _utc(value: object) -> object:
    """Read a bare date or a naive time of a YAML file as UTC."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, str):
        try:
            return _utc(datetime.fromisoformat(value))
        except ValueError:
            return value
    return value


def _off(value: object) -> object:
    """Read the bare ``off`` of a YAML file, which is a boolean there, as the word."""
    return "off" if value is False else value


Switch = BeforeValidator(_off)
"""For words of which one is ``off``."""
Utc = Annotated[AwareDatetime, BeforeValidator(_utc)]
Fraction = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Bars = Annotated[int, Field(ge=1, le=100_000)]


class Section(BaseModel):
    """Base of every section: frozen, and strict about unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
