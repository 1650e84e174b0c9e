"""What the pages of docs/protocols say in words; the numbers and examples are made by `protocol_pages`."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Text:
    """Words of one page.

    Attributes
    ----------
    title, what, who, check : str
        Name; what is published; who submits it; how to check it.
    units : tuple of (str, str, str)
        Quantity, native unit, rounding.
    """

    title: str
    what: str
    who: str
    check: str
    units: tuple[tuple[str, str, str], ...]


SAFE_CHECK: Final = (
    "Load the file in Safe's Transaction Builder (it shows a warning only if the checksum is wrong), "
    "compare the calldata with `protocols check`, and the hash in every owner's wallet with "
    "`calibrator.publish.adapters.safe.safe_transaction_hash`."
)
TEXTS: Final[dict[str, Text]] = {
    "aave-v3": Text(
        "Aave v3",
        "A Safe batch. By `route` of the state file: `steward-3.6`, `steward-3.7` (risk steward), "
        "`engine-3.6`, `engine-3.7` (config engine, inside a governance payload) or `oracle` (risk "
        "oracle; e-mode and caps only, there is no injector for a reserve's collateral parameters). "
        "Fields that do not change are KEEP_CURRENT.",
        "Steward: the risk council's Safe, at most 50 basis points per parameter and three days. "
        "Engine: a governance payload that delegate-calls the engine. Oracle: an authorised sender; "
        "an injector must take the update within six hours.",
        SAFE_CHECK + "After execution read `getReserveConfigurationData` and compare.",
        (
            ("loan-to-value, liquidation threshold", "basis points", "down"),
            ("liquidation bonus", "basis points, bonus only", "up"),
            ("supply cap", "whole tokens", "down"),
        ),
    ),
    "compound-v3": Text(
        "Compound III",
        "The actions of a governor proposal on the Configurator, ended by `deployAndUpgradeTo`, "
        "without which nothing changes, and the same values as a fragment of `configuration.json`. "
        "The JSON numbers are the doubles that the deployment loader reads as exactly the proposed "
        "value (0.57 alone would become 0.5699).",
        "The governor (proposal and timelock), or the market admin through MarketUpdateTimelock.",
        "Decode the calldata, compare with `protocols check`; after execution read `getAssetInfoByAddress`.",
        (
            ("borrow and liquidate collateral factor", "1e18, multiples of 1e14", "down"),
            ("liquidation factor", "1e18, 1 - penalty", "down"),
            ("supply cap", "base units, whole tokens", "down"),
        ),
    ),
    "derive-v2": Text(
        "Derive v2",
        "A Safe batch of the standard manager's owner: `setPerpMarginRequirements` (maintenance "
        "before initial) and `setBaseAssetMarginFactor`.",
        "The owner multisig on Derive chain (957).",
        SAFE_CHECK,
        (
            ("margin requirements", "1e18", "up"),
            ("margin factor, IMScale", "1e18; initial value = factor * IMScale", "down"),
        ),
    ),
    "drift-v2": Text(
        "Drift v2",
        "Anchor instructions with their data: margin ratios and open-interest cap of perpetuals, "
        "weights of spot markets. A cap is in base units at the state file's oracle price, a multiple "
        "of the step size.",
        "`state.admin`, a multisig.",
        "Decode the instruction data with the program's IDL; after execution read the market accounts.",
        (
            ("margin ratios", "1e-4", "up"),
            ("asset weights", "1e-4", "down"),
            ("open-interest cap", "1e9 base units", "down"),
        ),
    ),
    "dydx-v4": Text(
        "dYdX v4",
        "A governance proposal with one `MsgSetLiquidityTier` per tier that changes (`route` "
        "`tiers`), or `MsgUpdatePerpetualParams` that move markets to another tier (`choice`). A tier "
        "is shared: if its markets ask for different values, or it carries markets that the document "
        "does not decide, it is refused unless the state file says `shared: largest`.",
        "Anybody with the deposit: `dydxprotocold tx gov submit-proposal FILE`; the voting period is "
        "`delay_seconds`.",
        "Compare with `protocols check`; after execution query `/dydxprotocol/perpetuals/liquidity_tiers`.",
        (
            ("initial margin", "ppm", "exact"),
            ("maintenance fraction", "ppm of the initial margin", "up"),
            ("open-interest caps", "quote quantums (1e-6 USDC)", "down"),
        ),
    ),
    "euler-v2": Text(
        "Euler v2",
        "A Safe batch of `setLTV` calls on the lending vault, with a ramp whenever the liquidation "
        "threshold falls (thirty days unless the state file says otherwise; the borrow limit falls at "
        "once), and `setCaps`.",
        "The vault's governor.",
        SAFE_CHECK + "After execution read `LTVFull`.",
        (
            ("borrow and liquidation LTV", "1e-4", "down"),
            ("caps", "10-bit mantissa, 6-bit exponent; raw 0 is unlimited", "down"),
        ),
    ),
    "gmx-v2": Text(
        "GMX v2",
        "A Safe batch: `Config.setUint` of the collateral factors and open-interest caps (`route` "
        "`keeper`), or risk oracle updates of the caps (`oracle`; the ConfigSyncer takes no "
        "collateral factor). The chain's ceilings are 5 % for opening and 1 % for liquidation: larger "
        "margins cannot be expressed and are refused.",
        "CONFIG_KEEPER, or an authorised sender of the risk oracle.",
        SAFE_CHECK + "After execution read the DataStore at `calibrator.publish.adapters.gmx.full_key`.",
        (
            ("collateral factors", "1e30", "up"),
            ("open-interest caps", "USD, 1e30", "down"),
        ),
    ),
    "hyperliquid": Text(
        "Hyperliquid (HIP-3)",
        "`perpDeploy` actions: new margin tables, their assignment, open-interest caps. A table knows "
        "leverage only; the maintenance margin is half its inverse, so the leverage satisfies both "
        "margins. At most three tiers.",
        "The deployer of the dex signs the actions.",
        "Compare with `protocols check`; after execution query `marginTable` and `meta`.",
        (
            ("leverage", "integer 1 to 50", "down"),
            ("open-interest cap", "USD notional", "down"),
        ),
    ),
    "kamino": Text(
        "Kamino Lend",
        "One `update_reserve_config` instruction per field, in an order that is valid after each of "
        "them, because they can be executed apart.",
        "The owner of the lending market, a multisig.",
        "Decode mode and value; after execution read the reserve's config.",
        (
            ("loan-to-value, threshold", "whole percents", "down"),
            ("liquidation bonus", "basis points", "up"),
            ("deposit limit", "base units", "down"),
        ),
    ),
    "leverage-brackets": Text(
        "Leverage brackets of centralised venues",
        "JSON in the layout of Binance's leverage brackets: contiguous notional bands with leverage, "
        "maintenance ratio and `cum`, so that the requirement is continuous.",
        "The venue's risk desk.",
        "`maintenance = notional * maintMarginRatio - cum`; `cum` follows from the bands.",
        (
            ("leverage", "integer", "down"),
            ("maintenance ratio, cum", "decimal", "exact"),
        ),
    ),
    "maker": Text(
        "Maker / Sky",
        "Actions of an executive spell, as calldata and as lines of DssExecLib: `mat` with its "
        "`poke`, `chop`, and the debt ceiling `line`. One ratio stands for both limits of the "
        "document (`factor` of the state file).",
        "The author of the executive spell; it waits for the governance delay.",
        "Compare with `protocols check`; after execution read `spotter.ilks`, `dog.ilks` and `vat.ilks`.",
        (
            ("mat", "1e27, whole basis points", "up"),
            ("chop", "1e18 plus whole basis points", "up"),
            ("line", "1e45 per Dai", "down"),
        ),
    ),
    "marginfi-v2": Text(
        "MarginFi v2",
        "`lending_pool_configure_bank` with the fields that change; weights as I80F48, sixteen bytes "
        "little-endian.",
        "The admin of the group.",
        "Decode the fixed point (divide by 2^48); after execution read the bank.",
        (
            ("asset weights", "2^-48", "down"),
            ("deposit limit", "base units", "down"),
        ),
    ),
    "morpho-blue": Text(
        "Morpho Blue",
        "A market's loan-to-value is fixed for ever, so a haircut is the choice of a market: the "
        "highest enabled value that is not above the document's threshold and leaves room for the "
        "liquidation incentive and the haircut. The Safe batch sets the vault's cap there and the "
        "caps of higher ones to zero.",
        "The vault's curator; a higher cap waits for the vault's timelock.",
        SAFE_CHECK + "Market ids follow from `calibrator.publish.adapters.morpho.market_id`.",
        (
            ("liquidation loan-to-value", "1e18, enabled values only", "down to an enabled value"),
            ("vault cap", "base units of the loan token", "down"),
        ),
    ),
    "synthetix-v3": Text(
        "Synthetix v3 perps",
        "A Safe batch: `setLiquidationParameters` (all five values; the ones that stay are written as "
        "they are) and `setMaxMarketValue`. The leverage floor carries the initial margin, the scalar "
        "the maintenance margin.",
        "The owner multisig.",
        SAFE_CHECK + "Decode the event with its own ABI: its order differs from the setter's.",
        (
            ("ratios, scalar", "1e18", "up"),
            ("market cap", "USD, 1e18; 0 is no cap", "down"),
        ),
    ),
}
