"""``backtest``: challenge the schedule on history and on recorded accounts, without publishing."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from calibrator.config import Config
from calibrator.data.sources import load_bars, load_implied_volatility
from calibrator.errors import PublishError
from pipelines.backtesting import Backtest, backtest
from pipelines.forecasting import Progress
from pipelines.production import produce
from pipelines.recorded import VaultBacktest
from pipelines.report.page import recorded_lines
from pipelines.report.recorded_figures import convexity_drawing, vault_drawing
from pipelines.store import save, save_json


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the command made.

    Attributes
    ----------
    backtest : Backtest
    lines : list of str
        The outcome in sentences.
    files : dict of str to pathlib.Path
    """

    backtest: Backtest
    lines: list[str]
    files: dict[str, Path]


def challenge(config: Config, *, home: Path, as_of: datetime | None, progress: Progress) -> Challenge:
    """Produce the schedule's history, challenge it, and write ``backtest.json`` and figures.

    Parameters
    ----------
    config : Config
    home : pathlib.Path
        Receives ``backtests/<as-of>/``.
    as_of : datetime, optional
        Later rows are not looked at; default: the last bar.
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
    bars, _ = load_bars(config, as_of=as_of)
    implied, _ = load_implied_volatility(config, as_of=as_of)
    at = as_of or bars["time"].max().to_pydatetime()
    done = backtest(produce(bars, implied, config=config, progress=progress), bars, progress=progress)
    folder = home / "backtests" / f"{at:%Y%m%dT%H%M%SZ}"
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
    return Challenge(done, _lines(done), files)


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
