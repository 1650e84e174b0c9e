"""Whether the portfolio margin covers when offsets fail: all correlations to 1, all hedges to 0."""

from dataclasses import replace
from itertools import combinations
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from calibrator.config_portfolio import PortfolioConfig
from calibrator.netting import CorrelationRange, PortfolioRules
from calibrator.portfolio.book import Book, requirements
from calibrator.portfolio.grid import Grid, risk_arrays, widened
from calibrator.portfolio.offsets import combine
from pipelines.benchmarks.portfolio_history import paths
from pipelines.portfolio import decision_returns, ranges
from pipelines.portfolio_book import example_book
from pipelines.production import Production

Array = NDArray[np.float64]
HEDGES: Final = (0.0, 0.2, 0.5)
"""Values of ``portfolio.hedge`` compared; the first is the default."""
REFRESH: Final = 30
"""Decisions between correlation estimates."""
LEVEL: Final = 0.99
FREEDOM: Final = 4.0
DRAWS: Final = 20_000
SEED: Final = 1_987
Book2 = tuple[str, Array]


def books(count: int) -> list[Book2]:
    """Return linear books by their notional per underlying: directional, hedged in pairs, and half and half.

    Examples
    --------
    >>> [name for name, _ in books(2)]
    ['long all', 'short all', 'pair', 'pair']
    """
    made: list[Book2] = [("long all", np.ones(count)), ("short all", -np.ones(count))]
    for i, j in combinations(range(count), 2):
        for a, b in ((i, j), (j, i)):
            weights = np.zeros(count)
            weights[a], weights[b] = 1.0, -1.0
            made.append(("pair", weights))
    if count > 2:
        half = np.where(np.arange(count) < count / 2, 1.0, -1.0)
        made += [("half long, half short", half), ("half long, half short", -half)]
    return made


def historical(
    production: Production, bars: pd.DataFrame, symbols: list[str], *, since: pd.Timestamp
) -> pd.DataFrame:
    """Cover linear books over real joint moves, and over the same moves rearranged against them.

    ``as observed``: the moves of the day. ``correlations to 1``: every underlying moves by the first one's
    move, in units of its own margin. ``and hedges to 0``: longs move together, shorts together, on different
    days.
    A loss is the largest at any full hour of the next 24.

    Returns
    -------
    pandas.DataFrame
        One row per hedge setting, joint move and book: observations, coverage, worst loss over margin, and
        margin over the sum of the positions' own.
    """
    tables = {s: production.decisions[s].table for s in symbols}
    origins = pd.DatetimeIndex(sorted(set.intersection(*(set(t.index) for t in tables.values()))))
    origins = origins[origins >= since]
    closes = {s: bars[bars["market"] == s].set_index("time")["close"] for s in symbols}
    walks = {s: paths(closes[s], origins) for s in symbols}
    moves = np.stack([walks[s] / walks[s][:, :1] - 1 for s in symbols], axis=2)
    down = np.column_stack([tables[s].loc[origins, "margin_long"].to_numpy(float) for s in symbols])
    up = np.column_stack([tables[s].loc[origins, "margin_short"].to_numpy(float) for s in symbols])
    whole = np.isfinite(moves).all(axis=(1, 2))
    origins, moves, down, up = origins[whole], moves[whole], down[whole], up[whole]
    returns = decision_returns(production, symbols)
    rows = []
    for hedge in HEDGES:
        settings = production.config.portfolio.model_copy(update={"hedge": hedge})
        bounds = _bounds(returns, settings, origins, symbols)
        rows += _cover(bounds, moves, down, up, hedge)
    return _table(rows)


def _bounds(
    returns: pd.DataFrame, settings: PortfolioConfig, origins: pd.DatetimeIndex, symbols: list[str]
) -> list[tuple[Array, Array]]:
    """Return the correlation bounds at every decision, from what was known then, every ``REFRESH`` anew."""
    out: list[tuple[Array, Array]] = []
    for i, origin in enumerate(origins):
        if i % REFRESH == 0:
            made = ranges(returns[returns.index <= origin], settings)
            current = _matrices(made, symbols)
        out.append(current)
    return out


def _matrices(pairs: tuple[CorrelationRange, ...], symbols: list[str]) -> tuple[Array, Array]:
    n = len(symbols)
    low, high = np.full((n, n), -1.0), np.ones((n, n))
    for p in pairs:
        i, j = symbols.index(p.first), symbols.index(p.second)
        low[i, j] = low[j, i] = p.low_ppm / 1e6
        high[i, j] = high[j, i] = p.high_ppm / 1e6
    np.fill_diagonal(low, 1.0)
    return low, high


Outcome = tuple[float, str, str, float, float, float]


def _cover(
    bounds: list[tuple[Array, Array]], moves: Array, down: Array, up: Array, hedge: float
) -> list[Outcome]:
    rng = np.random.default_rng(SEED)
    fall, rise = down[:, None, :], up[:, None, :]
    relative = np.where(moves < 0, moves / fall, moves / rise)
    other = rng.permutation(len(moves))
    first, second = relative[:, :, :1], relative[other, :, 1:2]
    together = np.where(first < 0, first * fall, first * rise)
    apart = np.where(second < 0, second * fall, second * rise)
    rows: list[Outcome] = []
    for name, weights in books(moves.shape[2]):
        long = weights > 0
        worlds = {
            "as observed": moves,
            "correlations to 1": together,
            "correlations to 1 and hedges to 0": np.where(long, together, apart),
        }
        falls, rises = np.where(long, weights * down, 0.0), np.where(~long, -weights * up, 0.0)
        margin = np.array([combine(r, f, *b).total for r, f, b in zip(rises, falls, bounds, strict=True)])
        alone = (falls + rises).sum(axis=1)
        for world, moved in worlds.items():
            loss = (-(moved @ weights)).max(axis=1)
            rows += [
                (hedge, world, name, float(lost <= m), float(lost / m), float(m / a))
                for lost, m, a in zip(loss, margin, alone, strict=True)
            ]
    return rows


