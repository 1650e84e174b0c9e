"""Why a stress probability is what it is: contributions of the regressors in words."""

from typing import Final

import pandas as pd

from calibrator.regimes.classifier import StressClassifier

MOVES: Final = "recent price moves"
WEEK: Final = "time of the week"
FAMILIES: Final = {
    "all_gap": "how close all markets are to stress",
    "all_stressed": "how close all markets are to stress",
    "all_return": "moves of all markets",
    "all_volume": "trading volume of all markets",
    "all_positioning": "positions and liquidations of all markets",
    "all_": "variance of all markets",
    "lead_": "state of the leading market",
    "gap_now": "variance now against the stress threshold",
    "distance": "forecast variance against the stress threshold",
    "gap_": "forecast variance against the stress threshold",
    "variance_of_variance": "unsteady variance",
    "variance_": "own recent variance",
    "har_": "own recent variance",
    "range_": "own recent price range",
    "weekday_variance": "variance on this day of the week",
    "downside_": "share of falls in the variance",
    "jump_": "share of single jumps in the variance",
    "return_": MOVES,
    "drawdown": MOVES,
    "run_up": MOVES,
    "volume_": "trading volume",
    "level": "level of forecast variance",
    "relative_level": "variance relative to other markets",
    "positioning": "positions and liquidations",
    "implied": "implied volatility",
    "weekday": WEEK,
    "hour": WEEK,
    "age": "length of the history",
}
"""What a regressor is about, by the start of its name; the first that fits counts."""


def in_words(column: str) -> str:
    """Say what a regressor is about.

    Examples
    --------
    >>> print(in_words("all_gap_har"), in_words("return_24"), in_words("oracle_age"), sep="; ")
    how close all markets are to stress; recent price moves; oracle age
    """
    found = next((words for start, words in FAMILIES.items() if column.startswith(start)), None)
    return found or column.replace("_", " ")


def explain(
    classifier: StressClassifier, rows: pd.DataFrame, *, count: int = 3
) -> list[list[tuple[str, float]]]:
    """Name what moved each row's probability most, away from the average over the training rows.

    Parameters
    ----------
    classifier : StressClassifier
        Fitted; an unfitted one explains nothing.
    rows : pandas.DataFrame
        Rows of the stress design.
    count : int
        Largest contributions per row, by size.

    Returns
    -------
    list of list of (str, float)
        Per row: what, and its contribution to the log-odds (positive raises the probability). Regressors
        about the same thing are added up, because trees share credit among them arbitrarily.

    Examples
    --------
    >>> explain(StressClassifier(), pd.DataFrame({"gap_har": [0.5]}))
    [[]]
    """
    parts = classifier.contributions(rows)
    if parts.empty:
        return [[] for _ in range(len(rows))]
    families = parts.T.groupby(in_words, sort=False).sum().T
    out = []
    for _, row in families.iterrows():
        order = row.abs().sort_values(ascending=False, kind="stable").index[:count]
        out.append([(str(name), float(row[name])) for name in order])
    return out


def sentence(drivers: list[tuple[str, float]]) -> str:
    """Spell contributions in one line.

    Examples
    --------
    >>> sentence([("own recent variance", 0.81), ("time of the week", -0.2), ("trading volume", 0.1)])
    'stress probability raised by own recent variance (+0.81), trading volume (+0.10); lowered by time of
    the week (-0.20)'
    >>> sentence([])
    ''
    """
    sides = {"raised": [d for d in drivers if d[1] > 0], "lowered": [d for d in drivers if d[1] < 0]}
    said = [
        f"{verb} by {', '.join(f'{what} ({odds:+.2f})' for what, odds in own)}"
        for verb, own in sides.items()
        if own
    ]
    return f"stress probability {'; '.join(said)}" if said else ""
