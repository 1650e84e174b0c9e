"""One valid answer per feed, in each venue's documented layout: what tests serve, mutate and time."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from calibrator.data.catalogue import FEEDS
from calibrator.data.payloads import Parsed
from pipelines.benchmarks import data_samples_csv as csv
from pipelines.benchmarks import data_samples_json as answers
from pipelines.benchmarks.data_sample import HOUR_MS, START_MS, Sample


def parse(name: str, content: bytes | None = None) -> Parsed:
    """Parse a feed's sample, or other bytes in its place.

    Examples
    --------
    >>> len(parse("deribit-dvol")[0])
    48
    """
    return FEEDS[name].parse(SAMPLES[name].payload(content))


def _rows(count: int, build: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
    return [build(i) for i in range(count)]


def _samples() -> dict[str, Sample]:
    at = [START_MS + i * 8 * HOUR_MS for i in range(48)]
    rest_funding = _rows(
        48, lambda i: {"symbol": "BTCUSDT", "fundingRate": "0.00010000", "fundingTime": at[i]}
    )
    interest = _rows(
        48,
        lambda i: {
            "symbol": "BTCUSDT",
            "sumOpenInterest": f"{20 + i}.5",
            "sumOpenInterestValue": "9.5",
            "timestamp": str(at[i]),
        },
    )
    bybit = _rows(
        48, lambda i: {"symbol": "BTCUSDT", "fundingRate": "0.0001", "fundingRateTimestamp": str(at[47 - i])}
    )
    past = _rows(24, lambda i: {"period": 30, "value": "0.45024716", "time": str(at[i])})
    hourly = _rows(
        48,
        lambda i: {
            "coin": "BTC",
            "fundingRate": "0.0000125",
            "premium": "0.0003",
            "time": START_MS + i * HOUR_MS,
        },
    )
    archive = {
        f"binance-{s}-{k}": csv.klines(headed=s != "cm", market="BTCUSD_PERP" if s == "cm" else "BTCUSDT")
        for s in ("um", "cm")
        for k in ("klines", "mark", "index")
    }
    archive["binance-spot-klines"] = csv.klines(headed=False, unit=1_000)
    for s in ("um", "cm"):
        archive |= {
            f"binance-{s}-funding": csv.funding_csv(),
            f"binance-{s}-metrics": csv.metrics(),
            f"binance-{s}-depth": csv.depth(),
        }
    return {
        **archive,
        "binance-cm-liquidations": csv.snapshot(),
        "binance-rest-klines": answers.rest_klines(),
        "binance-rest-funding": answers.rest(rest_funding, ("fundingRate", "fundingTime")),
        "binance-rest-open-interest": answers.rest(
            interest, ("sumOpenInterest", "sumOpenInterestValue", "timestamp")
        ),
        "binance-rest-brackets": answers.brackets(),
        "bybit-funding": answers.bybit({"list": bybit}, ("fundingRate", "fundingRateTimestamp"), ("list",)),
        "bybit-risk-limits": answers.risk(),
        "bybit-historical-volatility": answers.bybit(past, ("value", "time"), (), market="BTC"),
        "bybit-liquidations": answers.bybit_stream(),
        "hyperliquid-contexts": answers.contexts(),
        "hyperliquid-tiers": Sample(
            answers.answer(answers.meta()), "*", ("marginTableId",), path=("universe",)
        ),
        "hyperliquid-funding": answers.rest(hourly, ("fundingRate", "time"), market="BTC"),
        "hyperliquid-candles": answers.candles(),
        "hyperliquid-liquidation-file": csv.liquidation_file(),
        "hyperliquid-fills": answers.fills(),
        "deribit-dvol": answers.dvol(1.0),
        "deribit-dvol-fraction": answers.dvol(0.01),
        "deribit-options": answers.chain(),
        "deribit-historical-volatility": answers.deribit(
            [[START_MS + max(i - 1, 0) * HOUR_MS, 14.5] for i in range(25)], (0, 1)
        ),
        "aave-liquidations": answers.aave_liquidations(),
        "aave-reserves": answers.aave_reserves(),
        "coinmetrics-reference-rates": answers.rates(),
        "tardis-liquidations": csv.tardis_liquidations(),
        "tardis-funding": csv.ticker(),
        "tardis-open-interest": csv.ticker(),
        "tardis-options": csv.tardis_chain(),
    }


SAMPLES: Final[Mapping[str, Sample]] = _samples()
"""A valid answer of every feed."""
