"""``python -m pipelines benchmark nightly | promotion | scale``: what unattended work takes and decides."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines.benchmark import DOCS, SCALE, print_files
from pipelines.terminal import CONFIG, DEBUG, HOME, SET, WRITE_DOCS, reported

NIGHTS = typer.Option("--nights", min=1, max=366, help="Last days of the bars, a run each.")


def nightly(
    config: Annotated[Path, CONFIG],
    home: Annotated[Path, HOME] = Path("home"),
    nights: Annotated[int, NIGHTS] = 20,
    set_: Annotated[list[str] | None, SET] = None,
    write_docs: Annotated[bool, WRITE_DOCS] = False,  # noqa: FBT002 - a command-line flag
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002
) -> None:
    """Measure a run from nothing, the nights after it, a retraining: time, memory, time to the signed file.

    Example: `python -m pipelines benchmark nightly --config pipelines/config/perps-hourly.yaml --nights 20`
    """
    now, console = datetime.now(UTC), Console()
    with reported(debug=debug):
        from shutil import rmtree  # noqa: PLC0415 - keeps --help fast

        from calibrator.config import load_config  # noqa: PLC0415
        from pipelines.benchmarks.nightly import run, write  # noqa: PLC0415
        from pipelines.progress import bars  # noqa: PLC0415

        sets = set_ or []
        scratch = home / "benchmarks" / "nightly"
        rmtree(scratch, ignore_errors=True)
        with bars(console) as progress:
            found = run(
                load_config(config, sets),
                file=config,
                sets=sets,
                home=scratch,
                nights=nights,
                progress=progress,
            )
        files = write(found, home=home, made_on=now.date(), docs=DOCS if write_docs else None)
        console.print(files["table"].read_text(), markup=False, highlight=False)
        print_files(files, console)


def scale(
    home: Annotated[Path, HOME] = Path("home"),
    share: Annotated[float, SCALE] = 1.0,
    write_docs: Annotated[bool, WRITE_DOCS] = False,  # noqa: FBT002 - a command-line flag
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002
) -> None:
    """Measure time and memory of a walk-forward for 10, 50 and 200 markets, and how they grow.

    Example: `python -m pipelines benchmark scale --scale 0.1`
    """
    now = datetime.now(UTC)
    console = Console()
    with reported(debug=debug):
        from pipelines.benchmarks.scale import SIZES, run, write  # noqa: PLC0415 - keeps --help fast
        from pipelines.progress import bars  # noqa: PLC0415

        sizes = [max(2, round(share * n)) for n in SIZES]
        with bars(console) as progress:
            table = run(sizes=sizes, progress=progress)
        files = write(table, home=home, made_on=now.date(), docs=DOCS if write_docs else None)
        console.print(files["table"].read_text(), markup=False, highlight=False)
        print_files(files, console)


def promotion(
    home: Annotated[Path, HOME] = Path("home"),
    scale: Annotated[float, SCALE] = 1.0,
    write_docs: Annotated[bool, WRITE_DOCS] = False,  # noqa: FBT002 - a command-line flag
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002
) -> None:
    """Measure how often equal and better challengers are promoted, and how fast the ledger answers.

    Example: `python -m pipelines benchmark promotion --scale 0.1`
    """
    now = datetime.now(UTC)
    console = Console()
    with reported(debug=debug):
        from pipelines.benchmarks.promotion import run, write  # noqa: PLC0415 - keeps --help fast
        from pipelines.progress import bars  # noqa: PLC0415

        with bars(console) as progress:
            found = run(scale=scale, progress=progress)
        files = write(found, home=home, made_on=now.date(), docs=DOCS if write_docs else None)
        console.print(files["table"].read_text(), markup=False, highlight=False)
        print_files(files, console)
