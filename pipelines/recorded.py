"""Recorded accounts of one's own: vaults and liquidations under the schedule that production makes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import pandas as pd

from calibrator.backtest.liquidations import event_losses
from calibrator.backtest.report import plain, records
from calibrator.backtest.terms import Clock, Floats, prices_by_market
from calibrator.backtest.vault_replay import VaultReplay, replay_vaults
from calibrator.backtest.vaults import Books, Fees, Floors, Oracle, breaches, delayed, rebuild
from calibrator.calibrate.haircut import LoanTerms, haircut_schedule
from calibrator.config_data import FeedFile
from calibrator.config_vaults import VaultsConfig
from calibrator.data.inputs import read_feed
from calibrator.data.rows import Finding
from calibrator.data.tables import Kind, column_names, read_table
from calibrator.domain import PPM
from calibrator.errors import ConfigError, DataError
from pipelines.executor import SERIAL, Executor
from pipelines.production import Production
from pipelines.starts import close_out

CHANGES: Final[dict[str, Kind]] = {"vault": "text", "time": "time", "collateral": "number", "debt": "number"}
DAY: Final = np.timedelta64(1, "D")


@dataclass(frozen=True, slots=True)
class VaultBacktest:
    """Recorded vaults under the ratio really asked and under the calibrated one.

    Attributes
    ----------
    books : Books
    oracle : Oracle
    ratio : numpy.ndarray, shape (T,)
        Calibrated collateral over debt per bar of the oracle.
    replays : dict of str to VaultReplay
        ``real`` ratio, ``as recorded`` (calibrated ratio, owners act as they did), ``distance kept``.
    real : pandas.DataFrame
        Every bar in breach of the real ratio, see :func:`~calibrator.backtest.vaults.breaches`.
    asked : float
        The ratio really asked.
    checks : dict of str to object
        How well the real liquidations are reproduced, and why the rest differs.
    """

    books: Books
    oracle: Oracle
    ratio: Floats
    replays: dict[str, VaultReplay]
    real: pd.DataFrame
    asked: float
    checks: dict[str, object]

    def summary(self) -> dict[str, object]:
        """Return everything as plain values, real vault-days with their fates included."""
        return {
            "books": dict(self.books.counts),
            "reproduction": {k: plain(v) for k, v in self.checks.items()},
            "replays": {
                name: {k: plain(v) for k, v in done.summary().items()} for name, done in self.replays.items()
            },
            "days": {name: records(done.days) for name, done in self.replays.items()},
        }


@dataclass(frozen=True, slots=True)
class Recorded:
    """Backtest on recorded accounts; None where the configuration names no files.

    Attributes
    ----------
    vaults : VaultBacktest or None
    liquidations : pandas.DataFrame or None
        See :func:`~calibrator.backtest.liquidations.event_losses`.
    found : tuple of Finding
        Copies and rows without an amount in the liquidation files, and lots that share an identifier.
    """

    vaults: VaultBacktest | None
    liquidations: pd.DataFrame | None
    found: tuple[Finding, ...] = ()

    def summary(self) -> dict[str, object]:
        """Return the sections ``vaults`` and ``liquidations`` of ``backtest.json``."""
        out: dict[str, object] = {}
        if self.vaults is not None:
            out["vaults"] = self.vaults.summary()
        if self.liquidations is not None:
            out["liquidations"] = liquidation_summary(self.liquidations, self.found)
        return out


def recorded(production: Production, bars: pd.DataFrame, *, executor: Executor = SERIAL) -> Recorded:
    """Run the backtests on the recorded accounts that the configuration names.

    Raises
    ------
    ConfigError
        The vaults' market has no haircut.
    DataError
        A file cannot be read or breaks its rules.
    """
    config = production.config
    named = config.backtest.vaults is not None
    vaults = vault_backtest(production, bars, executor=executor) if named else None
    if not config.backtest.liquidations:
        return Recorded(vaults, None)
    events, found = _liquidations(production, bars)
    counted = tuple(f for f in found if f.action in {"dropped", "left out", "kept"})
    return Recorded(vaults, events, counted)


def read_books(config: VaultsConfig) -> Books:
    """Read a vault file's events, liquidations, fees and floors, and rebuild the vaults."""
    events = _read(config.events, CHANGES)
    lots = events.iloc[:0] if config.liquidations is None else _read(config.liquidations, CHANGES)
    fees, floors = Fees(np.array([], "M8[us]"), np.array([])), None
    if config.fees is not None:
        rows = _read(config.fees, {"time": "time", "annual": "number"}).sort_values("time", kind="stable")
        fees = Fees(_naive(rows["time"]), rows["annual"].to_numpy(float))
    if config.floors is not None:
        rows = _read(config.floors, {"time": "time", "debt": "number"}).sort_values("time", kind="stable")
        floors = Floors(_naive(rows["time"]), rows["debt"].to_numpy(float))
    return rebuild(events, lots, fees=fees, floors=floors)


