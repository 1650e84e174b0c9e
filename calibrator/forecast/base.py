"""The contract of every variance forecaster, and the purged walk-forward that runs them all.

A *feature row* is one market at one origin. Rows are sorted by market and time and carry at least
``market, time, log_return, realized_variance`` (both over the last cadence). A *target row* stands beside it:
``future_variance`` over the next horizon and ``known_at``, the bar end at which it can be known.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import pandas as pd


class VarianceForecaster(Protocol):
    """What every forecaster offers; one contract test runs over all of them.

    ``fit`` learns from rows whose target is known (others carry NaN); ``forecast`` returns the variance over
    the horizon for every row, each from rows of the same or earlier time only, NaN where it cannot.
    """

    name: str

    def fit(self, history: pd.DataFrame, target: pd.Series) -> Self:
        """Learn from feature rows and their known targets (NaN = not known yet)."""
        ...

    def forecast(self, history: pd.DataFrame) -> pd.Series:
        """Return the variance per row of ``history``, on its index."""
        ...


def walk_forward(  # noqa: PLR0913 - the things that define a walk-forward
    make: Callable[[], VarianceForecaster],
    features: pd.DataFrame,
    targets: pd.DataFrame,
    *,
    refit: int,
    start: int,
    rowwise: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> pd.Series:
    """Forecast every row with a model that was fitted on targets known at the refit before it.

    Parameters
    ----------
    make : callable
        Returns an unfitted forecaster.
    features, targets : pandas.DataFrame
        Rows on one index, sorted by market and time; ``targets`` has ``future_variance`` and ``known_at``.
    refit : int
        Distinct origins between refits.
    start : int
        Distinct origins before the first fit.
    rowwise : bool
        A row's forecast depends on that row alone: only the rows to forecast are handed over.
    progress : callable, optional
        Called with (blocks done, blocks in total).

    Returns
    -------
    pandas.Series
        Variance per row, NaN before the first fit (everywhere with ``start`` origins or less).
        The value at an origin never changes when later rows are
        removed: refits happen at fixed positions from the first origin, and targets not known at the refit
        are hidden (this purges the last ``horizon`` bars).

    Examples
    --------
    >>> from calibrator.forecast.ewma import Ewma
    >>> t = pd.date_range("2024-01-01", periods=4, tz="UTC").as_unit("us")
    >>> x = pd.DataFrame({"market": "A", "time": t, "log_return": 0.0, "realized_variance": [1.0, 4, 4, 4]})
    >>> y = pd.DataFrame({"future_variance": 1.0, "known_at": t + pd.Timedelta("1D")})
    >>> walk_forward(lambda: Ewma(decay=0.5, scale=1), x, y, refit=2, start=1).round(3).tolist()
    [nan, 3.0, 3.571, 3.8]
    """
    out = np.full(len(features), np.nan)
    found = blocks(features["time"], refit=refit, start=start)
    for done, block in enumerate(found):
        fitted = fit_block(make, features, targets, block)
        rows, values = forecast_block(fitted, features, block, rowwise=rowwise)
        out[rows] = values
        if progress is not None:
            progress(done + 1, len(found))
    return pd.Series(out, features.index)


@dataclass(frozen=True, slots=True)
class Block:
    """One refit of a walk-forward: the origin at which it happens, and the first that it no longer serves.

    Attributes
    ----------
    cut : numpy.datetime64
        Rows up to here, with what is known at it, are learned from.
    end : numpy.datetime64 or None
        Rows from ``cut`` to before ``end`` are forecast; None: all later ones.

    Examples
    --------
    >>> Block(np.datetime64("2024-01-02"), None).end is None
    True
    """

    cut: np.datetime64
    end: np.datetime64 | None


def blocks(time: pd.Series, *, refit: int, start: int) -> list[Block]:
    """Return the refits of a walk-forward over rows of these times.

    They stand at fixed positions from the first origin, so later rows move none of them.

    Examples
    --------
    >>> t = pd.Series(pd.date_range("2024-01-01", periods=6, tz="UTC").as_unit("us"))
    >>> [(str(b.cut)[:10], str(b.end)[:10]) for b in blocks(t, refit=3, start=1)]
    [('2024-01-02', '2024-01-05'), ('2024-01-05', 'None')]
    """
    cuts = np.unique(_clock(time))[start::refit]
    ends = [*cuts[1:], None][: len(cuts)]
    return [Block(cut, end) for cut, end in zip(cuts, ends, strict=True)]


def fit_block(
    make: Callable[[], VarianceForecaster], features: pd.DataFrame, targets: pd.DataFrame, block: Block
) -> VarianceForecaster:
    """Fit a forecaster on what is known at a block's cut; arguments as in :func:`walk_forward`.

    Examples
    --------
    >>> from calibrator.forecast.ewma import Ewma
    >>> t = pd.date_range("2024-01-01", periods=3, tz="UTC").as_unit("us")
    >>> x = pd.DataFrame({"market": "A", "time": t, "log_return": 0.0, "realized_variance": [1.0, 4, 4]})
    >>> y = pd.DataFrame({"future_variance": 1.0, "known_at": t + pd.Timedelta("1D")})
    >>> block = Block(np.datetime64("2024-01-02"), None)
    >>> fit_block(lambda: Ewma(decay=0.5, scale=1), x, y, block).name
    'ewma_50'
    """
    past = _clock(features["time"]) <= block.cut
    known = _clock(targets["known_at"]) <= block.cut
    return make().fit(features[past], targets["future_variance"].where(known)[past])


def forecast_block(
    fitted: VarianceForecaster, features: pd.DataFrame, block: Block, *, rowwise: bool
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Return which rows a block serves, and their variances.

    Examples
    --------
    >>> from calibrator.forecast.ewma import Ewma
    >>> t = pd.date_range("2024-01-01", periods=3, tz="UTC").as_unit("us")
    >>> x = pd.DataFrame({"market": "A", "time": t, "log_return": 0.0, "realized_variance": [1.0, 4, 4]})
    >>> block = Block(np.datetime64("2024-01-02"), None)
    >>> rows, variance = forecast_block(Ewma(decay=0.5, scale=1), x, block, rowwise=False)
    >>> rows.tolist(), variance.round(3).tolist()
    ([False, True, True], [3.0, 3.571])
    """
    times = _clock(features["time"])
    until = np.ones(len(times), bool) if block.end is None else times < block.end
    rows = until & (times >= block.cut)
    seen = rows if rowwise else until
    return rows, fitted.forecast(features[seen]).to_numpy(float)[rows[seen]]


def _clock(times: pd.Series) -> npt.NDArray[np.datetime64]:
    """Return UTC times as naive numpy microseconds, which compare fast."""
    clock: npt.NDArray[np.datetime64] = times.dt.tz_convert(None).to_numpy(dtype="datetime64[us]")
    return clock
