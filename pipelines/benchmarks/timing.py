"""Seconds of tasks that take turns, so that a busy machine slows all of them alike."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

Clock = Callable[[], float]
Task = Callable[[], object]


def interleaved(rounds: Sequence[Mapping[str, Task]], *, clock: Clock) -> pd.DataFrame:
    """Run every round's tasks one after the other; the order turns round every time.

    Parameters
    ----------
    rounds : sequence of mappings of str to callable
        The same names in every round.
    clock : callable
        Seconds.

    Returns
    -------
    pandas.DataFrame, shape (rounds, tasks)
        Seconds.

    Examples
    --------
    >>> ticks = iter(range(100))
    >>> interleaved([{"a": lambda: None, "b": lambda: None}] * 2, clock=ticks.__next__).to_dict("list")
    {'a': [1, 1], 'b': [1, 1]}
    """
    rows = []
    for number, tasks in enumerate(rounds):
        names = list(tasks)
        seconds = {}
        for name in names if number % 2 == 0 else reversed(names):
            begin = clock()
            tasks[name]()
            seconds[name] = clock() - begin
        rows.append({name: seconds[name] for name in names})
    return pd.DataFrame(rows)


def ratio(seconds: pd.DataFrame, *, slow: str, fast: str) -> float:
    """Median over the rounds of how many times longer ``slow`` takes.

    Examples
    --------
    >>> ratio(pd.DataFrame({"a": [4.0, 6.0, 9.0], "b": [1.0, 2.0, 3.0]}), slow="a", fast="b")
    3.0
    """
    return float(np.median(seconds[slow] / seconds[fast].clip(lower=1e-12)))
