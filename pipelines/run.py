"""The whole job: load, produce, sign, challenge, report, track."""

from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from calibrator.config import Config
from calibrator.errors import PublishError
from calibrator.publish.canonical import digest as sha256
from calibrator.publish.constraints import check_update
from calibrator.publish.document import ParameterDocument, decode, encode
from pipelines.alarms import watched
from pipelines.backtesting import Backtest, backtest, in_window
from pipelines.capital import capital
from pipelines.champion import with_champion
from pipelines.document import Identity, build_document
from pipelines.executor import executor_of
from pipelines.forecasting import Progress
from pipelines.jobs import Job, Now, job, log
from pipelines.ledger import Row
from pipelines.lending import with_refusals
from pipelines.loading import Loaded, load
from pipelines.metrics import label
from pipelines.models import model_digests, model_texts
from pipelines.payloads import payloads_for, save_payloads
from pipelines.portfolio import with_portfolio
from pipelines.production import Production
from pipelines.publishing import in_force, publish_document
from pipelines.report.canvas import Drawing
from pipelines.report.figures import draw, png_files
from pipelines.report.page import Review, build_report
from pipelines.report.validation import PACK, build_pack
from pipelines.store import config_digest, run_folder, save, save_frame, save_json
from pipelines.tracked import MODEL, track_run
from pipelines.tracked_publication import track_signatures
from pipelines.tracking import flat_parameters
from pipelines.validation import Validation, validated


@dataclass(frozen=True, slots=True)
class Result:
    """What a run made.

    Attributes
    ----------
    document : ParameterDocument
    published : bool
        False when the very same parameters were published before.
    backtest : Backtest
    findings : pandas.DataFrame
        What the data gate found.
    files : dict of str to pathlib.Path
        Everything that was written, by what it is.
    warnings : list of str
        What did not work and did not matter for publishing.
    """

    document: ParameterDocument
    published: bool
    backtest: Backtest
    findings: pd.DataFrame
    files: dict[str, Path]
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class Repeated:
    """A run that was done before on the same input, with the same settings and code.

    Attributes
    ----------
    row : Row
        Of the ledger.
    document : ParameterDocument
        What was made then.
    folder : pathlib.Path
    """

    row: Row
    document: ParameterDocument
    folder: Path


def run(
    config: Config, *, home: Path, as_of: datetime | None, now: Now, progress: Progress
) -> Result | Repeated:
    """Run every step of the product once.

    Parameters
    ----------
    config : Config
    home : pathlib.Path
        Receives everything that is written.
    as_of : datetime, optional
        Later rows are not looked at; default: the last bar.
    now : callable
        The clock: of the ledger, of the deadline, and for the expiry of the repository's metadata.
    progress : callable
        Called with (what, done, total).

    Returns
    -------
    Result or Repeated
        The latter when the ledger knows the same run and its files are there.

    Raises
    ------
    CalibratorError
        Nothing that was published before has changed.
    """
    with job("run", config, home=home, as_of=as_of, now=now) as work:
        loaded = load(config, as_of=as_of)
        live = with_champion(config, home)
        before = work.identify(live, as_of=loaded.as_of, data=loaded.data)
        if before is not None:
            folder = run_folder(home, loaded.as_of)
            return Repeated(before, decode((folder / "parameters.json").read_bytes()), folder)
        return _run(config, work, loaded, progress)


def _run(config: Config, work: Job, loaded: Loaded, progress: Progress) -> Result:
    home, report = work.home, work.progress(progress)
    with work.track(config.tracking) as tracked:
        production = watched(config, work, loaded, report, tracked=tracked)
        tracked.log_params(flat_parameters(production.config))
        document, texts, payloads = documented(production, loaded, home=home)
        folder = run_folder(home, loaded.as_of)
        files = _save_document(folder, document, texts, payloads)
        work.fence()
        # Signed as soon as it is known; backtest and report follow, for a refused document above all.
        published, refusal = _signed(config, document, work)
        with executor_of(config.compute) as executor:
            challenged = backtest(production, loaded.bars, progress=report, executor=executor)
            funds = capital(
                production, challenged, loaded.bars, executor=executor, entries=len(document.markets)
            )
        challenged.summary["capital"] = funds.summary()
        interest = loaded.feeds.open_interest if loaded.feeds else None
        checked = validated(
            production, challenged, funds, loaded.bars, open_interest=interest, progress=report
        )
        challenged.summary.update(checked.summary())
        findings = with_refusals(loaded.findings, production.config, production.decisions)
        review = Review(production, document, challenged, findings, loaded.bars, version("calibrator"), funds)
        report("report", 0, 2)
        drawings = draw(review)
        pages = _pages(review, checked, drawings)
        tracked.log_figures(png_files(drawings))
        report("report", 1, 2)
        files |= _save_review(folder, review, pages)
        report("report", 2, 2)
        track_run(tracked, loaded, production, challenged, document, files)
        if refusal is not None:
            raise refusal
        linked = {"document": sha256(encode(document)), "sequence": str(document.sequence)}
        tracked.set_tags(linked)
        tracked.register(MODEL, aliases=("champion",), tags=linked | work.tags)
        track_signatures(tracked, home)
    work.facts |= _facts(work, files, document, published=published)
    work.gauges |= _gauges(challenged, document, loaded)
    log("published" if published else "unchanged", job="run", row=work.token, sequence=document.sequence)
    files = {what: path for what, path in files.items() if not what.startswith("model ")}
    files |= {"models": home / "models" / folder.name, "signed repository": home / "published"}
    if config.tracking.enabled and config.tracking.uri is None:
        files["MLflow store"] = home / "mlflow.db"
    problems = [*work.facts["alarms"], *([tracked.problem] if tracked.problem else [])]
    return Result(document, published, challenged, findings, files, problems)


