"""A valid answer of a venue, and how it is wrapped."""

import gzip
import io
import zipfile
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pandas as pd

from calibrator.data.payloads import Payload

START: Final = pd.Timestamp("2024-03-01", tz="UTC")
"""First row of every sample."""
NOW: Final = pd.Timestamp("2025-06-01T12:00Z")
"""When every answer came."""
HOUR_MS: Final = 3_600_000
"""An hour in milliseconds."""
START_MS: Final = 1_709_251_200_000
"""START in milliseconds."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A valid answer and which of its parts a parser must not do without.

    Attributes
    ----------
    text : str
        The answer, uncompressed.
    market : str
        The market asked for.
    required : tuple of str or int
        Fields (JSON) or columns (CSV, by position) that must be numbers.
    wrap : str
        ``zip``, ``gz`` or nothing.
    path : tuple of str or int
        Where the rows of a JSON answer are.
    step : pandas.Timedelta
        Length of a bar.
    """

    text: str
    market: str
    required: tuple[str | int, ...]
    wrap: str = ""
    path: tuple[str | int, ...] = ()
    step: pd.Timedelta = field(default_factory=lambda: pd.Timedelta("1h"))

    @property
    def is_json(self) -> bool:
        """Whether the answer is JSON (or lines of it)."""
        return self.text.lstrip()[:1] in {"{", "["}

    @property
    def name(self) -> str:
        """File name of the answer."""
        return f"{self.market.replace('*', 'all')}-sample" + {"zip": ".zip", "gz": ".csv.gz"}.get(
            self.wrap, ""
        )

    def content(self, text: str | bytes | None = None) -> bytes:
        """Return the answer, or another text, as the venue would send it."""
        raw = self.text if text is None else text
        data = raw.encode() if isinstance(raw, str) else raw
        if self.wrap == "zip":
            return zipped(self.name.removesuffix(".zip") + ".csv", data)
        return gzip.compress(data, mtime=0) if self.wrap == "gz" else data

    def payload(self, content: bytes | None = None) -> Payload:
        """Return the answer, or other bytes, as a parser receives them."""
        body = self.content() if content is None else content
        return Payload(body, self.name, market=self.market, step=self.step, received=NOW)


def zipped(name: str, data: bytes) -> bytes:
    """Return a zip archive with one member and a fixed date.

    Examples
    --------
    >>> zipped("a.csv", b"1")[:2]
    b'PK'
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def kline_rows(
    count: int, *, first: int = START_MS, step: int = HOUR_MS, unit: int = 1, seed: int = 1
) -> list[list[str]]:
    """Return rows of twelve cells: ``first`` and ``step`` in milliseconds, ``unit`` 1000 for microseconds.

    Examples
    --------
    >>> kline_rows(1)[0][:2]
    ['1709251200000', '100.00000000']
    """
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, count)))
    opened = np.concatenate([[100.0], close[:-1]])
    high = np.maximum(opened, close) * (1.0 + np.abs(rng.normal(0.0, 0.002, count)))
    low = np.minimum(opened, close) * (1.0 - np.abs(rng.normal(0.0, 0.002, count)))
    rows = []
    for i in range(count):
        start = (first + i * step) * unit
        prices = [f"{v[i]:.8f}" for v in (opened, high, low, close)]
        end = str(start + step * unit - 1)
        rows.append([str(start), *prices, "10.50000000", end, "1050.1", "42", "5.2", "520.3", "0"])
    return rows