def _read(file: FeedFile, kinds: dict[str, Kind]) -> pd.DataFrame:
    names = column_names(file.path)
    found = {name: file.columns.get(name, name) for name in kinds}
    for name in [*found.values(), *file.where]:
        if name not in names:
            raise DataError(f"{file.path}: column {name!r} is missing; the file has {', '.join(names[:10])}")
    wanted: dict[str, Kind] = dict.fromkeys(file.where, "text")
    table = _named(file, wanted | {found[n]: kind for n, kind in kinds.items()}, found.get("vault"))
    for column, text in file.where.items():
        table = table[table[column] == text]
    if table.empty:
        raise DataError(f"{file.path}: no row is left after {file.where}")
    frame = pd.DataFrame({name: table[found[name]] for name in kinds}).reset_index(drop=True)
    numbers = [n for n, kind in kinds.items() if kind == "number"]
    if frame[numbers].isna().to_numpy().any():
        raise DataError(f"{file.path}: {', '.join(numbers)} must not be missing, they are")
    return frame


def _named(file: FeedFile, kinds: dict[str, Kind], vault: str | None) -> pd.DataFrame:
    """Read a table; vaults may be numbered instead of named."""
    try:
        return read_table(file.path, kinds)
    except DataError as error:
        if vault is None or f"column {vault!r}: must be text" not in str(error):
            raise
    table = read_table(file.path, kinds | {vault: "number"})
    whole = table[vault].notna() & (table[vault] % 1 == 0)
    if not whole.all():
        raise DataError(
            f"{file.path}: column {vault!r} must hold names or whole numbers, row {whole.idxmin()}"
        )
    return table.assign(**{vault: table[vault].astype("int64").astype("str")})


def vault_backtest(
    production: Production, bars: pd.DataFrame, *, executor: Executor = SERIAL
) -> VaultBacktest:
    """Replay the configured vaults under both ratios and both bounds of what owners do."""
    config = production.config
    settings = config.backtest.vaults
    if settings is None or settings.market not in production.decisions:
        raise ConfigError(f"backtest.vaults.market: {settings and settings.market} has no decisions")
    books = read_books(settings)
    prices = prices_by_market(bars[bars["market"] == settings.market])[settings.market]
    first = np.searchsorted(prices.time, books.changes["time"].min().to_datetime64(), side="left")
    oracle = delayed(prices.time[first:], prices.close[first:], delay=settings.delay)
    ratio, known = _ratio(production, settings, oracle.time)
    length = close_out(config, production.decisions[settings.market].terms)
    asked = np.full(len(oracle.time), settings.ratio)
    paths: dict[str, tuple[Floats, float | None]] = {
        "real": (asked, None),
        "as recorded": (ratio, None),
        "distance kept": (ratio, settings.ratio),
    }
    done = executor.map(partial(_under, books, oracle, length), list(paths.values()))
    replays = dict(zip(paths, done, strict=True))
    real = breaches(books, oracle, asked)
    checks = reproduction(books, real, price_error=settings.price_error)
    checks["bars_without_schedule"] = int((~known).sum())
    return VaultBacktest(books, oracle, ratio, replays, real, settings.ratio, checks)


def _under(books: Books, oracle: Oracle, length: int, path: tuple[Floats, float | None]) -> VaultReplay:
    """Replay the vaults under one path of ratios and one bound of what owners do."""
    ratio, distance = path
    return replay_vaults(books, oracle, ratio, close_out=length, distance=distance)


def _ratio(production: Production, settings: VaultsConfig, time: Clock) -> tuple[Floats, np.ndarray]:
    """Return the calibrated ratio per bar, and where there is one; the real ratio before the first."""
    made = production.decisions[settings.market]
    terms = LoanTerms(settings.penalty, settings.slippage, production.config.haircut.interest)
    step = production.clock.step * production.config.margin.notice
    effective = _naive((made.table.index + step).to_series())
    margins = made.table["margin_long"].to_numpy(float)
    ratios = np.array(
        [PPM / haircut_schedule(m, 0.0, terms=terms).liquidation_threshold_ppm for m in margins]
    )
    row = np.searchsorted(effective, time, side="left") - 1
    known = row >= 0
    return np.where(known, ratios[np.maximum(row, 0)], settings.ratio), known


