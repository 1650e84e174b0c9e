"""What follows when the world has drifted: an alarm that stands, a retraining, the core as a floor."""

from pathlib import Path
from typing import Final

from calibrator.config import Config
from calibrator.errors import DataError, ForecastError
from pipelines.champion import overridden, with_champion
from pipelines.drift import Alarm, find_drift
from pipelines.forecasting import Progress
from pipelines.jobs import Job, log
from pipelines.ledger import Ledger
from pipelines.loading import Loaded
from pipelines.producing import produced
from pipelines.production import Production
from pipelines.retrain import hold_retraining
from pipelines.tracking import Run

RETRAIN: Final = "retrain"


def watched(
    config: Config, work: Job, loaded: Loaded, progress: Progress, *, tracked: Run | None = None
) -> Production:
    """Forecast and calibrate; where drift is found write the alarm down, and obey its consequence.

    ``alert`` stands in the ledger, the metrics and the result until it is taken back. ``retrain`` also orders
    a retraining in the ledger and holds it at once, in this job, before anything is calibrated from; where
    less than half of the deadline is left, or the retraining cannot be done, the order waits for the next
    job. ``core`` also has the decisions from then on published at no less than what the HAR-GARCH core
    forecasts, until a retraining promotes another model or the alarm is taken back.

    Parameters
    ----------
    config : Config
        As configured; the champion's settings and those of standing alarms are put over it here.
    work : Job
    loaded : Loaded
    progress : callable
        Called with (what, done, total).
    tracked : Run, optional
        Gets the figures of a retraining.
    """
    used = as_live(config, work.home, work.ledger)
    made = produced(used, loaded, home=work.home, progress=progress)
    alarms = find_drift(made, used.drift, as_of=loaded.as_of)
    for a in alarms:
        work.ledger.alarm(a.kind, a.action, since=a.since, now=work.now(), message=a.message, row=work.token)
        log("alarm", kind=a.kind, action=a.action, since=a.since, message=a.message)
    work.facts["alarms"] = [f"{a.kind} ({a.action}): {a.message}" for a in alarms]
    _order(config, work, loaded, alarms)
    if work.ledger.ordered(RETRAIN):
        _retrain(config, work, loaded, progress, tracked or Run())
    live = as_live(config, work.home, work.ledger)
    return made if live == used else produced(live, loaded, home=work.home, progress=progress)


def as_live(config: Config, home: Path, ledger: Ledger) -> Config:
    """Return the configuration with the champion's settings, under the alarms that stand."""
    return with_alarms(with_champion(config, home), ledger)


def with_alarms(config: Config, ledger: Ledger) -> Config:
    """Return the configuration under the alarms that stand."""
    since = [a["since"] for a in ledger.standing() if a["action"] == "core"]
    if not since:
        return config
    return overridden(config, {"core_from": min(since)}, source="alarms")


def _order(config: Config, work: Job, loaded: Loaded, alarms: list[Alarm]) -> None:
    """Order a retraining for the alarms that want one, unless one was ordered within ``drift.recent``."""
    reasons = [f"{a.kind}: {a.message}" for a in alarms if a.action == RETRAIN]
    if not reasons:
        return
    pause = config.drift.recent * config.forecast.cadence * config.data.step
    last = work.ledger.last_order(RETRAIN)
    if last is None or loaded.as_of - last >= pause:
        text = "; ".join(reasons)
        work.ledger.order(RETRAIN, as_of=loaded.as_of, now=work.now(), reason=text, row=work.token)
        log("ordered", job=RETRAIN, as_of=loaded.as_of, reason=text)


def _retrain(config: Config, work: Job, loaded: Loaded, progress: Progress, tracked: Run) -> None:
    """Hold the retraining that was ordered, if there is time; what cannot be done stays ordered."""
    if not work.has_time():
        _say(work, "ordered, and too little time is left in this job")
        return
    try:
        made = hold_retraining(config, work, loaded, progress, tracked)
    except (DataError, ForecastError) as error:
        _say(work, f"ordered, and could not be done: {error}")
        return
    _say(work, f"done because of an alarm: {made.champion} {'promoted' if made.promoted else 'stays live'}")
    if made.promoted:
        work.identify(with_champion(config, work.home), as_of=loaded.as_of, data=loaded.data)


def _say(work: Job, text: str) -> None:
    work.facts["alarms"] = [*work.facts["alarms"], f"retrain: {text}"]
    log("retraining", row=work.token, outcome=text)
