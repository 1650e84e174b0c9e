"""What a policy may see: the losses of every decision, and how many of them were known at each."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from calibrator.backtest.losses import MATURED_LOSSES, ROW, conform_losses
from calibrator.errors import DataError

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Series:
    """One market and side: decisions in time order, and all losses flattened in time order.

    Attributes
    ----------
    market, side : str
    origins : pandas.DatetimeIndex, shape (decisions,)
    loss : pandas.Series, shape (losses,)
        Start by start; NaN where unknown.
    decision : numpy.ndarray of int, shape (losses,)
        Decision that each loss belongs to.
    known : numpy.ndarray of int, shape (decisions,)
        Number of losses (leading entries of ``loss``) known at each decision.
    starts : int
        Most starts of a decision.
    rows : slice
        Its decisions' places among all rows.
    """

    market: str
    side: str
    origins: pd.DatetimeIndex
    loss: pd.Series
    decision: npt.NDArray[np.int64]
    known: npt.NDArray[np.int64]
    starts: int
    rows: slice

    def at(self, rolled: pd.Series) -> Array:
        """Return the value after the last loss known at each decision."""
        padded = np.concatenate([[np.nan], rolled.to_numpy()])
        value: Array = padded[self.known]
        return value

    def rolling(self, values: pd.Series, *, window: int, least: int, level: float) -> Array:
        """Return the quantile of the last ``window`` decisions known at each decision.

        Parameters
        ----------
        values : pandas.Series, shape (losses,)
        window, least : int
            Decisions in the window, and decisions with known losses needed in it.
        level : float
        """
        if not 1 <= least <= window:
            raise ValueError(f"min_decisions must lie between 1 and window, were {least} and {window}")
        rolled = values.rolling(window * self.starts, min_periods=least * self.starts).quantile(level)
        return self.at(rolled)


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that policies are set from, checked once.

    Attributes
    ----------
    rows : pandas.DataFrame
        ``market, origin, side`` of every decision, sorted by market, side and origin.
    series : tuple of Series
        In the order of ``rows``.
    variances : mapping of str to mapping of str to pandas.Series
        Variance by origin (known at it; any scale), per model and market.
    memory : dict
        Margins that policies share.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=3, tz="UTC").as_unit("us")
    >>> x = pd.DataFrame({"market": "A", "origin": t, "side": "long", "loss": [0.1, 0.2, 0.4],
    ...                   "known_at": t + pd.Timedelta("1D")})
    >>> seen = Seen.of(x)
    >>> seen.series[0].known.tolist(), seen.outcomes.tolist()
    ([0, 1, 2], [[0.1], [0.2], [0.4]])
    """

    rows: pd.DataFrame
    series: tuple[Series, ...]
    variances: Mapping[str, Mapping[str, pd.Series]] = field(default_factory=dict)
    memory: dict[object, Array] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, losses: pd.DataFrame, variances: Mapping[str, pd.DataFrame] | None = None) -> Self:
        """Check losses and forecasts, and put them in order.

        Parameters
        ----------
        losses : pandas.DataFrame
            ``losses.MATURED_LOSSES``.
        variances : mapping of str to pandas.DataFrame, optional
            ``market, origin, variance`` per model.

        Raises
        ------
        DataError
            A rule of the frame is broken, a loss is known before its origin, a forecast is duplicated.
        """
        series = tuple(_each(losses))
        rows = pd.concat(
            [pd.DataFrame({"market": s.market, "origin": s.origins, "side": s.side}) for s in series],
            ignore_index=True,
        )[ROW]
        return cls(rows, series, {name: _by_market(v) for name, v in (variances or {}).items()})

    def each(self, margin: Callable[[Series], Array]) -> Array:
        """Set the margins of every series in turn; one value per row."""
        out = np.full(len(self.rows), np.nan)
        for one in self.series:
            out[one.rows] = margin(one)
        return out

    def volatility(self, model: str, one: Series) -> Array:
        """Return a model's forecast at each decision of a series; NaN without a positive one.

        Raises
        ------
        ValueError
            There is no such model.
        """
        if model not in self.variances:
            raise ValueError(f"model must be one of {sorted(self.variances)}, was {model!r}")
        forecast = self.variances[model].get(one.market, pd.Series(dtype=float)).reindex(one.origins)
        out: Array = np.sqrt(forecast.where(forecast > 0)).to_numpy(float)
        return out

    @property
    def outcomes(self) -> Array:
        """Losses of every row, shape (rows, starts); NaN where unknown."""
        starts = max(one.starts for one in self.series)
        out = np.full((len(self.rows), starts), np.nan)
        for one in self.series:
            place = np.arange(len(one.decision)) - np.searchsorted(one.decision, one.decision)
            out[one.rows.start + one.decision, place] = one.loss.to_numpy(float)
        return out


def _by_market(variances: pd.DataFrame) -> dict[str, pd.Series]:
    if variances.duplicated(["market", "origin"]).any():
        raise DataError("variances: one row per market and origin; some are duplicated")
    return {
        str(m): g.set_index(g["origin"].dt.as_unit("us"))["variance"] for m, g in variances.groupby("market")
    }


def _each(losses: pd.DataFrame) -> Iterator[Series]:
    checked = conform_losses(losses, schema=MATURED_LOSSES)
    early = checked["known_at"] <= checked["origin"]
    if early.any():
        row = checked[early].iloc[0]
        place = f"{row['market']} at {row['origin'].isoformat()}"
        raise DataError(f"losses: known_at must be later than origin, is not for {place}")
    starts = int(checked["start"].nunique())
    begin = 0
    for (market, side), one in checked.groupby(["market", "side"], sort=True):
        origins = pd.DatetimeIndex(one["origin"].drop_duplicates())
        clock = np.maximum.accumulate(one["known_at"].dt.tz_convert(None).to_numpy())
        yield Series(
            str(market),
            str(side),
            origins,
            one["loss"].reset_index(drop=True),
            origins.get_indexer(one["origin"]),
            np.searchsorted(clock, origins.tz_convert(None).to_numpy(), side="right"),
            starts,
            slice(begin, begin + len(origins)),
        )
        begin += len(origins)