def documented(
    production: Production, loaded: Loaded, *, home: Path
) -> tuple[ParameterDocument, dict[str, str], dict[str, bytes]]:
    """Make the next document, held against the limits of the published one; models as text; payloads."""
    texts = model_texts(production.forecasts)
    identity = Identity(
        config=config_digest(production.config), data=loaded.data, models=model_digests(texts)
    )
    document = _document(production, home, loaded.as_of, loaded.stale, identity)
    return document, texts, _check(production, home, document)


def _facts(
    work: Job, files: dict[str, Path], document: ParameterDocument, *, published: bool
) -> dict[str, object]:
    return {
        "files": sorted(str(path.relative_to(work.home)) for path in files.values()),
        "document": sha256(encode(document)),
        "sequence": document.sequence,
        "published": published or (work.home / "published").exists(),
    }


def _gauges(challenged: Backtest, document: ParameterDocument, loaded: Loaded) -> dict[str, float]:
    coverage = {
        label("calibrator_coverage_ratio", market=str(r.market), side=str(r.side)): float(r.coverage)
        for r in challenged.coverage.itertuples()
    }
    return coverage | {
        "calibrator_document_sequence": float(document.sequence),
        "calibrator_document_expires_timestamp_seconds": document.expires_at.timestamp(),
        "calibrator_stale_markets": float(len(loaded.stale)),
    }


def _document(
    production: Production, home: Path, as_of: datetime, stale: set[str], identity: Identity
) -> ParameterDocument:
    """Build the next document, or return the published one when nothing went into it that is new."""
    last = in_force(home)
    if last is not None and (last.issued_at, last.config_digest, last.data_digest, last.model_digests) == (
        as_of,
        identity.config,
        identity.data,
        identity.models,
    ):
        return last
    made = build_document(production, as_of=as_of, stale=stale, previous=last, identity=identity)
    return with_portfolio(made, production, previous=last)


def _check(production: Production, home: Path, document: ParameterDocument) -> dict[str, bytes]:
    """Refuse an update faster than its limits, or one that its target would not take; return payloads."""
    payloads = payloads_for(production.config, document)
    last = in_force(home)
    if last is None or last == document:
        return payloads
    since = pd.Timestamp(last.issued_at)
    passed = [int((d.table.index > since).sum()) for d in production.decisions.values()]
    limits = production.config.margin.limits.to_domain()
    check_update(last, document, limits, decisions=max([1, *passed]))
    return payloads


def save_frames(folder: Path, production: Production) -> dict[str, Path]:
    """Write the walk-forward's frames inside the backtest's window; return their paths by name."""
    config = production.config
    frames = {
        "forecasts": production.forecasts.frame(config.forecast.horizon),
        "regimes": production.forecasts.regimes.rename(columns={"time": "origin"}),
        "tails": production.tails(),
        "margins": production.margins(),
        "haircuts": production.haircuts(),
        "plan": production.plan(),
    }
    out = {
        name: save_frame(
            folder / f"{name}.parquet",
            in_window(frame, config).rename(columns={"origin": "time"} if name == "regimes" else {}),
        )
        for name, frame in frames.items()
    }
    schedule = in_window(production.schedule(), config, column="effective_from")
    out["schedule"] = save_frame(folder / "schedule.parquet", schedule)
    return out


def _save_document(
    folder: Path, document: ParameterDocument, texts: dict[str, str], payloads: dict[str, bytes]
) -> dict[str, Path]:
    """Write what is signed, the protocol's payloads and the models behind them."""
    files = {"parameters": save(folder / "parameters.json", encode(document))}
    files |= save_payloads(folder, payloads)
    models = _made(folder.parents[1] / "models" / folder.name)
    return files | {f"model {name}": save(models / name, text) for name, text in texts.items()}


def _signed(config: Config, document: ParameterDocument, work: Job) -> tuple[bool, PublishError | None]:
    """Publish; a refusal is returned, so that its report can still be written."""
    try:
        return publish_document(config, document, home=work.home, clock=work.now()), None
    except PublishError as error:
        return False, error


def _save_review(folder: Path, review: Review, pages: dict[str, str]) -> dict[str, Path]:
    """Write the frames, the backtest and the pages."""
    production = review.production
    files = save_frames(folder, production)
    files["backtest"] = save_json(folder / "backtest.json", review.backtest.summary)
    files |= {name: save(folder / f"{name}.html", page) for name, page in pages.items()}
    if review.capital is not None:
        units = in_window(review.capital.units, production.config)
        files["exposures"] = save_frame(folder / "exposures.parquet", review.capital.exposures)
        files["per_unit"] = save_frame(folder / "per_unit.parquet", units)
    return files


def _pages(review: Review, checked: Validation, drawings: tuple[Drawing, ...]) -> dict[str, str]:
    """Write report and validation pack; the checklist also goes into the backtest's summary."""
    pack = build_pack(review, checked)
    review.backtest.summary["checklist"] = pack.summary()
    return {"report": build_report(review, drawings=drawings, pack=PACK), "validation": pack.page}


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
