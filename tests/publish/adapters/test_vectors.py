"""Conformance vectors: what the protocols' own code and tests give for the same inputs.

Rows marked *upstream* are asserted by the protocol's own tests or published by it. Rows marked *derived*
have no upstream vector; they follow from the documented formula or ABI and were computed apart from the code
under test. Calldata of Solidity functions are derived: four bytes of the signature's hash, then plain words.
"""

import hashlib
import json
import math
from datetime import UTC, datetime

import pytest

from calibrator.publish.adapters import (
    aave,
    brackets,
    compound,
    derive,
    drift,
    dydx,
    euler,
    evm,
    gmx,
    hyperliquid,
    kamino,
    maker,
    marginfi,
    morpho,
    safe,
    solana,
    synthetix,
)
from calibrator.publish.adapters.base import Header, PerpetualTerms, Tier, Update
from calibrator.publish.adapters.safe import Call

LINK = "0x514910771AF9Ca656af840dff83E8264EcF986CA"
AAVE = "0x7Fc66500c84A76Ad7e9c93437bFc5Ac33E2DDaE9"
WETH_VAULT = "0x4d5F47FA6A74757f35C14fD3a6Ef8E3C9BC514E8"
GMX_MARKET = "0x47c031236e19d024b42f8AE6780E44A573170703"
COMET = "0xc3d688B66703497DAA19211EEdff47f25384cdc3"
ONE_ADDRESS = "0x" + "0" * 39 + "1"
KEEP_WORD = "f" * 62 + "d5"


def header(
    protocol: str, route: str = "default", chain: str = "eip155:1", sender: str = ONE_ADDRESS
) -> Header:
    day = datetime(2025, 1, 1, tzinfo=UTC)
    return Header(
        protocol=protocol,
        chain=chain,
        route=route,
        sender=sender,
        sequence=1,
        document="0" * 64,
        issued_at=day,
        valid_from=day,
        expires_at=datetime(2025, 1, 8, tzinfo=UTC),
    )


def calldata(payload: bytes) -> list[str]:
    return [row["data"] for row in json.loads(payload)["transactions"]]


def words(*values: int | str) -> str:
    return "".join(v if isinstance(v, str) else f"{v:064x}" for v in values)


# Selectors as in the contracts' own interfaces (upstream: verified sources named in the adapters).
SELECTORS = {
    aave._COLLATERAL["3.7"]: "02da32ae",
    aave._COLLATERAL["3.6"]: "09d83328",
    aave._EMODE["3.7"]: "4b56247b",
    aave._EMODE["3.6"]: "4ee1151a",
    aave._CAPS: "55caa163",
    aave._PUBLISH: "b0be2505",
    aave._PRICE_CAP: "c1b8c2e0",
    compound.SETTERS["borrowCollateralFactor"]: "b73585f1",
    compound.SETTERS["liquidateCollateralFactor"]: "77a7dafd",
    compound.SETTERS["liquidationFactor"]: "ecb9a875",
    compound.SETTERS["supplyCap"]: "a2ced7fd",
    compound.DEPLOY: "9627816f",
    euler._SET_LTV: "4bca3d5b",
    gmx._SET: "a43f85c5",
    synthetix._SET: "25e5409e",
    derive._PERP: "1306f2a2",
    derive._BASE: "c27009e2",
    "multiSend(bytes)": "8d80ff0a",
}


@pytest.mark.parametrize(("signature", "expected"), SELECTORS.items())
def test_selectors(signature: str, expected: str) -> None:
    assert evm.selector(signature) == expected


@pytest.mark.parametrize(("version", "extra"), [("3.7", 1), ("3.6", 2)])
def test_aave_collateral_update(version: str, extra: int) -> None:
    action = aave.Collateral(to=ONE_ADDRESS, asset=AAVE, limits=aave.Limits(ltv=6950, liq_threshold=7650))
    data = calldata(aave.encode(Update(header("aave-v3", f"steward-{version}"), (action,))))[0]
    asset = AAVE[2:].lower().rjust(64, "0")
    body = words(32, 1, asset, 6950, 7650, KEEP_WORD) + KEEP_WORD * extra
    assert data == "0x" + SELECTORS[aave._COLLATERAL[version]] + body


def test_aave_risk_oracle_update_of_an_e_mode() -> None:
    limits = aave.Limits(ltv=8250, liq_threshold=8600, liq_bonus=500)
    call = aave._oracle_call(aave.Category(to=ONE_ADDRESS, category=1, limits=limits), "ref-1")
    text = b"EModeCategoryUpdate".hex().ljust(64, "0")
    assert call == "0xb0be2505" + words(
        160, 224, 352, 1, 416, 5, b"ref-1".hex().ljust(64, "0"), 96, 8250, 8600, 500, 19, text, 0
    )


