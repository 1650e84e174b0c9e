"""How every command meets its operator: options, errors as one sentence and an exit code."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import typer
from rich.console import Console

from calibrator.errors import CalibratorError

CONFIG: Final = typer.Option("--config", "-c", help="YAML file; one file is one run.", show_default=False)
HOME: Final = typer.Option("--home", help="Folder for everything that the command writes.")
AS_OF: Final = typer.Option(
    "--as-of", help="Time (ISO 8601, UTC): later data are not looked at.", show_default=False
)
SET: Final = typer.Option(
    "--set", help="Override one key: `section.key=value` (repeatable).", show_default=False
)
APPROVE: Final = typer.Option("--approve", help="The second key: an approver's PEM file.", show_default=False)
CATCH_UP: Final = typer.Option(
    "--catch-up", help="Make up for every decision since the last good run, one run each."
)
LOG: Final = typer.Option("--log", envvar="CALIBRATOR_LOG", help="Log to stderr: none, text or json.")
DEBUG: Final = typer.Option("--debug", help="Show the traceback of an error.")
WRITE_DOCS: Final = typer.Option("--write-docs", help="Also write the table to docs/benchmarks/.")


@contextmanager
def reported(*, debug: bool) -> Iterator[None]:
    """Turn an error into one sentence on stderr and its exit code; with ``debug`` let it through.

    Examples
    --------
    >>> from calibrator.errors import DataError
    >>> try:
    ...     with reported(debug=False):
    ...         raise DataError("bars.csv: empty")
    ... except typer.Exit as ended:
    ...     print(ended.exit_code)
    3
    """
    try:
        yield
    except CalibratorError as error:
        if debug:
            raise
        _print(type(error).__name__, str(error))
        raise typer.Exit(error.exit_code) from None
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except Exception as error:
        if debug:
            raise
        _print("internal error", f"{type(error).__name__}: {error} (--debug shows where; please report it)")
        raise typer.Exit(CalibratorError.exit_code) from None


def _print(name: str, text: str) -> None:
    console = Console(stderr=True)
    console.print(f"[bold red]{name}[/]: ", end="")
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def parse_time(text: str) -> datetime:
    """Read a time of the command line as UTC.

    Raises
    ------
    typer.BadParameter
        Not ISO 8601.

    Examples
    --------
    >>> parse_time("2019-01-04").isoformat()
    '2019-01-04T00:00:00+00:00'
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"--as-of must be an ISO 8601 time, was {text[:60]!r}") from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)
