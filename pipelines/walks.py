"""Walk-forwards that remember: a refit whose input has not changed is not done again.

What a block of a walk-forward forecasts is a function of the code, the settings and the rows up to its end.
Blocks are therefore filed under the SHA-256 of exactly these, so a recalled value is the one that would be
computed. Of the last block, which grows with every decision, the fitted model is filed instead.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

import calibrator
from calibrator.forecast.base import Block, VarianceForecaster, blocks, fit_block, forecast_block
from pipelines.executor import SERIAL, Executor
from pipelines.shelf import Shelf
from pipelines.spelling import spell, unspell

Make = Callable[[], VarianceForecaster]
Values = npt.NDArray[np.float64]
LIBRARIES: Final = ("numpy", "pandas", "scipy", "scikit-learn", "lightgbm", "numba", "arch", "statsmodels")


class Walk(Protocol):
    """A walk-forward; the arguments and the result of ``forecast.base.walk_forward``."""

    def __call__(  # noqa: PLR0913 - those of walk_forward
        self,
        make: Make,
        features: pd.DataFrame,
        targets: pd.DataFrame,
        *,
        refit: int,
        start: int,
        rowwise: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> pd.Series:
        """Forecast every row with a model that was fitted on targets known at the refit before it."""
        ...


@cache
def code_digest() -> str:
    """Digest the library's source and the versions of what computes for it.

    Examples
    --------
    >>> len(code_digest()), code_digest() == code_digest()
    (64, True)
    """
    folder = Path(calibrator.__file__).parent
    total = sha256("".join(f"{name}={version(name)};" for name in LIBRARIES).encode())
    for path in sorted([*folder.rglob("*.py"), *Path(__file__).parent.glob("*.py")]):
        total.update(path.name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


@dataclass(slots=True)
class Walker:
    """Runs walk-forwards, remembers the last fitted forecaster of each, and recalls what a shelf holds.

    Parameters
    ----------
    shelf : Shelf, optional
        Where blocks and fits are filed; None computes everything.
    executor : Executor
        Blocks of forecasters that do not hand anything from refit to refit run through it.

    Attributes
    ----------
    last : dict
        The last fitted forecaster by name.
    fits, recalled : int
        Refits that were done, and blocks that were not because their values were filed.

    Examples
    --------
    >>> from calibrator.forecast.ewma import Ewma
    >>> t = pd.date_range("2024-01-01", periods=4, tz="UTC").as_unit("us")
    >>> x = pd.DataFrame({"market": "A", "time": t, "log_return": 0.0, "realized_variance": [1.0, 4, 4, 4]})
    >>> y = pd.DataFrame({"future_variance": 1.0, "known_at": t + pd.Timedelta("1D")})
    >>> walker = Walker()
    >>> walker(lambda: Ewma(decay=0.5, scale=1), x, y, refit=2, start=1).round(3).tolist(), walker.fits
    ([nan, 3.0, 3.571, 3.8], 2)
    """

    shelf: Shelf | None = None
    executor: Executor = SERIAL
    last: dict[str, object] = field(default_factory=dict)
    fits: int = 0
    recalled: int = 0

    def __call__(  # noqa: PLR0913 - the arguments of walk_forward
        self,
        make: Make,
        features: pd.DataFrame,
        targets: pd.DataFrame,
        *,
        refit: int,
        start: int,
        rowwise: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> pd.Series:
        """Forecast every row; see ``forecast.base.walk_forward``, whose result this is, bit for bit."""
        found = blocks(features["time"], refit=refit, start=start)
        out = np.full(len(features), np.nan)
        sample = make()
        chained = getattr(sample, "memory", None) is not None
        keys = self._keys(sample, features, targets, found, (refit, start, rowwise))
        waiting: list[int] = []
        for number, block in enumerate(found):
            values = self._recall(keys[number]) if block.end is not None else None
            if values is None:
                waiting.append(number)
                continue
            rows = served(features["time"], block)
            out[rows] = values
            self.recalled += 1
        task = _Task(make, features, targets, rowwise)
        run = self._chain if chained else self._spread
        for done, (number, fitted, values) in enumerate(run(task, found, keys, waiting), start=1):
            rows = served(features["time"], found[number])
            out[rows] = values
            self._file(task, found[number], keys[number], fitted, values)
            if number == len(found) - 1 and fitted is not None:
                self.last[fitted.name] = fitted
            if progress is not None:
                progress(len(found) - len(waiting) + done, len(found))
        return pd.Series(out, features.index)

    def _keys(
        self,
        sample: VarianceForecaster,
        features: pd.DataFrame,
        targets: pd.DataFrame,
        found: list[Block],
        settings: tuple[int, int, bool],
    ) -> list["_Key"]:
        """Name each block by what goes into it; without a shelf, or of an unknown class, nothing has one."""
        try:
            label = f"{code_digest()} {settings} {spell(sample)}" if self.shelf is not None else ""
        except TypeError:
            label = ""
        if not label:
            return [_Key("", "")] * len(found)
        return list(_named(label, features, targets, found))

    def _recall(self, key: "_Key") -> Values | None:
        raw = self.shelf.get(key.values) if self.shelf is not None and key.values else None
        return None if raw is None else np.frombuffer(raw, dtype="<f8").copy()

    def _fitted(self, key: "_Key") -> VarianceForecaster | None:
        raw = self.shelf.get(key.fit) if self.shelf is not None and key.fit else None
        return None if raw is None else unspell(raw.decode())

    def _spread(
        self, task: "_Task", found: list[Block], keys: list["_Key"], waiting: list[int]
    ) -> Iterator["_Done"]:
        """Do blocks that do not depend on each other, wherever the executor runs them."""
        missing = []
        for number in waiting:
            fitted = self._fitted(keys[number])
            if fitted is None:
                missing.append(number)
            else:
                yield (
                    number,
                    fitted,
                    forecast_block(fitted, task.features, found[number], rowwise=task.rowwise)[1],
                )
        self.fits += len(missing)
        last = len(found) - 1
        work = [(found[number], number == last) for number in missing]
        for number, (fitted, values) in zip(
            missing, self.executor.map(partial(_fit, task), work), strict=True
        ):
            yield number, fitted, values

    def _chain(
        self, task: "_Task", found: list[Block], keys: list["_Key"], waiting: list[int]
    ) -> Iterator["_Done"]:
        """Do the blocks of a forecaster that keeps a memory from refit to refit, in their order."""
        if not waiting:
            return
        memory = task.make().memory  # type: ignore[attr-defined]
        first = waiting[0]
        before = self._fitted(keys[first - 1]) if first else None
        if before is not None:
            memory.update(before.memory)  # type: ignore[attr-defined]
        begin = first if before is not None or not first else 0
        for number in range(begin, len(found)):
            fitted = self._fitted(keys[number])
            if fitted is None:
                self.fits += 1
                fitted = fit_block(task.make, task.features, task.targets, found[number])
            else:
                memory.update(fitted.memory)  # type: ignore[attr-defined]
            values = forecast_block(fitted, task.features, found[number], rowwise=task.rowwise)[1]
            self._file_fit(task, found[number], keys[number], fitted, values)
            if number in waiting:
                yield number, fitted, values

    def _file(
        self, task: "_Task", block: Block, key: "_Key", fitted: VarianceForecaster | None, values: Values
    ) -> None:
        if self.shelf is None or not key.values:
            return
        if block.end is not None:
            self.shelf.put(key.values, values.astype("<f8").tobytes())
        elif fitted is not None:
            self._file_fit(task, block, key, fitted, values)

    def _file_fit(
        self, task: "_Task", block: Block, key: "_Key", fitted: VarianceForecaster, values: Values
    ) -> None:
        """File a fitted model, if what is read back forecasts the very same numbers."""
        if self.shelf is None or not key.fit or self.shelf.touch(key.fit):
            return
        try:
            text = spell(fitted)
        except TypeError:
            return
        again = forecast_block(unspell(text), task.features, block, rowwise=task.rowwise)[1]
        if np.array_equal(again, values, equal_nan=True):
            self.shelf.put(key.fit, text.encode())


_Done = tuple[int, VarianceForecaster | None, Values]


@dataclass(frozen=True, slots=True)
class _Task:
    """What every block of one walk-forward shares."""

    make: Make
    features: pd.DataFrame
    targets: pd.DataFrame
    rowwise: bool


@dataclass(frozen=True, slots=True)
class _Key:
    """Names of a block's values and of its fit; empty where nothing may be filed."""

    values: str
    fit: str


