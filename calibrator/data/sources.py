"""The door of the data stage: a source of bars, the gate's rules, and the digest of what came through."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa

from calibrator.config import Config, DataConfig
from calibrator.config_data import FEED_KINDS
from calibrator.data import embedded, files, inputs
from calibrator.data.feed_quality import extra, judged, without_wicks
from calibrator.data.quality import inspect
from calibrator.data.rows import Finding, findings_frame
from calibrator.errors import DataError
from calibrator.feeds import Feeds, empty
from calibrator.frames import BARS, conform


class BarSource(Protocol):
    """Anything that hands over bars; the gate's rules are applied to what it returns.

    The frame has the columns of ``Bars``, ``time`` at the bar's end, sorted by market and time, no row after
    ``as_of`` and no missing price; the findings say what the source did about missing ones.
    """

    def __call__(self, data: DataConfig, *, as_of: pd.Timestamp | None) -> tuple[pd.DataFrame, list[Finding]]:
        """Return bars and findings; raise DataError with place, rule and value."""
        ...


SOURCES: Final[Mapping[str, BarSource]] = {"embedded": embedded.read_bars, "files": files.read_bars}


def load_bars(config: Config, *, as_of: datetime | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the bars of a run and what the gate found.

    Parameters
    ----------
    config : Config
        ``config.data`` names the source and the rules; ``config.as_of`` is not consulted.
    as_of : datetime, optional
        Time of the decision (time zone aware): bars that end later do not exist. None: the last bar.

    Returns
    -------
    (pandas.DataFrame, pandas.DataFrame)
        ``Bars``, sorted by market and time, and ``Findings``.

    Raises
    ------
    DataError
        Input that breaks a rule: file, column, row, market, rule and value as far as they exist.
    StaleDataError
        Every market's last bar is older than ``data.stale_after`` bars.
    ConfigError
        The source cannot serve ``data.bar``.
    ValueError
        ``as_of`` is naive.

    Examples
    --------
    >>> config = Config.model_validate({"data": {"source": "embedded", "bar": "1d", "calendar": "sessions"}})
    >>> bars, findings = load_bars(config, as_of=None)
    >>> len(bars), findings[["market", "rule", "count"]].to_numpy()[-1].tolist()
    (18383, ['WTI', 'missing price', 290])
    """
    data = config.data
    cut = None if as_of is None else utc(as_of)
    raw, found = SOURCES[data.source](data, as_of=cut)
    bars = conform(raw, BARS, source=_spelled(data))
    bars, more = inspect(bars, data, as_of=cut if cut is not None else bars["time"].max())
    return bars, judged(findings_frame([*found, *more, *extra(bars, data.rules)]), data.rules)


