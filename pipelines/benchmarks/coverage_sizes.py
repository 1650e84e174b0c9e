"""``benchmark coverage``: how often each test of the battery rejects a margin that is right."""

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student_t

from calibrator.backtest.coverage import (
    CoverageTest,
    christoffersen_conditional,
    christoffersen_independence,
    excess_breaches,
    kupiec,
)
from calibrator.backtest.dynamic_quantile import dynamic_quantile
from calibrator.backtest.expected_shortfall import (
    ShortfallTest,
    TailNull,
    acerbi_szekely_z1,
    acerbi_szekely_z2,
    mcneil_frey,
)
from calibrator.backtest.multinomial import multinomial
from calibrator.backtest.overlap import overlapping_breaches
from pipelines.benchmarks.forecast_pages import machine, pipe_table
from pipelines.forecasting import Progress
from pipelines.store import save

Array = NDArray[np.float64]
NOMINAL: Final = 0.05
WORLDS: Final = ((250, 0.99), (365, 0.99), (365, 0.995), (1000, 0.99), (1000, 0.995))
OVERLAP: Final = 5
NU: Final = 5.0
"""Degrees of freedom of the losses of the expected-shortfall tests."""
REPETITIONS: Final = {
    "kupiec": 20_000,
    "excess breaches": 20_000,
    "independence": 8_000,
    "conditional coverage": 8_000,
    "dynamic quantile": 3_000,
    "multinomial": 10_000,
    "overlapping breaches": 8_000,
    "Acerbi-Szekely Z1": 4_000,
    "Acerbi-Szekely Z2": 4_000,
    "McNeil-Frey": 1_500,
}
Outcome = CoverageTest | ShortfallTest
Ties = np.random.Generator | None
NOTE: Final = (
    "Share of margins that are right and that each test rejects at nominal 5 %. `decision`: the exact or",
    "Monte-Carlo p-value that decides; `ties`: the same with random ties; `asymptotic`: the textbook's",
    "p-value, information only. `repetitions` simulated series; their binomial standard error is",
    "`error`, of a true 5 %. Overlapping breaches: sums of 5 consecutive Student-t moves with 3, 5 and",
    "infinitely many degrees of freedom. Expected-shortfall tests: Student-t losses with 5 degrees of",
    "freedom, and the same null.",
)


def run(*, scale: float = 1.0, progress: Progress) -> pd.DataFrame:
    """Simulate every test under its null.

    Parameters
    ----------
    scale : float
        Share of the full number of repetitions.
    progress : callable
        Called with (what, done, total).

    Returns
    -------
    pandas.DataFrame
        One row per test, number of observations and level.
    """
    rows: list[dict[str, object]] = []
    for done, (observations, level) in enumerate(WORLDS):
        progress("sizes", done, len(WORLDS))
        for name, test in _tests(observations, level):
            count = max(20, round(scale * REPETITIONS[name.partition(",")[0]]))
            rows.append(
                {"test": name, "observations": observations, "level": level}
                | _sizes(test, count, seed=len(rows))
            )
    progress("sizes", len(WORLDS), len(WORLDS))
    return pd.DataFrame(rows).sort_values(["test", "level", "observations"], kind="stable", ignore_index=True)


Draw = Callable[[np.random.Generator], Callable[[Ties], Outcome]]


def _sizes(draw: Draw, count: int, *, seed: int) -> dict[str, float]:
    """Reject ``count`` simulated series by each p-value."""
    rng, ties = np.random.default_rng([2025, seed]), np.random.default_rng([1, seed])
    decisions, random, asymptotic = [], [], []
    for _ in range(count):
        test = draw(rng)
        plain = test(None)
        decisions.append(plain.decision_p_value)
        asymptotic.append(np.nan if plain.p_value is None else plain.p_value)
        tied = test(ties) if isinstance(plain, CoverageTest) else plain
        random.append(tied.decision_p_value)
    return {
        "decision": float(np.mean(np.array(decisions) <= NOMINAL)),
        "ties": float(np.mean(np.array(random) <= NOMINAL)),
        "asymptotic": float(np.mean(np.array(asymptotic) <= NOMINAL)),
        "repetitions": count,
        "error": float(np.sqrt(NOMINAL * (1 - NOMINAL) / count)),
    }


