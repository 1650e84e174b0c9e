"""Margin and threshold tables of other venues: a small cited file of our own."""

from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from calibrator.errors import DataError

FILE: Final = Path(__file__).with_name("incumbents.yaml")
Floor = Annotated[int, Field(ge=0)]
Ppm = Annotated[int, Field(ge=1, le=1_000_000)]


def _steps(steps: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    floors, margins = zip(*steps, strict=True)
    if floors[0] != 0 or any(b <= a for a, b in pairwise(floors)):
        raise ValueError(f"notional floors must rise from 0, were {list(floors)}")
    if any(b < a for a, b in pairwise(margins)):
        raise ValueError(f"margins must not fall with notional, were {list(margins)}")
    return steps


Steps = Annotated[tuple[tuple[Floor, Ppm], ...], Field(min_length=1), AfterValidator(_steps)]


class Incumbent(BaseModel):
    """One venue's table.

    Attributes
    ----------
    venue : str
    role : {"perpetual", "collateral"}
        A perpetual's maintenance margins bind both sides, a collateral's haircuts the long side.
    close_out_hours : int
        How long a position is at risk after it should have been closed.
    source, field, note : str
        Where the numbers stand, which field they are, and what a reader must know.
    stated, retrieved : datetime.date
        Date of the source's own state, and when it was read.
    margins : dict of str to tuple of (int, int)
        Per asset the steps (notional floor in quote units, ppm).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    venue: Annotated[str, Field(min_length=1, max_length=64)]
    role: Literal["perpetual", "collateral"]
    close_out_hours: Annotated[int, Field(ge=1, le=10_000)]
    source: Annotated[str, Field(min_length=1)]
    field: Annotated[str, Field(min_length=1)]
    stated: date
    retrieved: date
    note: str = ""
    margins: Annotated[dict[str, Steps], Field(min_length=1)]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    venues: tuple[Incumbent, ...]

    def unique(self) -> Self:
        """Refuse a venue that is listed twice."""
        names = [v.venue for v in self.venues]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"venues must be listed once, {twice[0]} is listed twice")
        return self


def read_incumbents(path: Path = FILE) -> tuple[Incumbent, ...]:
    """Read the tables of other venues.

    Parameters
    ----------
    path : pathlib.Path
        YAML file of the same shape; default: ours.

    Raises
    ------
    DataError
        The file cannot be read, or breaks a rule.

    Examples
    --------
    >>> binance = read_incumbents()[0]
    >>> binance.venue, binance.stated.isoformat(), binance.margins["BTC"][:2]
    ('binance', '2024-10-24', ((0, 4000), (50000, 5000)))
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
        return TypeAdapter(_File).validate_python(content).unique().venues
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(x) for x in first["loc"])
        raise DataError(f"{path}: {place}: {first['msg']}") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read as a table of venues: {error}") from error
