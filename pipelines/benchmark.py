"""``python -m pipelines benchmark <what>``: the tables that prove the project's figures."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from pipelines.terminal import AS_OF, CONFIG, DEBUG, HOME, SET, WRITE_DOCS, parse_time, reported

app = typer.Typer(no_args_is_help=True, help="Measure forecasts, regimes, margins or speed on any bars.")
DOCS: Final = Path("docs/benchmarks")
HORIZONS = typer.Option("--horizons", help="In decisions, comma-separated: 1,3,7.", show_default=False)
MODELS = typer.Option("--models", help="Comma-separated; default all.", show_default=False)
ABLATION = typer.Option("--ablation", help="Also run the learners without each group of regressors.")

LIQUIDATIONS = typer.Option("--liquidations", help="Files of historical liquidations.", show_default=False)
IMPLIED = typer.Option("--implied", help="Implied-volatility index to compare with.", show_default=False)
BARS = typer.Option("--config", help="Adds the two longest markets of its bars to the GARCH windows.")
PLAN = typer.Option("--plan", help="Markets to put under a step limit, comma-separated.", show_default=False)
SPOT = typer.Option("--spot", help="Hourly spot bars of the carry.", show_default=False)
PERPETUAL = typer.Option("--perpetual", help="Hourly perpetual bars of the carry.", show_default=False)
SYMBOL = typer.Option("--symbol", help="Underlying of the carry and of the verticals.")
PORTFOLIO_CONFIG = typer.Option(
    "--config", "-c", help="Run whose forecasts make the grids; without it no prices are replayed."
)
LENDING = typer.Option("--lending", help="Liquidations with both legs.", show_default=False)
SEIZED = typer.Option("--seized", help="Liquidations without a debt leg.", show_default=False)
PANEL = typer.Option("--panel", help="Liquidations per market and day.", show_default=False)
ACCOUNTS = typer.Option("--accounts", help="Snapshots of lending accounts.", show_default=False)
SCALE = typer.Option("--scale", min=0.001, max=1.0, help="Share of the full sample.")
FILE = typer.Option("--bars", help="Parquet file of hourly bars; default: synthetic.", show_default=False)


@app.command()
def data(
    home: Annotated[Path, HOME] = Path("home"),
    bars_file: Annotated[Path | None, FILE] = None,
    scale: Annotated[float, SCALE] = 1.0,
    write_docs: Annotated[bool, WRITE_DOCS] = False,  # noqa: FBT002
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002
) -> None:
    """Measure the data gate and a parser beside plain pandas, and damage every venue's answers.

    Example: `python -m pipelines benchmark data --scale 0.01`
    """
    now = datetime.now(UTC)
    console = Console()
    with reported(debug=debug):
        from pipelines.benchmarks.data import run, write  # noqa: PLC0415 - keeps --help fast
        from pipelines.progress import bars  # noqa: PLC0415

        with bars(console) as progress:
            tables = run(bars=bars_file, scale=scale, progress=progress)
        files = write(tables, home=home, made_on=now.date(), docs=DOCS if write_docs else None)
        console.print(files["table"].read_text(), markup=False, highlight=False)
        print_files(files, console)


@app.command()
def forecast(  # noqa: PLR0913, PLR0917 - one parameter per option
    config: Annotated[Path, CONFIG],
    home: Annotated[Path, HOME] = Path("home"),
    as_of: Annotated[str | None, AS_OF] = None,
    overrides: Annotated[list[str] | None, SET] = None,
    horizons: Annotated[str | None, HORIZONS] = None,
    models: Annotated[str | None, MODELS] = None,
    ablation: Annotated[bool, ABLATION] = False,  # noqa: FBT002 - a command-line flag
    write_docs: Annotated[bool, WRITE_DOCS] = False,  # noqa: FBT002
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002
) -> None:
    """Run every forecaster walk-forward, side by side, at several horizons; losers are printed too.

    Example: `python -m pipelines benchmark forecast --config pipelines/config/demo.yaml --horizons 1`
    """
    now = datetime.now(UTC)
    console = Console()
    with reported(debug=debug):
        from calibrator.config import load_config  # noqa: PLC0415 - keeps --help fast
        from calibrator.data.sources import resolve_as_of  # noqa: PLC0415
        from pipelines.benchmarks.forecast import Options, run, write  # noqa: PLC0415
        from pipelines.benchmarks.forecast_pages import show as show_tables  # noqa: PLC0415
        from pipelines.progress import bars  # noqa: PLC0415

        settings = load_config(config, overrides or ())
        at = parse_time(as_of) if as_of else resolve_as_of(settings, now=now)
        options = Options(_steps(horizons), tuple(models.split(",")) if models else None, ablation)
        with bars(console) as progress:
            parts = run(settings, as_of=at, progress=progress, options=options)
        docs = DOCS if write_docs else None
        files = write(parts, home=home, title=config.stem, made_on=now.date(), docs=docs)
        show_tables(parts, console)
        print_files(files, console)


@app.command()
def regimes(  # noqa: PLR0913, PLR0917 - one parameter per option
    config: Annotated[Path, CONFIG],
    home: Annotated[Path, HOME] = Path("home"),
    as_of: Annotated[str | None, AS_OF] = None,
    overrides: Annotated[list[str] | None, SET] = None,
    horizons: Annotated[str | None, HORIZONS] = None,
    liquidations: Annotated[list[Path] | None, LIQUIDATIONS] = None,
    implied: Annotated[Path | None, IMPLIED] = None,
    write_docs: Annotated[bool, WRITE_DOCS] = False,  # noqa: FBT002
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002
) -> None:
    """Score the stress probability and its comparators: ranking, calibration, early warning, false alarms.

    Example: `python -m pipelines benchmark regimes --config pipelines/config/demo.yaml`
    """
    now = datetime.now(UTC)
    console = Console()
    with reported(debug=debug):
        from calibrator.config import load_config  # noqa: PLC0415 - keeps --help fast
        from calibrator.data.sources import resolve_as_of  # noqa: PLC0415
        from pipelines.benchmarks.regimes import HORIZONS as USUAL  # noqa: PLC0415
        from pipelines.benchmarks.regimes import Options, run, write  # noqa: PLC0415
        from pipelines.progress import bars  # noqa: PLC0415

        settings = load_config(config, overrides or ())
        at = parse_time(as_of) if as_of else resolve_as_of(settings, now=now)
        options = Options(_steps(horizons) or USUAL, liquidations=tuple(liquidations or ()), implied=implied)
        with bars(console) as progress:
            parts = run(settings, as_of=at, progress=progress, options=options)
        docs = DOCS if write_docs else None
        files = write(parts, home=home, title=config.stem, made_on=now.date(), docs=docs)
        console.print(files["table"].read_text(), markup=False, highlight=False)
        print_files(files, console)


@app.command()
def margin(  # noqa: PLR0913, PLR0917 - one parameter per option
    config: Annotated[Path, CONFIG],
    home: Annotated[Path, HOME] = Path("home"),
    as_of: Annotated[str | None, AS_OF] = None,
    overrides: Annotated[list[str] | None, SET] = None,
    plan: Annotated[str | None, PLAN] = None,
    write_docs: Annotated[bool, WRITE_DOCS] = False,  # noqa: FBT002
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002
) -> None:
    """Score the published margin, simpler policies and every anti-procyclical tool on the same rows.

    Example: `python -m pipelines benchmark margin --config pipelines/config/demo.yaml --plan WTI`
    """
    now = datetime.now(UTC)
    console = Console()
    with reported(debug=debug):
        from calibrator.config import load_config  # noqa: PLC0415 - keeps --help fast
        from calibrator.data.sources import resolve_as_of  # noqa: PLC0415
        from pipelines.benchmarks.margin import run, write  # noqa: PLC0415
        from pipelines.progress import bars  # noqa: PLC0415

        settings = load_config(config, overrides or ())
        at = parse_time(as_of) if as_of else resolve_as_of(settings, now=now)
        with bars(console) as progress:
            parts = run(settings, as_of=at, progress=progress, planned=tuple(plan.split(",")) if plan else ())
        docs = DOCS if write_docs else None
        files = write(parts, home=home, title=config.stem, made_on=now.date(), docs=docs)
        console.print(files["table"].read_text(), markup=False, highlight=False)
        print_files(files, console)


@app.command()
def calibration(
    home: Annotated[Path, HOME] = Path("home"),
    scale: Annotated[float, SCALE] = 1.0,
    write_docs: Annotated[bool, WRITE_DOCS] = False,  # noqa: FBT002
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002
) -> None:
    """Measure a calibration of 200 markets for one date, and a simulation beside numpy's.

    Example: `python -m pipelines benchmark calibration --scale 0.1`
    """
    now = datetime.now(UTC)
    console = Console()
    with reported(debug=debug):
        from pipelines.benchmarks.calibration_speed import run, write  # noqa: PLC0415 - keeps --help fast

        files = write(run(scale=scale), home=home, made_on=now.date(), docs=DOCS if write_docs else None)
        console.print(files["table"].read_text(), markup=False, highlight=False)
        print_files(files, console)


@app.command()
def speed(
    config: Annotated[Path | None, BARS] = None,
    home: Annotated[Path, HOME] = Path("home"),
    overrides: Annotated[list[str] | None, SET] = None,
    scale: Annotated[float, SCALE] = 1.0,
    write_docs: Annotated[bool, WRITE_DOCS] = False,  # noqa: FBT002
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002
) -> None:
    """Measure the engine beside what everyone writes: interleaved medians, ratios in one run.

    Example: `python -m pipelines benchmark speed --scale 0.1`
    """
    now = datetime.now(UTC)
    console = Console()
    with reported(debug=debug):
        from calibrator.config import load_config  # noqa: PLC0415 - keeps --help fast
        from calibrator.data.sources import load_bars  # noqa: PLC0415
        from pipelines.benchmarks.speed import run, write  # noqa: PLC0415
        from pipelines.progress import bars  # noqa: PLC0415

        own = load_bars(load_config(config, overrides or ()), as_of=None)[0] if config else None
        with bars(console) as progress:
            tables = run(own, scale=scale, progress=progress)
        files = write(tables, home=home, made_on=now.date(), docs=DOCS if write_docs else None)
        console.print(files["table"].read_text(), markup=False, highlight=False)
        print_files(files, console)


@app.command()
def replay(
    home: Annotated[Path, HOME] = Path("home"),
    scale: Annotated[float, SCALE] = 1.0,
    write_docs: Annotated[bool, WRITE_DOCS] = False,  # noqa: FBT002
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002
) -> None:
    """Measure the replay of accounts beside a compiled naive scan and the plain loop, with memory.

    Example: `python -m pipelines benchmark replay --scale 0.1`
    """
    now = datetime.now(UTC)
    console = Console()
    with reported(debug=debug):
        from pipelines.benchmarks.replay_speed import run, write  # noqa: PLC0415 - keeps --help fast
        from pipelines.progress import bars  # noqa: PLC0415

        with bars(console) as progress:
            tables = run(scale=scale, progress=progress)
        files = write(tables, home=home, made_on=now.date(), docs=DOCS if write_docs else None)
        console.print(files["table"].read_text(), markup=False, highlight=False)
        print_files(files, console)


@app.command()
def portfolio(  # noqa: PLR0913, PLR0917 - one parameter per option
    config: Annotated[Path | None, PORTFOLIO_CONFIG] = None,
    home: Annotated[Path, HOME] = Path("home"),
    as_of: Annotated[str | None, AS_OF] = None,
    overrides: Annotated[list[str] | None, SET] = None,
    implied: Annotated[Path | None, IMPLIED] = None,
    spot: Annotated[Path | None, SPOT] = None,
    perpetual: Annotated[Path | None, PERPETUAL] = None,
    symbol: Annotated[str, SYMBOL] = "BTCUSDT",
    scale: Annotated[float, SCALE] = 1.0,
    write_docs: Annotated[bool, WRITE_DOCS] = False,  # noqa: FBT002
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002
) -> None:
    """Measure portfolio margin: exactness, speed, what netting saves, and whether it covers in stress.

    Example: `python -m pipelines benchmark portfolio --scale 0.1`; with `--config`, `--implied`, `--spot` and
    `--perpetual` also carry and vertical spreads on real prices.
    """
    now = datetime.now(UTC)
    console = Console()
    with reported(debug=debug):
        from calibrator.config import load_config  # noqa: PLC0415 - keeps --help fast
        from calibrator.data.sources import resolve_as_of  # noqa: PLC0415
        from pipelines.benchmarks.portfolio import historical, run, write  # noqa: PLC0415
        from pipelines.progress import bars  # noqa: PLC0415

        settings = load_config(config, overrides or ()) if config is not None else None
        at = parse_time(as_of) if as_of else resolve_as_of(settings, now=now) if settings else None
        chosen = historical(settings, (implied, spot, perpetual), symbol)
        with bars(console) as progress:
            tables = run(chosen, as_of=at, scale=scale, progress=progress)
        files = write(tables, home=home, made_on=now.date(), docs=DOCS if write_docs else None)
        console.print(files["table"].read_text(), markup=False, highlight=False)
        print_files(files, console)


@app.command()
def liquidations(  # noqa: PLR0913, PLR0917 - one parameter per option
    config: Annotated[Path, CONFIG],
    home: Annotated[Path, HOME] = Path("home"),
    as_of: Annotated[str | None, AS_OF] = None,
    overrides: Annotated[list[str] | None, SET] = None,
    lending: Annotated[list[Path] | None, LENDING] = None,
    seized: Annotated[list[Path] | None, SEIZED] = None,
    panel: Annotated[list[Path] | None, PANEL] = None,
    accounts: Annotated[list[Path] | None, ACCOUNTS] = None,
    write_docs: Annotated[bool, WRITE_DOCS] = False,  # noqa: FBT002
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002
) -> None:
    """Hold the schedule against recorded vaults, liquidations, accounts and stress cases.

    Example: `python -m pipelines benchmark liquidations --config pipelines/config/liquidations.yaml`
    """
    now = datetime.now(UTC)
    console = Console()
    with reported(debug=debug):
        from calibrator.config import load_config  # noqa: PLC0415 - keeps --help fast
        from calibrator.data.sources import resolve_as_of  # noqa: PLC0415
        from pipelines.benchmarks.liquidations import Files, run, write  # noqa: PLC0415
        from pipelines.progress import bars  # noqa: PLC0415

        settings = load_config(config, overrides or ())
        at = parse_time(as_of) if as_of else resolve_as_of(settings, now=now)
        files = Files(*(tuple(f or ()) for f in (lending, seized, panel, accounts)))
        with bars(console) as progress:
            done = run(settings, files, as_of=at, progress=progress)
        docs = DOCS if write_docs else None
        made = write(done, home=home, made_on=now.date(), docs=docs, name=config.stem)
        console.print(made["table"].read_text(), markup=False, highlight=False)
        print_files(made, console)


@app.command()
def fuzz(
    home: Annotated[Path, HOME] = Path("home"),
    scale: Annotated[float, SCALE] = 1.0,
    write_docs: Annotated[bool, WRITE_DOCS] = False,  # noqa: FBT002
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002
) -> None:
    """Judge random (state, update) pairs of every protocol by our simulation and by an independent oracle.

    Example: `python -m pipelines benchmark fuzz --scale 0.01`
    """
    now = datetime.now(UTC)
    console = Console()
    with reported(debug=debug):
        from pipelines.benchmarks.fuzz import run, write  # noqa: PLC0415 - keeps --help fast
        from pipelines.progress import bars  # noqa: PLC0415

        with bars(console) as progress:
            tallies = run(scale=scale, progress=progress)
        files = write(tallies, home=home, made_on=now.date(), docs=DOCS if write_docs else None)
        console.print(files["table"].read_text(), markup=False, highlight=False)
        print_files(files, console)


@app.command()
def coverage(
    home: Annotated[Path, HOME] = Path("home"),
    scale: Annotated[float, SCALE] = 1.0,
    write_docs: Annotated[bool, WRITE_DOCS] = False,  # noqa: FBT002
    debug: Annotated[bool, DEBUG] = False,  # noqa: FBT002
) -> None:
    """Simulate how often each test of the coverage battery rejects a margin that is right.

    Example: `python -m pipelines benchmark coverage --scale 0.01`
    """
    now = datetime.now(UTC)
    console = Console()
    with reported(debug=debug):
        from pipelines.benchmarks.coverage_sizes import run, write  # noqa: PLC0415 - keeps --help fast
        from pipelines.progress import bars  # noqa: PLC0415

        with bars(console) as progress:
            table = run(scale=scale, progress=progress)
        files = write(table, home=home, made_on=now.date(), docs=DOCS if write_docs else None)
        console.print(files["table"].read_text(), markup=False, highlight=False)
        print_files(files, console)


def _steps(text: str | None) -> tuple[int, ...] | None:
    from calibrator.errors import ConfigError  # noqa: PLC0415 - keeps --help fast

    try:
        return tuple(int(h) for h in text.split(",")) if text else None
    except ValueError as error:
        raise ConfigError(f"--horizons must be whole numbers, were {text!r}") from error


def print_files(files: dict[str, Path], console: Console) -> None:
    """Print what was written and where."""
    for what, path in files.items():
        console.print(f"{what:>18}  {path}", markup=False, highlight=False, soft_wrap=True)
