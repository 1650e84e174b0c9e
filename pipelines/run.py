"""The whole job: load, produce, challenge, sign, report, track."""

from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from calibrator.config import Config
from calibrator.data.sources import digest, load_bars, load_inputs
from calibrator.errors import ConfigError, PublishError
from calibrator.publish.canonical import digest as sha256
from calibrator.publish.constraints import check_update
from calibrator.publish.document import ParameterDocument, encode
from calibrator.publish.storage import lock
from pipelines.backtesting import Backtest, backtest, in_window
from pipelines.capital import capital
from pipelines.document import Identity, build_document
from pipelines.forecasting import Progress
from pipelines.models import model_digests, model_texts
from pipelines.payloads import payloads_for, save_payloads
from pipelines.portfolio import with_portfolio
from pipelines.production import Production, produce
from pipelines.publishing import in_force, publish_document
from pipelines.report.figures import draw, png_files
from pipelines.report.page import Review, build_report
from pipelines.store import config_digest, run_folder, save, save_frame, save_json
from pipelines.tracking import Run, flat_parameters, tracked_run


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


def run(config: Config, *, home: Path, as_of: datetime | None, clock: datetime, progress: Progress) -> Result:
    """Run every step of the product once.

    Parameters
    ----------
    config : Config
    home : pathlib.Path
        Receives everything that is written.
    as_of : datetime, optional
        Later rows are not looked at; default: the last bar.
    clock : datetime
        The publishing clock, for the expiry of the repository's metadata only.
    progress : callable
        Called with (what, done, total).

    Raises
    ------
    CalibratorError
        Nothing that was published before has changed.
    """
    name = f"run {as_of:%Y-%m-%d %H:%M}" if as_of else "run"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PublishError(f"home {home}: cannot be created: {error.strerror}") from error
    with lock(home / "run.lock"), tracked_run(home, config.tracking, name) as tracked:
        tracked.log_params(flat_parameters(config))
        bars, found = load_bars(config, as_of=as_of)
        inputs = load_inputs(config, as_of=as_of)
        findings = pd.concat([found, inputs.findings], ignore_index=True)
        check_markets(config, set(bars["market"]))
        at = as_of or bars["time"].max().to_pydatetime()
        production = produce(
            bars, inputs.implied_volatility, config=config, progress=progress, feeds=inputs.feeds
        )
        challenged = backtest(production, bars, progress=progress)
        funds = capital(production, challenged, bars)
        challenged.summary["capital"] = funds.summary()
        texts = model_texts(production.forecasts)
        identity = Identity(
            config=config_digest(config),
            data=sha256("".join(digest(frame) for frame in (bars, *inputs.frames)).encode()),
            models=model_digests(texts),
        )
        stale = set(findings.loc[findings["rule"] == "stale", "market"])
        document = _document(production, home, at, stale, identity)
        payloads = _check(production, home, document)
        folder = run_folder(home, at)
        progress("report", 0, 2)
        review = Review(production, document, challenged, findings, bars, version("calibrator"), funds)
        drawings = draw(review)
        page = build_report(review, drawings=drawings)
        tracked.log_figures(png_files(drawings))
        progress("report", 1, 2)
        files = _save(folder, production, challenged, document, page) | save_payloads(folder, payloads)
        files |= {
            name: save_frame(folder / f"{name}.parquet", frame)
            for name, frame in (("exposures", funds.exposures), ("per_unit", in_window(funds.units, config)))
        }
        for model, text in texts.items():
            files[f"model {model}"] = save(_made(home / "models" / folder.name) / model, text)
        published = publish_document(config, document, home=home, clock=clock)
        progress("report", 2, 2)
        _track(tracked, document, challenged, files)
    files = {what: path for what, path in files.items() if not what.startswith("model ")}
    files |= {"models": home / "models" / folder.name, "signed repository": home / "published"}
    if config.tracking.enabled and config.tracking.uri is None:
        files["MLflow store"] = home / "mlflow.db"
    return Result(
        document, published, challenged, findings, files, [tracked.problem] if tracked.problem else []
    )


def _track(tracked: Run, document: ParameterDocument, challenged: Backtest, files: dict[str, Path]) -> None:
    """Log what a risk committee reviews: scores, margins, figures, the page, the models as text."""
    for model, loss in challenged.forecasts.loc["*"].items():
        tracked.log_metrics({f"qlike/{model}": float(loss)})
    rows = challenged.coverage.itertuples()
    tracked.log_metrics({f"coverage/{r.market}/{r.side}": float(r.coverage) for r in rows})
    for market in document.markets:
        name = "/".join(part for part in ("margin_ppm", market.symbol, *market.key[2:]) if part)
        tracked.log_metrics({name: float(market.value_ppm)}, step=document.sequence)
    contents = {path.name: path.read_bytes() for what, path in files.items() if not what.startswith("model ")}
    tracked.log_artifacts({n: c for n, c in contents.items() if not n.endswith(".parquet")})
    models = {what.removeprefix("model "): path for what, path in files.items() if what.startswith("model ")}
    tracked.log_artifacts({f"models/{name}": path.read_bytes() for name, path in models.items()})


def check_markets(config: Config, known: set[str]) -> None:
    """Refuse settings for a market that has no bars: a typo must not turn a collateral into a perpetual.

    Raises
    ------
    ConfigError
        Names the first such market.
    """
    unknown = sorted(set(config.markets) - known)
    if unknown:
        some = ", ".join(sorted(known)[:8])
        raise ConfigError(f"markets.{unknown[0]}: no bars of this market; there are {some}")


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


def _save(
    folder: Path, production: Production, challenged: Backtest, document: ParameterDocument, page: str
) -> dict[str, Path]:
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
    out["parameters"] = save(folder / "parameters.json", encode(document))
    out["backtest"] = save_json(folder / "backtest.json", challenged.summary)
    out["report"] = save(folder / "report.html", page)
    return out


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