def reproduction(books: Books, real: pd.DataFrame, *, price_error: float) -> dict[str, object]:
    """Hold the breaches of the real ratio against the real liquidations, and say why the rest differs.

    A vault-day is reproduced when the vault is in breach on it or on the day before. A vault *without* a real
    liquidation near is one that is in breach on a day with none within a day; ``certain`` are those of them
    whose breach is deeper than the error of the oracle's price and is not undone by the owner within the bar.
    """
    real = real.assign(day=real["time"].to_numpy().astype("datetime64[D]"))
    pairs = set(zip(real["vault"], real["day"], strict=True))
    days = [(v, np.datetime64(d, "D")) for v, d in books.days().itertuples(index=False)]
    missed = [(v, d) for v, d in days if (v, d) not in pairs and (v, d - DAY) not in pairs]
    lots = set(days)
    alone = ~np.array(
        [
            any((v, d + k * DAY) in lots for k in (-1, 0, 1))
            for v, d in zip(real["vault"], real["day"], strict=True)
        ],
        dtype=bool,
    )
    strange = real[alone]
    deep, acted = strange["depth"] > price_error, strange["acted"].astype(bool)
    certain = set(strange.loc[deep & ~acted, "vault"])
    shallow = set(strange["vault"]) - set(strange.loc[deep, "vault"])
    return {
        "vaults": int(books.lots["vault"].nunique()),
        "vault_days": len(days),
        "reproduced": len(days) - len(missed),
        "missed": [f"{v} on {d}" for v, d in missed],
        "without_liquidation": int(strange["vault"].nunique()),
        "of_which_within_price_error": len(shallow),
        "of_which_owner_acted_in_the_bar": int(strange["vault"].nunique()) - len(shallow) - len(certain),
        "certain": len(certain),
    }


def _liquidations(production: Production, bars: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    config = production.config
    data = config.data.model_copy(update={"liquidations": config.backtest.liquidations})
    events, found = read_feed("liquidations", data, as_of=None)
    both = [production.margins(), production.margins(role="collateral")]
    lengths = [close_out(config, d.terms) for d in production.decisions.values()]
    done = event_losses(events, bars, pd.concat(both, ignore_index=True), close_out=max(lengths))
    return done, found


def liquidation_summary(rows: pd.DataFrame, found: Sequence[Finding] = ()) -> dict[str, object]:
    """Return counts, covered shares and shortfalls per market and side; what was left out by reason.

    What the files themselves lost (copies, rows without an amount) is among the reasons; ``lots`` counts the
    rows kept that share an identifier with an earlier one.

    Examples
    --------
    >>> rows = pd.DataFrame({"market": ["A", "A"], "liquidated_side": "long", "notional": [100.0, 50.0],
    ...                      "margin": [0.1, np.nan], "loss": [0.2, 0.1], "shortfall": [10.0, np.nan],
    ...                      "why": ["", "no margin before"]})
    >>> done = liquidation_summary(rows)
    >>> done["left_out"], done["rows"][0]["covered"]
    ({'no margin before': 1}, 0.0)
    """
    used = rows[rows["why"] == ""]
    by = used.assign(covered=used["loss"] <= used["margin"]).groupby(["market", "liquidated_side"])
    table = by.agg(
        events=("notional", "size"), notional=("notional", "sum"), covered=("covered", "mean"),
        shortfall=("shortfall", "sum"), margin=("margin", "mean"), worst_loss=("loss", "max"),
    )  # fmt: skip
    left_out = {str(k): int(v) for k, v in rows.loc[rows["why"] != "", "why"].value_counts().items()}
    for f in found:
        if f.action != "kept":
            left_out[f.rule] = left_out.get(f.rule, 0) + f.count
    return {
        "events": len(rows),
        "left_out": left_out,
        "lots": sum(f.count for f in found if f.action == "kept"),
        "rows": records(table.reset_index()),
    }


def _naive(time: pd.Series) -> Clock:
    return np.asarray(time.dt.tz_convert(None).to_numpy(), dtype="datetime64[us]")
