"""What a fetch says at its end: one line per source, one per quality rule and market."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from calibrator.data.feed_quality import examine
from pipelines.fetch import Fetched
from pipelines.store import save

_SHOWN = 40


def report(fetched: Sequence[Fetched], folder: Path, console: Console) -> Path:
    """Print what came and what is wrong with it; write the findings to ``quality.csv``.

    Parameters
    ----------
    fetched : sequence of Fetched
    folder : pathlib.Path
        Receives ``quality.csv``.
    console : rich.console.Console

    Returns
    -------
    pathlib.Path
        Of the file.

    Examples
    --------
    >>> import io, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report([], Path(folder), Console(file=io.StringIO())).name
    'quality.csv'
    """
    rows = [quality(one) for one in fetched]
    table = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()
    path = save(folder / "quality.csv", table.to_csv(index=False))
    console.print(_sources(fetched))
    if len(table):
        console.print(_findings(table))
    for one in fetched:
        if one.note:
            console.print(f"{one.source}: {one.note}", markup=False, highlight=False)
    console.print(f"quality report: {path}", markup=False, highlight=False, soft_wrap=True)
    return path


def quality(one: Fetched) -> pd.DataFrame:
    """Return the findings of one source: those of the way in, and those of the rows.

    Examples
    --------
    >>> from calibrator.data.rows import findings_frame
    >>> from calibrator.feeds import FUNDING, empty
    >>> quality(Fetched("s", "f", Path("x"), "", empty(FUNDING), findings_frame([]), 0, "")).columns[0]
    'source'
    """
    both = [one.findings, examine(one.frame)]
    merged = pd.concat([f for f in both if len(f)] or both[:1], ignore_index=True)
    merged.insert(0, "source", one.source)
    return merged


def _sources(fetched: Sequence[Fetched]) -> Table:
    table = Table(title="fetched", title_justify="left")
    for name in ("source", "feed", "rows", "from", "to", "asked", "digest"):
        table.add_column(name)
    for one in fetched:
        times = one.frame["time"]
        span = [f"{t:%Y-%m-%d %H:%M}" for t in (times.min(), times.max())] if len(times) else ["", ""]
        table.add_row(one.source, one.feed, str(len(one.frame)), *span, str(one.asked), one.digest[:16])
    return table


def _findings(rows: pd.DataFrame) -> Table:
    table = Table(title="data quality", title_justify="left")
    for name in ("source", "market", "rule", "count", "first", "last", "action"):
        table.add_column(name)
    for row in rows.head(_SHOWN).itertuples():
        times = ["" if pd.isna(t) else f"{t:%Y-%m-%d %H:%M}" for t in (row.first, row.last)]
        table.add_row(row.source, row.market, row.rule, str(row.count), *times, row.action)
    if len(rows) > _SHOWN:
        table.caption = f"{_SHOWN} of {len(rows)}; all of them are in quality.csv"
    return table
