"""``backtest``: challenge the schedule on history and on recorded accounts, without publishing."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from calibrator.config import Config
from calibrator.errors import PublishError
from pipelines.backtesting import Backtest, backtest
from pipelines.champion import with_champion
from pipelines.executor import executor_of
from pipelines.forecasting import Progress
from pipelines.jobs import Job, Now, job
from pipelines.loading import Loaded, load
from pipelines.producing import produced
from pipelines.recorded import VaultBacktest
from pipelines.report.page import recorded_lines
from pipelines.report.recorded_figures import convexity_drawing, vault_drawing
from pipelines.store import run_name, save, save_json


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
    """Produce the schedule's history, challenge it, and write ``backtest.json`` and figures.

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
        return _challenge(live, work, loaded, progress)


def _challenge(config: Config, work: Job, loaded: Loaded, progress: Progress) -> Challenge:
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
    named = {what: str(path.relative_to(home)) for what, path in files.items()}
    work.facts |= {"files": sorted(named.values()), "named": named, "lines": lines}
    return Challenge(done, lines, files)


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
    if done.cascades is not None:
        lines.append(convexity_drawing(done.cascades).title)
    return lines
