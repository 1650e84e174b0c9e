"""Every target by name: its adapter and its rules, loaded when asked for."""

from importlib import import_module
from typing import Any, Final

from calibrator.errors import ConfigError
from calibrator.publish.adapters.base import Adapter
from calibrator.publish.constraints.rules import Rules

TARGETS: Final[dict[str, tuple[str, str, str]]] = {
    "aave-v3": ("aave", "aave", "RULES"),
    "compound-v3": ("compound", "compound", "RULES"),
    "derive-v2": ("derive", "derive", "RULES"),
    "drift-v2": ("drift", "drift", "RULES"),
    "dydx-v4": ("dydx", "dydx", "RULES"),
    "euler-v2": ("euler", "euler", "RULES"),
    "gmx-v2": ("gmx", "gmx", "RULES"),
    "hyperliquid": ("hyperliquid", "leverage", "TABLES"),
    "kamino": ("kamino", "kamino", "RULES"),
    "leverage-brackets": ("brackets", "leverage", "BRACKETS"),
    "maker": ("maker", "maker", "RULES"),
    "marginfi-v2": ("marginfi", "marginfi", "RULES"),
    "morpho-blue": ("morpho", "morpho", "RULES"),
    "synthetix-v3": ("synthetix", "synthetix", "RULES"),
}
"""Module of the adapter, module of the rules, and the rules' name there."""


def target(name: str) -> tuple[Adapter[Any, Any], Rules[Any, Any]]:
    """Return adapter and rules of one protocol.

    Raises
    ------
    ConfigError
        If there is no such protocol.

    Examples
    --------
    >>> target("dydx-v4")[0].name, len(TARGETS)
    ('dydx-v4', 14)
    """
    if name not in TARGETS:
        raise ConfigError(f"publish.target.protocol must be one of {', '.join(sorted(TARGETS))}, was {name}")
    adapter, rules, which = TARGETS[name]
    codec = import_module(f"calibrator.publish.adapters.{adapter}")
    return codec.ADAPTER, getattr(import_module(f"calibrator.publish.constraints.{rules}"), which)