def _table(rows: list[Outcome]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["hedge", "joint moves", "book", "covered", "ratio", "share"])
    grouped = frame.groupby(["hedge", "joint moves", "book"], sort=False)
    out = grouped.agg(
        observations=("covered", "size"),
        coverage=("covered", "mean"),
        worst_loss_to_margin=("ratio", "max"),
        margin_of_sum=("share", "mean"),
    )
    return out.reset_index()


def simulated(
    rules: PortfolioRules,
    prices: dict[str, float],
    volatility: dict[str, float],
    *,
    accounts: int = 400,
    draws: int = DRAWS,
) -> pd.DataFrame:
    """Cover a simulated book of options, carries and pairs over drawn joint moves, revalued in full.

    Moves are Student-t with four degrees of freedom, each side's margin their 99 % quantile, capped at twelve
    margins; volatility shifts by a uniform share of its range, up when the price falls. ``independent``:
    every underlying for itself. ``correlations to 1``: one draw moves all. ``and hedges to 0``: underlyings
    on which an account loses by a fall share one draw, the others another one.

    Returns
    -------
    pandas.DataFrame
        Per hedge setting and joint move: coverage of all accounts, of the worst one, and of the pairs.
    """
    rows = []
    grid = widened(rules, 1.0)
    moves = [_drawn(grid, draws, seed) for seed in (1, 2)]
    apart = _drawn(grid, draws, 3, together=False)
    for hedge in HEDGES:
        symbols = [u.symbol for u in rules.underlyings]
        pairs = tuple(
            CorrelationRange(a, b, round(hedge * 1e6), 1_000_000) for a, b in combinations(sorted(symbols), 2)
        )
        used = replace(rules, correlations=pairs)
        held, strategy = example_book(used, prices, volatility, accounts=accounts)
        margin = requirements(held, used).sum(axis=1)
        gains = [_gains(held, g) for g in (*moves, apart)]
        falls = _loses_by_a_fall(held)
        worlds = {
            "independent": gains[2].sum(axis=1),
            "correlations to 1": gains[0].sum(axis=1),
            "correlations to 1 and hedges to 0": np.where(falls[:, :, None], gains[0], gains[1]).sum(axis=1),
        }
        for world, profit in worlds.items():
            covered = (-profit <= margin[:, None] + 1e-9).mean(axis=1)
            pair = covered[strategy == 4]
            rows.append((hedge, world, accounts, covered.mean(), covered.min(), pair.mean(), pair.min()))
    columns = [
        "hedge",
        "joint moves",
        "accounts",
        "coverage",
        "worst_account",
        "coverage_pairs",
        "worst_pair",
    ]
    return pd.DataFrame(rows, columns=columns)


def _drawn(grid: Grid, draws: int, seed: int, *, together: bool = True) -> Grid:
    """Draw a grid of joint moves: one Student-t for all underlyings, or one for each."""
    rng = np.random.default_rng(seed)
    count = len(grid.symbols)
    scale = stats.t.ppf(LEVEL, FREEDOM)
    z = rng.standard_t(FREEDOM, (1 if together else count, draws)) / scale
    z = np.clip(np.repeat(z, count, axis=0) if together else z, -12.0, 12.0)
    full = grid.weight == 1.0
    down, up = -grid.move[:, full].min(axis=1)[:, None], grid.move[:, full].max(axis=1)[:, None]
    move = np.maximum(np.where(z < 0, z * down, z * up), -0.99)
    share = rng.random(z.shape)
    rise, fall = grid.shift.max(axis=1)[:, None], grid.shift.min(axis=1)[:, None]
    shift = np.where(z < 0, share * rise, share * fall)
    passed = np.broadcast_to(grid.elapsed.max(axis=1)[:, None], move.shape)
    return replace(grid, move=move, shift=shift, elapsed=np.ascontiguousarray(passed), weight=np.ones(draws))


def _gains(held: Book, drawn: Grid) -> NDArray[np.float32]:
    """Gain of every account and underlying in every draw, shape (accounts, U, draws)."""
    scenarios = drawn.scenarios[:1] * drawn.move.shape[1]
    values = risk_arrays(held.contracts, replace(drawn, scenarios=scenarios))
    out = np.empty((held.accounts, len(drawn.symbols), drawn.move.shape[1]), np.float32)
    for account in range(held.accounts):
        own = np.zeros(drawn.move.shape)
        for i in range(held.start[account], held.start[account + 1]):
            c = held.contract[i]
            own[held.contracts.underlying[c]] += held.quantity[i] * values[c]
        out[account] = own
    return out


def _loses_by_a_fall(held: Book) -> NDArray[np.bool_]:
    """Whether an account's exposure to each underlying is long."""
    owner = np.repeat(np.arange(held.accounts), np.diff(held.start))
    exposure = held.quantity * held.contracts.exposure[held.contract]
    net = np.zeros((held.accounts, len(held.contracts.symbols)))
    np.add.at(net, (owner, held.contracts.underlying[held.contract]), exposure)
    return net > 0
