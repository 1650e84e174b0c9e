"""The champion: which settings of the forecast production uses, with the files it was accepted with.

``home/models/champion.json`` names the model; ``home/models/<id>/manifest.json`` holds its settings and the
SHA-256 of its files; the ledger holds when it became live. The three must agree before a job uses it.
"""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from calibrator.config import Config
from calibrator.config_forecast import ForecastConfig
from calibrator.errors import DataError
from pipelines.store import save_json

POINTER: Final = "champion.json"
MANIFEST: Final = "manifest.json"
DEFAULT: Final = "default"
"""Name of the settings of the configuration itself, which hold until something else was promoted."""


@dataclass(frozen=True, slots=True)
class Champion:
    """What is live.

    Attributes
    ----------
    id : str
        Folder under ``models/``.
    name : str
        Which challenger it was.
    forecast : dict
        Settings of section ``forecast`` that differ from the configuration.
    """

    id: str
    name: str
    forecast: dict[str, Any]


def read_champion(home: Path) -> Champion | None:
    """Read the champion of a home; None before anything was promoted.

    Raises
    ------
    DataError
        A file is missing, unreadable, or not the one that was accepted.
    """
    folder = home / "models"
    if not (folder / POINTER).exists():
        return None
    pointer = _json(folder / POINTER)
    try:
        manifest = folder / str(pointer["id"]) / MANIFEST
        check_digest(manifest, str(pointer["manifest"]))
        held = _json(manifest)
        for name, digest in held["files"].items():
            check_digest(manifest.parent / name, digest)
        return Champion(str(held["id"]), str(held["name"]), dict(held["forecast"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder / POINTER}: not a champion: {error!r}") from error


def write_champion(home: Path, model: str) -> None:
    """Point to a model whose folder is complete."""
    manifest = home / "models" / model / MANIFEST
    digest = sha256(manifest.read_bytes()).hexdigest()
    save_json(home / "models" / POINTER, {"id": model, "manifest": digest})


def with_champion(config: Config, home: Path) -> Config:
    """Return the configuration with the champion's settings of the forecast.

    Raises
    ------
    DataError
        The champion cannot be read, or its settings are not valid any more.
    """
    champion = read_champion(home)
    return config if champion is None else overridden(config, champion.forecast, source=champion.id)


def overridden(config: Config, forecast: dict[str, Any], *, source: str) -> Config:
    """Return the configuration with some settings of section ``forecast`` replaced.

    Raises
    ------
    DataError
        A setting is unknown or out of bounds.
    """
    spelled = config.forecast.model_dump() | forecast
    try:
        section = ForecastConfig.model_validate(spelled)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise DataError(f"model {source}: forecast.{first['loc'][0]}: {first['msg']}") from error
    return config.model_copy(update={"forecast": section})


def check_digest(path: Path, digest: str) -> bytes:
    """Return a file's content if its SHA-256 is the one that is expected.

    Raises
    ------
    DataError
        It cannot be read or is another file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    found = sha256(content).hexdigest()
    if found != digest:
        raise DataError(f"{path}: SHA-256 must be {digest[:12]}..., was {found[:12]}...: not loaded")
    return content


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
