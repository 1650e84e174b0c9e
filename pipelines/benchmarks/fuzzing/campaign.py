"""Run (state, update) pairs through our simulation and the oracle, and count where they differ."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from calibrator.errors import ConstraintError
from calibrator.publish.constraints.rules import simulate
from calibrator.publish.constraints.targets import target
from pipelines.benchmarks.fuzzing import (
    bounds,
    holdings,
    oracles_lending,
    oracles_perpetuals,
    pairs_lending,
    pairs_perpetuals,
)
from pipelines.benchmarks.fuzzing.values import AT
from pipelines.payloads import read_state

STATES: Final = Path("docs/protocols/states")
Names = dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]]
LENDING: Final = {
    "aave-v3": "aave",
    "compound-v3": "compound",
    "euler-v2": "euler",
    "kamino": "kamino",
    "maker": "maker",
    "marginfi-v2": "marginfi",
    "morpho-blue": "morpho",
}
PERPETUALS: Final = {
    "derive-v2": "derive",
    "drift-v2": "drift",
    "dydx-v4": "dydx",
    "gmx-v2": "gmx",
    "hyperliquid": "hyperliquid",
    "leverage-brackets": "brackets",
    "synthetix-v3": "synthetix",
}


def parts_of(name: str) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """Return generator, oracle and reader of one protocol."""
    lends = name in LENDING
    word = LENDING[name] if lends else PERPETUALS[name]
    made = getattr(pairs_lending if lends else pairs_perpetuals, f"of_{word}")
    return made, getattr(oracles_lending if lends else oracles_perpetuals, word), getattr(holdings, word)


@dataclass(slots=True)
class Tally:
    """Outcome of one protocol's pairs.

    Attributes
    ----------
    both, neither : int
        Accepted, and refused, by simulation and oracle.
    stricter : int
        Refused by the simulation only, by rule in ``rules``.
    refused_by_oracle, clipped, beyond : list of str
        Accepted by the simulation although the oracle refuses, holds other values, or a bound is passed.
    """

    pairs: int = 0
    both: int = 0
    neither: int = 0
    stricter: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    refused_by_oracle: list[str] = field(default_factory=list)
    clipped: list[str] = field(default_factory=list)
    beyond: list[str] = field(default_factory=list)

    @property
    def violations(self) -> int:
        """How many pairs break the promise."""
        return len(self.refused_by_oracle) + len(self.clipped) + len(self.beyond)


def campaign(name: str, *, pairs: int, seed: int, states: Path = STATES) -> Tally:
    """Return the tally of ``pairs`` random pairs of one protocol.

    Parameters
    ----------
    name : str
        A protocol of `calibrator.publish.constraints.targets.TARGETS`.
    pairs : int
    seed : int
        Of the pairs; equal seeds give equal tallies.
    states : pathlib.Path, optional
        Folder of the example states that the pairs start from.
    """
    adapter, rules = target(name)
    read_in = read_state(adapter, states / f"{name}.json")
    plain = {symbol.partition("/")[0]: market for symbol, market in read_in.markets.items()}
    example = read_in.model_copy(update={"markets": plain})
    make, oracle, read = parts_of(name)
    rng, tally = Random(f"{name} {seed}"), Tally(pairs=pairs)  # noqa: S311 - a test's randomness
    for _ in range(pairs):
        state, actions = make(rng, example)
        expected = oracle(state, actions, AT)
        try:
            held = simulate(rules, state, actions, at=AT)
        except ConstraintError as error:
            rule = str(error).rpartition("(rule ")[2].rstrip(")")
            tally.rules[rule] += 1
            tally.neither += expected is None
            tally.stricter += expected is not None
            continue
        tally.both += expected is not None
        if expected is None:
            tally.refused_by_oracle.append(f"{state.markets} {actions}")
        elif (got := read(held)) != expected:
            tally.clipped.append(f"{state.markets} {actions}: {got} is not {expected}")
        elif (broken := bounds.BOUNDS[name](state, expected)) is not None:
            tally.beyond.append(f"{state.markets} {actions}: {broken}")
    return tally