def _fit(task: _Task, work: tuple[Block, bool]) -> tuple[VarianceForecaster | None, Values]:
    """Fit and forecast one block; only the last block's forecaster is handed back."""
    block, last = work
    fitted = fit_block(task.make, task.features, task.targets, block)
    values = forecast_block(fitted, task.features, block, rowwise=task.rowwise)[1]
    return (fitted if last else None), values


def served(time: pd.Series, block: Block) -> npt.NDArray[np.bool_]:
    """Return which rows a block serves."""
    times = time.dt.tz_convert(None).to_numpy(dtype="datetime64[us]")
    until = np.ones(len(times), bool) if block.end is None else times < block.end
    inside: npt.NDArray[np.bool_] = until & (times >= block.cut)
    return inside


def _named(label: str, features: pd.DataFrame, targets: pd.DataFrame, found: list[Block]) -> Iterator[_Key]:
    """Digest the rows up to each block's cut and end, each row once."""
    rows, outcomes = _Running.features(features), _Running.targets(features, targets)
    start = sha256(label.encode() + repr([*features.columns]).encode()).digest()
    for block in found:
        learned = start + rows.until(block.cut, inclusive=True) + outcomes.until(block.cut, inclusive=True)
        fit = sha256(b"fit" + learned).hexdigest()
        if block.end is None:
            yield _Key("last", fit)
        else:
            seen = rows.until(block.end, inclusive=False)
            yield _Key(sha256(b"values" + learned + seen).hexdigest(), fit)


