"""``benchmark liquidations``: the schedule against recorded liquidations, vaults, accounts, stress cases."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from calibrator.backtest.liquidations import event_losses, lending_shortfall, rises_before
from calibrator.backtest.report import plain
from calibrator.calibrate.haircut import LoanTerms, haircut_schedule
from calibrator.config import Config
from calibrator.data.sources import load_bars, load_implied_volatility
from calibrator.domain import PPM
from calibrator.errors import DataError
from pipelines.benchmarks.liquidations_cases import accounts_table, stress_table
from pipelines.benchmarks.regimes_liquidations import liquidated
from pipelines.benchmarks.speed import Table, markdown
from pipelines.challenge import vault_figures
from pipelines.forecasting import Progress
from pipelines.production import Production, produce
from pipelines.recorded import VaultBacktest, vault_backtest
from pipelines.starts import close_out
from pipelines.store import save, save_json

STABLE: Final = ("USDC", "USDT", "DAI", "GUSD", "TUSD", "SUSD", "BUSD", "PAX", "USDP", "FRAX", "LUSD")
LENDING: Final = (
    "time", "collateral_symbol", "debt_symbol", "collateral_usd", "implied_bonus",
    "collateral_liq_threshold_bps_static", "bonus_ok",
)  # fmt: skip
SEIZED: Final = ("time", "collateral_symbol", "collateral_usd")
SPEED_NOTE: Final = (
    "Ratios are medians of measurements that alternate in one run; only they compare between machines."
)
SAID_ALL: Final = (
    "Every schedule is the production's own, walked forward; nothing later than a decision is used in it."
)
SAID_BOOKS: Final = (
    "Vaults rebuilt from every deposit, withdrawal, draw and repayment, debts growing by the recorded "
    "fee, the hourly price delayed as the oracle's was. `reproduced`: real vault-days on which (or on "
    "the day before) the vault is in breach of the ratio really asked. `without_liquidation`: vaults in"
    " breach on a day without a real liquidation within a day; of those, `within_price_error` were "
    "never further below than the price of the bars may differ from the oracle's, `owner_acted` had "
    "changed their books before the next bar, and `certain` are left. Not reproduced: {missed}."
)
SAID_RATIO: Final = (
    "A vault is liquidated in its first breach. `real`: the ratio really asked; `as recorded`: the "
    "calibrated ratio, owners do what they did; `distance kept`: the calibrated ratio, owners hold as "
    "many times it as they held of the real one. Fates are of the {days} real vault-days; `caused` have"
    " no real liquidation within a day (those of `real` are the error of the rebuilt books); `by_change`"
    " those that a rise of the ratio liquidated by itself, which were safe at the ratio of the bar before, "
    "and their share of the debt liquidated. "
    "`shortfall` is debt less collateral at the market's price after the close-out of {length} bars."
)
SAID_LENDING: Final = (
    "Every event is an account that had just reached its threshold. The loss is the collateral's fall "
    "over the next {length} bars; `unpaid` is what threshold, bonus and that loss leave open, in basis "
    "points of the collateral sold, at the threshold in force and at the calibrated one known a day "
    "before. Left out: {left}."
)
SAID_SEIZED: Final = (
    "Collateral seized, no debt recorded: was the fall over the next {length} bars covered by the "
    "haircut published a day before? Left out: {left}."
)
SAID_PANEL: Final = (
    "Margin known at the start of the day over its median of the 90 decisions before: on the days with "
    "the market's largest tenth of liquidations (`top`) and on the others. `auroc`: 0.5 is chance."
)


@dataclass(frozen=True, slots=True)
class Files:
    """Recorded files beside the bars and the vaults of the configuration.

    Attributes
    ----------
    lending : tuple of pathlib.Path
        Liquidations with both legs and the threshold in force.
    seized : tuple of pathlib.Path
        Liquidations without a debt leg.
    panels : tuple of pathlib.Path
        Daily totals, see ``regimes_liquidations``.
    accounts : tuple of pathlib.Path
        Snapshots with ``collateral, debt, threshold, healthf``.
    """

    lending: tuple[Path, ...] = field(default=())
    seized: tuple[Path, ...] = field(default=())
    panels: tuple[Path, ...] = field(default=())
    accounts: tuple[Path, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Outcome:
    """Tables and, where vaults are configured, their backtest."""

    tables: list[Table]
    vaults: VaultBacktest | None


def run(config: Config, files: Files, *, as_of: datetime | None, progress: Progress) -> Outcome:
    """Produce the schedule once and hold everything recorded against it.

    Parameters
    ----------
    config : Config
        Markets, and ``backtest.vaults``.
    files : Files
    as_of : datetime, optional
        Later bars are not looked at.
    progress : callable
        Called with (what, done, total).

    Raises
    ------
    DataError
        A file cannot be read or has other columns.
    """
    bars, _ = load_bars(config, as_of=as_of)
    implied, _ = load_implied_volatility(config, as_of=as_of)
    production = produce(bars, implied, config=config, progress=progress)
    vaults = None if config.backtest.vaults is None else vault_backtest(production, bars)
    tables = [] if vaults is None else _vault_tables(vaults, production)
    tables += [lending_table(_read(p, LENDING), p.stem, production, bars) for p in files.lending]
    tables += [seized_table(_read(p, SEIZED), p.stem, production, bars) for p in files.seized]
    both = published(production)
    longs = both[both["side"] == "long"]
    tables += [
        Table(f"Do margins rise before: {p.stem}", SAID_PANEL, rises_before(liquidated(p), longs))
        for p in files.panels
    ]
    tables.append(stress_table(both, bars, close_out=_length(production)))
    tables += [accounts_table(p, both, terms=_terms(production)) for p in files.accounts]
    return Outcome(tables, vaults)


def published(production: Production) -> pd.DataFrame:
    """Return ``Margins`` of all markets, whatever their role."""
    both = [production.margins(), production.margins(role="collateral")]
    return pd.concat(both, ignore_index=True)


def _terms(production: Production) -> LoanTerms:
    own = production.config.haircut
    return LoanTerms(own.penalty, own.slippage, own.interest)


def _length(production: Production) -> int:
    return max(close_out(production.config, d.terms) for d in production.decisions.values())


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    try:
        rows = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    lost = [c for c in columns if c not in rows]
    if lost:
        raise DataError(f"{path}: column {lost[0]!r} is missing; needs {', '.join(columns)}")
    return rows


def _vault_tables(vaults: VaultBacktest, production: Production) -> list[Table]:
    checks = dict(vaults.checks)
    missed = checks.pop("missed")
    words = ", ".join(missed) if isinstance(missed, list) and missed else "none"
    books = pd.DataFrame([{**vaults.books.counts, **checks}]).rename(
        columns={
            "of_which_within_price_error": "within_price_error",
            "of_which_owner_acted_in_the_bar": "owner_acted",
        }
    )
    replays = pd.DataFrame({name: done.summary() for name, done in vaults.replays.items()}).T
    said = SAID_RATIO.format(days=len(vaults.books.days()), length=_length(production))
    return [
        Table("Vaults: what really happened", SAID_BOOKS.format(missed=words), books.set_index("vaults")),
        Table("Vaults: under the schedule", said, replays.rename_axis("ratio")),
    ]


def lending_table(rows: pd.DataFrame, name: str, production: Production, bars: pd.DataFrame) -> Table:
    """Compare what liquidations leave unpaid at the threshold in force and at the calibrated one."""
    stable = rows["debt_symbol"].str.upper().isin(STABLE)
    sane = rows["bonus_ok"].astype(bool) & (rows["collateral_liq_threshold_bps_static"] > 0)
    symbols = rows["collateral_symbol"].str.upper()
    use = rows[stable & sane & ~symbols.isin(STABLE)].reset_index(drop=True)
    left = {
        "the debt is not a stablecoin": int((~stable).sum()),
        "bonus or threshold do not fit": int((stable & ~sane).sum()),
        "the collateral is a stablecoin": int((stable & sane & symbols.isin(STABLE)).sum()),
    }
    done, left = _held(use, production, bars, left)
    terms = _terms(production)
    bonus, force = (
        np.maximum(done["implied_bonus"].to_numpy(float), 0.0),
        done["collateral_liq_threshold_bps_static"] / 1e4,
    )
    costs = [LoanTerms(b, terms.slippage, terms.interest) for b in np.round(bonus, 6)]
    ours = np.array([_threshold(m, c) for m, c in zip(done["margin"], costs, strict=True)])
    value, loss = done["collateral_usd"].to_numpy(float), done["loss"].to_numpy(float)
    done = done.assign(
        in_force=force.to_numpy(float) * value,
        ours=ours / PPM * value,
        unpaid_in_force=lending_shortfall(loss, force.to_numpy(float), bonus) * value,
        unpaid_ours=lending_shortfall(loss, ours / PPM, bonus) * value,
        covered=loss <= done["margin"],
    )
    table = pd.DataFrame({str(k): _lent(own) for k, own in done.groupby("collateral_symbol")}).T
    table = pd.concat([table, pd.DataFrame({"all": _lent(done)}).T]).rename_axis("collateral")
    said = SAID_LENDING.format(length=_length(production), left=_words(left))
    return Table(f"Lending: {name}", said, table.sort_values("collateral_usd", ascending=False))


def _threshold(haircut: float, terms: LoanTerms) -> int:
    return haircut_schedule(haircut, 0.0, terms=terms).liquidation_threshold_ppm


def _lent(rows: pd.DataFrame) -> dict[str, float]:
    value = float(rows["collateral_usd"].sum())
    return {
        "events": float(len(rows)),
        "collateral_usd": value,
        "covered": float(rows["covered"].mean()),
        "threshold_in_force": float(rows["in_force"].sum() / value),
        "threshold_ours": float(rows["ours"].sum() / value),
        "worst_loss": float(rows["loss"].max()),
        "unpaid_in_force_bp": float(rows["unpaid_in_force"].sum() / value * 1e4),
        "unpaid_ours_bp": float(rows["unpaid_ours"].sum() / value * 1e4),
    }


def _held(
    rows: pd.DataFrame, production: Production, bars: pd.DataFrame, left: dict[str, int]
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Add margin and loss of the collateral's own market; count what has none."""
    symbol = rows["collateral_symbol"].str.upper().str.replace(r"^(W|CB)(?=BTC|ETH)", "", regex=True)
    events = rows.assign(
        market=symbol.str.removeprefix("AMM") + "USDT",
        liquidated_side="long",
        notional=rows["collateral_usd"],
    )
    done = event_losses(events, bars, published(production), close_out=_length(production))
    reasons = done.loc[done["why"] != "", "why"].value_counts()
    return done[done["why"] == ""], left | {str(k): int(v) for k, v in reasons.items()}