def test_aave_risk_oracle_cap_is_in_base_units() -> None:
    action = aave.OracleCap(to=ONE_ADDRESS, a_token=WETH_VAULT, parameter="supplyCap", amount=105 * 10**18)
    data = aave._oracle_call(action, "r")
    _, value, kind, market, _ = evm.uncall(aave._PUBLISH, data)
    assert value.hex() == "000000000000000000000000000000000000000000000005b12aefafa8040000"
    assert (kind, market) == ("supplyCap", WETH_VAULT.lower())


def test_compound_setter_and_deployment() -> None:
    setter = compound.Set(
        to=ONE_ADDRESS, comet=COMET, asset=LINK, field="liquidateCollateralFactor", value=85 * 10**16
    )
    payload = json.loads(compound.encode(Update(header("compound-v3"), (setter,))))
    expected = words(COMET[2:].lower().rjust(64, "0"), LINK[2:].lower().rjust(64, "0"), 85 * 10**16)
    assert payload["actions"][0]["calldata"] == "0x77a7dafd" + expected
    assert payload["configuration"]["assets"] == {LINK: {"liquidateCF": 0.85}}


# upstream: src/deploy/NetworkConfiguration.ts takes floor(number * 1e18); the packed value is that // 1e14
@pytest.mark.parametrize(("number", "packed"), [(0.57, 5699), (0.565, 5649), (0.5125, 5124), (0.285, 2849)])
def test_compound_plain_decimals_lose_a_unit_in_the_loader_and_ours_do_not(
    number: float, packed: int
) -> None:
    assert math.floor(number * 1e18) // 10**14 == packed
    wanted = packed + 1
    assert math.floor(compound.loader_factor(wanted) * 1e18) // 10**14 == wanted


def test_compound_loader_factor_of_every_value() -> None:
    for units in range(1, 10_001):
        again = json.loads(json.dumps(compound.loader_factor(units)))
        assert math.floor(again * 1e18) // 10**14 == units


def test_euler_set_ltv() -> None:
    action = euler.SetLtv(
        vault=ONE_ADDRESS, collateral=WETH_VAULT, borrow_ltv=8400, liquidation_ltv=8600, ramp=2_592_000
    )
    data = calldata(euler.encode(Update(header("euler-v2"), (action,))))[0]
    expected = words(WETH_VAULT[2:].lower().rjust(64, "0"), 8400, 8600, 2_592_000)
    assert data == "0x4bca3d5b" + expected


# derived from AmountCap.sol: 10^(raw & 63) * (raw >> 6) / 100
@pytest.mark.parametrize(
    ("amount", "raw", "resolved"),
    [
        (75_000 * 10**18, 48_022, 75_000 * 10**18),
        (75_000_000 * 10**6, 48_013, 75_000_000 * 10**6),
        (60_000 * 10**6, 38_410, 60_000 * 10**6),
        (10_000_001 * 10**6, 64_012, 10_000_000 * 10**6),
        (1_234_567 * 10**6, 7_884, 1_230_000 * 10**6),
        (0, 1, 0),
    ],
)
def test_euler_amount_cap(amount: int, raw: int, resolved: int) -> None:
    assert euler.amount_cap(amount) == raw
    assert euler.cap_amount(raw) == resolved


def test_gmx_keys_and_calls() -> None:
    action = gmx.SetUint(to=ONE_ADDRESS, market=GMX_MARKET, key="MIN_COLLATERAL_FACTOR", value=5 * 10**27)
    assert gmx.full_key(action) == "0x0edf8a0fa860b71e689cfeb511c6b83c96d23eaf71c6f757184d23954fcb3169"
    data = calldata(gmx.encode(Update(header("gmx-v2", "keeper"), (action,))))[0]
    base = "9fc265ee9783e670a7a731141f58b59bca5a260ba3eb3f893412fb613dc559f7"
    market = GMX_MARKET[2:].lower().rjust(64, "0")
    assert data == "0xa43f85c5" + words(base, 96, 5 * 10**27, 32, market)
    cap = action.model_copy(update={"key": "MAX_OPEN_INTEREST_LONG"})
    _, _, name, _, where = evm.uncall(gmx._PUBLISH, gmx._data(cap, "oracle", "r"))
    assert name == "maxOpenInterestForLongs"
    key = "00468cb3aa9036ff00a31f90887485d87e1ee0299e9c1e1a838fe5110c4fbafb"
    assert where.hex() == words(key, 64, 64, market, 1)


