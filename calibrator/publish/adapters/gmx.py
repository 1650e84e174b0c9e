"""GMX v2: `Config.setUint` calls of the config keeper, or risk-oracle updates of the open-interest caps.

Margins are ``MIN_COLLATERAL_FACTOR`` (opening) and ``..._FOR_LIQUIDATION``, 1e30 = 100 %, rounded up. The
ConfigSyncer does not take them, so through the oracle (route ``oracle``) only the caps travel.

References
----------
gmx-io/gmx-synthetics a5c0c883: contracts/config/{Config,ConfigSyncer}.sol, contracts/data/Keys.sol.
"""

from typing import Any, Final, Literal, get_args

from calibrator.errors import PublishError
from calibrator.publish.adapters import evm, safe, text
from calibrator.publish.adapters.base import (
    Action,
    Adapter,
    Address,
    Listed,
    State,
    Step,
    Symbol,
    Update,
    listed,
)
from calibrator.publish.adapters.safe import Call
from calibrator.publish.adapters.units import up
from calibrator.publish.canonical import Amount

NAME: Final = "gmx-v2"
ONE: Final = 10**30
_SET: Final = "setUint(bytes32,bytes,uint256)"
_PUBLISH: Final = "publishRiskParameterUpdate(string,bytes,string,address,bytes)"
Key = Literal[
    "MIN_COLLATERAL_FACTOR", "MIN_COLLATERAL_FACTOR_FOR_LIQUIDATION", "MAX_OPEN_INTEREST_LONG",
    "MAX_OPEN_INTEREST_SHORT",
]  # fmt: skip
KEYS: Final[tuple[Key, ...]] = get_args(Key)
ORACLE_NAMES: Final[dict[str, str]] = {
    "MAX_OPEN_INTEREST_LONG": "maxOpenInterestForLongs",
    "MAX_OPEN_INTEREST_SHORT": "maxOpenInterestForShorts",
}


class SetUint(Action):
    """One value of one market, 30 decimals."""

    to: Address
    market: Address
    key: Key
    value: Amount


class GmxMarket(Listed):
    """One market, 30 decimals; caps per side in USD."""

    market: Address
    min_collateral_factor: Amount
    min_collateral_factor_for_liquidation: Amount
    max_open_interest_long: Amount
    max_open_interest_short: Amount


class GmxState(State):
    """Markets of one deployment, and who is called (``executor``): Config, or the risk oracle."""

    protocol: Literal["gmx-v2"]
    route: Literal["keeper", "oracle"] = "keeper"
    executor: Address
    markets: dict[Symbol, GmxMarket]
    unconsumed: tuple[str, ...] = ()
    pending: tuple[SetUint, ...] = ()


def base_key(name: str) -> bytes:
    """Return the DataStore's base key of a parameter.

    Examples
    --------
    >>> base_key("MIN_COLLATERAL_FACTOR").hex()[:16]
    '9fc265ee9783e670'
    """
    return evm.keccak(evm.abi(["string"], [name]))


def _where(action: SetUint) -> tuple[bytes, bytes]:
    """Return base key and the ``data`` argument: the market, and the side where there is one."""
    name, _, side = action.key.rpartition("_")
    if side in {"LONG", "SHORT"}:
        return base_key(name), evm.abi(["address", "bool"], [action.market, side == "LONG"])
    return base_key(action.key), evm.abi(["address"], [action.market])


def full_key(action: SetUint) -> str:
    """Return the DataStore slot that the action writes, to be read back after execution.

    Examples
    --------
    >>> market = "0x47c031236e19d024b42f8AE6780E44A573170703"
    >>> full_key(SetUint(to=market, market=market, key="MIN_COLLATERAL_FACTOR", value=0))[:18]
    '0x0edf8a0fa860b71e'
    """
    key, data = _where(action)
    return "0x" + evm.keccak(key + data).hex()


def propose(step: Step, state: GmxState) -> tuple[SetUint, ...]:
    """Return the values that change, market by market in the order of the symbols.

    Opening before liquidation when margins rise, the other way round when they fall, so that the liquidation
    factor never exceeds the opening factor.
    """
    out = []
    for terms in sorted(listed(step.perpetuals, state.markets, state), key=lambda t: t.symbol):
        market, values = state.markets[terms.symbol], dict[Any, int]()
        if state.route == "keeper":
            tier = terms.at(market.notional)
            values["MIN_COLLATERAL_FACTOR"] = up(tier.initial_margin_ppm, ONE)
            values["MIN_COLLATERAL_FACTOR_FOR_LIQUIDATION"] = up(tier.maintenance_margin_ppm, ONE)
            if values["MIN_COLLATERAL_FACTOR"] < market.min_collateral_factor:
                values = dict(reversed(values.items()))
        if terms.cap.open_interest is not None:
            values["MAX_OPEN_INTEREST_LONG"] = values["MAX_OPEN_INTEREST_SHORT"] = (
                terms.cap.open_interest * ONE
            )
        out += [
            SetUint(to=state.executor, market=market.market, key=key, value=value)
            for key, value in values.items()
            if value != getattr(market, key.lower())
        ]
    return tuple(out)


def encode(update: Update[SetUint]) -> bytes:
    """Write the Safe batch.

    Raises
    ------
    PublishError
        If a value does not fit its field, or the oracle route is asked for a margin.
    """
    reference = f"{update.header.document[:16]}-{update.header.sequence}"
    calls = tuple(Call(a.to, _data(a, update.header.route, reference)) for a in update.actions)
    return safe.encode_batch(f"GMX v2 parameters ({update.header.route})", update.header, calls)


def _data(action: SetUint, route: str, reference: str) -> str:
    key, data = _where(action)
    if route == "keeper":
        return evm.call(_SET, key, data, action.value)
    if action.key not in ORACLE_NAMES:
        raise PublishError(
            f"the risk oracle does not take {action.key}: margins go through the config keeper"
        )
    value = evm.abi(["uint256"], [action.value])
    where = evm.abi(["bytes32", "bytes"], [key, data])
    return evm.call(_PUBLISH, reference, value, ORACLE_NAMES[action.key], action.market, where)


def decode(payload: bytes) -> Update[SetUint]:
    """Read a batch that `encode` wrote.

    Raises
    ------
    PublishError
        If it is not one.
    """
    _, header, calls = safe.decode_batch(payload)
    update = Update(header, tuple(_action(one, header.route) for one in calls))
    return text.same(update, payload, encode(update), what="GMX batch")


def _action(one: Call, route: str) -> SetUint:
    if route == "keeper":
        key, data, value = evm.uncall(_SET, one.data)
    else:
        _, raw, _, _, where = evm.uncall(_PUBLISH, one.data)
        key, data = evm.unabi(["bytes32", "bytes"], where)
        value = int.from_bytes(raw, "big")
    market = evm.checksummed("0x" + data[12:32].hex())
    for name in KEYS:
        action = SetUint(to=one.to, market=market, key=name, value=value)
        if _where(action) == (key, data):
            return action
    raise PublishError(f"GMX batch: unknown key 0x{key.hex()}")


ADAPTER: Final = Adapter(NAME, "perpetuals", GmxState, propose, encode, decode)
