"""``backtest``: challenge the schedule on history and on recorded accounts, without publishing."""

from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from calibrator.config import Config
from calibrator.errors import InfeasibleScheduleError, PublishError
from pipelines.backtesting import Backtest, backtest
from pipelines.champion import with_champion
from pipelines.document import Identity, build_document
from pipelines.executor import executor_of
from pipelines.forecasting import Progress
from pipelines.jobs import Job, Now, job
from pipelines.lending import with_refusals
from pipelines.loading import Loaded, load
from pipelines.models import model_digests, model_texts
from pipelines.portfolio import with_portfolio
from pipelines.producing import produced
from pipelines.production import Production
from pipelines.recorded import VaultBacktest
from pipelines.report.figures import draw, png_files
from pipelines.report.page import Review, build_report, recorded_lines
from pipelines.report.recorded_figures import convexity_drawing, vault_drawing
from pipelines.store import config_digest, run_name, save, save_json
from pipelines.tracked_calibration import track_challenge
from pipelines.tracking import Run

NOTE: Final = "Written by `backtest`: nothing of this was signed or published."


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the command made.

    Attributes
    ----------
    backtest : Backtest or None
        None where the same was done before.
    lines : list of str
        The outcome in sentences.
    files : dict of str to pathlib.Path
    """

    backtest: Backtest | None
    lines: list[str]
    files: dict[str, Path]


def challenge(
    config: Config, *, home: Path, as_of: datetime | None, now: Now, progress: Progress
) -> Challenge:
    """Produce the schedule's history, challenge it, and write ``backtest.json``, a page and figures.

    Parameters
    ----------
    config : Config
    home : pathlib.Path
        Receives ``backtests/<as-of>/``.
    as_of : datetime, optional
        Later rows are not looked at; default: the last bar.
    now : callable
        The clock.
    progress : callable
        Called with (what, done, total).

    Returns
    -------
    Challenge

    Raises
    ------
    CalibratorError
        As :func:`pipelines.run.run`; nothing is published.
    """
    with job("backtest", config, home=home, as_of=as_of, now=now) as work:
        loaded = load(config, as_of=as_of)
        live = with_champion(config, home)
        before = work.identify(live, as_of=loaded.as_of, data=loaded.data)
        if before is not None:
            named = {what: home / path for what, path in before.facts["named"].items()}
            return Challenge(None, list(before.facts["lines"]), named)
        with work.track(config.tracking) as tracked:
            return _challenge(live, work, loaded, progress, tracked)


def _challenge(config: Config, work: Job, loaded: Loaded, progress: Progress, tracked: Run) -> Challenge:
    home, report = work.home, work.progress(progress)
    production = produced(config, loaded, home=home, progress=report)
    with executor_of(config.compute) as executor:
        done = backtest(production, loaded.bars, progress=report, executor=executor)
    folder = home / "backtests" / run_name(loaded.as_of)
    work.fence()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PublishError(f"{folder}: cannot be created: {error.strerror}") from error
    files = {"backtest": save_json(folder / "backtest.json", done.summary)}
    if done.cascades is not None:
        files["cascade"] = save(folder / "cascade.png", convexity_drawing(done.cascades).png())
    vaults = None if done.recorded is None else done.recorded.vaults
    if vaults is not None:
        files["vaults"] = vault_figures(vaults, folder)
    lines = _lines(done)
    try:
        review = reviewed(production, done, loaded)
    except InfeasibleScheduleError as error:
        lines.append(f"no page: {error}")
    else:
        drawings = draw(review)
        files["report"] = save(folder / "report.html", build_report(review, drawings=drawings, note=NOTE))
        if tracked.listens:
            tracked.log_figures(png_files(drawings))
    track_challenge(tracked, loaded, production, done, written(files))
    named = {what: str(path.relative_to(home)) for what, path in files.items()}
    work.facts |= {"files": sorted(named.values()), "named": named, "lines": lines}
    return Challenge(done, lines, files)


def reviewed(production: Production, done: Backtest, loaded: Loaded) -> Review:
    """Put together what a report shows, with the document that the last decisions would make in a new home.

    Raises
    ------
    InfeasibleScheduleError
        They would make none.
    """
    models = model_digests(model_texts(production.forecasts))
    identity = Identity(config=config_digest(production.config), data=loaded.data, models=models)
    document = build_document(production, as_of=loaded.as_of, stale=set(), previous=None, identity=identity)
    document = with_portfolio(document, production, previous=None)
    findings = with_refusals(loaded.findings, production.config, production.decisions)
    return Review(production, document, done, findings, loaded.bars, version("calibrator"))


def written(files: dict[str, Path]) -> dict[str, Path]:
    """Return every file of a backtest by its path in the MLflow run: pictures under ``figures/``."""
    out: dict[str, Path] = {}
    for path in files.values():
        every = sorted(path.glob("*.png")) if path.is_dir() else [path]
        out |= {f"figures/{p.name}" if p.suffix == ".png" else p.name: p for p in every}
    return out


def vault_figures(vaults: VaultBacktest, folder: Path) -> Path:
    """Write one figure per vault that was really liquidated; return the folder."""
    for vault in sorted(vaults.books.lots["vault"].unique()):
        drawing = vault_drawing(vaults, str(vault))
        save(folder / f"{drawing.name}.png", drawing.png())
    return folder


def _lines(done: Backtest) -> list[str]:
    """Say the verdict, what recorded accounts would have met, and where a cascade loses stability."""
    content = done.summary
    verdict, vaults, events = (content.get(k) for k in ("verdict", "vaults", "liquidations"))
    lines = []
    if isinstance(verdict, dict):
        lines.append(f"verdict: {verdict['status']}")
        lines += [str(reason) for reason in verdict["reasons"]]
    lines += recorded_lines(
        vaults if isinstance(vaults, dict) else {}, events if isinstance(events, dict) else {}
    )
    lines += [f"announced changes, {name}: {made.conclusion()}" for name, made in done.announced.items()]
    if done.cascades is not None:
        lines.append(convexity_drawing(done.cascades).title)
    return lines
