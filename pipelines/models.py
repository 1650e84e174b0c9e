"""Fitted models as text: LightGBM's own format and JSON, never a pickle; and their digests."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from typing import Any, Final

import lightgbm as lgb

from calibrator.forecast.garch import Garch
from calibrator.forecast.lgbm import Boosted
from calibrator.forecast.pooled import Pooled
from calibrator.regimes.classifier import StressClassifier
from pipelines.forecasting import Forecasts

SEASON_START: Final = "season_"


def model_texts(forecasts: Forecasts) -> dict[str, str]:
    """Spell every fitted model of a walk-forward as text.

    Parameters
    ----------
    forecasts : Forecasts
        Its ``fitted`` holds the last fitted learners and GARCH states by name.

    Returns
    -------
    dict of str to str
        File name to content, sorted; equal models give equal text. A learner that had nothing to learn from
        yet has no file.

    Raises
    ------
    TypeError
        A kind of model that this function does not know.

    Examples
    --------
    >>> import pandas as pd
    >>> from calibrator.forecast.garch import GarchState
    >>> from calibrator.forecast.garch_parameters import GarchParameters
    >>> p = GarchParameters("garch", "normal", mu=0.0, omega=0.1, alpha=0.1, gamma=0.0, beta=0.8)
    >>> garch = Garch(memory={"SPX": GarchState(p, start=1.0)})
    >>> texts = model_texts(Forecasts(*[pd.DataFrame()] * 7, fitted={"garch": garch}))
    >>> list(texts), json.loads(texts["garch_normal.json"])["markets"]["SPX"]["beta"]
    (['garch_normal.json'], 0.8)
    """
    texts: dict[str, str] = {}
    for model in forecasts.fitted.values():
        texts |= _texts_of(model)
    return dict(sorted(texts.items()))


def model_digests(texts: Mapping[str, str]) -> dict[str, str]:
    """Return the SHA-256 of each model file (UTF-8), for the document.

    Examples
    --------
    >>> model_digests({"a.json": "{}"})["a.json"][:12]
    '44136fa355b3'
    """
    return {name: sha256(text.encode()).hexdigest() for name, text in sorted(texts.items())}


def _texts_of(model: object) -> dict[str, str]:
    if isinstance(model, Boosted):
        return {f"lightgbm_{i}.txt": _booster(b) for i, b in enumerate(model.boosters)}
    if isinstance(model, Pooled):
        return {"pooled.json": _json(_pooled(model))}
    if isinstance(model, StressClassifier):
        if model.booster is None:
            return {}
        return {"stress.txt": _booster(model.booster), "stress.json": _json(_logistic(model))}
    if isinstance(model, Garch):
        return {f"{model.name}.json": _json(_garch(model))}
    raise TypeError(f"model must be one of the known forecasters, was {type(model).__name__}")


def _booster(booster: lgb.Booster) -> str:
    return str(booster.model_to_string())


def _pooled(model: Pooled) -> dict[str, Any]:
    regressors = ["constant", *model._columns]  # noqa: SLF001 - a model is read out, once, here
    seasons = [f"{SEASON_START}{cell}" for cell in model._cells[1:].tolist()]  # noqa: SLF001
    return {
        "steps": model.steps,
        "penalty": model.penalty,
        "smearing": model.smearing,
        "smearings": model.smearings,
        "standardisation": _standardisation(model),
        "coefficients": dict(zip([*regressors, *seasons], model.coefficients.tolist(), strict=True)),
    }


def _logistic(model: StressClassifier) -> dict[str, Any]:
    seasons = [f"{SEASON_START}{cell}" for cell in model._cells[1:].tolist()]  # noqa: SLF001 - as above
    names = [*model._linear, *seasons]  # noqa: SLF001
    return {
        "intercept": float(model.logistic.intercept_[0]),
        "standardisation": _standardisation(model),
        "coefficients": dict(zip(names, model.logistic.coef_[0].tolist(), strict=True)),
    }


def _standardisation(model: Pooled | StressClassifier) -> dict[str, dict[str, float]]:
    names = model._columns if isinstance(model, Pooled) else model._linear  # noqa: SLF001 - as above
    pairs = zip(names, model._mean.tolist(), model._spread.tolist(), strict=True)  # noqa: SLF001
    return {name: {"mean": mean, "spread": spread} for name, mean, spread in pairs}


def _garch(model: Garch) -> dict[str, Any]:
    states = {}
    for market, state in sorted(model.memory.items()):
        fields = asdict(state.parameters) | {"status": state.parameters.status.name}
        parameters = {k: v if v == v else None for k, v in fields.items()}  # noqa: PLR0124 - NaN is no JSON
        states[market] = parameters | {"start": state.start, "growth": list(state.growth)}
    return {
        "window": model.window,
        "horizon_steps": model.horizon_steps,
        "returns": "percent",
        "failures": dict(sorted(model.failures.items())),
        "markets": states,
    }


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"
