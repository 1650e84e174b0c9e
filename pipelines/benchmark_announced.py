"""``python -m pipelines benchmark announced``: notice, and what exploiting an announced tightening costs."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines.benchmark import DOCS, print_files
from pipelines.terminal import AS_OF, CONFIG, DEBUG, HOME, SET, WRITE_DOCS, parse_time, reported

VAULTS = typer.Option("--vaults", help="Second YAML file, of a run on recorded vaults.", show_default=False)
VAULTS_SET = typer.Option("--vaults-set", help="Like --set, for the second file.", show_default=False)


def announced(  # noqa: PLR0913, PLR0917 - one parameter per option
    config: Annotated[Path, CONFIG],
    home: Annotated[Path, HOME] = Path("home"),
    as_of: Annotated[str | None, AS_OF] = None,
    overrides: Annotated[list[str] | None, SET] = None,
    vaults: Annotated[Path | None, VAULTS] = None,
    vaults_overrides: Annotated[list[str] | None, VAULTS_SET] = None,
    write_docs: Annotated[bool, WRITE_DOCS] = False,  # noqa: FBT002 - a command-line flag
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002
) -> None:
    """Announce every tightening: who adds collateral, who leaves, and where hunting the new threshold pays.

    Example: `python -m pipelines benchmark announced --config pipelines/config/demo.yaml`
    """
    now = datetime.now(UTC)
    console = Console()
    with reported(debug=debug):
        from calibrator.config import load_config  # noqa: PLC0415 - keeps --help fast
        from calibrator.data.sources import resolve_as_of  # noqa: PLC0415
        from pipelines.benchmarks.announced import run, write  # noqa: PLC0415
        from pipelines.progress import bars  # noqa: PLC0415

        files = [(config, overrides or ()), *([] if vaults is None else [(vaults, vaults_overrides or ())])]
        studies = []
        with bars(console) as progress:
            for file, changes in files:
                settings = load_config(file, changes)
                at = parse_time(as_of) if as_of else resolve_as_of(settings, now=now)
                studies.append(run(settings, title=file.stem, home=home, as_of=at, progress=progress))
        command = f"python -m pipelines benchmark announced --config {config}"
        command += "" if vaults is None else f" --vaults {vaults} ..."
        docs = DOCS if write_docs else None
        made = write(studies, home=home, made_on=now.date(), command=command, docs=docs)
        console.print(made["table"].read_text(), markup=False, highlight=False)
        print_files(made, console)
