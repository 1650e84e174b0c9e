"""The operator's command: ``python -m pipelines run --config FILE``."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from pipelines import (
    benchmark,
    benchmark_announced,
    benchmark_frontier,
    benchmark_jobs,
    benchmark_publishing,
    commands,
    keys,
    protocols,
    publish_verbs,
)
from pipelines.logs import start_logs
from pipelines.terminal import AS_OF, CATCH_UP, CONFIG, DEBUG, HOME, LOG, SET, parse_time, reported

if TYPE_CHECKING:
    from pipelines.run import Repeated, Result

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Forecast volatility and stress, calibrate margins and haircuts, backtest them, sign them.",
    epilog="Exit codes: 0 ok, 2 usage or config, 3 input invalid, 4 stale input (last good kept), 5 gate "
    "failed, 6 lock held, 7 signing, 8 publish I/O, 9 internal, 10 deadline passed.",
)
app.add_typer(benchmark.app, name="benchmark")
app.add_typer(protocols.app, name="protocols")
app.add_typer(keys.app, name="keys")
for command in (benchmark_jobs.nightly, benchmark_jobs.scale, benchmark_jobs.promotion):
    benchmark.app.command()(command)
benchmark.app.command()(benchmark_frontier.frontier)
benchmark.app.command()(benchmark_announced.announced)
benchmark.app.command()(benchmark_publishing.faults)
benchmark.app.command()(benchmark_publishing.consumer)
app.command()(publish_verbs.publish)
app.command()(publish_verbs.refresh)
app.add_typer(commands.review, name="review")
for verb in (
    commands.retrain,
    commands.calibrate,
    commands.rollback,
    commands.live,
    commands.inspect,
    commands.ship,
    commands.alarms,
):
    app.command()(verb)


def clock() -> datetime:
    """Return the time now: the only place where an operator's command reads it."""
    return datetime.now(UTC)


@app.callback()
def main(context: typer.Context, log: Annotated[str, LOG] = "none") -> None:
    """Forecast volatility and stress, calibrate margins and haircuts, backtest them, sign them."""
    context.obj = clock
    start_logs(log)


@app.command()
def run(
    config: Annotated[Path, CONFIG],
    home: Annotated[Path, HOME] = Path("home"),
    as_of: Annotated[str | None, AS_OF] = None,
    overrides: Annotated[list[str] | None, SET] = None,
    catch_up: Annotated[bool, CATCH_UP] = False,  # noqa: FBT002 - a command-line flag
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002 - as above
) -> None:
    """Do every step once: load, forecast, calibrate, sign, backtest, report.

    Example: `python -m pipelines run --config pipelines/config/demo.yaml --home home`

    Writes `HOME/runs/<as-of>/` (frames, parameters.json, backtest.json, report.html) and publishes the
    signed file in `HOME/published/` before it backtests it. A document that waits for a second key has its
    report all the same. A rerun on the same input publishes nothing new.
    """
    console = Console()
    with reported(debug=debug):
        from calibrator.config import load_config  # noqa: PLC0415 - keeps --help fast
        from calibrator.data.sources import resolve_as_of  # noqa: PLC0415
        from pipelines.catch_up import missed  # noqa: PLC0415
        from pipelines.progress import bars  # noqa: PLC0415
        from pipelines.run import run as job  # noqa: PLC0415

        settings = load_config(config, overrides or ())
        at = parse_time(as_of) if as_of else resolve_as_of(settings, now=clock())
        dates = missed(settings, home=home, until=at) if catch_up else [at]
        for number, date in enumerate(dates, start=1):
            if catch_up:
                console.print(f"{number} of {len(dates)}: as of {date}", highlight=False)
            with bars(console) as progress:
                result = job(settings, home=home, as_of=date, now=clock, progress=progress)
            show(result, console)
        if not dates:
            console.print("nothing was missed, nothing new")


@app.command()
def fetch(
    config: Annotated[Path, CONFIG],
    as_of: Annotated[str | None, AS_OF] = None,
    overrides: Annotated[list[str] | None, SET] = None,
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002 - a command-line flag
) -> None:
    """Bring data in from venues: only what is missing, checked, as immutable snapshots.

    Example: `python -m pipelines fetch --config pipelines/config/fetch.yaml`

    Writes `FOLDER/current/<source>.parquet`, snapshots named by their digest, and `FOLDER/quality.csv`. A
    rerun asks only for what is not there yet; a republished file is an alert. Logged in MLflow: in
    `FOLDER/mlflow.db`, unless `tracking` or `fetch.tracking` says otherwise.
    """
    now = clock()
    console = Console()
    with reported(debug=debug):
        from calibrator.config import load_fetch  # noqa: PLC0415 - keeps --help fast
        from pipelines.fetch_job import fetch as job  # noqa: PLC0415
        from pipelines.fetch_report import report  # noqa: PLC0415
        from pipelines.progress import bars  # noqa: PLC0415

        settings = load_fetch(config, overrides or ())
        until = min(parse_time(as_of), now) if as_of else now
        with bars(console) as progress:
            fetched = job(settings, as_of=until, now=clock, progress=progress)
        report(fetched, settings.folder, console)


@app.command()
def backtest(
    config: Annotated[Path, CONFIG],
    home: Annotated[Path, HOME] = Path("home"),
    as_of: Annotated[str | None, AS_OF] = None,
    overrides: Annotated[list[str] | None, SET] = None,
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002 - a command-line flag
) -> None:
    """Challenge the schedule on history and on your own recorded accounts, without publishing anything.

    Example: `python -m pipelines backtest --config pipelines/config/demo.yaml --home home`

    Recorded accounts are named by `backtest.vaults` and `backtest.liquidations`. Writes
    `HOME/backtests/<as-of>/` (backtest.json, report.html, one figure per vault that was really liquidated).
    """
    now = clock()
    console = Console()
    with reported(debug=debug):
        from calibrator.config import load_config  # noqa: PLC0415 - keeps --help fast
        from calibrator.data.sources import resolve_as_of  # noqa: PLC0415
        from pipelines.challenge import challenge  # noqa: PLC0415
        from pipelines.progress import bars  # noqa: PLC0415

        settings = load_config(config, overrides or ())
        at = parse_time(as_of) if as_of else resolve_as_of(settings, now=now)
        with bars(console) as progress:
            done = challenge(settings, home=home, as_of=at, now=clock, progress=progress)
        for line in done.lines:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        benchmark.print_files(done.files, console)


def show(result: "Result | Repeated", console: Console) -> None:
    """Print what was published, the backtest's verdict and where everything is."""
    from calibrator.publish.tables import show_document  # noqa: PLC0415 - keeps --help fast
    from pipelines.run import Repeated  # noqa: PLC0415
    from pipelines.summary import print_verdict  # noqa: PLC0415

    if isinstance(result, Repeated):
        again = f"job {result.row.id} did the same, nothing new"
        show_document(result.document, checked=again, now=result.document.issued_at)
        console.print(f"everything is in {result.folder}", markup=False, highlight=False, soft_wrap=True)
        return
    state = "published" if result.published else "already published, nothing new"
    show_document(result.document, checked=state, now=result.document.issued_at)
    print_verdict(result, console)


if __name__ == "__main__":
    sys.exit(app())