def _tests(observations: int, level: float) -> Iterator[tuple[str, Draw]]:
    n, p = observations, 1 - level

    def counted(test: Callable[..., CoverageTest]) -> Draw:
        def draw(rng: np.random.Generator) -> Callable[[Ties], Outcome]:
            x = int(rng.binomial(n, p))
            return lambda ties: test(x, n, level=level, ties=ties)

        return draw

    def alone(rng: np.random.Generator) -> Callable[[Ties], Outcome]:
        hits = rng.random(n) < p
        return lambda ties: christoffersen_independence(hits, ties=ties)

    def both(rng: np.random.Generator) -> Callable[[Ties], Outcome]:
        hits = rng.random(n) < p
        return lambda ties: christoffersen_conditional(hits, level=level, ties=ties)

    def regression(rng: np.random.Generator) -> Callable[[Ties], Outcome]:
        hits, quantile = rng.random(n) < p, np.exp(np.cumsum(0.05 * rng.standard_normal(n)))
        seed = int(rng.integers(1 << 31))
        return lambda _: dynamic_quantile(hits, quantile, level=level, draws=199, seed=seed)

    def cells(rng: np.random.Generator) -> Callable[[Ties], Outcome]:
        levels = 1 - p * np.array([1.0, 0.5, 0.25])
        x, quantiles = rng.random(n), np.broadcast_to(levels, (n, 3))
        return lambda ties: multinomial(x, quantiles, levels=levels, ties=ties)

    yield "kupiec", counted(kupiec)
    yield "excess breaches", counted(excess_breaches)
    yield "independence", alone
    yield "conditional coverage", both
    yield "dynamic quantile", regression
    yield "multinomial", cells
    for nu in (3.0, 5.0, np.inf):
        yield f"overlapping breaches, t({nu:g})", _overlapping(n, level, nu)
    yield "Acerbi-Szekely Z1", _shortfall(n, level, "z1")
    yield "Acerbi-Szekely Z2", _shortfall(n, level, "z2")
    yield "McNeil-Frey", _shortfall(n, level, "exceedances")


def _overlapping(n: int, level: float, nu: float) -> Draw:
    threshold = float(np.quantile(_sums(2_000_000, nu, np.random.default_rng(7)), level))

    def draw(rng: np.random.Generator) -> Callable[[Ties], Outcome]:
        x = int((_sums(n, nu, rng) > threshold).sum())
        return lambda ties: overlapping_breaches(x, n, level=level, overlap=OVERLAP, ties=ties)

    return draw


def _sums(count: int, nu: float, rng: np.random.Generator) -> Array:
    size = count + OVERLAP - 1
    moves = rng.standard_normal(size) if np.isinf(nu) else rng.standard_t(nu, size)
    total = np.concatenate([[0.0], np.cumsum(moves)])
    sums: Array = total[OVERLAP:] - total[:-OVERLAP]
    return sums


def _shortfall(n: int, level: float, which: str) -> Draw:
    quantile = float(student_t.isf(1 - level, NU))
    density = float(student_t.pdf(quantile, NU))
    shortfall = density / (1 - level) * (NU + quantile**2) / (NU - 1)
    null = TailNull(NU)

    def draw(rng: np.random.Generator) -> Callable[[Ties], Outcome]:
        x, seed = rng.standard_t(NU, n), int(rng.integers(1 << 31))
        if which == "z1":
            return lambda _: acerbi_szekely_z1(x, quantile, shortfall, level=level, null=null)
        if which == "z2":
            return lambda _: acerbi_szekely_z2(x, quantile, shortfall, level=level, null=null)
        return lambda _: mcneil_frey(x, quantile, shortfall, draws=499, seed=seed)

    return draw


def page(table: pd.DataFrame, *, made_on: date) -> str:
    """Spell the table in Markdown, and say whether every size keeps its bounds."""
    shown = table.assign(
        **{c: table[c].map("{:.2%}".format) for c in ("decision", "ties", "asymptotic", "error")},
        level=table["level"].map("{:g}".format),
    )
    largest = table.loc[table["decision"].idxmax()]
    noise = 1.645 * table["error"]
    beyond = int((table["decision"] > 0.057 + noise).sum())
    where = f"{largest['test']}, {largest['observations']} observations, {largest['level']:g}"
    said = (
        f"Largest size of a decision: {largest['decision']:.2%} ({where}). {beyond} of {len(table)} lie "
        "above 5.7 % by more than the noise of the simulation."
    )
    lines = ["# Sizes of the coverage battery", "", f"{made_on}; {machine()}.", "", *NOTE, "", said, ""]
    return "\n".join([*lines, *pipe_table(shown.set_index("test")), ""])


def write(table: pd.DataFrame, *, home: Path, made_on: date, docs: Path | None = None) -> dict[str, Path]:
    """Write the page to ``home/benchmarks/``, and to ``docs``."""
    folder = home / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    text = page(table, made_on=made_on)
    out = {"table": save(folder / "coverage-sizes.md", text)}
    if docs is not None:
        docs.mkdir(parents=True, exist_ok=True)
        out["committed table"] = save(docs / "coverage-sizes.md", text)
    return out
