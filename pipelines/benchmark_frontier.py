"""``python -m pipelines benchmark frontier``: ours among simpler policies and other venues' tables."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines.benchmark import DOCS, IMPLIED, print_files
from pipelines.terminal import AS_OF, CONFIG, DEBUG, HOME, SET, WRITE_DOCS, parse_time, reported

VENUES = typer.Option("--venues", help="YAML file of venues' margins; default: the one that ships.")


def frontier(  # noqa: PLR0913, PLR0917 - one parameter per option
    config: Annotated[Path, CONFIG],
    home: Annotated[Path, HOME] = Path("home"),
    as_of: Annotated[str | None, AS_OF] = None,
    overrides: Annotated[list[str] | None, SET] = None,
    implied: Annotated[Path | None, IMPLIED] = None,
    venues: Annotated[Path | None, VENUES] = None,
    write_docs: Annotated[bool, WRITE_DOCS] = False,  # noqa: FBT002 - a command-line flag
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002
) -> None:
    """Measure cost, coverage and bad debt of every policy by level, and against other venues' tables.

    Example: `python -m pipelines benchmark frontier --config pipelines/config/demo.yaml`
    """
    now = datetime.now(UTC)
    console = Console()
    with reported(debug=debug):
        from calibrator.config import load_config  # noqa: PLC0415 - keeps --help fast
        from calibrator.data.incumbents import FILE, read_incumbents  # noqa: PLC0415
        from calibrator.data.sources import resolve_as_of  # noqa: PLC0415
        from pipelines.benchmarks.frontier import run, write  # noqa: PLC0415
        from pipelines.progress import bars  # noqa: PLC0415

        settings = load_config(config, overrides or ())
        at = parse_time(as_of) if as_of else resolve_as_of(settings, now=now)
        tables = read_incumbents(venues or FILE)
        with bars(console) as progress:
            done = run(settings, home=home, as_of=at, tables=tables, implied=implied, progress=progress)
        docs = DOCS if write_docs else None
        files = write(done, home=home, title=config.stem, made_on=now.date(), docs=docs)
        console.print(files["table"].read_text(), markup=False, highlight=False)
        print_files(files, console)
