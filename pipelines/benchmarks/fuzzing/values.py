"""Random values for states and updates, half of them at a bound or one beside it."""

from datetime import UTC, datetime
from random import Random
from typing import Any, Final

AT: Final = datetime(2025, 1, 10, tzinfo=UTC)
Pair = tuple[Any, tuple[Any, ...]]


def near(rng: Random, *bounds: int, low: int, high: int) -> int:
    """Return a value between ``low`` and ``high``: half the time at a bound, or one beside it.

    Examples
    --------
    >>> near(Random(1), 100, low=0, high=10) in {99, 100, 101}
    True
    """
    if rng.random() < 0.5:
        return max(0, rng.choice(bounds) + rng.choice((-1, 0, 1)))
    return rng.randint(low, high)


def market(state: Any, symbol: str, **values: Any) -> Any:
    """Return ``state`` with fields of one market replaced."""
    new = state.markets[symbol].model_copy(update=values)
    return state.model_copy(update={"markets": {**state.markets, symbol: new}})
