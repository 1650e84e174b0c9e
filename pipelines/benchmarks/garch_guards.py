"""Series that cannot be estimated, or hardly: what the engine says about them, and how soon."""

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from calibrator.forecast.garch_estimation import fit_windows
from calibrator.forecast.garch_parameters import ERRORS, SPECS, Status
from pipelines.benchmarks.timing import Clock

ROWS: Final = 1000
REPEATS: Final = 3
ASKED_MS: Final = 50.0


def broken_windows() -> dict[str, npt.NDArray[np.float64]]:
    """Return windows of 1,000 returns that break estimators.

    Examples
    --------
    >>> list(broken_windows())[:4]
    ['NaN', 'all NaN', 'infinite', 'constant']
    """
    noise = np.random.default_rng(3).normal(size=ROWS)
    rows = np.arange(float(ROWS))
    jump, holes = noise.copy(), noise.copy()
    jump[500] = 1e160
    holes[::10] = np.nan
    return {
        "NaN": holes,
        "all NaN": np.full(ROWS, np.nan),
        "infinite": np.where(noise > 3, np.inf, noise),
        "constant": np.full(ROWS, 0.3),
        "zero": np.zeros(ROWS),
        "overflowing": 1e200 * noise,
        "one huge": jump,
        "exploding": noise * np.exp(rows * 0.3),
        "spike": np.where(rows == 700, 1e9, 0.0),
        "two values": np.where(noise > 0, 1.0, -1.0),
        "trend": rows,
        "mostly zero": np.where(noise > 2.5, noise, 0.0),
    }


def guard_table(*, progress: Callable[[str, int, int], None], clock: Clock) -> pd.DataFrame:
    """Estimate every broken window with every specification and density, alone and as a walk's first.

    Parameters
    ----------
    progress : callable
        Called with (what, done, total).
    clock : callable
        Seconds.

    Returns
    -------
    pandas.DataFrame
        One row per window: how many of its estimations ended with each status, and the slowest one in
        milliseconds (the fastest of three runs each), beside what was asked.
    """
    windows = broken_windows()
    rows = {}
    for done, (name, window) in enumerate(windows.items()):
        progress("broken series", done, len(windows))
        ends: list[Status] = []
        seconds: list[float] = []
        for choice in ((spec, errors) for spec in SPECS for errors in ERRORS):
            for restart in (1, 2):
                spent = []
                for _ in range(REPEATS):
                    begin = clock()
                    fit = fit_windows(
                        window, np.zeros(1, np.int64), length=ROWS, choice=choice, restart=restart
                    )
                    spent.append(clock() - begin)
                ends.append(Status(int(fit["status"].iloc[0])))
                seconds.append(min(spent))
        counts = {status.name.lower(): ends.count(status) for status in Status}
        rows[name] = {"estimations": len(ends), **counts, "slowest_ms": 1e3 * max(seconds), "asked": ASKED_MS}
    progress("broken series", len(windows), len(windows))
    return pd.DataFrame(rows).T.rename_axis("series")
