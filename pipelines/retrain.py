"""Retraining: challengers against the champion, and a promotion only if every gate holds."""

from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from calibrator.config import Config
from calibrator.errors import DataError
from pipelines.card import write_card
from pipelines.champion import (
    DEFAULT,
    MANIFEST,
    POINTER,
    Champion,
    overridden,
    read_champion,
    with_champion,
    write_champion,
)
from pipelines.comparison import compared
from pipelines.contest import Contest, hold_contest
from pipelines.forecasting import Progress
from pipelines.jobs import Job, Now, job, log
from pipelines.ledger import open_ledger
from pipelines.loading import Loaded, load
from pipelines.models import model_texts
from pipelines.producing import produced
from pipelines.production import Production
from pipelines.report.canvas import slug
from pipelines.store import save, save_json
from pipelines.tracked import MODEL
from pipelines.tracking import Run, flat_parameters

CONTEST: Final = "contest.json"


@dataclass(frozen=True, slots=True)
class Retrained:
    """What a retraining decided.

    Attributes
    ----------
    champion : str
        Model that is live now.
    promoted : bool
    contest : dict
        Content of ``contest.json``.
    path : pathlib.Path
    """

    champion: str
    promoted: bool
    contest: dict[str, Any]
    path: Path


def retrain(config: Config, *, home: Path, as_of: datetime | None, now: Now, progress: Progress) -> Retrained:
    """Hold the challengers of ``retrain.challengers`` against the champion; promote the best that passes.

    Parameters
    ----------
    config : Config
    home : pathlib.Path
        Receives ``models/<id>/``, ``champion.json`` and ``reviews/<as-of>/contest.json``.
    as_of : datetime, optional
        Later rows are not looked at; default: the last bar.
    now : callable
        The clock.
    progress : callable
        Called with (what, done, total).

    Raises
    ------
    DataError
        The input is refused, or too few decisions have a known outcome.
    """
    with job("retrain", config, home=home, as_of=as_of, now=now) as work:
        loaded = load(config, as_of=as_of)
        live = with_champion(config, home)
        path = review_folder(home, loaded.as_of) / CONTEST
        before = work.identify(config, as_of=loaded.as_of, data=loaded.data + _settings(config))
        if before is not None:
            current = read_champion(home)
            return Retrained(current.id if current else "", promoted=False, contest=_read(path), path=path)
        with work.track(config.tracking) as tracked:
            tracked.log_params(flat_parameters(live))
            made = hold_retraining(config, work, loaded, progress, tracked)
        work.facts["files"] = [str(path.relative_to(home)), f"models/{POINTER}"]
        return made


def hold_retraining(config: Config, work: Job, loaded: Loaded, progress: Progress, tracked: Run) -> Retrained:
    """Hold a retraining inside a job, whichever it is; whatever asked for one is answered by it.

    Parameters
    ----------
    config : Config
        As configured, without the champion's settings.
    work : Job
    loaded : Loaded
    progress : callable
        Called with (what, done, total).
    tracked : Run
    """
    home, report = work.home, work.progress(progress)
    champion = produced(with_champion(config, home), loaded, home=home, progress=report)
    challengers = {
        name: produced(_challenger(config, name), loaded, home=home, progress=report)
        for name in sorted(config.retrain.challengers)
    }
    contest = hold_contest(champion, challengers, settings=config.retrain, steps=config.forecast.steps)
    current = read_champion(home)
    if current is None:
        first = _write_model(home, DEFAULT, champion, loaded, contest, {})
        work.fence()
        write_champion(home, first)
        work.ledger.decide(first, "promote", now=work.now(), reason="first champion", row=work.token)
        current = read_champion(home)
    models = {
        v.name: _write_model(
            home, v.name, challengers[v.name], loaded, contest, config.retrain.challengers[v.name]
        )
        for v in contest.verdicts
    }
    winner = contest.winner
    live_now = current.id if current else ""
    if winner is not None:
        work.fence()
        write_champion(home, models[winner])
        reason = f"{winner} passed every gate: QLIKE {_ratio(contest, winner):.4f} of the champion's"
        work.ledger.decide(models[winner], "promote", now=work.now(), reason=reason, row=work.token)
        work.ledger.clear(now=work.now(), kinds=["loss", "features", "coverage"])
        live_now = models[winner]
    content = compared(contest, champion, challengers, loaded, models=models, champion_id=current)
    path = save_json(review_folder(home, loaded.as_of) / CONTEST, content)
    work.facts |= {"champion": live_now, "promoted": winner is not None}
    work.ledger.serve("retrain", now=work.now(), row=work.token)
    _log(tracked, contest, models, path, work)
    log("decided", job=work.name, row=work.token, champion=live_now, promoted=winner is not None)
    return Retrained(live_now, winner is not None, content, path)


