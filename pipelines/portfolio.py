"""From a production run to the portfolio section of the document: grid, offsets, add-ons, collateral."""

from dataclasses import replace
from math import ceil
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.config_portfolio import PortfolioConfig
from calibrator.domain import PPM, ppm_up
from calibrator.netting import (
    AddOnTier,
    CollateralRule,
    CorrelationRange,
    PortfolioRules,
    UnderlyingRules,
    VolatilityTerm,
)
from calibrator.portfolio.offsets import correlation_ranges
from calibrator.portfolio.scenarios import (
    forecast_correlations,
    inner_shares,
    price_moves,
    scenarios,
    stressed_correlations,
    volatility_shifts,
)
from calibrator.publish.document import CollateralParameters, ParameterDocument
from calibrator.publish.portfolio_parameters import PortfolioParameters
from pipelines.production import Decisions, Production
from pipelines.starts import close_out

Array = NDArray[np.float64]
TERM: Final = VolatilityTerm(300_000, 130_000, 1)
"""Volatility shifts grow towards expiry with the powers that exchanges use."""
STRESS_LEVEL: Final = 0.01
"""Quantile of the rolling correlations that counts as stressed."""
DAY: Final = 86_400
MOST_PAIRED: Final = 100
"""Underlyings with offsets, those of the largest turnover; the others have none: the document stays small."""


def with_portfolio(
    document: ParameterDocument, production: Production, *, previous: ParameterDocument | None
) -> ParameterDocument:
    """Return the document with the portfolio section that belongs to it.

    Parameters
    ----------
    document : ParameterDocument
        Of the last decisions, without the section.
    production : Production
    previous : ParameterDocument or None
        What is published: an underlying that is held keeps its moves and add-ons.
    """
    if not production.config.portfolio.enabled:
        return document
    before = previous.portfolio.rules() if previous and previous.portfolio else None
    rules = portfolio_rules(document, production, before=before)
    if rules is None:
        return document
    return document.model_copy(update={"portfolio": PortfolioParameters.of(rules)})


def portfolio_rules(
    document: ParameterDocument, production: Production, *, before: PortfolioRules | None = None
) -> PortfolioRules | None:
    """Return the rules of the markets of a document, or None when no market has a decision.

    Parameters
    ----------
    document : ParameterDocument
        Its collateral haircuts and its held markets count.
    production : Production
        At the last decision.
    before : PortfolioRules, optional
        Last good rules.
    """
    settings = production.config.portfolio
    decided = by_symbol(production)
    priced = [m for m in document.markets if m.role == "perpetual" or m.haircut.debt == settings.quote]
    fresh = {m.symbol for m in priced if m.status == "fresh"} & set(decided)
    made = {s: underlying_rules(production, decided[s]) for s in sorted(fresh)}
    template = scenarios(len(settings.levels) + 1, settings.extended)
    moves = {len(u.moves_ppm) for u in made.values()}
    held = {u.symbol: u for u in before.underlyings} if before and before.scenarios == template else {}
    named = {m.symbol for m in document.markets}
    for symbol, last in held.items():
        if symbol in named and symbol not in made and (not moves or len(last.moves_ppm) in moves):
            made[symbol] = last
    if not made:
        return None
    rules = PortfolioRules(
        quote=settings.quote,
        initial_multiple_ppm=ppm_up(production.config.margin.initial_multiple),
        term=TERM,
        scenarios=template,
        underlyings=tuple(made[s] for s in sorted(made)),
        correlations=_correlations(production, sorted(fresh)),
        collateral=_collateral(document, settings, set(made)),
    )
    return rules if before is None else eased(before, rules, production.config.margin.limits.max_decrease)


def eased(before: PortfolioRules, rules: PortfolioRules, max_decrease: float) -> PortfolioRules:
    """Let volatility shifts and offsets loosen no faster than a margin may fall in one decision.

    Moves are margins and keep their own speed limits. An offset loosens from what it did not count before:
    a pair that has become known starts from none.

    Parameters
    ----------
    before, rules : PortfolioRules
        What is published, and what is to be.
    max_decrease : float
        Largest relative decrease.
    """
    keep = 1.0 - max_decrease
    old = {u.symbol: u for u in before.underlyings}
    underlyings = tuple(
        replace(
            u,
            volatility_up_ppm=max(u.volatility_up_ppm, ceil(keep * old[u.symbol].volatility_up_ppm)),
            volatility_down_ppm=max(u.volatility_down_ppm, ceil(keep * old[u.symbol].volatility_down_ppm)),
        )
        if u.symbol in old
        else u
        for u in rules.underlyings
    )
    ranges_before = {(c.first, c.second): c for c in before.correlations}
    pairs = []
    for c in rules.correlations:
        last = ranges_before.get((c.first, c.second), CorrelationRange(c.first, c.second, -PPM, PPM))
        if {c.first, c.second} <= old.keys():
            low = min(c.low_ppm, PPM - ceil(keep * (PPM - last.low_ppm)))
            high = max(c.high_ppm, ceil(keep * (PPM + last.high_ppm)) - PPM)
            pairs.append(replace(c, low_ppm=low, high_ppm=high))
        else:
            pairs.append(c)
    return replace(rules, underlyings=underlyings, correlations=tuple(pairs))


def by_symbol(production: Production) -> dict[str, Decisions]:
    """Return the decisions by symbol: perpetuals, and collateral against the quote currency."""
    quote = production.config.portfolio.quote
    return {
        d.key[0]: d for d in production.decisions.values() if d.terms.role == "perpetual" or d.key[2] == quote
    }


