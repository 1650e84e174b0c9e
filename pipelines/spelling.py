"""Fitted forecasters as plain JSON and back, bit for bit: a list of known classes instead of a pickle."""

import base64
import json
from dataclasses import is_dataclass
from enum import IntEnum
from typing import Any, Final

import lightgbm as lgb
import numpy as np
from sklearn.linear_model import LogisticRegression

from calibrator.forecast.design import Hull
from calibrator.forecast.garch import Garch, GarchState
from calibrator.forecast.garch_parameters import GarchParameters, Status
from calibrator.forecast.lgbm import Boosted
from calibrator.forecast.pooled import Pooled
from calibrator.regimes.classifier import StressClassifier

CLASSES: Final = {
    c.__name__: c
    for c in (
        Boosted, Garch, GarchParameters, GarchState, Hull, LogisticRegression, Pooled, Status,
        StressClassifier,
    )
}  # fmt: skip
KIND: Final = "kind"
UNREPEATABLE: Final = "no known spelling"


def spell(model: object) -> str:
    """Spell a fitted forecaster as JSON: LightGBM in its own text, arrays as base64 of their bytes.

    Raises
    ------
    TypeError
        Something in it has no known spelling; such a model is fitted again instead of being stored.

    Examples
    --------
    >>> p = GarchParameters("garch", "normal", mu=0.1, omega=0.1, alpha=0.1, gamma=0.0, beta=0.8)
    >>> unspell(spell(GarchState(p, start=1 / 3))).start
    0.3333333333333333
    """
    return json.dumps(_spell(model), separators=(",", ":"))


def unspell(text: str) -> Any:
    """Read what :func:`spell` wrote. The text must be trusted: check its digest first.

    Raises
    ------
    ValueError
        Not such a text.
    """
    try:
        return _read(json.loads(text))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a spelled model must be JSON of known classes: {error}") from error


def _spell(value: object) -> Any:
    if value is None or type(value) in {bool, str, int, float}:
        return value
    if isinstance(value, np.ndarray | np.generic):
        return _array(np.asarray(value))
    if isinstance(value, list | tuple):
        return {KIND: type(value).__name__, "items": [_spell(v) for v in value]}
    if isinstance(value, dict):
        return {KIND: "dict", "items": [[_spell(k), _spell(v)] for k, v in value.items()]}
    return _object(value)


def _array(value: np.ndarray[Any, Any]) -> dict[str, Any]:
    if value.dtype.hasobject:
        raise TypeError(f"an array of {value.dtype} has {UNREPEATABLE}")
    raw = np.ascontiguousarray(value).tobytes()
    return {
        KIND: "array",
        "dtype": value.dtype.str,
        "shape": list(value.shape),
        "bytes": base64.b64encode(raw).decode(),
    }


def _object(value: object) -> dict[str, Any]:
    name = type(value).__name__
    if isinstance(value, IntEnum):
        return {KIND: name, "value": int(value)}
    if isinstance(value, lgb.Booster):
        return {KIND: "booster", "text": value.model_to_string()}
    if CLASSES.get(name) is not type(value):
        raise TypeError(f"{name} has {UNREPEATABLE}")
    if is_dataclass(value) and not hasattr(value, "__dict__"):
        fields = {f: getattr(value, f) for f in value.__dataclass_fields__}
    else:
        fields = vars(value)
    return {KIND: name, "fields": {k: _spell(v) for k, v in fields.items()}}


def _read(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    kind = value[KIND]
    if kind == "array":
        flat = np.frombuffer(base64.b64decode(value["bytes"]), dtype=np.dtype(value["dtype"]))
        return flat.reshape(value["shape"]).copy()
    if kind in {"list", "tuple"}:
        return {"list": list, "tuple": tuple}[kind](_read(v) for v in value["items"])
    if kind == "dict":
        return {_read(k): _read(v) for k, v in value["items"]}
    if kind == "booster":
        return lgb.Booster(model_str=value["text"])
    return _revive(CLASSES[kind], value)


def _revive(known: type[Any], value: dict[str, Any]) -> Any:
    if issubclass(known, IntEnum):
        return known(value["value"])
    made = object.__new__(known)
    for name, inner in value["fields"].items():
        object.__setattr__(made, name, _read(inner))  # frozen dataclasses as well
    return made
