"""Progress bars of the operator's command."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from pipelines.forecasting import Progress as Report


@contextmanager
def bars(console: Console) -> Iterator[Report]:
    """Yield a callback ``(what, done, total)`` that draws one bar for each ``what``.

    Examples
    --------
    >>> import io
    >>> with bars(Console(file=io.StringIO(), width=60)) as report:
    ...     report("forecast", 1, 2)
    ...     report("forecast", 2, 2)
    """
    columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield report
