"""What the compiled portfolio margin saves and how exact it is, beside what everyone writes, in one run."""

import math
import statistics
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import ndtr

from calibrator.errors import ConfigError
from calibrator.netting import PortfolioRules, Scenario, UnderlyingRules, VolatilityTerm
from calibrator.portfolio.black76 import price
from calibrator.portfolio.book import Book, book, requirements
from calibrator.portfolio.contracts import Contract, Table, table
from calibrator.portfolio.grid import grid, risk_arrays
from calibrator.portfolio.implied import implied_volatility
from pipelines.benchmarks.timing import Clock, interleaved, ratio
from pipelines.forecasting import Progress

Array = NDArray[np.float64]
Ints = NDArray[np.signedinteger[Any]]
OPTIONS, POSITIONS, ACCOUNTS, ROUNDS, SCALAR = 1_000_000, 1_000_000, 100_000, 5, 2_000
SPOT: Final = {"BTC": 60_000.0, "ETH": 3_000.0, "SOL": 150.0}
SAID_OPTIONS: Final = (
    "Value of one option from forward, strike, volatility and time, all different. scipy: whole arrays, "
    "`scipy.special.ndtr`. Loops, one option per call: `math.erfc`; `scipy.stats.norm.cdf` with a flag "
    "per option, the style of py_vollib's reference implementation. One thread."
)
SAID_BOOK: Final = (
    "27 scenarios, options of four expiries and futures, perpetuals and spot on three underlyings. Ours: "
    "group positions by account, value the distinct contracts, worst scenario, offsets between "
    "underlyings and add-ons per account. pandas, numpy and scipy.sparse get the valued contracts for "
    "nothing and stop at the sum over underlyings of the worst scenario; positions are sorted by account "
    "beforehand for numpy. Memory: largest allocation of one call (tracemalloc)."
)
SAID_EXACT: Final = (
    "Against mpmath with 50 digits: forwards 1e-4 to 1e7, strikes within a factor of e^4, volatility 1 % "
    "to 500 %, one hour to ten years, calls and puts. Errors are relative to the larger of forward and "
    "strike; the last is relative to the price itself, of options worth more than 1e-9. Inversion: "
    "volatility found again from the price of out-of-the-money options worth more than 1e-9 of the "
    "forward."
)


def rules_27(symbols: tuple[str, ...] = tuple(SPOT)) -> PortfolioRules:
    """Return rules of nine moves times three volatilities, with add-ons and no offsets."""
    moves = tuple(round(1e6 * 0.03 * i) for i in range(-4, 5))
    states = ("up", "same", "down")
    grid_27 = tuple(Scenario(i, s, 0, 1_000_000) for i in range(9) for s in states)  # type: ignore[arg-type]
    own = tuple(
        UnderlyingRules(s, moves, 400_000, 250_000, 86_400, 12_000, 3_000, 10_000, ()) for s in symbols
    )
    return PortfolioRules("USD", 1_250_000, VolatilityTerm(300_000, 130_000, 1), grid_27, own, (), ())


def contracts(strikes: int = 25) -> Table:
    """Return the distinct contracts of the speed book."""
    made = []
    for symbol, spot in SPOT.items():
        made += [Contract(symbol, "spot", spot), Contract(symbol, "perpetual", spot * 1.0005)]
        for years in (7 / 365, 30 / 365, 0.25, 0.5):
            forward = spot * (1 + 0.05 * years)
            made.append(Contract(symbol, "future", forward, years=years))
            for k in np.linspace(0.6, 1.5, strikes):
                for kind in ("call", "put"):
                    made.append(Contract(symbol, kind, forward, strike=spot * k, years=years, volatility=0.6))
    return table(made, tuple(SPOT))


