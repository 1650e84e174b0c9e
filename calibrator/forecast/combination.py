"""The published forecast: experts weighted online by their past QLIKE."""

import numpy as np
import pandas as pd

from calibrator.scores import qlike

LARGEST_LOSS = 5.0
"""Cap of a day's mean QLIKE in the weights: one crash must not decide which expert is believed for a year."""


def combine(
    experts: pd.DataFrame,
    rows: pd.DataFrame,
    targets: pd.DataFrame,
    *,
    memory: float,
    rate: float,
    floor: float,
) -> tuple[pd.Series, pd.DataFrame]:
    """Combine forecasts by a weighted geometric mean with online weights, pooled over markets.

    Whenever outcomes become known, expert ``i`` has the discounted loss ``L_i = memory * L_i + mean QLIKE_i``
    (over the rows known at that time, less the best expert's) and the weight ``exp(-rate * L_i)``,
    normalised, at least ``floor``.
    A row takes the experts that have a forecast for it.

    Parameters
    ----------
    experts : pandas.DataFrame
        One column of variances per expert; NaN where it has none.
    rows : pandas.DataFrame
        ``time`` per row, on the same index.
    targets : pandas.DataFrame
        ``future_variance`` and ``known_at``, on the same index.
    memory, rate, floor : float
        Decay of past losses per outcome time, learning rate, smallest weight (at most 1 / experts).

    Returns
    -------
    variance : pandas.Series
        Per row; uses only outcomes known at the row's time.
    weights : pandas.DataFrame
        One row per origin, one column per expert.

    References
    ----------
    Cesa-Bianchi, N. and Lugosi, G. (2006). Prediction, Learning, and Games, ch. 2.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=3, tz="UTC").as_unit("us")
    >>> experts = pd.DataFrame({"good": [1.0, 1.0, 1.0], "bad": [9.0, 9.0, 9.0]})
    >>> y = pd.DataFrame({"future_variance": 1.0, "known_at": t + pd.Timedelta("1D")})
    >>> _, w = combine(experts, pd.DataFrame({"time": t}), y, memory=0.9, rate=1.0, floor=0.0)
    >>> w["good"].round(2).tolist()
    [0.5, 0.79, 0.92]
    """
    weights = _weights(experts, rows, targets, memory=memory, rate=rate, floor=floor)
    known = np.isfinite(experts.to_numpy(float))
    own = weights.reindex(rows["time"]).to_numpy(float) * known
    total = own.sum(axis=1)
    logs = np.where(known, np.log(np.where(known, experts.to_numpy(float), 1.0)), 0.0)
    mean = (own * logs).sum(axis=1) / np.where(total > 0, total, np.nan)
    return pd.Series(np.exp(mean), experts.index), weights


def _weights(
    experts: pd.DataFrame,
    rows: pd.DataFrame,
    targets: pd.DataFrame,
    *,
    memory: float,
    rate: float,
    floor: float,
) -> pd.DataFrame:
    count = len(experts.columns)
    if not 0 <= floor * count <= 1:
        raise ValueError(f"floor must lie between 0 and 1 / {count} experts, was {floor}")
    losses = _losses(experts, targets)
    times = pd.DatetimeIndex(rows["time"].drop_duplicates().sort_values())
    clock = times.tz_convert(None).to_numpy(dtype="datetime64[us]")
    due = pd.DatetimeIndex(losses.index).tz_convert(None).to_numpy(dtype="datetime64[us]")
    values = losses.to_numpy(float)
    score, out, done = np.zeros(count), np.empty((len(times), count)), 0
    for i, now in enumerate(clock):
        while done < len(due) and due[done] <= now:
            score = memory * score + values[done] - values[done].min()
            done += 1
        raw = np.exp(-rate * (score - score.min()))
        share = raw / raw.sum()
        out[i] = floor + (1 - floor * count) * share
    return pd.DataFrame(out, index=times, columns=experts.columns)


def _losses(experts: pd.DataFrame, targets: pd.DataFrame) -> pd.DataFrame:
    """Mean QLIKE per expert over the outcomes that become known at one time and that every expert covers.

    Grouped by that time and not by origin: where markets keep different sessions, the outcomes of one origin
    arrive on different days, and an outcome that has not arrived must not count in any way.
    """
    variance = targets["future_variance"].to_numpy(float)[:, None]
    usable = (np.isfinite(experts.to_numpy(float)) & (variance > 0)).all(axis=1)
    loss = qlike(variance[usable], experts.to_numpy(float)[usable])
    frame = pd.DataFrame(loss, experts.index[usable], experts.columns)
    return frame.groupby(targets.loc[usable, "known_at"]).mean().clip(upper=LARGEST_LOSS)
