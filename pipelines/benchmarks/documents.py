"""Documents of any size for measuring the publisher and the consumer: plain integers, the same every time."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from calibrator.publish.canonical import digest
from calibrator.publish.document import (
    ParameterDocument,
    PerpetualParameters,
    PlannedMargin,
    TierParameters,
    encode,
)

START: Final = datetime(2025, 1, 1, tzinfo=UTC)
NOW: Final = START + timedelta(hours=1)
DAY: Final = timedelta(days=1)
STEPS: Final = 7
FLOORS: Final = (0, 1_000_000, 10**18)


def sample_document(
    markets: int = 1,
    *,
    previous: ParameterDocument | None = None,
    move_ppm: int = 0,
    day: int = 0,
    **changes: Any,
) -> ParameterDocument:
    """Build a document, or the successor of one.

    Parameters
    ----------
    markets : int, optional
        How many perpetuals.
    previous : ParameterDocument, optional
        What it follows.
    move_ppm : int, optional
        How far every maintenance margin is from where it starts.
    day : int, optional
        Issued so many days after `START`.
    **changes
        Fields of the document that differ.

    Examples
    --------
    >>> first = sample_document(3)
    >>> second = sample_document(3, previous=first)
    >>> len(first.markets), second.sequence, second.previous_digest == digest(encode(first))
    (3, 2, True)
    """
    before = [None] * markets if previous is None else [market.value_ppm for market in previous.markets]
    issued = START + day * DAY
    fields: dict[str, Any] = {
        "sequence": 1 if previous is None else previous.sequence + 1,
        "protocol": "demo",
        "issued_at": issued,
        "valid_from": issued,
        "expires_at": issued + 7 * DAY,
        "previous_digest": None if previous is None else digest(encode(previous)),
        "config_digest": "b" * 64,
        "data_digest": "c" * 64,
        "model_digests": {"har": "d" * 64, "lightgbm": "e" * 64},
        "bar_seconds": 3_600,
        "horizon_bars": 24,
        "markets": tuple(_market(number, old, move_ppm, issued) for number, old in enumerate(before)),
    }
    return ParameterDocument.model_validate(fields | changes)


def _market(number: int, previous: int | None, move_ppm: int, issued: datetime) -> PerpetualParameters:
    maintenance = 50_000 + 17 * number + move_ppm
    return PerpetualParameters(
        symbol=f"M{number:05d}-USD",
        regime=("CALM", "ELEVATED", "STRESS")[number % 3],
        stress_probability_ppm=12_000 + number,
        volatility_ppm=31_000 + number,
        status="fresh",
        reasons=("long: follows the forecast tail (forecast tail 4.20%, floor 3.10%, published 5.00%)",),
        close_out_bars=24,
        level_ppm=990_000,
        previous_ppm=previous,
        attribution={"tail": 1_000, "volatility": maintenance - (previous or 0) - 1_000},
        margins=tuple(
            TierParameters(
                notional_floor=floor,
                initial_margin_ppm=2 * maintenance + 1_000 * tier,
                maintenance_margin_ppm=maintenance + 500 * tier,
            )
            for tier, floor in enumerate(FLOORS)
        ),
        plan=tuple(
            PlannedMargin(
                effective_from=issued + step * DAY,
                initial_margin_ppm=2 * maintenance + 10 * step,
                maintenance_margin_ppm=maintenance + 5 * step,
            )
            for step in range(1, STEPS + 1)
        ),
    )