def options_table(*, scale: float, progress: Progress, clock: Clock) -> pd.DataFrame:
    """Time Black-76, every way of writing it in turn."""
    rng = np.random.default_rng(76)
    n = max(10_000, round(OPTIONS * scale))
    forward, volatility, time = rng.uniform(50, 150, n), rng.uniform(0.1, 1.5, n), rng.uniform(0.01, 1, n)
    strike, call = forward * np.exp(rng.normal(0, 0.3, n)), rng.random(n) < 0.5
    some = max(200, round(SCALAR * scale))
    rows = list(zip(forward[:some], strike[:some], volatility[:some], time[:some], call[:some], strict=True))
    tasks: dict[str, Callable[[], Any]] = {
        "ours": lambda: price(forward, strike, volatility, time, call=call),
        "scipy, whole arrays": lambda: _scipy(forward, strike, volatility, time, call),
        "loop, math.erfc": lambda: [_erfc(*row) for row in rows],
        "loop, scipy.stats": lambda: [_stats(*row) for row in rows],
    }
    apart = np.abs(tasks["ours"]() - tasks["scipy, whole arrays"]()).max()
    progress("Black-76", 0, 1)
    seconds = interleaved([tasks] * ROUNDS, clock=clock)
    progress("Black-76", 1, 1)
    counts = {"ours": n, "scipy, whole arrays": n, "loop, math.erfc": some, "loop, scipy.stats": some}
    per = seconds / pd.Series(counts)
    asked = {"scipy, whole arrays": 5.0, "loop, scipy.stats": 300.0}
    return pd.DataFrame(
        {
            name: {
                "options": counts[name],
                "ns_per_option": 1e9 * float(per[name].median()),
                "ratio": ratio(per, slow=name, fast="ours"),
                "asked": asked.get(name, float("nan")),
                "largest_difference": float(apart) if name.startswith("scipy,") else float("nan"),
            }
            for name in tasks
        }
    ).T.rename_axis("way")


def _scipy(f: Array, k: Array, v: Array, t: Array, call: NDArray[np.bool_]) -> Array:
    sign = np.where(call, 1.0, -1.0)
    s = v * np.sqrt(t)
    d1 = np.log(f / k) / s + 0.5 * s
    out: Array = sign * (f * ndtr(sign * d1) - k * ndtr(sign * (d1 - s)))
    return out


def _erfc(f: float, k: float, v: float, t: float, call: bool) -> float:  # noqa: FBT001
    s = v * math.sqrt(t)
    d1 = math.log(f / k) / s + 0.5 * s
    sign = 1 if call else -1
    near, far = (0.5 * math.erfc(-sign * d / math.sqrt(2)) for d in (d1, d1 - s))
    return sign * (f * near - k * far)


def _stats(f: float, k: float, v: float, t: float, call: bool) -> float:  # noqa: FBT001
    from scipy.stats import norm  # noqa: PLC0415 - slow to import, only here

    s = v * np.sqrt(t)
    d1 = np.log(f / k) / s + 0.5 * s
    sign = 1 if call else -1
    return float(sign * (f * norm.cdf(sign * d1) - k * norm.cdf(sign * (d1 - s))))


