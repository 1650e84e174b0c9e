"""dYdX v4: a governance proposal that sets liquidity tiers or moves a market to another tier.

A tier replaces the whole tier, so everything that does not change is written again from the state. The
maintenance margin is a fraction **of the initial margin**, in ppm; what is published is rounded up so that
the chain's ``floor(initial * fraction)`` is not below the document's maintenance margin.

References
----------
dydxprotocol/v4-chain 84d4664b: proto/dydxprotocol/perpetuals, protocol/x/perpetuals/types/liquidity_tier.go.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from calibrator.domain import PPM
from calibrator.publish.adapters import text
from calibrator.publish.adapters.base import (
    Action,
    Adapter,
    Header,
    Listed,
    State,
    Step,
    Symbol,
    Update,
    Wire,
    agreed,
    listed,
    read_model,
)
from calibrator.publish.adapters.units import ratio_down, ratio_up
from calibrator.publish.canonical import Amount

NAME: Final = "dydx-v4"
GOVERNANCE: Final = "dydx10d07y265gmmuvt4z0w9aw880jnsr700jnmapky"
QUANTUMS: Final = 1_000_000
DEPOSIT: Final = "2000000000000000000000adydx"
_SET: Final = "/dydxprotocol.perpetuals.MsgSetLiquidityTier"
_MOVE: Final = "/dydxprotocol.perpetuals.MsgUpdatePerpetualParams"
Count = Annotated[int, Field(ge=0)]


class Tier(Wire):
    """A liquidity tier; amounts in quote quantums (1e-6 USDC)."""

    name: str
    initial_margin_ppm: Count
    maintenance_fraction_ppm: Count
    impact_notional: Amount
    open_interest_lower_cap: Amount
    open_interest_upper_cap: Amount


class SetTier(Action):
    """`MsgSetLiquidityTier`: replaces the tier."""

    kind: Literal["set"] = "set"
    id: Count
    tier: Tier


class Perpetual(Listed):
    """One market: its parameters, all of which a move writes again."""

    id: Count
    ticker: str
    market_id: Count
    atomic_resolution: int
    default_funding_ppm: int
    liquidity_tier: Count
    market_type: Count


class Move(Action):
    """`MsgUpdatePerpetualParams`: puts a market on another tier."""

    kind: Literal["move"] = "move"
    perpetual: Perpetual


DydxAction = Annotated[SetTier | Move, Field(discriminator="kind")]


class DydxState(State):
    """Tiers by id, the markets of the document on them, and others on the same tiers.

    ``route`` ``tiers`` changes the tiers, ``choice`` leaves them and moves each market to the cheapest tier
    that is safe enough.
    """

    protocol: Literal["dydx-v4"]
    route: Literal["tiers", "choice"] = "tiers"
    tiers: dict[str, Tier]
    markets: dict[Symbol, Perpetual]
    others: dict[Symbol, Count] = Field(default_factory=dict)
    pending: tuple[DydxAction, ...] = ()


def propose(step: Step, state: DydxState) -> tuple[SetTier | Move, ...]:
    """Return the tiers that change, or the markets that move, in order of id."""
    wanted = {}
    for terms in listed(step.perpetuals, state.markets, state):
        market = state.markets[terms.symbol]
        tier = terms.at(market.notional)
        cap = terms.cap.open_interest
        wanted[terms.symbol] = (
            tier.initial_margin_ppm,
            tier.maintenance_margin_ppm,
            -1 if cap is None else cap * QUANTUMS,
        )
    return _choices(wanted, state) if state.route == "choice" else _tiers(wanted, state)


def _tiers(wanted: dict[str, tuple[int, int, int]], state: DydxState) -> tuple[SetTier, ...]:
    out = []
    for id_, old in sorted(state.tiers.items(), key=lambda item: int(item[0])):
        on_it = {s for s, m in state.markets.items() if str(m.liquidity_tier) == id_}
        values = {s: wanted[s] for s in sorted(on_it & set(wanted))}
        if not values:
            continue
        others = {s for s, tier in state.others.items() if str(tier) == id_}
        new = _tier(old, values)
        if new != old:
            agreed(values, state, what=f"tier {id_}", others=on_it | others)
            out.append(SetTier(id=int(id_), tier=new))
    return tuple(out)


def _tier(old: Tier, values: dict[str, tuple[int, int, int]]) -> Tier:
    initial = max(value[0] for value in values.values())
    maintenance = max(value[1] for value in values.values())
    caps = [value[2] for value in values.values() if value[2] >= 0]
    upper = min(caps, default=old.open_interest_upper_cap)
    lower = old.open_interest_lower_cap
    if caps:
        scale = (lower, old.open_interest_upper_cap) if 0 < lower <= old.open_interest_upper_cap else (1, 2)
        lower = ratio_down(scale[0], scale[1], upper)
    return old.model_copy(
        update={
            "initial_margin_ppm": initial,
            "maintenance_fraction_ppm": ratio_up(maintenance, initial, PPM),
            "open_interest_lower_cap": lower,
            "open_interest_upper_cap": upper,
        }
    )


def _choices(wanted: dict[str, tuple[int, int, int]], state: DydxState) -> tuple[Move, ...]:
    out = []
    ladder = sorted((t.initial_margin_ppm, maintenance_ppm(t), int(id_)) for id_, t in state.tiers.items())
    for symbol, (initial, maintenance, cap) in sorted(wanted.items()):
        market = state.markets[symbol]
        fits = [
            id_
            for i, m, id_ in ladder
            if i >= initial and m >= maintenance and _within(state.tiers[str(id_)], cap)
        ]
        best = fits[0] if fits else ladder[-1][2]
        if best != market.liquidity_tier:
            out.append(Move(perpetual=market.model_copy(update={"liquidity_tier": best})))
    return tuple(out)


def _within(tier: Tier, cap: int) -> bool:
    return cap < 0 or 0 < tier.open_interest_upper_cap <= cap


def maintenance_ppm(tier: Tier) -> int:
    """Return the maintenance margin that the chain computes, ppm of notional (rounded down there).

    Examples
    --------
    >>> tier = Tier(name="x", initial_margin_ppm=637239, maintenance_fraction_ppm=289284, impact_notional=1,
    ...     open_interest_lower_cap=0, open_interest_upper_cap=0)
    >>> maintenance_ppm(tier)  # upstream: liquidity_tier_test.go
    184343
    """
    return tier.initial_margin_ppm * tier.maintenance_fraction_ppm // PPM


def opening_ppm(tier: Tier, open_interest: int) -> int:
    """Return the initial margin at an open interest (quote quantums): it rises to 100 % between the caps.

    Examples
    --------
    >>> tier = Tier(name="x", initial_margin_ppm=200_000, maintenance_fraction_ppm=500_000, impact_notional=1,
    ...     open_interest_lower_cap=1_000_000, open_interest_upper_cap=2_000_000)
    >>> opening_ppm(tier, 1_234_567)  # upstream: liquidity_tier_test.go
    387653
    """
    lower, upper, base = tier.open_interest_lower_cap, tier.open_interest_upper_cap, tier.initial_margin_ppm
    if upper == 0 or open_interest <= lower:
        return base
    return PPM if open_interest >= upper else base + (PPM - base) * (open_interest - lower) // (upper - lower)


def encode(update: Update[SetTier | Move]) -> bytes:
    """Write the file of ``dydxprotocold tx gov submit-proposal``."""
    header = update.header
    messages = [_message(header.sender, action) for action in update.actions]
    titles = ", ".join(_title(action) for action in update.actions)
    return text.write(
        {
            "title": f"Margin update: {titles}",
            "summary": header.text(),
            "deposit": DEPOSIT,
            "messages": messages,
        }
    )


def _title(action: SetTier | Move) -> str:
    if isinstance(action, SetTier):
        return f"tier {action.id} ({action.tier.name})"
    return f"{action.perpetual.ticker} to tier {action.perpetual.liquidity_tier}"


def _message(authority: str, action: SetTier | Move) -> dict[str, Any]:
    if isinstance(action, SetTier):
        tier = action.tier
        body: dict[str, Any] = {
            "id": action.id,
            "name": tier.name,
            "initial_margin_ppm": tier.initial_margin_ppm,
            "maintenance_fraction_ppm": tier.maintenance_fraction_ppm,
            "base_position_notional": "0",
            "impact_notional": str(tier.impact_notional),
            "open_interest_lower_cap": str(tier.open_interest_lower_cap),
            "open_interest_upper_cap": str(tier.open_interest_upper_cap),
        }
        return {"@type": _SET, "authority": authority, "liquidity_tier": body}
    params = action.perpetual.model_dump(exclude={"notional"})
    return {"@type": _MOVE, "authority": authority, "perpetual_params": params}


def decode(payload: bytes) -> Update[SetTier | Move]:
    """Read a proposal that `encode` wrote.

    Raises
    ------
    PublishError
        If it is not one.
    """
    raw = text.read(payload, what="proposal")
    rows = raw.get("messages")
    actions = tuple(_action(row) for row in rows) if isinstance(rows, list) else ()
    update = Update(Header.read(str(raw.get("summary"))), actions)
    return text.same(update, payload, encode(update), what="proposal")


def _action(row: object) -> SetTier | Move:
    fields: dict[str, Any] = row if isinstance(row, dict) else {}
    if fields.get("@type") == _MOVE:
        return Move(perpetual=read_model(Perpetual, fields.get("perpetual_params"), what="perpetual_params"))
    body = dict(fields.get("liquidity_tier") or {})
    body.pop("base_position_notional", None)
    id_ = body.pop("id", -1)
    for name in ("impact_notional", "open_interest_lower_cap", "open_interest_upper_cap"):
        body[name] = text.integer(body.get(name), what=name)
    return read_model(SetTier, {"id": id_, "tier": body}, what="liquidity_tier")


ADAPTER: Final = Adapter(NAME, "perpetuals", DydxState, propose, encode, decode)
