"""Example states of every target, as the documentation shows them, and terms for their markets."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calibrator.publish.adapters.base import State
from calibrator.publish.constraints.targets import target

STATES = Path(__file__).parents[3] / "docs" / "protocols" / "states"
MakeState = Callable[..., State]


@pytest.fixture(scope="session")
def make_state() -> MakeState:
    """Return the example state of a target, with top-level fields changed."""

    def make(name: str, **changes: Any) -> State:
        raw = json.loads((STATES / f"{name}.json").read_text()) | changes
        raw["markets"] = {symbol.partition("/")[0]: market for symbol, market in raw["markets"].items()}
        return target(name)[0].state.model_validate_json(json.dumps(raw))

    return make