def book_table(*, scale: float, progress: Progress, clock: Clock) -> pd.DataFrame:
    """Time the requirement of every account of a large book, ours and theirs in turn."""
    rng = np.random.default_rng(27)
    positions, accounts = max(5_000, round(POSITIONS * scale)), max(500, round(ACCOUNTS * scale))
    made, rules = contracts(), rules_27()
    owner, what = rng.integers(0, accounts, positions), rng.integers(0, len(made.contracts), positions)
    held = rng.normal(0, 1e4, positions) / made.price[what]
    gains = risk_arrays(made, grid(rules))
    key = owner * len(SPOT) + made.underlying[what]
    order: Ints = np.argsort(key, kind="stable")
    given = (owner, what, held)
    tasks: dict[str, Callable[[], Any]] = {
        "ours": lambda: requirements(book(*given, contracts=made, accounts=accounts), rules),
        "ours, 2 threads": lambda: requirements(
            book(*given, contracts=made, accounts=accounts), rules, threads=2
        ),
        "pandas": partial(_pandas, given, made, gains),
        "numpy reduceat": partial(_numpy, key[order], what[order], held[order], gains),
        "scipy.sparse": partial(_sparse, key, what, held, gains),
    }
    reference = tasks["ours"]()[:, 0]
    progress("book of accounts", 0, 1)
    seconds = interleaved([tasks] * ROUNDS, clock=clock)
    progress("book of accounts", 1, 1)
    rows = {}
    for name, task in tasks.items():
        total = task()
        theirs = total[:, 0] if name.startswith("ours") else _by_account(total, accounts)
        rows[name] = {
            "positions": positions,
            "accounts": accounts,
            "ms": 1e3 * float(seconds[name].median()),
            "ratio": ratio(seconds, slow=name, fast="ours"),
            "asked": 8.0 if name == "pandas" else float("nan"),
            "megabytes": _peak(task),
            "largest_difference": float(np.abs(theirs - reference).max() / reference.max()),
        }
    same = (tasks["ours"]() == tasks["ours, 2 threads"]()).all()
    rows["ours, 2 threads"]["largest_difference"] = 0.0 if same else float("inf")
    return pd.DataFrame(rows).T.rename_axis("way")


def _pandas(given: tuple[Ints, Ints, Array], made: Table, gains: Array) -> pd.Series:
    owner, what, held = given
    frame = pd.DataFrame(gains[what] * held[:, None])
    frame["key"] = owner * len(SPOT) + made.underlying[what]
    return (-frame.groupby("key").sum()).max(axis=1).clip(lower=0)


def _numpy(key: Ints, what: Ints, held: Array, gains: Array) -> pd.Series:
    first = np.flatnonzero(np.append(True, key[1:] != key[:-1]))
    sums = np.add.reduceat(gains[what] * held[:, None], first)
    return pd.Series(np.maximum(-sums.min(axis=1), 0.0), key[first])


def _sparse(key: Ints, what: Ints, held: Array, gains: Array) -> pd.Series:
    sums = csr_matrix((held, (key, what)), shape=(int(key.max()) + 1, len(gains))) @ gains
    return pd.Series(np.maximum(-sums.min(axis=1), 0.0))


def _by_account(worst: pd.Series, accounts: int) -> Array:
    owner = np.asarray(worst.index, np.int64) // len(SPOT)
    return np.asarray(np.bincount(owner, worst.to_numpy(float), accounts), np.float64)


def _peak(task: Callable[[], object]) -> float:
    tracemalloc.start()
    try:
        task()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def exact_table(*, scale: float) -> pd.DataFrame:
    """Compare values and inversions with 50 digits.

    Raises
    ------
    ConfigError
        mpmath, which the development extra installs, is not there.
    """
    try:
        import mpmath  # type: ignore[import-untyped] # noqa: PLC0415 - a development dependency
    except ImportError as error:
        raise ConfigError("the accuracy benchmark needs mpmath (extra dev)") from error
    rng = np.random.default_rng(50)
    n = max(200, round(20_000 * scale))
    forward = np.exp(rng.uniform(np.log(1e-4), np.log(1e7), n))
    strike = forward * np.exp(rng.uniform(-4, 4, n))
    volatility, call = np.exp(rng.uniform(np.log(0.01), np.log(5), n)), rng.random(n) < 0.5
    time = np.exp(rng.uniform(np.log(1 / 8760), np.log(10), n))
    ours = price(forward, strike, volatility, time, call=call)
    exact = []
    with mpmath.workdps(50):
        for f, k, v, t, sign in zip(forward, strike, volatility, time, np.where(call, 1, -1), strict=True):
            f50, k50, s = mpmath.mpf(f), mpmath.mpf(k), mpmath.mpf(v) * mpmath.sqrt(mpmath.mpf(t))
            d1, z = mpmath.log(f50 / k50) / s + s / 2, int(sign)
            exact.append(z * (f50 * mpmath.ncdf(z * d1) - k50 * mpmath.ncdf(z * (d1 - s))))
        apart = [float(abs(a - b)) for a, b in zip(ours.tolist(), exact, strict=True)]
    size = np.maximum(forward, strike)
    reference = np.array([float(x) for x in exact])
    errors = np.array(apart)
    worth = reference > 1e-9 * size
    found = implied_volatility(reference, forward, strike, time, call=call)
    outside = np.where(call, strike >= forward, strike <= forward)
    clear = outside & (reference > 1e-9 * forward) & (reference < 0.999 * np.minimum(forward, strike))
    again = np.abs(found.volatility[clear] / volatility[clear] - 1)
    rows = {
        "value": {"options": n, "largest_error": float((errors / size).max()), "asked": 1e-12},
        "value, relative to the price": {
            "options": int(worth.sum()),
            "largest_error": float((errors[worth] / reference[worth]).max()),
        },
        "inversion": {"options": int(clear.sum()), "largest_error": float(again.max())},
        "inversion, most steps": {
            "options": int(found.solved.sum()),
            "largest_error": float(found.steps[found.solved].max()),
        },
        "inversion, not found where it exists": {
            "options": int(clear.sum()),
            "largest_error": float((clear & ~found.solved).sum()),
            "asked": 0.0,
        },
    }
    return pd.DataFrame(rows).T.rename_axis("what")