def seized_table(rows: pd.DataFrame, name: str, production: Production, bars: pd.DataFrame) -> Table:
    """Coverage of the collateral's fall after each seizure, per year."""
    done, left = _held(rows.reset_index(drop=True), production, bars, {})
    done = done.assign(covered=done["loss"] <= done["margin"], year=done["time"].dt.year)
    table = done.groupby("year").agg(
        events=("loss", "size"), collateral_usd=("collateral_usd", "sum"), covered=("covered", "mean"),
        haircut=("margin", "mean"), mean_loss=("loss", "mean"), worst_loss=("loss", "max"),
        beyond_usd=("shortfall", "sum"),
    )  # fmt: skip
    said = SAID_SEIZED.format(length=_length(production), left=_words(left))
    return Table(f"Seized collateral: {name}", said, table)


def _words(left: dict[str, int]) -> str:
    return ", ".join(f"{n} ({why})" for why, n in left.items() if n) or "nothing"


def write(
    outcome: Outcome, *, home: Path, made_on: date, docs: Path | None = None, name: str = "liquidations"
) -> dict[str, Path]:
    """Write tables, numbers and one figure per really liquidated vault to ``home/benchmarks/<name>/``.

    Parameters
    ----------
    outcome : Outcome
    home : pathlib.Path
    made_on : datetime.date
        Printed in the Markdown.
    docs : pathlib.Path, optional
        Folder ``docs/benchmarks``; receives ``<name>.md``.
    name : str
        Of the configuration.

    Returns
    -------
    dict of str to pathlib.Path
        What was written, by what it is.
    """
    folder = home / "benchmarks" / name
    (folder / "vaults").mkdir(parents=True, exist_ok=True)
    page = markdown(outcome.tables, made_on=made_on).replace("# Speed", "# Recorded liquidations", 1)
    page = page.replace(SPEED_NOTE, SAID_ALL)
    numbers = {t.title: _plain(t.frame) for t in outcome.tables}
    out = {
        "table": save(folder / f"{name}.md", page),
        "numbers": save_json(folder / f"{name}.json", numbers),
    }
    if outcome.vaults is not None:
        out["vaults"] = vault_figures(outcome.vaults, folder / "vaults")
    if docs is not None:
        docs.mkdir(parents=True, exist_ok=True)
        out["committed table"] = save(docs / f"{name}.md", page)
    return out


def _plain(frame: pd.DataFrame) -> list[dict[str, object]]:
    return [{str(k): plain(v) for k, v in r.items()} for r in frame.reset_index().to_dict("records")]
