"""The example states, shared with the adapters' tests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calibrator.publish.adapters.base import State
from calibrator.publish.constraints.targets import target

STATES = Path(__file__).parents[3] / "docs" / "protocols" / "states"


@pytest.fixture(scope="session")
def make_state() -> Callable[..., State]:
    """Return the example state of a target, with fields changed; dots reach into it."""

    def make(name: str, **changes: Any) -> State:
        raw = json.loads((STATES / f"{name}.json").read_text())
        raw["markets"] = {symbol.partition("/")[0]: market for symbol, market in raw["markets"].items()}
        for path, value in changes.items():
            place, *keys = raw, *path.split("__")
            for key in keys[:-1]:
                place = place[key]
            place[keys[-1]] = value
        return target(name)[0].state.model_validate_json(json.dumps(raw))

    return make