def test_synthetix_bitcoin_on_arbitrum() -> None:
    parameters = synthetix.Liquidation(
        initial_margin_ratio=107 * 10**16,
        minimum_initial_margin_ratio=2 * 10**16,
        maintenance_margin_scalar=333 * 10**15,
        flag_reward_ratio=3 * 10**14,
        minimum_position_margin=15 * 10**18,
    )
    action = synthetix.SetLiquidation(to=ONE_ADDRESS, market=200, parameters=parameters)
    data = calldata(synthetix.encode(Update(header("synthetix-v3"), (action,))))[0]
    values = (200, 107 * 10**16, 2 * 10**16, 333 * 10**15, 3 * 10**14, 15 * 10**18)
    assert data == "0x25e5409e" + words(*values)
    rows = {100: (23057142857142856, 7678028571428571), 1000: (50571428571428570, 16840285714285713)}
    for size, expected in rows.items():
        assert synthetix.margins(parameters, impact=size * 10**18 // 35_000) == expected


def test_derive_takes_maintenance_before_initial() -> None:
    action = derive.SetPerp(to=ONE_ADDRESS, market=1, maintenance=65 * 10**15, initial=10**17)
    data = calldata(derive.encode(Update(header("derive-v2"), (action,))))[0]
    assert data == "0x1306f2a2" + words(1, 65 * 10**15, 10**17)


# upstream: asserted by the chain's own test of liquidity tiers
@pytest.mark.parametrize(
    ("open_interest", "expected"),
    [(0, 200_000), (1_000_000, 200_000), (1_234_567, 387_653), (1_500_000, 600_000), (2_500_000, 1_000_000)],
)
def test_dydx_opening_margin_rises_between_the_caps(open_interest: int, expected: int) -> None:
    tier = dydx.Tier(
        name="x",
        initial_margin_ppm=200_000,
        maintenance_fraction_ppm=500_000,
        impact_notional=1,
        open_interest_lower_cap=1_000_000,
        open_interest_upper_cap=2_000_000,
    )
    assert dydx.opening_ppm(tier, open_interest) == expected
    assert dydx.opening_ppm(tier.model_copy(update={"open_interest_upper_cap": 0}), open_interest) == 200_000


def test_dydx_proposal() -> None:
    tier = dydx.Tier(
        name="Large-Cap",
        initial_margin_ppm=20_000,
        maintenance_fraction_ppm=600_000,
        impact_notional=10_000_000_000,
        open_interest_lower_cap=0,
        open_interest_upper_cap=0,
    )
    update = Update(header("dydx-v4", sender=dydx.GOVERNANCE), (dydx.SetTier(id=0, tier=tier),))
    proposal = json.loads(dydx.encode(update))
    assert list(proposal) == ["title", "summary", "deposit", "messages"]
    assert proposal["deposit"] == "2000000000000000000000adydx"
    assert proposal["messages"] == [
        {
            "@type": "/dydxprotocol.perpetuals.MsgSetLiquidityTier",
            "authority": "dydx10d07y265gmmuvt4z0w9aw880jnsr700jnmapky",
            "liquidity_tier": {
                "id": 0,
                "name": "Large-Cap",
                "initial_margin_ppm": 20000,
                "maintenance_fraction_ppm": 600000,
                "base_position_notional": "0",
                "impact_notional": "10000000000",
                "open_interest_lower_cap": "0",
                "open_interest_upper_cap": "0",
            },
        }
    ]


# derived from ConstantsLib.sol: the incentive is the smaller of 115 % and 1 / (1 - 30 % of what lltv leaves)
@pytest.mark.parametrize(
    ("permille", "expected"),
    [
        (385, 1150000000000000000),
        (625, 1126760563380281690),
        (770, 1074113856068743286),
        (860, 1043841336116910229),
        (915, 1026167265264238070),
        (945, 1016776817488561260),
        (965, 1010611419909044972),
        (980, 1006036217303822937),
    ],
)
def test_morpho_incentive(permille: int, expected: int) -> None:
    assert morpho.incentive(permille * 10**15) == expected


def test_morpho_market_id() -> None:
    a = [f"0x{n:040x}" for n in range(5)]
    action = morpho.SubmitCap(
        to=a[0], loan=a[1], collateral=a[2], oracle=a[3], irm=a[4], lltv=86 * 10**16, cap=0
    )
    assert morpho.market_id(action) == "0x625e29dff74826b71c1f4c74b208a896109cc8ac9910192ce2927a982b0809e6"


# upstream: Hyperliquid documentation, margin tiers: rate = 1 / (2 * leverage), as documented for BTC and ETH
@pytest.mark.parametrize(
    ("initial", "maintenance", "leverage"),
    [(25_000, 12_500, 40), (50_000, 25_000, 20), (66_667, 33_334, 14), (66_666, 33_333, 15)],
)
def test_hyperliquid_leverage(initial: int, maintenance: int, leverage: int) -> None:
    tier = Tier(notional_floor=0, initial_margin_ppm=initial, maintenance_margin_ppm=maintenance)
    table = hyperliquid.table_of(PerpetualTerms(symbol="X", tiers=(tier,)))
    assert [t.max_leverage for t in table] == [leverage]


# upstream: Binance leverage brackets of October 2024: BTCUSDT 50k at 125x .. , cum of bracket 3 is 950
def test_brackets_cum() -> None:
    rows = ((0, 50_000, 125, 4_000), (50_000, 600_000, 100, 5_000), (600_000, 3_000_000, 75, 6_500))
    made = tuple(brackets.Bracket(floor=f, cap=c, leverage=x, maintenance_ppm=m) for f, c, x, m in rows)
    assert [row["cum"] for row in brackets._rows(made)] == ["0", "50", "950"]
    assert [row["maintMarginRatio"] for row in brackets._rows(made)] == ["0.004", "0.005", "0.0065"]


# upstream: makerdao/spells-mainnet, ETH-A: mat 14500 bps, chop 1300 bps
def test_maker_units() -> None:
    mat = maker.FileIlk(to=ONE_ADDRESS, ilk="ETH-A", what="mat", value=145 * 10**25)
    chop = maker.FileIlk(to=ONE_ADDRESS, ilk="ETH-A", what="chop", value=113 * 10**16)
    rows = json.loads(maker.encode(Update(header("maker"), (mat, chop))))["spell"]
    assert rows[0]["helper"] == 'DssExecLib.setIlkLiquidationRatio("ETH-A", 14500)'
    assert rows[1]["helper"] == 'DssExecLib.setIlkLiquidationPenalty("ETH-A", 1300)'
    ilk, what, value = evm.uncall(maker._FILE, rows[0]["calldata"])
    assert (ilk.rstrip(b"\0"), what.rstrip(b"\0"), value) == (b"ETH-A", b"mat", 145 * 10**25)


# derived: I80F48 little-endian of 0.8 = floor(0.8 * 2^48)
def test_marginfi_fixed_point() -> None:
    bits = 2**48 * 8 // 10
    assert int.from_bytes(bytes(marginfi.fixed_point(bits)), "little") == bits
    assert 0.8 - bits / 2**48 < 2**-48


# derived: Anchor's rule, sha256("global:<function>")[:8], then borsh
def test_solana_instructions() -> None:
    expected = (
        hashlib.sha256(b"global:update_perp_market_margin_ratio").digest()[:8].hex() + "e8030000f4010000"
    )
    assert solana.instruction(*drift._MARGIN, (1_000, 500)) == expected
    limit = kamino.SetField(reserve="1" * 32, field="deposit_limit", value=1_000_000)
    discriminator = hashlib.sha256(b"global:update_reserve_config").digest()[:8].hex()
    assert kamino.data(limit) == discriminator + "09" + "08000000" + "40420f0000000000" + "00"


def test_safe_batch_checksum() -> None:
    # derived with the serialisation of apps/tx-builder/src/lib/checksum.ts
    data = "0x02da32ae" + words(32, 1, AAVE[2:].lower().rjust(64, "0"), 6950, 7650) + KEEP_WORD * 2
    batch = {
        "version": "1.0",
        "chainId": "1",
        "createdAt": 1700000000000,
        "meta": {
            "name": "Margin update",
            "description": "",
            "txBuilderVersion": "2.0.1",
            "createdFromSafeAddress": "0x47c71dFEB55Ebaa431Ae3fbF99Ea50e0D3d30fA8",
            "createdFromOwnerAddress": "",
        },
        "transactions": [
            {
                "to": ONE_ADDRESS,
                "value": "0",
                "data": data,
                "contractMethod": None,
                "contractInputsValues": None,
            }
        ],
    }
    assert safe.checksum(batch) == "0x7b1c29c561aeadef3f984e28d32464a8abddcb208b1b21f4b1cd70728ec8f764"
    renamed = {**batch, "meta": {**batch["meta"], "name": "other", "checksum": "0x0"}}  # type: ignore[dict-item]
    assert safe.checksum(renamed) == safe.checksum(batch)
    assert safe.checksum({**batch, "chainId": "10"}) != safe.checksum(batch)


def test_safe_transaction_hash() -> None:
    # derived with eth_account and by hand from the types of contracts/Safe.sol; both agree
    data = "0x02da32ae" + words(32, 1, AAVE[2:].lower().rjust(64, "0"), 6950, 7650) + KEEP_WORD * 2
    hashed = safe.safe_transaction_hash(
        "eip155:1", "0x47c71dFEB55Ebaa431Ae3fbF99Ea50e0D3d30fA8", Call(ONE_ADDRESS, data), nonce=7
    )
    assert hashed == "0x3b03f6c1742692f52d50615ed38c95d50f5bdb6d7a9a4cab02324794f4292b55"
