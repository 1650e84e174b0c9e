"""From a document to the payload of its protocol, which the target must accept before anything is signed."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from calibrator.config import Config
from calibrator.errors import ConfigError, ConstraintError
from calibrator.publish.adapters.base import Adapter, Intent, State, Update, header_of
from calibrator.publish.adapters.intent import intent_of
from calibrator.publish.canonical import MAX_BYTES
from calibrator.publish.constraints.rules import Rules, simulate, simulate_plan, starts
from calibrator.publish.constraints.targets import target
from calibrator.publish.document import ParameterDocument
from calibrator.publish.parts import OFF_CHAIN
from pipelines.store import save

PAYLOADS = "payloads"


def payloads_for(config: Config, document: ParameterDocument) -> dict[str, bytes]:
    """Return what is published beside ``document``: ``payloads/<protocol>.json``, if a target is configured.

    Parameters
    ----------
    config : Config
        ``publish.target`` names the protocol and the state file.
    document : ParameterDocument

    Returns
    -------
    dict of str to bytes
        Empty without a target, and when the target holds every value already.

    Raises
    ------
    ConfigError
        No such protocol, or the state file cannot be read.
    ConstraintError
        The target would refuse, clip or misread the update or a step of its plan; the message names the rule.
    """
    chosen = config.publish.target
    if chosen is None:
        return {}
    adapter, rules = target(chosen.protocol)
    state = read_state(adapter, chosen.state)
    audience = chosen.chain or (document.chain if document.chain != OFF_CHAIN else state.chain)
    for chain in (audience, document.chain):
        if chain not in {state.chain, OFF_CHAIN}:
            raise ConstraintError(
                f"publish.target: state of {state.chain}, audience {chain} (rule audience.chain)"
            )
    payload = payload_of(adapter, rules, state, intent_of(document))
    return {} if payload is None else {f"{PAYLOADS}/{adapter.name}.json": payload}


def save_payloads(folder: Path, payloads: Mapping[str, bytes]) -> dict[str, Path]:
    """Write payloads into a run's folder; returns the files by what they are."""
    out = {}
    for name, payload in payloads.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        out[f"payload {path.stem}"] = save(path, payload)
    return out


def payload_of(
    adapter: Adapter[Any, Any], rules: Rules[Any, Any], state: State, intent: Intent
) -> bytes | None:
    """Simulate update and plan, then encode the update; None if there is nothing to change.

    Raises
    ------
    ConstraintError
        As `payloads_for`.
    """
    actions = simulate_plan(adapter, rules, state, intent)
    if not actions:
        return None
    return adapter.encode(Update(header_of(adapter, state, intent, at=intent.steps[0].at), actions))


def read_state(adapter: Adapter[Any, Any], path: Path) -> Any:
    """Read and validate a state file.

    Raises
    ------
    ConfigError
        If it is missing, too large, or does not describe a state of this protocol; names the place.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"state {path}: larger than {MAX_BYTES} bytes")
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"state {path}: cannot be read: {error.strerror}") from error
    try:
        state: State = adapter.state.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "(top level)"
        raise ConfigError(f"state {path}: {place}: {first['msg']} ({error.error_count()} in all)") from error
    return state


def check_payload(protocol: str, state: Path, payload: Path, *, at: datetime) -> Update[Any]:
    """Decode a payload and simulate it against a state file, as who submits or signs it would.

    Returns
    -------
    Update
        What it says, in the target's units.

    Raises
    ------
    ConfigError
        No such protocol, or the state file cannot be used.
    PublishError
        The payload is not one of this protocol.
    ConstraintError
        It is for another protocol or chain, has expired, or the target would refuse it.
    """
    adapter, rules = target(protocol)
    held = read_state(adapter, state)
    try:
        raw = payload.read_bytes()
    except OSError as error:
        raise ConfigError(f"payload {payload}: cannot be read: {error.strerror}") from error
    update = adapter.decode(raw)
    head = update.header
    for name, is_, must in (
        ("audience.protocol", head.protocol, adapter.name),
        ("audience.chain", head.chain, held.chain),
        ("audience.route", head.route, held.route),
    ):
        if is_ != must:
            raise ConstraintError(
                f"payload {payload}: is for {is_}, the state file is of {must} (rule {name})"
            )
    if at >= head.expires_at:
        raise ConstraintError(f"payload {payload}: expired at {head.expires_at}, it is {at} (rule expiry)")
    if abs(at - held.read_at) > timedelta(hours=held.max_age_hours):
        raise ConstraintError(f"state {state}: was read at {held.read_at}, it is {at} (rule state.stale)")
    for where, start in starts(rules, held, at=at):
        try:
            simulate(rules, start, update.actions, at=at)
        except ConstraintError as error:
            raise ConstraintError(f"{where}: {error}" if where else str(error)) from error
    return update
