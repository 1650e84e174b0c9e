"""What would be published if a market's volatility, tail or depth were another one at the last decision."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import pandas as pd
from rich.console import Console
from rich.table import Table

from calibrator.calibrate.attribution import attribute
from calibrator.config import Config
from calibrator.domain import SIDES, ppm_up
from calibrator.errors import ConfigError, InfeasibleScheduleError
from pipelines.add_ons import book_of, side_columns
from pipelines.champion import with_champion
from pipelines.document import drivers, larger_side
from pipelines.forecasting import Progress
from pipelines.lending import lending
from pipelines.loading import load
from pipelines.outcomes import with_outcomes
from pipelines.producing import produced
from pipelines.production import Decisions, Production, publishable

QUANTITIES: Final = ("volatility", "tail", "depth")
HEAD: Final = 3
"""Columns before the terms of a change."""
SPELLING: Final = re.compile(r"^(volatility|tail|depth)=([+-]\d{1,4}(?:\.\d+)?)%$")


@dataclass(frozen=True, slots=True)
class Answer:
    """One market under other circumstances.

    Attributes
    ----------
    market : str
    now_ppm, then_ppm : int
        Value of the schedule as it is, and as it would be: the first tier's maintenance margin, or the
        haircut.
    unlimited_ppm : int
        What the forecast tail alone would ask.
    tiers_ppm, initial_ppm : tuple of int
        Maintenance and initial margins of all tiers as they would be; empty for a collateral.
    lent_ppm : tuple of int
        Loan-to-value, liquidation threshold and penalty as they would be; empty for a perpetual, and where no
        schedule is feasible.
    plan_ppm : tuple of int
        Planned values of the next decisions.
    attribution : dict of str to int
        Terms in ppm that add up to ``then_ppm - now_ppm``.
    """

    market: str
    now_ppm: int
    then_ppm: int
    unlimited_ppm: int
    tiers_ppm: tuple[int, ...]
    attribution: dict[str, int]
    initial_ppm: tuple[int, ...] = ()
    lent_ppm: tuple[int, ...] = ()
    plan_ppm: tuple[int, ...] = ()


def parse_changes(texts: Sequence[str]) -> dict[str, float]:
    """Read changes such as ``volatility=+50%`` as factors.

    Raises
    ------
    ConfigError
        Another quantity or spelling, or a factor that is not positive.

    Examples
    --------
    >>> parse_changes(["volatility=+50%", "depth=-20%"])
    {'volatility': 1.5, 'depth': 0.8}
    """
    out = {}
    for text in texts:
        found = SPELLING.match(text.strip())
        if found is None:
            raise ConfigError(
                f"--what-if must be {'|'.join(QUANTITIES)}=+N% or -N%, as in volatility=+50%, "
                f"was {text[:60]!r}"
            )
        factor = round(1 + float(found[2]) / 100, 12)
        if factor <= 0:
            raise ConfigError(
                f"--what-if {found[1]}: a quantity cannot fall by 100 % or more, was {found[2]} %"
            )
        out[found[1]] = factor
    return out


def what_if(production: Production, factors: Mapping[str, float]) -> list[Answer]:
    """Decide every market's last decision again under other circumstances.

    Floor, tools, speed limits and the target's own rules apply as they would: the answer is what would be
    published, not what a model would like.

    Parameters
    ----------
    production : Production
    factors : mapping of str to float
        For ``volatility``, ``tail`` (the standardised quantile) and ``depth`` (turnover).
    """
    return [_answer(production, d, factors) for d in production.decisions.values()]


def _answer(production: Production, d: Decisions, factors: Mapping[str, float]) -> Answer:
    changed = changed_decisions(production, d, factors)
    side = "long" if d.terms.role == "collateral" else larger_side(changed.table.iloc[-1])
    now, then = (ppm_up(float(x.margin[-1])) for x in (d, changed))
    perpetual = d.terms.role == "perpetual"
    maintenance, initial = production.tiers(changed) if perpetual else (None, None)
    return Answer(
        market=d.market,
        now_ppm=now,
        then_ppm=then,
        unlimited_ppm=ppm_up(float(changed.table[f"unlimited_{side}"].iloc[-1])),
        tiers_ppm=() if maintenance is None else tuple(maintenance[-1].tolist()),
        attribution=attribute(drivers(d, side, -1), drivers(changed, side, -1), published=(now, then)),
        initial_ppm=() if initial is None else tuple(initial[-1].tolist()),
        lent_ppm=() if perpetual else _lent(production, changed),
        plan_ppm=tuple(ppm_up(float(x)) for x in changed.path[-1]),
    )


def _lent(production: Production, d: Decisions) -> tuple[int, ...]:
    try:
        lent = lending(production.config, d)(float(d.margin[-1]))
    except InfeasibleScheduleError:
        return ()
    return (lent.loan_to_value_ppm, lent.liquidation_threshold_ppm, lent.liquidation_penalty_ppm)


def changed_decisions(production: Production, d: Decisions, factors: Mapping[str, float]) -> Decisions:
    """Return one market's decisions with another last row, published again."""
    config = production.config
    table = with_outcomes(production.losses, d)
    last = table.index[-1:]
    volatility, tail = (factors.get(name, 1.0) for name in ("volatility", "tail"))
    for name in ("volatility", "volatility_bar"):
        table.loc[last, name] *= volatility
    table.loc[last, "turnover"] *= factors.get("depth", 1.0)
    if "borrow" in table:
        table.loc[last, "borrow"] *= volatility * tail
    book = book_of(table, d.terms, config=config, clock=production.clock)
    for side in SIDES:
        own = (table[f"tail_{side}"] * tail, table[f"beyond_{side}"] * tail, table[f"floor_{side}"])
        columns = side_columns(
            side,
            tuple(x.to_numpy(float) for x in own),
            table["volatility"].to_numpy(float),
            table[f"jump_{side}"].to_numpy(float),
            (book, d.terms, config),
        )
        for name, values in columns.items():
            table.loc[last, name] = values[-1:]
    made = publishable(d.series or d.market, table, production.forecasts, d.terms, config, pair=d.pair)
    return replace(made, market=d.market, series=d.series, pair=d.pair)


