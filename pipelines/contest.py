"""Champion against challenger: the tests and gates that decide whether a challenger is promoted."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from calibrator.backtest.comparison import diebold_mariano
from calibrator.backtest.coverage import excess_breaches
from calibrator.backtest.kpis import equal_margin_shortfall, procyclicality
from calibrator.config_jobs import GatesConfig, RetrainConfig
from calibrator.errors import DataError
from calibrator.scores import qlike
from pipelines.forecasting import PUBLISHED
from pipelines.production import Production

Array = npt.NDArray[np.float64]
ROW: Final = ["market", "origin", "side"]
REFERENCE: Final = "champion"
WORLDS: Final = 400


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition: its name, whether it holds, the value, and the rule in words."""

    name: str
    holds: bool
    value: float
    rule: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one challenger did in the shadow window.

    Attributes
    ----------
    name : str
    qlike, champion_qlike : float
        Mean loss over the rows that both forecast.
    gates : tuple of Gate
    """

    name: str
    qlike: float
    champion_qlike: float
    gates: tuple[Gate, ...]

    @property
    def passes(self) -> bool:
        """Whether all gates hold."""
        return all(g.holds for g in self.gates)


@dataclass(frozen=True, slots=True)
class Contest:
    """The shadow window and a verdict per challenger, the best first.

    Attributes
    ----------
    first, last : pandas.Timestamp
        First and last origin of the window.
    daily : pandas.DataFrame
        Mean QLIKE per origin and model.
    verdicts : tuple of Verdict
    false_promotion : float
        Share of :data:`WORLDS` worlds without a better challenger, made by swapping the window's own losses,
        in which the loss gates promote one.
    """

    first: pd.Timestamp
    last: pd.Timestamp
    daily: pd.DataFrame
    verdicts: tuple[Verdict, ...]
    false_promotion: float

    @property
    def winner(self) -> str | None:
        """The passing challenger with the smallest loss; None keeps the champion."""
        passing = [v for v in self.verdicts if v.passes]
        return min(passing, key=lambda v: (v.qlike, v.name)).name if passing else None


def hold_contest(
    champion: Production, challengers: dict[str, Production], *, settings: RetrainConfig, steps: int
) -> Contest:
    """Compare challengers with the champion over the last decisions whose outcome is known.

    Every forecast in the window was made walk-forward, by models that had learned from outcomes known at
    their refit only; origins whose outcome is not known yet are left out, which purges the last horizon.

    Parameters
    ----------
    champion, challengers : Production, dict of str to Production
        Whole walk-forwards over the same bars.
    settings : RetrainConfig
    steps : int
        Horizon in decisions.

    Raises
    ------
    DataError
        Fewer decisions with known outcomes than ``2 * steps + 60``.
    """
    losses = {REFERENCE: _losses(champion)} | {n: _losses(p) for n, p in challengers.items()}
    table = pd.concat(losses, axis=1).dropna()
    origins = table.index.get_level_values("origin").unique().sort_values()[-settings.shadow :]
    if len(origins) < 2 * steps + 60:
        raise DataError(
            f"retrain: needs {2 * steps + 60} decisions with known outcomes, there are {len(origins)}"
        )
    table = table[table.index.get_level_values("origin") >= origins[0]]
    daily = table.groupby(level="origin").mean()
    gains = -daily.drop(columns=REFERENCE).sub(daily[REFERENCE], axis=0)
    block = max(settings.block, steps)
    chances = permutation_test(gains.to_numpy(), block=block, draws=settings.draws, seed=settings.seed)
    verdicts = []
    for name, chance in zip(gains.columns, chances, strict=True):
        test = diebold_mariano(daily[name].to_numpy(), daily[REFERENCE].to_numpy(), horizon=steps)
        one_sided = test.p_value / 2 if test.statistic < 0 else 1 - test.p_value / 2
        mean, base = float(table[name].mean()), float(table[REFERENCE].mean())
        gates = [
            *_loss_gates(settings.gates, mean / base, one_sided, float(chance)),
            *_margin_gates(settings.gates, champion, challengers[name], origins[0]),
        ]
        verdicts.append(Verdict(str(name), mean, base, tuple(gates)))
    ordered = tuple(sorted(verdicts, key=lambda v: (not v.passes, v.qlike, v.name)))
    wrong = false_promotions(
        gains.to_numpy(), settings=settings, steps=steps, trials=WORLDS, seed=settings.seed
    )
    return Contest(origins[0], origins[-1], daily, ordered, wrong)


def permutation_test(gains: Array, *, block: int, draws: int, seed: int) -> Array:
    """P-value of each challenger's mean gain, over all challengers at once.

    Under the null champion and challenger are exchangeable, so swapping them within a block of days changes
    the sign of its gain. The statistic is the studentised sum of block gains; a permutation is compared by
    the largest over all challengers, so that many challengers do not promote one by chance.

    Parameters
    ----------
    gains : numpy.ndarray, shape (days, challengers)
        Loss of the champion less loss of the challenger.
    block : int
        Days that are swapped together.
    draws, seed : int
        Permutations and their seed.

    Returns
    -------
    numpy.ndarray, shape (challengers,)

    References
    ----------
    Westfall, P. and Young, S. (1993). Resampling-based multiple testing.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> gains = rng.normal([0.0, 0.4], 1.0, (200, 2))
    >>> permutation_test(gains, block=5, draws=499, seed=1).round(3).tolist()
    [1.0, 0.002]
    """
    starts = np.arange(0, len(gains), block)
    sums = np.add.reduceat(gains, starts, axis=0)
    scale = np.sqrt((sums**2).sum(axis=0))
    scale = np.where(scale > 0, scale, np.inf)
    observed = sums.sum(axis=0) / scale
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(draws, len(sums)))
    largest = (signs @ (sums / scale)).max(axis=1)
    exceed: Array = (1.0 + (largest[:, None] >= observed - 1e-12).sum(axis=0)) / (1.0 + draws)
    return exceed


def false_promotions(gains: Array, *, settings: RetrainConfig, steps: int, trials: int, seed: int) -> float:
    """Share of worlds without a better challenger in which the loss gates would promote one.

    Each world swaps champion and challenger at random in blocks of the observed gains.

    Parameters
    ----------
    gains : numpy.ndarray, shape (days, challengers)
    settings : RetrainConfig
    steps : int
        Horizon in decisions.
    trials, seed : int
    """
    block = max(settings.block, steps)
    rng = np.random.default_rng(seed)
    promoted = 0
    for trial in range(trials):
        swaps = np.repeat(rng.choice([-1.0, 1.0], size=-(-len(gains) // block)), block)[: len(gains)]
        world = gains * swaps[:, None]
        promoted += bool(passes_loss_gates(world, settings=settings, steps=steps, seed=trial))
    return promoted / trials


def passes_loss_gates(gains: Array, *, settings: RetrainConfig, steps: int, seed: int) -> list[int]:
    """Return which challengers the loss gates let through: both tests, and a mean gain.

    Parameters
    ----------
    gains : numpy.ndarray, shape (days, challengers)
        Loss of the champion less loss of the challenger.
    settings : RetrainConfig
    steps : int
        Horizon in decisions.
    seed : int
        Of the permutations.

    Examples
    --------
    >>> gains = np.random.default_rng(1).normal([0.0, 0.4], 1.0, (200, 2))
    >>> passes_loss_gates(gains, settings=RetrainConfig(draws=199), steps=1, seed=1)
    [1]
    """
    chances = permutation_test(gains, block=max(settings.block, steps), draws=settings.draws, seed=seed)
    found = []
    for number, (column, chance) in enumerate(zip(gains.T, chances, strict=True)):
        test = diebold_mariano(-column, np.zeros(len(column)), horizon=steps)
        one_sided = test.p_value / 2 if test.statistic < 0 else 1 - test.p_value / 2
        if max(chance, one_sided) <= settings.gates.size and column.mean() > 0:
            found.append(number)
    return found


def _losses(production: Production) -> pd.Series:
    """QLIKE of the published forecast per market and origin whose outcome is known."""
    forecasts = production.forecasts
    index = forecasts.experts.index
    rows = forecasts.features.loc[index, ["market", "time"]]
    outcome = forecasts.targets.loc[index, "future_variance"].to_numpy(float)
    forecast = forecasts.experts[PUBLISHED].to_numpy(float)
    use = (outcome > 0) & (forecast > 0)
    keys = pd.MultiIndex.from_arrays([rows["market"][use], rows["time"][use]], names=["market", "origin"])
    return pd.Series(qlike(outcome[use], forecast[use]), keys)


def _loss_gates(gates: GatesConfig, ratio: float, dm: float, permutation: float) -> list[Gate]:
    least = 1 - gates.min_gain
    return [
        Gate("QLIKE ratio", ratio < least, ratio, f"below {least:.4g}"),
        Gate("Diebold-Mariano p-value", dm <= gates.size, dm, f"at most {gates.size:.4g}"),
        Gate("permutation p-value", permutation <= gates.size, permutation, f"at most {gates.size:.4g}"),
    ]


def _margin_gates(
    gates: GatesConfig, champion: Production, challenger: Production, first: pd.Timestamp
) -> list[Gate]:
    old, new = shadow_margins(champion, first), shadow_margins(challenger, first)
    both = old.merge(new[[*ROW, "margin"]], on=ROW, suffixes=("_old", ""))
    known = both[both["loss"].notna()]
    coverage = [float((known["loss"] <= known[c]).mean()) for c in ("margin_old", "margin")]
    worst = _least_p(known)
    shortfall = _shortfall_ratio(known)
    kpis = [procyclicality(m.drop(columns="loss")) for m in (old, new)]
    rise = _ratio(kpis, "max_increase_1")
    peak = _ratio(kpis, "peak_to_trough")
    lost = coverage[0] - coverage[1]
    return [
        Gate("coverage lost", lost <= gates.coverage_loss, lost, f"at most {gates.coverage_loss:.4g}"),
        Gate(
            "too many breaches p-value",
            worst >= gates.coverage_size,
            worst,
            f"at least {gates.coverage_size:.4g}",
        ),
        Gate(
            "shortfall at equal margin",
            shortfall <= gates.shortfall,
            shortfall,
            f"at most {gates.shortfall:.4g}",
        ),
        Gate(
            "largest increase",
            rise <= gates.increase,
            rise,
            f"at most {gates.increase:.4g} of the champion's",
        ),
        Gate(
            "peak to trough",
            peak <= gates.peak_to_trough,
            peak,
            f"at most {gates.peak_to_trough:.4g} of the champion's",
        ),
    ]


def shadow_margins(production: Production, first: pd.Timestamp) -> pd.DataFrame:
    """Return the published margins from an origin on, of every role, with the worst loss beside each."""
    parts = [production.margins(), production.margins(role="collateral")]
    margins = pd.concat([p for p in parts if len(p)], ignore_index=True)
    sides = {
        m: ["long"] if d.terms.role == "collateral" else ["long", "short"]
        for m, d in production.decisions.items()
    }
    pairs = zip(margins["market"], margins["side"], strict=True)
    counts = np.array([side in sides[market] for market, side in pairs], bool)
    margins = margins[(margins["origin"] >= first) & counts]
    worst = production.losses.groupby(ROW, as_index=False)["loss"].agg(lambda x: x.max(skipna=False))
    return margins.merge(worst, on=ROW, how="left").reset_index(drop=True)


def _least_p(known: pd.DataFrame) -> float:
    """Smallest p-value of too many breaches over markets and sides, times their number."""
    values = []
    for _, own in known.groupby(["market", "side"]):
        level = float(own["level"].iloc[0])
        breaches = int((own["loss"] > own["margin"]).sum())
        values.append(excess_breaches(breaches, len(own), level=level).decision_p_value)
    return min(1.0, min(values) * len(values)) if values else 1.0


def _shortfall_ratio(known: pd.DataFrame) -> float:
    policies = known[ROW].assign(**{REFERENCE: known["margin_old"], "challenger": known["margin"]})
    table = equal_margin_shortfall(policies, known[[*ROW, "loss"]], reference=REFERENCE)
    value = float(table.loc["challenger", "relative"])
    return value if np.isfinite(value) else 1.0


def _ratio(kpis: list[pd.DataFrame], column: str) -> float:
    old, new = (float(k[column].max()) for k in kpis)
    return new / old if np.isfinite(old) and old > 0 and np.isfinite(new) else 1.0