def underlying_rules(production: Production, d: Decisions, at: int = -1) -> UnderlyingRules:
    """Return the moves and add-ons of one market at one of its decisions.

    The outermost moves are the published margins of the long and of the short side, so that a position alone
    asks what the schedule asks; the inner ones are lower quantiles of the same losses.

    Parameters
    ----------
    production : Production
    d : Decisions
    at : int
        Position of the decision; default the last. Nothing later than it is used.
    """
    config, settings = production.config, production.config.portfolio
    upto = d.table.iloc[: len(d.table) + at + 1 if at < 0 else at + 1]
    row, level = upto.iloc[-1], d.terms.level or config.margin.level
    length = close_out(config, d.terms)
    outer = {side: min(float(row[f"margin_{side}"]), 0.95) for side in ("long", "short")}
    sides = []
    for side in ("long", "short"):
        lost = _standardised(production, d, upto, side)
        shares = inner_shares(lost, level, settings.levels)
        sides.append([*(outer[side] * s for s in shares), outer[side]])
    steps = max(1, -(-length // production.clock.cadence))
    window = upto["volatility"].to_numpy(float)[-(config.margin.tail_window + steps) :]
    up, down = volatility_shifts(window, steps, settings.volatility_level)
    seconds = int(length * production.clock.step.total_seconds())
    widest = max(outer.values())
    return UnderlyingRules(
        symbol=d.key[0],
        moves_ppm=price_moves(sides[0], sides[1], extended=settings.extended),
        volatility_up_ppm=min(ppm_up(up), 20 * PPM),
        volatility_down_ppm=ppm_up(down),
        close_out_seconds=seconds,
        basis_ppm=ppm_up(settings.basis * widest),
        funding_ppm=ppm_up(min(settings.funding * max(1.0, seconds / DAY), 1.0)),
        naked_option_ppm=ppm_up(settings.naked_option),
        concentration=_concentration(production, d) if at == -1 else (),
    )


def _standardised(production: Production, d: Decisions, upto: pd.DataFrame, side: str) -> Array:
    """Losses over forecast volatility that were known at the last row of ``upto``."""
    window = upto.tail(production.config.margin.tail_window)
    losses = production.losses
    now = window.index[-1]
    own = losses[(losses["market"] == d.market) & (losses["side"] == side) & (losses["known_at"] <= now)]
    volatility = window["volatility"].reindex(pd.DatetimeIndex(own["origin"])).to_numpy(float)
    standardised: Array = own["loss"].to_numpy(float) / volatility
    return standardised


def _concentration(production: Production, d: Decisions) -> tuple[AddOnTier, ...]:
    """Return what the schedule's higher tiers ask beyond the first."""
    if d.terms.role != "perpetual":
        return ()
    maintenance = production.tiers(d)[0][-1]
    floors = production.config.margin.tiers
    return tuple(
        AddOnTier(floor, int(m - maintenance[0])) for floor, m in zip(floors, maintenance, strict=True)
    )


def decision_returns(production: Production, symbols: list[str]) -> pd.DataFrame:
    """Return log returns over the cadence at the decisions, one column per market."""
    features = production.forecasts.features
    rows = features[(features["phase"] == 0) & features["market"].isin(symbols)]
    wide = rows.pivot_table(index="time", columns="market", values="log_return", aggfunc="last")
    return wide.reindex(columns=symbols)


def _correlations(production: Production, symbols: list[str]) -> tuple[CorrelationRange, ...]:
    decided = by_symbol(production)
    turnover = {s: float(decided[s].table["turnover"].iloc[-1]) for s in symbols}
    largest = sorted(symbols, key=lambda s: (-np.nan_to_num(turnover[s]), s))[:MOST_PAIRED]
    return ranges(decision_returns(production, sorted(largest)), production.config.portfolio)


def ranges(returns: pd.DataFrame, settings: PortfolioConfig) -> tuple[CorrelationRange, ...]:
    """Return the correlation ranges that returns up to a decision give.

    Parameters
    ----------
    returns : pandas.DataFrame
        One column per underlying, in alphabetical order.
    settings : PortfolioConfig
    """
    symbols, values = list(returns.columns), returns.to_numpy(float)
    if len(symbols) < 2:
        return ()
    now = forecast_correlations(values, settings.correlation_decay)
    worst = stressed_correlations(values, settings.correlation_window, STRESS_LEVEL)
    pairs = [(i, j) for i in range(len(symbols)) for j in range(i + 1, len(symbols))]
    return correlation_ranges(
        {(symbols[i], symbols[j]): float(now[i, j]) for i, j in pairs},
        {(symbols[i], symbols[j]): float(worst[i, j]) for i, j in pairs},
        hedge=settings.hedge,
        diversification=settings.diversification,
    )


def _collateral(
    document: ParameterDocument, settings: PortfolioConfig, known: set[str]
) -> tuple[CollateralRule, ...]:
    """Haircuts of the document's collateral, and of the configured further assets."""
    made = {
        (m.symbol, m.haircut.location): CollateralRule(
            m.symbol, m.haircut.location, m.value_ppm, m.symbol if m.symbol in known else None
        )
        for m in document.markets
        if isinstance(m, CollateralParameters) and m.symbol in known and m.haircut.debt == settings.quote
    }
    for c in settings.collateral:
        if c.underlying is None or c.underlying in known:
            rule = CollateralRule(c.asset, c.location, ppm_up(c.haircut), c.underlying)
            made.setdefault((c.asset, c.location), rule)
    return tuple(made[key] for key in sorted(made))
