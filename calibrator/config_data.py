"""Configuration of the files that stand beside bars: funding, open interest, liquidations, volatility."""

from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import BeforeValidator, Field

from calibrator.config_base import Section


class FeedFile(Section):
    """One Parquet or CSV file; an entry that is only a path has every default.

    Examples
    --------
    >>> FeedFile.model_validate({"path": "f.csv", "columns": {"rate": "funding_pct"}, "unit": "percent"}).lag
    Timedelta('0 days 00:00:00')
    """

    path: Path
    columns: dict[str, str] = Field(default_factory=dict, description="canonical name: name in the file")
    market: str | None = Field(None, min_length=1, max_length=64, description="for a file of one market")
    where: dict[str, str] = Field(default_factory=dict, description="keep rows whose column has this text")
    unit: Literal["fraction", "percent"] = Field("fraction", description="of rates and volatilities")
    on_missing: Literal["refuse", "drop"] | None = Field(None, description="default data.on_missing")
    delay: str = Field(
        "0h", pattern=r"^[0-9]{1,4}(min|h|d)$", description="after `time` until a row was knowable"
    )

    @property
    def lag(self) -> pd.Timedelta:
        """Time between a row's ``time`` and when it was knowable."""
        return pd.Timedelta(self.delay.replace("d", "D"))


def _entries(value: object) -> object:
    entries = [value] if isinstance(value, str | dict) else value
    if not isinstance(entries, list | tuple):
        return value
    return [{"path": e} if isinstance(e, str | Path) else e for e in entries]


FeedFiles = Annotated[tuple[FeedFile, ...], BeforeValidator(_entries)]
"""Entries of one kind of file: a path, a mapping, or a list of them."""

QualityRule = Literal[
    "short gap", "long gap", "stuck feed", "unit jump", "stale", "wick", "relisting bar", "survivors only"
]
QualityRules = dict[QualityRule, Literal["flag", "strict"]]
"""Rules of the gate; the last three are looked at only where they are named."""

FEED_KINDS = ("implied_volatility", "funding", "open_interest", "liquidations")
"""The keys of the section ``data`` that hold :data:`FeedFiles`."""
