"""Seeded bars with clustered volatility, stress regimes and fat tails, for tests and simulations."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.signal import lfilter

from calibrator.frames import BARS, conform

_DAY: Final = pd.Timedelta("1D")
_STEPS: Final = 8
"""Price moves inside a bar; they give it its high and low."""
_DAILY_VOLATILITY: Final = 0.025
_HALF_LIFE_DAYS: Final = 8.0
_LOG_VARIANCE_SPREAD: Final = 0.8
_LEVERAGE: Final = -0.3
_FREEDOM: Final = 5.0
_CORRELATION: Final = 0.6
_CALM_DAYS: Final = 60.0
_STRESS_DAYS: Final = 4.0
_STRESS_VOLATILITY: Final = 2.5
_START: Final = datetime(2021, 1, 1, tzinfo=UTC)

Floats = npt.NDArray[np.float64]


def synthetic_bars(
    markets: Sequence[str],
    *,
    periods: int,
    seed: int,
    bar: str = "1h",
    start: datetime = _START,
    gaps: Sequence[tuple[int, int]] = (),
) -> pd.DataFrame:
    """Simulate bars of correlated markets; every value follows from the arguments.

    The log variance is a mean-reverting state with a leverage effect, a market-wide two-state Markov regime
    multiplies the volatility by 2.5 in stress (about four days in sixty-four), and the bars' innovations are
    Student-t with five degrees of freedom, correlated 0.6 across markets.

    Parameters
    ----------
    markets : sequence of str
        Names, distinct; each market's first price is 100.
    periods : int
        Bars per market before gaps are cut.
    seed : int
        Of the generator.
    bar : str
        Length of a bar, ``1h``, ``1d``, ``10min``.
    start : datetime
        Start of the first bar (time zone aware); its label is one bar later.
    gaps : sequence of (int, int)
        (position of the first missing bar, number of missing bars), cut from every market.

    Returns
    -------
    pandas.DataFrame
        ``Bars``, sorted by market and time.

    Raises
    ------
    ValueError
        No market, repeated market, fewer than one period, or a naive start.

    Examples
    --------
    >>> bars = synthetic_bars(["A", "B"], periods=4, seed=7, gaps=[(1, 2)])
    >>> bars[["market", "time", "open"]].head(2)
      market                      time        open
    0      A 2021-01-01 01:00:00+00:00  100.000000
    1      A 2021-01-01 04:00:00+00:00  ...
    """
    if not markets or len(set(markets)) != len(markets):
        raise ValueError(f"markets must be distinct and at least one, were {list(markets)}")
    if periods < 1:
        raise ValueError(f"periods must be at least 1, was {periods}")
    if start.tzinfo is None:
        raise ValueError(f"start must be time zone aware, was {start}")
    step = pd.Timedelta(bar.replace("d", "D"))
    shape = (periods, len(markets))
    rng = np.random.default_rng(seed)
    shocks = _shocks(rng, shape)
    volatility = _volatility(rng, shocks.sum(axis=1) / np.sqrt(_STEPS), step / _DAY)
    moves = (shocks * volatility[:, None, :] / np.sqrt(_STEPS)).reshape(-1, shape[1])
    path = 100.0 * np.exp(np.vstack([np.zeros((1, shape[1])), moves.cumsum(axis=0)]))
    inside = np.stack([path[i : i + periods * _STEPS : _STEPS] for i in range(_STEPS)])
    last = path[_STEPS::_STEPS]
    inside = np.concatenate([inside, last[None]])
    volume = 1e4 * np.exp(0.5 * rng.standard_normal(shape)) * volatility / volatility.mean()
    order = np.argsort(np.array(markets, dtype=object))
    kept = _kept(periods, gaps)
    times = pd.date_range(start, periods=periods + 1, freq=step).tz_convert("UTC").as_unit("us")[1:]
    frame = pd.DataFrame(
        {
            "market": np.repeat([markets[i] for i in order], len(kept)),
            "time": times[np.tile(kept, len(markets))],
            **{
                name: values[np.ix_(kept, order)].T.ravel()
                for name, values in (
                    ("open", inside[0]),
                    ("high", inside.max(axis=0)),
                    ("low", inside.min(axis=0)),
                    ("close", last),
                    ("volume", volume),
                )
            },
        }
    )
    return conform(frame, BARS, source="synthetic")


def _shocks(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Unit-variance moves inside each bar, (periods, steps, markets), with a Student-t scale per bar."""
    periods, markets = shape
    common = rng.standard_normal((periods, _STEPS, 1))
    own = rng.standard_normal((periods, _STEPS, markets))
    scale = np.sqrt((_FREEDOM - 2) / rng.chisquare(_FREEDOM, (periods, 1, 1)))
    shocks: Floats = scale * (np.sqrt(_CORRELATION) * common + np.sqrt(1 - _CORRELATION) * own)
    return shocks


def _volatility(rng: np.random.Generator, innovations: Floats, days: float) -> Floats:
    """Volatility per bar and market, known before the bar: state of the log variance times the regime."""
    persistence = 0.5 ** (days / _HALF_LIFE_DAYS)
    noise = rng.standard_normal(innovations.shape)
    news = _LEVERAGE * innovations + np.sqrt(1 - _LEVERAGE**2) * noise
    news = np.vstack([rng.standard_normal((1, innovations.shape[1])), news[:-1]])
    news[1:] *= np.sqrt(1 - persistence**2)
    state = _LOG_VARIANCE_SPREAD * lfilter([1.0], [1.0, -persistence], news, axis=0)
    stress = _stress(rng, len(innovations), days)[:, None]
    level = _DAILY_VOLATILITY * np.sqrt(days) * np.exp(-(_LOG_VARIANCE_SPREAD**2) / 4)
    volatility: Floats = level * np.exp(state / 2) * np.where(stress, _STRESS_VOLATILITY, 1.0)
    return volatility


def _stress(rng: np.random.Generator, periods: int, days: float) -> npt.NDArray[np.bool_]:
    """Two-state Markov chain as alternating geometric stays, calm first."""
    calm, stress = (min(1.0, days / mean) for mean in (_CALM_DAYS, _STRESS_DAYS))
    out = np.zeros(periods, bool)
    position = 0
    while position < periods:
        position += int(rng.geometric(calm))
        stay = int(rng.geometric(stress))
        out[position : position + stay] = True
        position += stay
    return out


def _kept(periods: int, gaps: Sequence[tuple[int, int]]) -> npt.NDArray[np.intp]:
    """Positions of the bars outside every gap."""
    keep = np.ones(periods, bool)
    for first, length in gaps:
        keep[first : first + length] = False
    return np.flatnonzero(keep)