def _challenger(config: Config, name: str) -> Config:
    return overridden(config, config.retrain.challengers[name], source=f"retrain.challengers.{name}")


def _ratio(contest: Contest, name: str) -> float:
    verdict = next(v for v in contest.verdicts if v.name == name)
    return verdict.qlike / verdict.champion_qlike


def _settings(config: Config) -> str:
    return sha256(config.retrain.model_dump_json().encode()).hexdigest()


def _write_model(
    home: Path,
    name: str,
    production: Production,
    loaded: Loaded,
    contest: Contest,
    settings: dict[str, Any],
) -> str:
    """Write ``models/<id>/``: fitted models as text, the card, and the manifest with their digests."""
    texts = model_texts(production.forecasts)
    texts["card.md"] = write_card(name, production, loaded, contest, settings)
    files = {n: sha256(t.encode()).hexdigest() for n, t in sorted(texts.items())}
    digest = sha256(repr((name, settings, files)).encode()).hexdigest()[:8]
    model = f"{loaded.as_of:%Y%m%dT%H%M%SZ}-{slug(name)}-{digest}"
    for file, text in texts.items():
        save(home / "models" / model / file, text)
    manifest = {"id": model, "name": name, "forecast": settings, "files": files, "data": loaded.data}
    save_json(home / "models" / model / MANIFEST, manifest)
    return model


def _log(tracked: Run, contest: Contest, models: dict[str, str], path: Path, work: Job) -> None:
    tracked.log_artifacts({CONTEST: path.read_bytes()})
    ids = {DEFAULT: work.facts["champion"]} | models
    for verdict in contest.verdicts:
        child = tracked.child(f"challenger {verdict.name}", tags={"kind": "challenger"})
        child.log_metrics({"qlike": verdict.qlike, "champion qlike": verdict.champion_qlike})
        child.log_metrics({f"gate/{g.name}": g.value for g in verdict.gates})
        series = contest.daily[verdict.name]
        steps = {int(f"{t:%Y%m%d}"): float(v) for t, v in series.items()}
        child.log_series({"daily qlike": steps})
        gates = [asdict(g) for g in verdict.gates]
        child.log_table("gates", {k: [g[k] for g in gates] for k in gates[0]})
        folder = work.home / "models" / ids[verdict.name]
        child.log_artifacts({f"models/{p.name}": p.read_bytes() for p in sorted(folder.iterdir())})
        won = work.facts["promoted"] and verdict.name == contest.winner
        alias = ("champion",) if won else ("challenger",)
        tags = {"model_id": ids[verdict.name], "ledger_row": str(work.token), "passes": str(verdict.passes)}
        child.register(MODEL, aliases=alias, tags=tags)


def rollback(home: Path, *, to: str | None, now: Now, config: Config) -> Champion:
    """Make an earlier champion live again; by default the one before the current.

    Raises
    ------
    DataError
        There is none, or its files are not those that were accepted.
    """
    with job("rollback", config, home=home, as_of=None, now=now) as work:
        earlier = [d["model"] for d in work.ledger.decisions()]
        current = read_champion(home)
        others = [m for m in earlier if current is None or m != current.id]
        if not others or (to is not None and to not in earlier):
            known = ", ".join(dict.fromkeys(earlier)) or "none"
            raise DataError(f"rollback: {to or 'an earlier champion'}: was never live; there are {known}")
        target = to or others[-1]
        pointer = home / "models" / "champion.json"
        before = pointer.read_bytes()
        write_champion(home, target)
        try:
            champion = read_champion(home)
        except DataError:
            save(pointer, before)
            raise
        if champion is None:
            raise DataError("rollback: nothing was ever promoted")
        work.ledger.decide(target, "rollback", now=work.now(), reason="by hand", row=work.token)
        work.facts |= {"champion": target}
        log("decided", job="rollback", row=work.token, champion=target)
        with work.track(config.tracking) as tracked:
            tracked.set_tags({"champion": target, "decision": f"rolled back to {target}"})
            tracked.log_artifacts({MANIFEST: (home / "models" / target / MANIFEST).read_bytes()})
        return champion


def live_at(home: Path, at: datetime) -> dict[str, str] | None:
    """Return which model was live at a time, from the ledger; None before the first."""
    with open_ledger(home) as ledger:
        return ledger.live(at)


def review_folder(home: Path, as_of: datetime) -> Path:
    """Return ``home/reviews/<as-of>``."""
    return home / "reviews" / as_of.strftime("%Y%m%dT%H%M%SZ")


def _read(path: Path) -> dict[str, Any]:
    import json  # noqa: PLC0415

    return dict(json.loads(path.read_bytes()))
