"""Scores of stress probabilities, with intervals by a block bootstrap of days."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
BINS: Final = 15
BLOCK: Final = 10
"""Least days drawn together."""
DRAWS: Final = 200
LEVEL: Final = 0.90
SCORES: Final = ("auroc", "precision", "multiple", "brier_skill", "calibration_error")


@dataclass(frozen=True, slots=True)
class Ranked:
    """Labels in the order of falling probability, so that weighted scores need no further sorting.

    Attributes
    ----------
    label, probability : numpy.ndarray, shape (n,)
    day : numpy.ndarray of int, shape (n,)
        Number of each row's day.
    starts : numpy.ndarray of int
        Where a new probability begins (ties share one place).
    bins : numpy.ndarray of int, shape (n,)
        Equal-count bin of the probability.
    """

    label: Array
    probability: Array
    day: NDArray[np.int64]
    starts: NDArray[np.int64]
    bins: NDArray[np.int64]

    @classmethod
    def of(cls, probability: Array, label: Array, day: NDArray[np.int64]) -> "Ranked":
        """Sort once."""
        order = np.argsort(-probability, kind="stable")
        p = probability[order]
        starts = np.flatnonzero(np.concatenate([[True], p[1:] != p[:-1]]))
        bins = (np.arange(len(p)) * BINS) // max(len(p), 1)
        return cls(label[order], p, day[order], starts, bins)

    def scores(self, days: Array) -> dict[str, float]:
        """Score with each day counted ``days[day]`` times.

        Examples
        --------
        >>> p, y = np.array([0.9, 0.6, 0.4, 0.1]), np.array([1.0, 0.0, 1.0, 0.0])
        >>> made = Ranked.of(p, y, np.arange(4)).scores(np.ones(4))
        >>> {k: round(v, 3) for k, v in made.items()}  # doctest: +NORMALIZE_WHITESPACE
        {'auroc': 0.75, 'precision': 0.833, 'multiple': 1.667, 'brier_skill': 0.26,
         'calibration_error': 0.35}
        """
        weight = days[self.day]
        positive = np.add.reduceat(weight * self.label, self.starts)
        negative = np.add.reduceat(weight * (1 - self.label), self.starts)
        hits, false = np.cumsum(positive), np.cumsum(negative)
        p, n = hits[-1], false[-1]
        if p <= 0 or n <= 0:
            return dict.fromkeys(SCORES, float("nan"))
        auroc = float((negative * (hits - positive / 2)).sum() / (p * n))
        seen = hits + false
        share = np.divide(hits, seen, out=np.zeros_like(seen), where=seen > 0)
        precision = float((positive * share).sum() / p)
        base = p / (p + n)
        error = float((weight * (self.probability - self.label) ** 2).sum() / (p + n))
        counts = np.bincount(self.bins, weight, BINS)
        gap = np.bincount(self.bins, weight * (self.probability - self.label), BINS)
        used = counts > 0
        return {
            "auroc": auroc,
            "precision": precision,
            "multiple": float(precision / base),
            "brier_skill": float(1 - error / (base * (1 - base))),
            "calibration_error": float(np.mean(np.abs(gap[used] / counts[used]))),
        }

    def curve(self) -> pd.DataFrame:
        """Mean probability and share of stress per bin, lowest first."""
        rows = pd.DataFrame({"bin": self.bins, "probability": self.probability, "share": self.label})
        return rows.groupby("bin").mean().iloc[::-1].reset_index(drop=True)


def common(frame: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """Return the rows that every model covers and whose label is known."""
    return frame[frame[[*models, "label"]].notna().all(axis=1)]


def onsets(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are not stress already."""
    return frame[frame["now"] <= frame["threshold"]]


def drawn_days(days: int, *, block: int, draws: int = DRAWS, seed: int = 7) -> Array:
    """How often each day is drawn in each sample of a moving-block bootstrap, shape (draws, days).

    References
    ----------
    Künsch, H. (1989). The jackknife and the bootstrap for general stationary observations. Annals of
    Statistics 17.

    Examples
    --------
    >>> made = drawn_days(40, block=10, draws=3)
    >>> made.shape, made.sum(axis=1).tolist()
    ((3, 40), [40.0, 40.0, 40.0])
    """
    rng, length = np.random.default_rng(seed), min(block, days)
    out = np.zeros((draws, days))
    for number in range(draws):
        first = rng.integers(0, days - length + 1, -(-days // length))
        chosen = (first[:, None] + np.arange(length)).ravel()[:days]
        out[number] = np.bincount(chosen, minlength=days)
    return out


def score_table(frame: pd.DataFrame, models: Sequence[str], *, steps: int) -> pd.DataFrame:
    """Every score of every model on all rows and on onsets.

    Parameters
    ----------
    frame : pandas.DataFrame
        ``time, now, threshold, label`` and one probability column per model.
    models : sequence of str
    steps : int
        Horizon in decisions: a block of the bootstrap spans at least two horizons.

    Returns
    -------
    pandas.DataFrame
        Index (rows, model); per score its value, ``<score>_low`` and ``<score>_high`` (90 % interval by a
        moving-block bootstrap of days, markets together); ``rows``, ``stress``.
    """
    use = common(frame, models)
    out = {}
    for name, rows in (("all", use), ("onsets", onsets(use))):
        day = pd.factorize(rows["time"], sort=True)[0].astype(np.int64)
        samples = (
            drawn_days(int(day.max()) + 1, block=max(BLOCK, 2 * steps)) if len(rows) else np.ones((1, 1))
        )
        for model in models:
            label = rows["label"].to_numpy(float)
            out[name, model] = _with_interval(rows[model].to_numpy(float), label, day, samples)
    return pd.DataFrame(out).T.rename_axis(["rows", "model"])


def _with_interval(p: Array, label: Array, day: NDArray[np.int64], samples: Array) -> dict[str, float]:
    if not len(p):
        return {"n": 0.0, "stress": float("nan"), **dict.fromkeys(SCORES, float("nan"))}
    ranked = Ranked.of(p, label, day)
    made = ranked.scores(np.ones(samples.shape[1]))
    drawn = pd.DataFrame([ranked.scores(s) for s in samples])
    out = {"n": float(len(p)), "stress": float(label.mean())}
    for name, value in made.items():
        known = drawn[name].dropna()
        low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(known) else (np.nan,) * 2
        out |= {name: value, f"{name}_low": float(low), f"{name}_high": float(high)}
    return out


def market_table(frame: pd.DataFrame, models: Sequence[str], *, steps: int) -> pd.DataFrame:
    """Scores of all rows per market (first index level) and model."""
    use = common(frame, models)
    parts = {
        str(market): score_table(rows, models, steps=steps)
        for market, rows in use.groupby("market", sort=True)
    }
    return pd.concat(parts, names=["market"])


def calibration(frame: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """Calibration curve per model: mean probability and share of stress of each of 15 equal-count bins."""
    use = common(frame, models)
    zero = np.zeros(len(use), dtype=np.int64)
    label = use["label"].to_numpy(float)
    return pd.concat(
        {m: Ranked.of(use[m].to_numpy(float), label, zero).curve() for m in models}, names=["model", "bin"]
    )
