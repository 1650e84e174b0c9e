"""Every parameter of the calibration, and what it is moved to when it is moved down or up."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel, ValidationError

from calibrator.config import Config

Value = int | float | str | None
Stage = Literal["tail", "publish"]
Moves = Literal["factor", "step", "uncovered", "order"]
HOLDS: Final = ("off", "stress", "elevated")


@dataclass(frozen=True, slots=True)
class Knob:
    """One parameter.

    Attributes
    ----------
    name : str
        Its place in the configuration.
    moves : {"factor", "step", "uncovered", "order"}
        Divided and multiplied by ``by``; less and more by ``by``; the share left uncovered multiplied and
        divided by ``by``; one place in the order.
    by : float
    unset : float, optional
        What it is moved up to from 0 or from not being set.
    stage : {"tail", "publish"}
        Whether tails are estimated again, or only tools and limits applied again.
    needs : str, optional
        A parameter without which this one has no effect while it is zero.
    role : str, optional
        Only entries with this role know it.
    """

    name: str
    moves: Moves
    by: float = 2.0
    unset: float | None = None
    stage: Stage = "tail"
    needs: str = ""
    role: str = ""

    def target(self, value: Value, direction: int) -> Value:
        """Return the value one move away; None where there is none.

        Examples
        --------
        >>> Knob("x", "uncovered").target(0.99, 1), Knob("x", "factor", unset=0.25).target(0.0, 1)
        (0.995, 0.25)
        >>> Knob("x", "step", by=0.2).target(0.1, -1), Knob("x", "order").target("off", -1)
        (0.0, None)
        """
        if self.moves == "order":
            place = HOLDS.index(str(value)) + direction
            return HOLDS[place] if 0 <= place < len(HOLDS) else None
        now = float(value or 0.0)
        if not now:
            return self.unset if direction > 0 else None
        if self.moves == "uncovered":
            return round(1 - (1 - now) * self.by ** (-direction), 12)
        if self.moves == "step":
            return round(max(now + direction * self.by, 0.0), 12)
        return round(now * self.by**direction, 12)


def _factors(section: str, *names: str, stage: Stage = "tail") -> tuple[Knob, ...]:
    return tuple(Knob(f"{section}.{name}", "factor", stage=stage) for name in names)


KNOBS: Final[tuple[Knob, ...]] = (
    Knob("margin.level", "uncovered"),
    *_factors("margin", "close_out", "tail_window", "tail_min"),
    Knob("margin.floor", "step", by=0.25, unset=0.25),
    Knob("margin.floor_window", "factor", needs="margin.floor"),
    Knob("margin.notice", "factor", unset=1),
    Knob("margin.gap_add_on", "factor", unset=0.005),
    Knob("margin.stress.oracle_delay", "factor", unset=1),
    Knob("margin.stress.jump_level", "uncovered", unset=0.99),
    Knob("margin.stress.crowded_share", "factor", unset=0.25),
    *_factors("margin", "stress.depth", "stress.volatility", "participation", "impact"),
    *(
        Knob(f"margin.limits.{name}", "factor", stage="publish")
        for name in (
            "max_increase",
            "max_decrease",
            "max_increase_5",
            "max_increase_10",
            "peak_to_trough",
            "min_base",
        )
    ),
    Knob("margin.tools.long_run_weight", "step", by=0.2, unset=0.2, stage="publish"),
    Knob(
        "margin.tools.long_run_share", "step", by=0.1, stage="publish", needs="margin.tools.long_run_weight"
    ),
    Knob("margin.tools.long_run_window", "factor", stage="publish", needs="margin.tools.long_run_weight"),
    Knob("margin.tools.buffer", "factor", unset=0.25, stage="publish"),
    Knob("margin.tools.buffer_window", "factor", stage="publish", needs="margin.tools.buffer"),
    Knob("margin.tools.stressed_weight", "factor", unset=0.25, stage="publish"),
    Knob("margin.tools.stressed_window", "factor", stage="publish", needs="margin.tools.stressed_weight"),
    Knob("margin.tools.hold", "order", stage="publish"),
    Knob("margin.conformal.gain", "factor", unset=0.0005),
    Knob("margin.conformal.range", "factor", needs="margin.conformal.gain"),
    *(
        Knob(f"haircut.{name}", "factor", unset=1, role="collateral")
        for name in ("settlement", "bridge_delay", "oracle_delay")
    ),
    Knob("haircut.oracle_cap", "factor", unset=0.01, role="collateral"),
    Knob("haircut.add_on", "factor", unset=0.005, role="collateral"),
)
UNMOVED: Final[Mapping[str, str]] = {
    "margin.loss": "a choice between two kinds of loss, not a number",
    "margin.starts": "which starts a margin is held against; the yardstick itself",
    "margin.tiers": "where tiers begin; each is margined for the size at its floor",
    "margin.initial_multiple": "multiplies initial margins by exactly itself",
    "margin.plan_steps": "how far the plan looks ahead; what applies now does not depend on it",
    "haircut.debt": "names the unit of account",
    "haircut.location": "names a place",
    "haircut.pairs": "lists what is calibrated",
    "haircut.close_out": "moved together with margin.close_out",
    "haircut.level": "moved together with margin.level",
    "haircut.penalty": "enters the liquidation threshold by a formula, not the haircut",
    "haircut.slippage": "enters the liquidation threshold by a formula, not the haircut",
    "haircut.interest": "enters the liquidation threshold by a formula, not the haircut",
    "haircut.gas": "enters the liquidation penalty by a formula, not the haircut",
    "haircut.liquidation_size": "enters the liquidation penalty by a formula, not the haircut",
    "haircut.auction": "enters the liquidation penalty by a formula, not the haircut",
    "haircut.borrow_level": "enters the loan to value below the threshold, not the haircut",
    "haircut.limits": "the target's own rule on moves, not ours to choose",
}
"""Parameters that are not moved, each with its reason."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A configuration with one parameter moved.

    Attributes
    ----------
    knob : Knob
    direction : int
        -1 down, +1 up.
    before, after : float, str or None
        Its value; None = not set, and for ``after`` no such value.
    config : Config or None
        None where there is nothing to run.
    why : str
        Why there is nothing to run: ``at its bound``, ``inactive: NAME is zero`` or ``no ROLE``.
    """

    knob: Knob
    direction: int
    before: Value
    after: Value
    config: Config | None
    why: str = ""


def variants(config: Config, *, roles: frozenset[str]) -> Iterator[Variant]:
    """Move every parameter down and up, one at a time.

    Parameters
    ----------
    config : Config
        Of the run.
    roles : frozenset of str
        Roles of the entries that are calibrated.

    Examples
    --------
    >>> config = Config.model_validate({"data": {"source": "embedded", "bar": "1d"}})
    >>> found = [v for v in variants(config, roles=frozenset({"perpetual"})) if v.knob.name == "margin.level"]
    >>> [(v.after, v.config.margin.level) for v in found]
    [(0.98, 0.98), (0.995, 0.995)]
    """
    for knob in KNOBS:
        before = value_of(config, knob.name)
        for direction in (-1, 1):
            after = knob.target(before, direction)
            if knob.role and knob.role not in roles:
                yield Variant(knob, direction, before, None, None, f"no {knob.role}")
            elif knob.needs and not value_of(config, knob.needs):
                yield Variant(knob, direction, before, after, None, f"inactive: {knob.needs} is zero")
            else:
                made = None if after is None or after == before else moved(config, knob, direction)
                yield Variant(
                    knob,
                    direction,
                    before,
                    None if made is None else value_of(made, knob.name),
                    made,
                    "at its bound" if made is None else "",
                )


def value_of(config: Config, name: str) -> Value:
    """Return a parameter by its place.

    Examples
    --------
    >>> value_of(Config.model_validate({"data": {"source": "embedded"}}), "margin.tools.hold")
    'off'
    """
    found: Any = config
    for part in name.split("."):
        found = getattr(found, part)
    value: Value = found
    return value


def moved(config: Config, knob: Knob, direction: int) -> Config | None:
    """Return a configuration with one parameter moved, wherever it is set; None if it may not be moved.

    A close-out, a level or a delay may also be set for one market or pair: those are moved by the same rule.
    """
    *sections, name = knob.name.split(".")

    def change(value: Value) -> Value:
        after = knob.target(value, direction)
        return value if after is None else round(float(after)) if isinstance(value, int) else after

    try:
        out: Config = _replaced(config, sections, name, change)
        if name in _OWN.get(sections[0] if len(sections) == 1 else "", ()):
            out = _own(out, name, change)
    except ValidationError:
        return None
    return None if value_of(out, knob.name) == value_of(config, knob.name) else out


_OWN: Final[Mapping[str, tuple[str, ...]]] = {
    "margin": ("close_out", "level"),
    "haircut": ("settlement", "bridge_delay", "oracle_delay", "oracle_cap", "add_on"),
}
"""Parameters that a market or a pair may set for itself."""


def _replaced(section: Any, path: list[str], name: str, change: Callable[[Value], Value]) -> Any:
    if path:
        inner = _replaced(getattr(section, path[0]), path[1:], name, change)
        return section.model_copy(update={path[0]: inner})
    return _checked(section, {name: change(getattr(section, name))})


def _checked(section: BaseModel, update: dict[str, Any]) -> BaseModel:
    """Copy a section with other values, each held against its bounds."""
    return type(section).model_validate(dict(section) | update)


def _own(config: Config, name: str, change: Callable[[Value], Value]) -> Config:
    """Move what haircuts, pairs and markets set for themselves."""
    haircut = config.haircut
    update: dict[str, Any] = {
        "pairs": tuple(
            p if getattr(p, name) is None else _checked(p, {name: change(getattr(p, name))})
            for p in haircut.pairs
        )
    }
    if name in {"close_out", "level"} and getattr(haircut, name) is not None:
        update[name] = change(getattr(haircut, name))
    markets = {
        market: m if getattr(m, name, None) is None else _checked(m, {name: change(getattr(m, name))})
        for market, m in config.markets.items()
    }
    return config.model_copy(update={"haircut": _checked(haircut, update), "markets": markets})
