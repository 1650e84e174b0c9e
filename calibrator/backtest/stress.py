"""Stress tests of a schedule: the worst that happened, what was made up, and what it takes to break it.

*Historical*: the worst close-outs of the data, held against the schedule that was in force the day before.
*Hypothetical*: stated joint moves against the schedule in force now. *Reverse*: the nearest joint move, and
the smallest rise of volatility, beyond which the schedule does not cover any more.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import nnls

from calibrator.backtest.losses import ROW

Array = npt.NDArray[np.float64]
MOVED: Final = 0.10
"""A margin has moved when it stands so much above that of the day before the window."""
LOOK_AHEAD: Final = 60
"""Decisions after a window within which the schedule's answer is looked for."""


def worst_windows(
    margins: pd.DataFrame, *, count: int, apart: int = 1, look_ahead: int = LOOK_AHEAD
) -> pd.DataFrame:
    """Return the worst close-outs of each market and side, and what the schedule of the day before covered.

    Parameters
    ----------
    margins : pandas.DataFrame
        ``market, origin, side, margin`` and ``loss`` (the worst start of the decision's, fraction; missing =
        not known).
    count : int
        Windows per market and side.
    apart : int
        Decisions between two windows, so that one crash is not listed twice: close-out / cadence.
    look_ahead : int
        Decisions within which the answer is looked for.

    Returns
    -------
    pandas.DataFrame
        Largest loss first within market and side: ``market, side, origin, loss``; ``margin_before`` (decided
        one decision earlier) and ``shortfall`` beyond it; ``margin`` (decided at the origin itself);
        ``covered``; ``moved_after`` (decisions from the origin until the margin stood 10 % above
        ``margin_before``; 0 = at the origin itself, missing = not within ``look_ahead``) and ``highest``
        (margin within ``look_ahead``). A first decision has none before it and is left out.

    Raises
    ------
    ValueError
        ``count``, ``apart`` or ``look_ahead`` below one.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=5, tz="UTC")
    >>> x = pd.DataFrame({"market": "A", "side": "long", "origin": t, "margin": [0.1, 0.1, 0.1, 0.12, 0.13],
    ...                   "loss": [0.02, 0.03, 0.25, 0.04, 0.01]})
    >>> row = worst_windows(x, count=1).iloc[0]
    >>> row.origin.date().isoformat(), round(float(row.shortfall), 3), bool(row.covered), int(row.moved_after)
    ('2024-01-03', 0.15, False, 1)
    """
    for name, value in (("count", count), ("apart", apart), ("look_ahead", look_ahead)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, was {value}")
    rows: list[dict[str, object]] = []
    for (market, side), own in margins.sort_values("origin").groupby(["market", "side"], sort=True):
        loss, margin = own["loss"].to_numpy(float), own["margin"].to_numpy(float)
        loss = np.where(np.arange(len(loss)) > 0, loss, np.nan)
        for at in _worst(loss, count, apart):
            before, after = margin[at - 1], margin[at : at + look_ahead + 1]
            moved = np.flatnonzero(after >= before * (1 + MOVED))
            rows.append(
                {
                    "market": market,
                    "side": side,
                    "origin": own["origin"].iloc[at],
                    "loss": float(loss[at]),
                    "margin_before": float(before),
                    "margin": float(margin[at]),
                    "shortfall": float(max(loss[at] - before, 0.0)),
                    "covered": bool(loss[at] <= before),
                    "moved_after": float(moved[0]) if len(moved) else np.nan,
                    "highest": float(np.nanmax(after)),
                }
            )
    names = [*ROW, "loss", "margin_before", "margin", "shortfall", "covered", "moved_after", "highest"]
    return pd.DataFrame(rows, columns=names)


def _worst(loss: Array, count: int, apart: int) -> list[int]:
    """Rows of the largest known losses, at least ``apart`` rows from each other."""
    known = np.where(np.isfinite(loss), loss, -np.inf)
    chosen: list[int] = []
    for row in np.argsort(-known, kind="stable").tolist():
        if len(chosen) == count or known[row] == -np.inf:
            break
        if all(abs(row - other) >= apart for other in chosen):
            chosen.append(row)
    return chosen


def worst_days(margins: pd.DataFrame, *, count: int, apart: int = 1) -> pd.DataFrame:
    """Return the worst joint decisions: the mean loss over all markets of one side, largest first.

    Parameters
    ----------
    margins : pandas.DataFrame
        As for :func:`worst_windows`.
    count, apart : int
        Days, and decisions between two of one side.

    Returns
    -------
    pandas.DataFrame
        ``origin, side, markets`` (with a known loss and a margin the day before), ``loss`` and
        ``margin_before`` (means), ``shortfall`` (mean beyond the margin of the day before), ``uncovered``
        (share of the markets) and ``worst`` (market with the largest loss beyond its margin).

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=3, tz="UTC").repeat(2)
    >>> x = pd.DataFrame({"market": ["A", "B"] * 3, "side": "long", "origin": t, "margin": 0.1,
    ...                   "loss": [0.01, 0.02, 0.3, 0.08, 0.02, 0.01]})
    >>> day = worst_days(x, count=1).iloc[0]
    >>> round(float(day.loss), 3), round(float(day.shortfall), 3), float(day.uncovered), day.worst
    (0.19, 0.1, 0.5, 'A')
    """
    held = margins.sort_values("origin", ignore_index=True)
    held = held.assign(before=held.groupby(["market", "side"])["margin"].shift()).dropna(
        subset=["loss", "before"]
    )
    held = held.assign(
        short=np.maximum(held["loss"] - held["before"], 0.0), over=held["loss"] - held["before"]
    )
    days = held.groupby(["side", "origin"]).agg(
        markets=("loss", "size"),
        loss=("loss", "mean"),
        margin_before=("before", "mean"),
        shortfall=("short", "mean"),
        uncovered=("short", lambda s: float((s > 0).mean())),
    )
    names = ["origin", "side", "markets", "loss", "margin_before", "shortfall", "uncovered", "worst"]
    if held.empty:
        return pd.DataFrame(columns=names)
    top = held.loc[held.groupby(["side", "origin"])["over"].idxmax()].set_index(["side", "origin"])
    days = days.assign(worst=top["market"]).reset_index()
    parts = []
    for _, own in days.groupby("side", sort=True):
        ordered = own.sort_values("origin", ignore_index=True)
        loss = ordered["loss"].to_numpy(float)
        parts.append(ordered.iloc[_worst(loss, count, apart)])
    return pd.concat(parts, ignore_index=True)[names]


@dataclass(frozen=True, slots=True)
class InForce:
    """The schedule in force now, shape ``(markets,)`` each unless said.

    Attributes
    ----------
    markets : tuple of str
    long, short : numpy.ndarray
        Published margins of the two sides (fraction); infinite for a side that cannot be held.
    volatility : numpy.ndarray
        Forecast over the close-out, positive.
    correlation : numpy.ndarray, shape (markets, markets)
        Of the moves over the close-out; positive definite.

    Raises
    ------
    ValueError
        Shapes differ, a volatility or margin is not positive, or the correlation is not positive definite.
    """

    markets: tuple[str, ...]
    long: Array
    short: Array
    volatility: Array
    correlation: Array

    def __post_init__(self) -> None:
        count = len(self.markets)
        if {self.long.shape, self.short.shape, self.volatility.shape} != {(count,)}:
            raise ValueError(f"long, short and volatility must have one value per market, of {count}")
        if self.correlation.shape != (count, count):
            raise ValueError(f"correlation must be {count} x {count}, was {self.correlation.shape}")
        for name in ("long", "short", "volatility"):
            if not (getattr(self, name) > 0).all():
                raise ValueError(f"{name} must be positive in every market")
        try:
            np.linalg.cholesky(self.correlation)
        except np.linalg.LinAlgError as error:
            raise ValueError("correlation must be positive definite") from error


def joint_move(force: InForce, move: Array) -> dict[str, object]:
    """Hold one joint move against the margins in force.

    Parameters
    ----------
    force : InForce
    move : numpy.ndarray, shape (markets,)
        Relative price moves over the close-out, above -1.

    Returns
    -------
    dict
        ``largest_move`` (in absolute value), ``standard_deviations`` (Mahalanobis distance of the log moves),
        ``uncovered`` (share of the markets whose losing side loses more than its margin), ``shortfall``
        (mean over the markets of what lies beyond) and ``worst`` (market, or None).

    Examples
    --------
    >>> both = np.array([0.1, 0.3])
    >>> force = InForce(("A", "B"), both, both, np.array([0.04, 0.1]), np.eye(2))
    >>> {k: round(v, 3) if k != "worst" else v for k, v in joint_move(force, np.full(2, -0.2)).items()}
    {'largest_move': 0.2, 'standard_deviations': 6.008, 'uncovered': 0.5, 'shortfall': 0.05, 'worst': 'A'}
    """
    if not (move > -1).all():
        raise ValueError(f"a price cannot fall by all of itself or more, the lowest move was {move.min()}")
    beyond = np.maximum(np.where(move < 0, -move - force.long, move - force.short), 0.0)
    scaled = np.log1p(move) / force.volatility
    return {
        "largest_move": float(np.abs(move).max()),
        "standard_deviations": float(np.sqrt(scaled @ np.linalg.solve(force.correlation, scaled))),
        "uncovered": float((beyond > 0).mean()),
        "shortfall": float(beyond.mean()),
        "worst": force.markets[int(beyond.argmax())] if beyond.any() else None,
    }


@dataclass(frozen=True, slots=True)
class Break:
    """The nearest joint move beyond which margins do not cover.

    Attributes
    ----------
    moves : dict of str to float
        Relative move per market.
    distance : float
        Standard deviations (Mahalanobis) of the log moves.
    """

    moves: dict[str, float]
    distance: float


def nearest_break(force: InForce, *, side: str, every: bool) -> Break:
    r"""Return the smallest joint move at which margins of one side are used up.

    In log moves :math:`x` with covariance :math:`\Sigma` and thresholds :math:`b` (``log(1 - margin)`` for
    longs, ``log(1 + margin)`` for shorts) it minimises :math:`x' \Sigma^{-1} x` subject to one market
    reaching its threshold, the others at their conditional mean, or, with ``every``, all of them: a least
    distance problem, solved exactly by non-negative least squares.

    Parameters
    ----------
    force : InForce
    side : {"long", "short"}
    every : bool
        All markets that can be held so at once, or the first one.

    Raises
    ------
    ValueError
        Another side, or no market can be held so.

    References
    ----------
    Lawson, C. and Hanson, R. (1974). Solving least squares problems, chapter 23. Breuer, T. et al. (2009).
    How to find plausible, severe, and useful stress scenarios. International Journal of Central Banking 5.

    Examples
    --------
    >>> both = np.array([0.1, 0.3])
    >>> force = InForce(("A", "B"), both, both, np.array([0.04, 0.1]), np.eye(2))
    >>> one, all_of = (nearest_break(force, side="long", every=every) for every in (False, True))
    >>> round(one.distance, 3), {k: round(v, 3) for k, v in one.moves.items()}, round(all_of.distance, 3)
    (2.634, {'A': -0.1, 'B': -0.0}, 4.434)
    """
    if side not in {"long", "short"}:
        raise ValueError(f"side must be long or short, was {side!r}")
    held = force.long if side == "long" else force.short
    capped = np.minimum(held, 1 - 1e-9) if side == "long" else held
    threshold = -np.log1p(-capped) if side == "long" else np.log1p(held)
    need, usable = threshold / force.volatility, np.isfinite(held)
    if not usable.any():
        raise ValueError(f"no market can be held {side}")
    if not every:
        first = int(need.argmin())
        return _break(force, force.correlation[:, first] * need[first], side, float(need[first]))
    root: Array = np.linalg.cholesky(force.correlation).astype(np.float64)
    scaled = root @ least_distance(root[usable], need[usable])
    distance = float(np.sqrt(scaled @ np.linalg.solve(force.correlation, scaled)))
    return _break(force, scaled, side, distance)


def _break(force: InForce, scaled: Array, side: str, distance: float) -> Break:
    moves = np.expm1((-1.0 if side == "long" else 1.0) * scaled * force.volatility)
    return Break(dict(zip(force.markets, moves.tolist(), strict=True)), distance)


def least_distance(matrix: Array, need: Array) -> Array:
    """Return the shortest vector ``y`` with ``matrix @ y >= need``, by non-negative least squares.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (m, n)
    need : numpy.ndarray, shape (m,)

    Raises
    ------
    ValueError
        No vector satisfies all of them.

    Examples
    --------
    >>> least_distance(np.eye(2), np.array([3.0, -1.0])).round(6).tolist()
    [3.0, 0.0]
    """
    target = np.zeros(matrix.shape[1] + 1)
    target[-1] = 1.0
    scale = max(float(np.abs(need).max()), 1e-300)
    dual, residual = nnls(np.vstack([matrix.T, need / scale]), target)
    rest = np.vstack([matrix.T, need / scale]) @ dual - target
    if residual < 1e-10:
        raise ValueError("no vector satisfies every constraint")
    y: Array = -rest[:-1] / rest[-1] * scale
    return y


def breaking_volatility(margin: float, unlimited: float, ceilings: Array) -> dict[str, float]:
    """Return the multiples of today's forecast volatility beyond which a schedule does not keep up.

    A margin before limits grows with the volatility; the published one is what it is until the next decision
    and may then rise no higher than its limits let it.

    Parameters
    ----------
    margin : float
        Published now.
    unlimited : float
        What the forecast tail asks for now, positive.
    ceilings : numpy.ndarray, shape (steps,)
        Highest margins that the limits allow at the next decisions.

    Returns
    -------
    dict
        ``covered``: up to which the margin in force still covers the asked quantile; ``next`` and ``last``:
        up to which it does again after the first and after the last of the next decisions, if it rises as
        fast as it may.

    Examples
    --------
    >>> breaking_volatility(0.12, 0.10, np.array([0.144, 0.2]))
    {'covered': 1.2, 'next': 1.44, 'last': 2.0}
    """
    if not (unlimited > 0 and len(ceilings)):
        raise ValueError(
            f"needs a positive margin before limits and a step, were {unlimited} and {len(ceilings)}"
        )
    values = {"covered": margin, "next": float(ceilings[0]), "last": float(ceilings[-1])}
    return {name: round(value / unlimited, 12) for name, value in values.items()}
