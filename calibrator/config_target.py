"""Configuration of the protocol whose payload is published beside the document."""

from pathlib import Path

from pydantic import Field

from calibrator.config_base import Section


class TargetConfig(Section):
    """The protocol that takes the parameters over, and what it holds now.

    Examples
    --------
    >>> TargetConfig.model_validate({"protocol": "dydx-v4", "state": "dydx.json"}).state.name
    'dydx.json'
    """

    protocol: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$", description="adapter, as in docs/protocols")
    state: Path = Field(description="JSON file of what the target holds; see docs/protocols")
    chain: str | None = Field(None, description="CAIP-2; must be the state file's chain if given")
