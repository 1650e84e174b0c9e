"""The operator's further verbs: retrain, rollback, live, calibrate, review (the clock is handed over)."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipelines.terminal import AS_OF, CONFIG, DEBUG, HOME, SET, parse_time, reported

AT = typer.Option("--at", help="Time (ISO 8601, UTC); default: now.", show_default=False)
TO = typer.Option("--to", help="Model to make live again; default: the one before.", show_default=False)
SHIP_TO = typer.Option("--to", help="Folder that receives champion.json and the model.")
CLEAR = typer.Option("--clear", help="features, loss or coverage; may be repeated.", show_default=False)
review = typer.Typer(
    help="Champion against challenger on one page; `sync` sends what MLflow missed.",
    invoke_without_command=True,
)

WHAT_IF = typer.Option(
    "--what-if", help="volatility|tail|depth=+N% at the last decision; may be repeated.", show_default=False
)


def retrain(
    context: typer.Context,
    config: Annotated[Path, CONFIG],
    home: Annotated[Path, HOME] = Path("home"),
    as_of: Annotated[str | None, AS_OF] = None,
    overrides: Annotated[list[str] | None, SET] = None,
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002 - a command-line flag
) -> None:
    """Hold the challengers against the champion; promote one only if every gate holds.

    Example: `python -m pipelines retrain --config pipelines/config/demo.yaml`

    Writes `HOME/models/<id>/`, `HOME/models/champion.json` and `HOME/reviews/<as-of>/contest.json`.
    """
    console = Console()
    with reported(debug=debug):
        from calibrator.config import load_config  # noqa: PLC0415 - keeps --help fast
        from calibrator.data.sources import resolve_as_of  # noqa: PLC0415
        from pipelines.progress import bars  # noqa: PLC0415
        from pipelines.retrain import retrain as job  # noqa: PLC0415

        settings = load_config(config, overrides or ())
        at = parse_time(as_of) if as_of else resolve_as_of(settings, now=context.obj())
        with bars(console) as progress:
            made = job(settings, home=home, as_of=at, now=context.obj, progress=progress)
        table = Table(title=f"Champion against challengers, {made.contest['decisions']} decisions")
        for name in ("challenger", "QLIKE", "champion", "gates that fail"):
            table.add_column(name, justify="left" if "gate" in name or name == "challenger" else "right")
        for v in made.contest["verdicts"]:
            failing = [g["name"] for g in v["gates"] if not g["holds"]]
            cells = (f"{v['qlike']:.4f}", f"{v['champion_qlike']:.4f}", ", ".join(failing) or "none")
            table.add_row(v["name"], *cells)
        console.print(table)
        console.print(
            f"live: {made.champion}", "(promoted)" if made.promoted else "(unchanged)", highlight=False
        )
        console.print(f"{made.path}", markup=False, highlight=False, soft_wrap=True)


def calibrate(  # noqa: PLR0913, PLR0917 - one parameter per option
    context: typer.Context,
    config: Annotated[Path, CONFIG],
    home: Annotated[Path, HOME] = Path("home"),
    as_of: Annotated[str | None, AS_OF] = None,
    overrides: Annotated[list[str] | None, SET] = None,
    changes: Annotated[list[str] | None, WHAT_IF] = None,
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002 - as above
) -> None:
    """Forecast and calibrate, and write the next document unsigned, with its frames.

    Writes `HOME/runs/<as-of>/`; nothing is backtested or published. With `--what-if` nothing is written: the
    schedule that other circumstances would bring is printed beside the present one, with its reasons.

    Example: `python -m pipelines calibrate --config pipelines/config/demo.yaml --what-if volatility=+50%`
    """
    console = Console()
    with reported(debug=debug):
        from calibrator.config import load_config  # noqa: PLC0415 - keeps --help fast
        from calibrator.data.sources import resolve_as_of  # noqa: PLC0415
        from calibrator.publish.tables import show_document  # noqa: PLC0415
        from pipelines.calibrate import calibrate as job  # noqa: PLC0415
        from pipelines.progress import bars  # noqa: PLC0415

        settings = load_config(config, overrides or ())
        at = parse_time(as_of) if as_of else resolve_as_of(settings, now=context.obj())
        if changes:
            from pipelines.what_if import ask, parse_changes, show  # noqa: PLC0415

            with bars(console) as progress:
                answers = ask(settings, parse_changes(changes), home=home, as_of=at, progress=progress)
            show(answers, console)
            return
        with bars(console) as progress:
            document, path = job(settings, home=home, as_of=at, now=context.obj, progress=progress)
        show_document(document, checked="not signed", now=document.issued_at)
        console.print(f"{path}", markup=False, highlight=False, soft_wrap=True)


def rollback(
    context: typer.Context,
    config: Annotated[Path, CONFIG],
    home: Annotated[Path, HOME] = Path("home"),
    to: Annotated[str | None, TO] = None,
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002 - as above
) -> None:
    """Make an earlier champion live again."""
    with reported(debug=debug):
        from calibrator.config import load_config  # noqa: PLC0415 - keeps --help fast
        from pipelines.retrain import rollback as job  # noqa: PLC0415

        champion = job(home, to=to, now=context.obj, config=load_config(config))
        Console().print(f"live: {champion.id}", highlight=False)


def live(
    context: typer.Context,
    home: Annotated[Path, HOME] = Path("home"),
    at: Annotated[str | None, AT] = None,
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002 - as above
) -> None:
    """Say which model was live at a time."""
    with reported(debug=debug):
        from calibrator.errors import DataError  # noqa: PLC0415 - keeps --help fast
        from pipelines.ledger import open_ledger  # noqa: PLC0415

        time = parse_time(at) if at else context.obj()
        with open_ledger(home) as ledger:
            found = ledger.live(time)
        if found is None:
            raise DataError(f"live: no model was promoted in {home} before {time}")
        Console().print(
            f"{found['model']} since {found['decided']} ({found['action']}: {found['reason']})",
            highlight=False,
            soft_wrap=True,
        )


def ship(
    home: Annotated[Path, HOME] = Path("home"),
    to: Annotated[Path, SHIP_TO] = Path("models"),
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002 - as above
) -> None:
    """Copy the champion of a home, every digest checked, to where it is shipped from.

    Example: `python -m pipelines ship --home home --to models`
    """
    with reported(debug=debug):
        from pipelines.shipping import ship as job  # noqa: PLC0415 - keeps --help fast

        Console().print(f"{to / job(home, to).id}", markup=False, highlight=False, soft_wrap=True)


def alarms(
    context: typer.Context,
    home: Annotated[Path, HOME] = Path("home"),
    clear: Annotated[list[str] | None, CLEAR] = None,
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002 - as above
) -> None:
    """List the drift alarms that stand; `--clear` takes back those of a kind.

    Example: `python -m pipelines alarms --clear coverage`
    """
    with reported(debug=debug):
        from calibrator.config_jobs import JobsConfig  # noqa: PLC0415 - keeps --help fast
        from pipelines.jobs import job  # noqa: PLC0415
        from pipelines.ledger import open_ledger  # noqa: PLC0415

        if clear:
            with job("alarms", JobsConfig(), home=home, as_of=None, now=context.obj) as work:
                work.ledger.clear(now=context.obj(), kinds=clear)
        with open_ledger(home) as ledger:
            standing = ledger.standing()
        for a in standing:
            text = f"{a['kind']} ({a['action']}) since {a['since']}: {a['message']}"
            Console().print(text, markup=False, highlight=False, soft_wrap=True)
        if not standing:
            Console().print("no alarm stands")


def inspect(
    path: Annotated[Path, typer.Argument(help="LightGBM text file of unknown origin.")],
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002 - as above
) -> None:
    """Say what a LightGBM file of unknown origin holds; it is read in a process of its own."""
    with reported(debug=debug):
        from pipelines.foreign import inspect_foreign  # noqa: PLC0415 - keeps --help fast

        found = inspect_foreign(path)
        said = f"{found.trees} trees of {len(found.features)} features, SHA-256 {found.digest}"
        Console().print(said, highlight=False, soft_wrap=True)


@review.callback()
def show(
    context: typer.Context,
    home: Annotated[Path, HOME] = Path("home"),
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002 - as above
) -> None:
    """Write the page of the last retraining, `HOME/reviews/<as-of>/review.html`.

    It is logged in MLflow where its retraining was.
    """
    if context.invoked_subcommand is not None:
        return
    with reported(debug=debug):
        from pipelines.review import write_review  # noqa: PLC0415 - keeps --help fast

        Console().print(
            f"{write_review(home, now=context.obj)}", markup=False, highlight=False, soft_wrap=True
        )


@review.command()
def sync(
    home: Annotated[Path, HOME] = Path("home"),
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002 - as above
) -> None:
    """Send to MLflow what earlier jobs could not log; what a fetch could not, with `--home FOLDER`."""
    with reported(debug=debug):
        from pipelines.tracking import sync as send  # noqa: PLC0415 - keeps --help fast

        for line in send(home) or ["nothing waits"]:
            Console().print(line, markup=False, highlight=False, soft_wrap=True)
