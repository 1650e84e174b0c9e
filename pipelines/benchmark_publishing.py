"""``python -m pipelines benchmark faults | consumer``: what publishing survives, and what checking costs."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console

from pipelines.benchmark import DOCS, SCALE, print_files
from pipelines.terminal import DEBUG, HOME, WRITE_DOCS, reported

if TYPE_CHECKING:
    from pipelines.benchmarks.security_pages import Measure


def faults(
    home: Annotated[Path, HOME] = Path("home"),
    scale: Annotated[float, SCALE] = 1.0,
    write_docs: Annotated[bool, WRITE_DOCS] = False,  # noqa: FBT002
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002
) -> None:
    """Kill publishers and consumers, fill disks, turn clocks, play every attack; count what went wrong.

    Example: `python -m pipelines benchmark faults --scale 0.02`
    """
    with reported(debug=debug):
        from pipelines.benchmarks.faults import run  # noqa: PLC0415 - keeps --help fast

        _measured("faults", "Faults", run, scale=scale, home=home, write_docs=write_docs)


def consumer(
    home: Annotated[Path, HOME] = Path("home"),
    scale: Annotated[float, SCALE] = 1.0,
    write_docs: Annotated[bool, WRITE_DOCS] = False,  # noqa: FBT002
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002
) -> None:
    """Measure what checking a document costs: start of the command, decoding, verifying.

    Example: `python -m pipelines benchmark consumer --scale 0.1`
    """
    with reported(debug=debug):
        from pipelines.benchmarks.consumer import run  # noqa: PLC0415

        _measured("consumer", "Checking a document", run, scale=scale, home=home, write_docs=write_docs)


def _measured(name: str, title: str, run: "Measure", *, scale: float, home: Path, write_docs: bool) -> None:
    from pipelines.benchmarks.security_pages import write  # noqa: PLC0415
    from pipelines.progress import bars  # noqa: PLC0415

    today, console = datetime.now(UTC).date(), Console()
    with bars(console) as progress:
        sections = run(scale=scale, progress=progress)
    files = write(name, title, sections, home=home, made_on=today, docs=DOCS if write_docs else None)
    console.print(files["table"].read_text(), markup=False, highlight=False)
    print_files(files, console)