def ask(
    config: Config, factors: Mapping[str, float], *, home: Path, as_of: datetime | None, progress: Progress
) -> list[Answer]:
    """Produce the last decisions as the jobs do, with the live champion, and decide them again.

    Parameters
    ----------
    config : Config
    factors : mapping of str to float
        See :func:`what_if`.
    home : pathlib.Path
        Where the champion and the stored walk-forward are looked for.
    as_of : datetime, optional
        Later rows are not looked at; default: the last bar.
    progress : callable
        Called with (what, done, total).
    """
    loaded = load(config, as_of=as_of)
    return what_if(produced(with_champion(config, home), loaded, home=home, progress=progress), factors)


def show(answers: Sequence[Answer], console: Console) -> None:
    """Print the answers: basis points now and then, the terms of the change, then each whole schedule.

    Terms that move nothing are left out; no figure is cut, however narrow the console.
    """
    table = Table(title="What if: basis points of notional (haircuts: of the collateral's value)")
    rows = table_of(answers)
    told = rows.columns[:HEAD].tolist() + [c for c in rows.columns[HEAD:] if rows[c].ne(0).any()]
    for name in [rows.index.name, *told]:
        left = name == rows.index.name
        table.add_column(str(name), justify="left" if left else "right", overflow="fold")
    for market, row in rows[told].iterrows():
        table.add_row(str(market), *(f"{value:,.0f}" for value in row))
    console.print(table)
    for answer in answers:
        for what, values in schedule_of(answer).items():
            figures = ", ".join(f"{value / 10_000:.2f} %" for value in values)
            console.print(f"{answer.market}: {what} {figures}", highlight=False)


def schedule_of(answer: Answer) -> dict[str, tuple[int, ...]]:
    """Return what would be published, in ppm, by name; what an entry does not have is left out.

    Examples
    --------
    >>> list(schedule_of(Answer("A", 1, 1, 1, (), {}, lent_ppm=(700_000, 740_000, 50_000), plan_ppm=(1,))))
    ['loan-to-value', 'liquidation threshold', 'penalty', 'planned next']
    """
    lent = zip(("loan-to-value", "liquidation threshold", "penalty"), answer.lent_ppm, strict=False)
    found = {
        "maintenance margins by tier": answer.tiers_ppm,
        "initial margins by tier": answer.initial_ppm,
        **{name: (value,) for name, value in lent},
        "planned next": answer.plan_ppm,
    }
    return {what: values for what, values in found.items() if values}


def table_of(answers: Sequence[Answer]) -> pd.DataFrame:
    """Lay answers out: basis points now, then and of each term.

    Examples
    --------
    >>> answer = Answer("A", 50_000, 60_000, 75_000, (60_000,), {"volatility": 25_000, "constraint": -15_000})
    >>> table_of([answer]).iloc[0].to_dict()
    {'now': 500.0, 'then': 600.0, 'unlimited': 750.0, 'volatility': 250.0, 'constraint': -150.0}
    """
    rows = {
        a.market: {"now": a.now_ppm / 100, "then": a.then_ppm / 100, "unlimited": a.unlimited_ppm / 100}
        | {term: value / 100 for term, value in a.attribution.items()}
        for a in answers
    }
    return pd.DataFrame(rows).T.rename_axis("market")