class _Running:
    """Digest of rows in the order of a clock, extended as the clock goes on."""

    def __init__(self, clock: npt.NDArray[np.datetime64], columns: list[npt.NDArray[Any]]) -> None:
        order = np.argsort(clock, kind="stable")
        self._clock = clock[order]
        self._columns = [np.ascontiguousarray(c[order]) for c in columns]
        self._done = 0
        self._total = sha256()

    @classmethod
    def features(cls, features: pd.DataFrame) -> "_Running":
        """Digest feature rows by their time."""
        clock = features["time"].dt.tz_convert(None).to_numpy(dtype="datetime64[us]")
        numbers = features.drop(columns=["market", "time"]).to_numpy(dtype="<f8")
        return cls(clock, [clock, _market_codes(features["market"]), numbers])

    @classmethod
    def targets(cls, features: pd.DataFrame, targets: pd.DataFrame) -> "_Running":
        """Digest outcomes by the time at which they are known."""
        clock = features["time"].dt.tz_convert(None).to_numpy(dtype="datetime64[us]")
        known_at = targets["known_at"].dt.tz_convert(None).to_numpy(dtype="datetime64[us]")
        value = targets["future_variance"].to_numpy(dtype="<f8")
        never = np.isnat(known_at)
        due = np.where(never, np.datetime64("9999-01-01", "us"), known_at)
        return cls(due, [clock, _market_codes(features["market"]), value])

    def until(self, cut: np.datetime64, *, inclusive: bool) -> bytes:
        """Return the digest of the rows up to ``cut``; cuts rise, but the end of a block is the next cut."""
        end = int(np.searchsorted(self._clock, cut, side="right" if inclusive else "left"))
        ahead = self._total.copy()
        for column in self._columns:
            ahead.update(column[self._done : end].tobytes())
        if inclusive:
            self._total, self._done = ahead, end
        return ahead.digest()


def _market_codes(markets: pd.Series) -> npt.NDArray[np.uint64]:
    """Return eight bytes per row that depend on the market's name alone."""
    names = {m: int.from_bytes(sha256(str(m).encode()).digest()[:8], "little") for m in markets.unique()}
    codes: npt.NDArray[np.uint64] = markets.map(names).to_numpy(dtype=np.uint64)
    return codes
