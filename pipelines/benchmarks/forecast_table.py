"""Scores of the forecast benchmark: one row per model and horizon, losers included."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from calibrator.backtest.comparison import diebold_mariano, model_confidence_set, ratio_interval
from calibrator.scores import qlike

STRONG: Final = "har_strong"
REFERENCES: Final = ("garch_normal", "garch_t", "ewma_94", "har", STRONG)
BLOCK: Final = 10
"""Least days drawn together."""
SIZE: Final = 0.10
SIGNIFICANT: Final = 0.05
BOOTSTRAPS: Final = 300
LEAST_DAYS: Final = 100
"""Days that a market needs for tests of its own."""


@dataclass(frozen=True, slots=True)
class Losses:
    """QLIKE of every model on the rows that all of them cover.

    Attributes
    ----------
    rows : pandas.DataFrame
        ``market, time, variance`` (realized over the horizon).
    qlike : pandas.DataFrame
        One column per model, on the index of ``rows``.
    missing : pandas.Series
        Rows per model on which it alone or with others has no forecast, though the variance is known.
    """

    rows: pd.DataFrame
    qlike: pd.DataFrame
    missing: pd.Series

    @property
    def top(self) -> pd.Series:
        """Rows in the top decile of their market's realized variance."""
        variance = self.rows["variance"]
        return variance > variance.groupby(self.rows["market"]).transform(lambda v: v.quantile(0.9))

    @property
    def worst_day(self) -> pd.Timestamp:
        """Day whose realized variance, averaged over the markets, is the largest."""
        return self.rows.groupby("time")["variance"].mean().idxmax()

    def daily(self) -> pd.DataFrame:
        """Return the mean loss over markets, per day."""
        return self.qlike.groupby(self.rows["time"]).mean()


def losses(forecasts: pd.DataFrame, rows: pd.DataFrame, variance: pd.Series) -> Losses:
    """Score every model on common rows.

    Parameters
    ----------
    forecasts : pandas.DataFrame
        One column of variances per model.
    rows : pandas.DataFrame
        ``market, time`` on the same index.
    variance : pandas.Series
        Realized variance on the same index; a row where it is missing or zero does not count.

    Raises
    ------
    ValueError
        No row is covered by every model.

    Examples
    --------
    >>> rows = pd.DataFrame({"market": "A", "time": pd.date_range("2024-01-01", periods=3, tz="UTC")})
    >>> made = losses(pd.DataFrame({"har": [1.0, 1.0, np.nan]}), rows, pd.Series([1.0, np.nan, 2.0]))
    >>> made.qlike["har"].tolist(), made.missing.to_dict()
    ([0.0], {'har': 1})
    """
    known = variance > 0
    covered = forecasts.notna()
    use = known & covered.all(axis=1)
    if not use.any():
        raise ValueError("no row is covered by every model")
    values = {m: qlike(variance[use], forecasts.loc[use, m]) for m in forecasts}
    scored = rows.loc[use, ["market", "time"]].assign(variance=variance[use])
    return Losses(scored, pd.DataFrame(values, index=scored.index), (~covered[known]).sum())


def scores(made: Losses, *, steps: int) -> pd.DataFrame:
    """Every number of the benchmark, one row per model.

    Parameters
    ----------
    made : Losses
    steps : int
        Horizon in decisions: lag of the autocovariances, least block of the bootstraps.

    Returns
    -------
    pandas.DataFrame
        Index model; columns ``qlike`` (pooled mean), ``ratio_<reference>`` (geometric mean over the markets
        of the ratio of mean losses), ``low`` and ``high`` (90 % interval of the pooled ratio to plain HAR),
        ``low_strong`` and ``high_strong`` (to strong HAR), ``dm`` and ``dm_p`` (Diebold-Mariano of the
        daily mean loss against strong HAR; negative is better), ``better`` and ``worse`` (markets where that
        test rejects at 5 %), ``mcs`` (share of markets in whose 90 % confidence set the model is),
        ``top`` and ``top_har`` (top-decile days: QLIKE and ratio to plain HAR), ``rest`` and ``rest_har``
        (without the worst day), ``largest_day`` (share of its total loss on its own worst day), ``missing``.
    """
    block = max(BLOCK, 2 * steps)
    daily, markets = made.daily(), made.qlike.groupby(made.rows["market"]).mean()
    top, rest = made.top, made.rows["time"] != made.worst_day
    table = pd.DataFrame({"qlike": made.qlike.mean()})
    for reference in [r for r in REFERENCES if r in made.qlike]:
        table[f"ratio_{reference}"] = np.exp(np.log(markets.div(markets[reference], axis=0)).mean())
    for reference, suffix in (("har", ""), (STRONG, "_strong")):
        ends = {m: _interval(made, str(m), reference, block) for m in made.qlike}
        table[f"low{suffix}"] = pd.Series({m: e[0] for m, e in ends.items()})
        table[f"high{suffix}"] = pd.Series({m: e[1] for m, e in ends.items()})
    tests = {m: diebold_mariano(daily[m], daily[STRONG], horizon=steps) for m in daily}
    table["dm"] = pd.Series({m: t.statistic for m, t in tests.items()})
    table["dm_p"] = pd.Series({m: t.p_value for m, t in tests.items()})
    table = table.join(_per_market(made, steps=steps, block=block))
    table["top"] = made.qlike[top].mean()
    table["top_har"] = table["top"] / table.loc["har", "top"]
    table["rest"] = made.qlike[rest].mean()
    table["rest_har"] = table["rest"] / table.loc["har", "rest"]
    totals = made.qlike.groupby(made.rows["time"]).sum()
    table["largest_day"] = totals.max() / totals.sum()
    return table.assign(missing=made.missing).rename_axis("model")


def _interval(made: Losses, model: str, reference: str, block: int) -> tuple[float, float]:
    base = made.qlike[reference]
    return ratio_interval(made.qlike[model], base, made.rows["time"], block=block, seed=7)


def _per_market(made: Losses, *, steps: int, block: int) -> pd.DataFrame:
    """Count the markets where the tests of one market alone decide."""
    better = pd.Series(0, made.qlike.columns)
    worse, member, tested = better.copy(), better.copy(), 0
    for _, own in made.qlike.groupby(made.rows["market"]):
        if len(own) < max(LEAST_DAYS, 3 * steps):
            continue
        tested += 1
        for model in own:
            test = diebold_mariano(own[model], own[STRONG], horizon=steps)
            decided = test.p_value < SIGNIFICANT
            better[model] += decided and test.statistic < 0
            worse[model] += decided and test.statistic > 0
        member += model_confidence_set(own, block=block, draws=BOOTSTRAPS, seed=7) > SIZE
    return pd.DataFrame({"better": better, "worse": worse, "mcs": member / max(tested, 1)})


def per_market(made: Losses) -> pd.DataFrame:
    """Mean QLIKE per market (index) and model."""
    return made.qlike.groupby(made.rows["market"]).mean()


def ablation_scores(made: Losses) -> pd.DataFrame:
    """Mean QLIKE per (model, columns), ratio to the same model with all regressors, and top-decile ratio."""
    mean, top = made.qlike.mean(), made.qlike[made.top].mean()
    whole = [(str(model), "all regressors") for model, _ in made.qlike.columns]
    return pd.DataFrame(
        {
            "qlike": mean,
            "ratio": mean.to_numpy() / mean.reindex(whole).to_numpy(),
            "top_ratio": top.to_numpy() / top.reindex(whole).to_numpy(),
        }
    )