def load_fitted(
    config: Config, bars: pd.DataFrame, *, as_of: datetime | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the bars that variances are fitted on: without the wicks that ``data.confirm`` denies.

    Tails, margins and backtests keep every price that was printed.

    Parameters
    ----------
    config : Config
        ``data.confirm`` lists bars of other venues, mark or index; without it the bars stay as they are.
    bars : pandas.DataFrame
        ``Bars`` as :func:`load_bars` returned them.
    as_of : datetime, optional
        Bars elsewhere that end later are left out.

    Returns
    -------
    (pandas.DataFrame, pandas.DataFrame)
        ``Bars`` with the same rows, and ``Findings``.

    Raises
    ------
    DataError
        With file, column, row and value.

    Examples
    --------
    >>> from calibrator.data.synthetic import synthetic_bars
    >>> bars = synthetic_bars(["A"], periods=9, seed=1)
    >>> load_fitted(Config.model_validate({"data": {"source": "embedded"}}), bars, as_of=None)[0] is bars
    True
    """
    data = config.data
    if not data.confirm:
        return bars, findings_frame([])
    elsewhere = data.model_copy(update={"bars": data.confirm, "markets": "all"})
    raw, _ = files.read_bars(elsewhere, as_of=None if as_of is None else utc(as_of))
    fitted, found = without_wicks(bars, conform(raw, BARS, source=_spelled(elsewhere)))
    return fitted, findings_frame(found)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that a model may read beside bars; a kind that the configuration does not name is empty.

    Attributes
    ----------
    implied_volatility : pandas.DataFrame
        ``ImpliedVolatility``: annualised fraction; ``time`` is when it was knowable.
    funding : pandas.DataFrame
        ``Funding``: fraction of notional per interval.
    open_interest : pandas.DataFrame
        ``OpenInterest``.
    liquidations : pandas.DataFrame
        ``Liquidations``: events, or totals per period and side.
    findings : pandas.DataFrame
        ``Findings`` of all of them.
    """

    implied_volatility: pd.DataFrame
    funding: pd.DataFrame
    open_interest: pd.DataFrame
    liquidations: pd.DataFrame
    findings: pd.DataFrame

    @property
    def feeds(self) -> Feeds:
        """What is read beside bars and implied volatility."""
        return Feeds(self.funding, self.open_interest, self.liquidations)

    @property
    def frames(self) -> tuple[pd.DataFrame, ...]:
        """Implied volatility, and every other kind that has rows."""
        others = (self.funding, self.open_interest, self.liquidations)
        return (self.implied_volatility, *(frame for frame in others if not frame.empty))


def load_inputs(config: Config, *, as_of: datetime | None) -> Inputs:
    """Return implied volatility, funding, open interest and liquidations of the run's markets.

    Parameters
    ----------
    config : Config
        Files of ``data.implied_volatility``, ``data.funding``, ``data.open_interest``, ``data.liquidations``;
        with the embedded source and no file, the VIX for ``SPX``.
    as_of : datetime, optional
        Rows that were knowable later (``known_at``) are left out. None: all.

    Returns
    -------
    Inputs
        One frame per kind, sorted by market and time.

    Raises
    ------
    DataError
        With file, column, row and value.
    ValueError
        ``as_of`` is naive.

    Examples
    --------
    >>> config = Config.model_validate({"data": {"source": "embedded", "bar": "1d"}})
    >>> loaded = load_inputs(config, as_of=None)
    >>> len(loaded.implied_volatility), len(loaded.funding), loaded.findings["count"].to_list()
    (1259, 0, [46])
    """
    data, found = config.data, list[Finding]()
    cut = None if as_of is None else utc(as_of)
    frames: dict[str, pd.DataFrame] = {}
    for kind in FEED_KINDS:
        if getattr(data, kind):
            frames[kind], more = inputs.read_feed(kind, data, as_of=cut)
        elif kind == "implied_volatility" and _embedded_vix(data):
            frames[kind], more = embedded.read_implied_volatility(as_of=cut)
        else:
            frames[kind], more = empty(inputs.KINDS[kind].schema), []
        frames[kind] = conform(frames[kind], inputs.KINDS[kind].schema, source=kind.replace("_", " "))
        found += more
    return Inputs(**frames, findings=findings_frame(found))


def load_implied_volatility(config: Config, *, as_of: datetime | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return implied volatilities of the run's markets (possibly none) and what the gate found.

    Parameters
    ----------
    config : Config
        See :func:`load_inputs`; its other files are not read.
    as_of : datetime, optional
        Rows known later are left out. None: all.

    Returns
    -------
    (pandas.DataFrame, pandas.DataFrame)
        ``ImpliedVolatility``, sorted by market and time, and ``Findings``.

    Raises
    ------
    DataError
        With file, column, row and value.
    ValueError
        ``as_of`` is naive.

    Examples
    --------
    >>> config = Config.model_validate({"data": {"source": "embedded", "bar": "1d"}})
    >>> frame, findings = load_implied_volatility(config, as_of=None)
    >>> len(frame), findings["count"].to_list()
    (1259, [46])
    """
    others = {kind: () for kind in FEED_KINDS if kind != "implied_volatility"}
    only = config.model_copy(update={"data": config.data.model_copy(update=others)})
    loaded = load_inputs(only, as_of=as_of)
    return loaded.implied_volatility, loaded.findings


def _embedded_vix(data: DataConfig) -> bool:
    return data.source == "embedded" and (data.markets == "all" or "SPX" in data.markets)


def resolve_as_of(config: Config, *, now: datetime) -> datetime | None:
    """Return the time that ``config.as_of`` means, for :func:`load_bars`: None is the last bar.

    Examples
    --------
    >>> config = Config.model_validate({"data": {"source": "embedded"}, "as_of": "2015-01-02"})
    >>> resolve_as_of(config, now=datetime.fromisoformat("2026-01-01T00:00Z")).isoformat()
    '2015-01-02T00:00:00+00:00'
    """
    if config.as_of == "last":
        return None
    return now if config.as_of == "now" else config.as_of


def digest(frame: pd.DataFrame) -> str:
    """Return the SHA-256 of a frame's rows: columns, types and values in their order, no index.

    Parameters
    ----------
    frame : pandas.DataFrame
        Of texts, UTC times, floats and integers, such as any frame of :mod:`calibrator.frames`.

    Returns
    -------
    str
        64 hexadecimal digits; the same for the same rows on every machine, whatever the chunks in memory.

    Raises
    ------
    DataError
        A column of another type.

    Examples
    --------
    >>> digest(pd.DataFrame({"market": ["A"], "close": [1.0]}))[:16]
    '7b2a456caaf80f6f'
    """
    state = hashlib.sha256(f"{len(frame)} rows".encode())
    for name in frame.columns:
        kind, *parts = _bytes(frame[name])
        state.update(f"\n{len(str(name))}:{name} {kind}\n".encode())
        for part in parts:
            state.update(part)
    return state.hexdigest()


def _bytes(values: pd.Series) -> tuple[str, *tuple[bytes, ...]]:
    """Spell a column as little-endian bytes: its kind, then its parts."""
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        clock = values.dt.tz_convert(None).to_numpy(dtype="datetime64[us]")
        return "time", clock.astype("<i8").tobytes()
    if pd.api.types.is_integer_dtype(values):
        return "integer", values.to_numpy(dtype="<i8").tobytes()
    if pd.api.types.is_float_dtype(values):
        floats = values.to_numpy(dtype="<f8", copy=True)
        floats[np.isnan(floats)] = np.nan  # one spelling of missing
        return "float", floats.tobytes()
    if not pd.api.types.is_string_dtype(values):
        raise DataError(f"digest: column {values.name!r} of type {values.dtype} has no spelling")
    codes, texts = pd.factorize(values)
    array = pa.array(texts.to_numpy(dtype=object), pa.string()).to_pylist()
    spelled = b"".join(len(t.encode()).to_bytes(8, "little") + t.encode() for t in array)
    return "text", spelled, codes.astype("<i8").tobytes()


def _spelled(data: DataConfig) -> str:
    return ", ".join(str(f.path) for f in data.bars) if data.source == "files" else "embedded data"


def utc(as_of: datetime) -> pd.Timestamp:
    """Return a time zone aware time as a UTC timestamp.

    Raises
    ------
    ValueError
        The time is naive.

    Examples
    --------
    >>> utc(datetime.fromisoformat("2024-01-01T01:00+01:00")).isoformat()
    '2024-01-01T00:00:00+00:00'
    """
    if as_of.tzinfo is None:
        raise ValueError(f"as_of must be time zone aware, was {as_of}")
    return pd.Timestamp(as_of).tz_convert("UTC")
