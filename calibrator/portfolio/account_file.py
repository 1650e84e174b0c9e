"""The account file that `calibrator margin` reads: positions, marks and collateral as JSON."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Final, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from calibrator.errors import DataError
from calibrator.portfolio.account import Account, Holding, Position
from calibrator.portfolio.contracts import Contract, Kind

MOST_BYTES: Final = 10_000_000
YEAR: Final = 365 * 86_400.0
T = TypeVar("T")
Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Position(_Part):
    underlying: Name
    kind: Kind
    quantity: float
    price: float
    entry: float | None = None
    strike: float | None = None
    expiry: AwareDatetime | None = None
    volatility: float | None = None
    coin: float | None = None

    def position(self, as_of: datetime) -> Position:
        years = None if self.expiry is None else (self.expiry - as_of).total_seconds() / YEAR
        contract = Contract(
            self.underlying, self.kind, self.price, self.strike, years, self.volatility, self.coin
        )
        return Position(contract, self.quantity, self.entry)


class _Holding(_Part):
    asset: Name
    location: Name
    quantity: float
    price: float

    def holding(self) -> Holding:
        return Holding(self.asset, self.location, self.quantity, self.price)


class _File(_Part):
    account: Name
    as_of: AwareDatetime
    positions: tuple[_Position, ...] = Field((), max_length=100_000)
    collateral: tuple[_Holding, ...] = Field((), max_length=100_000)


def read_account(payload: bytes, *, source: str) -> tuple[Account, datetime]:
    """Read an account.

    Parameters
    ----------
    payload : bytes
        JSON: ``account``, ``as_of``, ``positions`` (``underlying``, ``kind``, ``quantity``, ``price``; for
        options ``strike``, ``expiry``, ``volatility``, and ``coin`` when they pay in the coin; for futures
        ``expiry``; ``entry`` where gains are not settled) and ``collateral`` (``asset``, ``location``,
        ``quantity``, ``price``). Numbers, or numbers as strings.
    source : str
        Named in errors.

    Returns
    -------
    Account, datetime
        And the time of its marks.

    Raises
    ------
    DataError
        Not JSON, an unknown or missing key, a value that breaks a rule; names the place.

    Examples
    --------
    >>> text = b'''{"account": "a", "as_of": "2025-06-01T00:00:00Z", "positions": [
    ... {"underlying": "BTC", "kind": "call", "quantity": -1, "price": 104000, "strike": "110000",
    ...  "expiry": "2025-06-27T08:00:00Z", "volatility": 0.42}]}'''
    >>> account, as_of = read_account(text, source="account.json")
    >>> account.positions[0].contract.name
    'BTC call 110000 26.3d'
    >>> read_account(text.replace(b"0.42", b"NaN"), source="account.json")
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: account.json: positions.0.volatility: Input should be a finite number
    """
    if len(payload) > MOST_BYTES:
        raise DataError(f"{source}: must not exceed {MOST_BYTES} bytes, has {len(payload)}")
    try:
        file = _File.model_validate(json.loads(payload))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "account"
        raise DataError(f"{source}: {place}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source}: not JSON: {error}") from error
    positions = tuple(
        _at(source, f"positions.{i}", p.position, file.as_of) for i, p in enumerate(file.positions)
    )
    pool = tuple(_at(source, f"collateral.{i}", h.holding) for i, h in enumerate(file.collateral))
    return _at(source, "account", Account, file.account, positions, pool), file.as_of


def _at(source: str, place: str, make: Callable[..., T], *arguments: object) -> T:
    """Make a part of an account; its error says where it stands in the file."""
    try:
        return make(*arguments)
    except DataError as error:
        raise DataError(f"{source}: {place}: {error}") from error