def additivity_table(*, scale: float) -> pd.DataFrame:
    """Count how often two random books together ask more than apart, per kind of rules."""
    from calibrator.netting import AddOnTier, CorrelationRange  # noqa: PLC0415

    rng = np.random.default_rng(11)
    made, accounts = contracts(5), max(200, round(20_000 * scale))
    tiers = (AddOnTier(0, 0), AddOnTier(50_000, 20_000), AddOnTier(200_000, 50_000))
    bare = rules_27()
    plain = replace(
        bare,
        underlyings=tuple(
            replace(u, basis_ppm=0, funding_ppm=0, naked_option_ppm=0) for u in bare.underlyings
        ),
    )
    pairs = [("BTC", "ETH"), ("BTC", "SOL"), ("ETH", "SOL")]
    hedged = {
        low: tuple(CorrelationRange(a, b, round(low * 1e6), 1_000_000) for a, b in pairs)
        for low in (0.0, 0.3)
    }
    kinds = {
        "scenarios, no offsets": plain,
        "scenarios, hedges count 0.0": replace(plain, correlations=hedged[0.0]),
        "scenarios, hedges count 0.3": replace(plain, correlations=hedged[0.3]),
        "with basis, funding and naked options": replace(bare, correlations=hedged[0.0]),
        "with concentration": replace(
            bare,
            correlations=hedged[0.0],
            underlyings=tuple(replace(u, concentration=tiers) for u in bare.underlyings),
        ),
    }
    count = accounts * 6
    owner, what = np.repeat(np.arange(accounts), 6), rng.integers(0, len(made.contracts), count)
    held = rng.normal(0, 1e4, count) / made.price[what]
    half = np.arange(count) % 2 == 0
    rows = {}
    for name, rules in kinds.items():
        whole = _asked((owner, what, held), made, accounts, rules)
        parts = [_asked((owner[x], what[x], held[x]), made, accounts, rules) for x in (half, ~half)]
        excess = whole / np.maximum(parts[0] + parts[1], 1e-9) - 1
        rows[name] = {
            "pairs": accounts,
            "violations": int((excess > 1e-9).sum()),
            "share": float((excess > 1e-9).mean()),
            "largest_excess": float(max(excess.max(), 0.0)),
            "mean_saving": float(statistics.fmean(-excess)),
        }
    return pd.DataFrame(rows).T.rename_axis("rules")


def _asked(held: tuple[Ints, Ints, Array], made: Table, accounts: int, rules: PortfolioRules) -> Array:
    grouped: Book = book(*held, contracts=made, accounts=accounts)
    total: Array = requirements(grouped, rules).sum(axis=1)
    return total
