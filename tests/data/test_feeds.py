"""Every feed of every venue keeps one contract; then the traps of each format."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from calibrator.data.asking import Query
from calibrator.data.catalogue import FEEDS
from calibrator.data.payloads import MAX_RATIO, Payload
from calibrator.data.venues import binance, bybit, coinmetrics, deribit, tardis
from calibrator.errors import ConfigError, DataError
from calibrator.frames import conform
from pipelines.benchmarks.data_mutations import mutant, torn
from pipelines.benchmarks.data_sample import NOW, START, START_MS, Sample, kline_rows, zipped
from pipelines.benchmarks.data_samples import SAMPLES, parse

MUTANTS = 100  # the benchmark runs 10,000 per venue
CAPTURED = ("bybit-liquidations", "hyperliquid-fills")


def _query(name: str, days: float = 70.0) -> Query:
    sample = SAMPLES[name]
    interval = "1d" if sample.step == pd.Timedelta("1D") else "1h"
    options = {"exchange": "binance-futures"}
    return Query(sample.market, START, START + pd.Timedelta(days=days), interval, "http://v", options)


# --- one contract -------------------------------------------------------------------------------------------


def test_there_is_a_sample_of_every_feed() -> None:
    assert set(SAMPLES) == set(FEEDS)


@pytest.mark.parametrize("name", FEEDS)
def test_every_feed_returns_its_canonical_frame_sorted_and_knowable(name: str) -> None:
    feed = FEEDS[name]
    frame, _ = parse(name)
    assert len(frame)
    pd.testing.assert_frame_equal(frame, conform(frame, feed.schema, source="test"))
    again, _ = parse(name)
    pd.testing.assert_frame_equal(frame, again)
    order = [n for n in ("market", "time") if n in frame]
    pd.testing.assert_frame_equal(frame, frame.sort_values(order, kind="stable", ignore_index=True))
    assert frame["time"].max() <= NOW
    if "known_at" in frame:
        assert (frame["known_at"] >= frame["time"]).all()


@pytest.mark.parametrize("name", FEEDS)
def test_damaged_answers_are_refused_by_place_and_never_crash(name: str) -> None:
    sample, rng = SAMPLES[name], np.random.default_rng(20_240_301)
    for _ in range(MUTANTS):
        made = torn(sample, rng) if sample.wrap and rng.random() < 0.1 else mutant(sample, rng)
        text = _refusal(name, made.content)
        assert text or not made.broken, made.kind
        assert not text or ("-sample" in text and len(text) < 700), text


def _refusal(name: str, content: bytes) -> str:
    try:
        frame, _ = parse(name, content)
    except DataError as error:
        return str(error)
    conform(frame, FEEDS[name].schema, source="test")
    return ""


@pytest.mark.parametrize("name", [n for n in FEEDS if n not in CAPTURED])
def test_a_longer_query_repeats_the_finished_requests_of_a_shorter_one(name: str) -> None:
    short, long = (FEEDS[name].plan(_query(name, days)) for days in (65.0, 70.0))
    assert len({r.key for r in long}) == len(long)
    assert len({(r.url, r.body) for r in long}) == len(long)
    finished = {r.key: r.url for r in short if r.until <= START + pd.Timedelta("65D")}
    gone = set(finished) - {r.key for r in long}
    assert FEEDS[name].live or all("/daily/" in finished[key] for key in gone)  # a whole month has one file
    assert all(r.url.startswith("http://v") for r in long)


@pytest.mark.parametrize("name", CAPTURED)
def test_what_only_a_stream_shows_is_not_asked_for(name: str) -> None:
    with pytest.raises(ConfigError, match="name captured files in `files`"):
        FEEDS[name].plan(_query(name))


# --- traps --------------------------------------------------------------------------------------------------


def _klines(rows: list[list[str]], *, name: str = "binance-um-klines", header: bool = False) -> pd.DataFrame:
    text = "\n".join(([",".join(binance.KLINES)] if header else []) + [",".join(r) for r in rows])
    return parse(name, SAMPLES[name].content(text))[0]


def test_spot_times_turn_from_milli_to_microseconds_and_one_file_has_one_unit() -> None:
    milli, micro = kline_rows(5), kline_rows(5, unit=1000)
    pd.testing.assert_frame_equal(_klines(milli), _klines(micro))
    with pytest.raises(DataError, match=r"row 3: must be a time in ms as in row 0, was 17092620"):
        _klines([*milli[:3], *micro[3:]])
    with pytest.raises(DataError, match="row 0: must be a time in s or ms or us since 1970"):
        _klines(kline_rows(5, first=START_MS // 10_000, step=1))


def test_a_header_may_stand_or_not_and_must_be_the_documented_one() -> None:
    rows = kline_rows(5)
    pd.testing.assert_frame_equal(_klines(rows), _klines(rows, header=True))
    with pytest.raises(DataError, match=r"the columns must be open_time, open, .*, are 'a, b'"):
        parse("binance-um-klines", SAMPLES["binance-um-klines"].content("a,b\n1,2\n"))


def test_bars_of_another_length_are_refused() -> None:
    with pytest.raises(DataError, match=r"row 0: a bar must last 0 days 01:00:00, was .* to "):
        _klines(kline_rows(5, step=900_000))


def test_volume_is_in_coins_even_where_the_venue_counts_contracts() -> None:
    rows = kline_rows(3)
    assert _klines(rows)["volume"].to_list() == [10.5] * 3
    assert parse("binance-cm-klines")[0]["volume"].to_list() == [1050.1] * 48
    assert parse("binance-um-mark")[0]["volume"].isna().all()


def test_repeated_liquidations_are_kept_once_and_counted_in_usd_of_contracts() -> None:
    frame, found = parse("binance-cm-liquidations")
    assert (frame["multiplicity"] == 2).all()
    assert frame["notional"].to_list() == [100.0 * (i + 1) for i in range(24)]
    assert {(f.rule, f.count, f.action) for f in found} == {
        ("throttled feed", 24, "lower bound"),
        ("repeated row", 24, "kept once"),
    }
    assert binance.contract_size("ETHUSD_PERP") == 10.0


SIDES = [
    (binance.SIDES, "SELL", "long"),
    (binance.SIDES, "BUY", "short"),
    (bybit.SIDES, "Buy", "long"),
    (bybit.SIDES, "Sell", "short"),
    (tardis.SIDES, "sell", "long"),
    (tardis.SIDES, "buy", "short"),
]


@pytest.mark.parametrize(("table", "word", "side"), SIDES)
def test_sides_are_those_of_the_liquidated_position(table: dict[str, str], word: str, side: str) -> None:
    assert table[word] == side
    assert len(table) == 2


FILLS = [
    ({"dir": "Open Short", "side": "A"}, "short"),  # the other side sold: a short bought back
    ({"dir": "Open Long", "side": "B"}, "long"),
    ({"dir": "Liquidated Cross Long", "side": "A"}, "long"),
    ({"dir": "Liquidated Isolated Short", "side": "B"}, "short"),
    ({"dir": "Close Long", "side": "A", "user": "0x3f1c"}, "long"),
]


@pytest.mark.parametrize(("fields", "side"), FILLS)
def test_a_fill_tells_whose_position_was_liquidated(fields: dict[str, str], side: str) -> None:
    row = json.loads(SAMPLES["hyperliquid-fills"].text.split("\n")[0]) | fields
    frame, _ = parse("hyperliquid-fills", json.dumps(row).encode())
    assert frame["liquidated_side"].to_list() == [side]


def test_a_fill_seen_from_both_sides_is_one_event() -> None:
    line = SAMPLES["hyperliquid-fills"].text.split("\n")[0]
    frame, _ = parse("hyperliquid-fills", f"{line}\n{line}\n".encode())
    assert frame[["event_id", "multiplicity"]].to_numpy().tolist() == [["100", 2]]


def test_open_interest_rows_are_sorted_and_ratios_may_be_quoted_blanks() -> None:
    names = ",".join(binance.METRICS)
    rows = ['2023-06-25 00:05:01,B,7.0,1.5,"","","",0.1', '2023-06-25 00:00:00,B,5.0,1.4,"","","",0.1']
    made, _ = binance.metrics(Payload("\n".join([names, *rows]).encode(), "x", market="B"))
    assert made["open_interest"].to_list() == [5.0, 7.0]
    with pytest.raises(DataError, match="row 0: must be 'OTHER', was 'B'"):
        binance.metrics(Payload("\n".join([names, *rows]).encode(), "x", market="OTHER"))


def test_funding_times_jitter_and_intervals_change() -> None:
    text = f"{START_MS + 2},8,0.0001\n{START_MS + 14_400_001},4,-0.0002\n"
    frame, _ = parse("binance-um-funding", SAMPLES["binance-um-funding"].content(text))
    assert frame["interval_hours"].to_list() == [8.0, 4.0]
    assert frame["time"][0] == START + pd.Timedelta("2ms")


def test_bar_ends_after_the_answer_are_left_out() -> None:
    at = START + pd.Timedelta("30min") + 10 * pd.Timedelta("1h")
    for name in ("binance-rest-klines", "hyperliquid-candles", "deribit-dvol"):
        sample = SAMPLES[name]
        payload = Payload(sample.content(), "x", market=sample.market, step=sample.step, received=at)
        frame, found = FEEDS[name].parse(payload)
        assert len(frame) == 10
        assert [(f.rule, f.count) for f in found] == [("unfinished", 38)]
        with pytest.raises(DataError, match="says what is true now"):
            FEEDS[name].parse(Payload(sample.content(), "x", market=sample.market, step=sample.step))


def test_volatility_in_the_other_unit_is_refused() -> None:
    pd.testing.assert_frame_equal(parse("deribit-dvol")[0], parse("deribit-dvol-fraction")[0])
    with pytest.raises(DataError, match=r"row 0: must be percent a year, was 0.55"):
        parse("deribit-dvol", SAMPLES["deribit-dvol-fraction"].content())
    with pytest.raises(DataError, match="row 0: must be a fraction a year, was 55"):
        parse("deribit-dvol-fraction", SAMPLES["deribit-dvol"].content())


def test_risk_limits_are_read_as_percent_or_fraction_by_their_leverage() -> None:
    text = SAMPLES["bybit-risk-limits"].text
    body = json.loads(text)
    for row in body["result"]["list"]:
        for key in ("maintenanceMargin", "initialMargin"):
            row[key] = str(100 * float(row[key]))
    percent, _ = parse("bybit-risk-limits", json.dumps(body).encode())
    pd.testing.assert_frame_equal(percent, parse("bybit-risk-limits")[0])
    body["result"]["list"][2]["initialMargin"] = "0.04"
    with pytest.raises(DataError, match="row 2: 'initialMargin' must be 1 / maxLeverage"):
        parse("bybit-risk-limits", json.dumps(body).encode())


def test_brackets_must_be_continuous() -> None:
    body = json.loads(SAMPLES["binance-rest-brackets"].text)
    body[0]["brackets"][2]["cum"] += 1
    with pytest.raises(DataError, match="row 2: 'cum' must make the margin continuous"):
        parse("binance-rest-brackets", json.dumps(body).encode())


def test_flat_margin_tables_are_not_listed() -> None:
    frame, _ = parse("hyperliquid-tiers")
    assert frame.groupby("market").size().to_dict() == {"ATOM": 1, "BTC": 2, "ETH": 2}
    assert frame.set_index("market")["maintenance_margin_ppm"]["ATOM"] == 100_000
    body = json.loads(SAMPLES["hyperliquid-tiers"].text)
    body["universe"][0]["marginTableId"] = 99
    with pytest.raises(DataError, match="'BTC' names margin table 99, which is not listed"):
        parse("hyperliquid-tiers", json.dumps(body).encode())


def test_an_empty_gzip_is_a_day_without_rows_and_a_row_may_lack_every_value() -> None:
    for name in ("tardis-liquidations", "tardis-funding", "tardis-open-interest", "tardis-options"):
        frame, _ = parse(name, SAMPLES[name].content(""))
        assert frame.empty
    head = ",".join(tardis.TICKER)
    row = "binance-futures,BTCUSDT,1580515202348000,1580515202497335,,,,,9364.51,,"
    for name in ("tardis-funding", "tardis-open-interest"):
        assert parse(name, SAMPLES[name].content(f"{head}\n{row}\n"))[0].empty


def test_a_clock_that_runs_ahead_never_makes_a_row_known_early() -> None:
    head = ",".join(tardis.LIQUIDATION)
    row = "x,BTCUSDT,1580515209000000,1580515202000000,,sell,100,2"
    frame, found = parse("tardis-liquidations", SAMPLES["tardis-liquidations"].content(f"{head}\n{row}\n"))
    assert (frame["known_at"] == frame["time"]).all()
    assert [f.rule for f in found] == ["clock skew"]


def test_pages_follow_backward_by_id_and_by_link() -> None:
    (request, *_) = FEEDS["deribit-dvol"].plan(_query("deribit-dvol"))
    page = json.dumps({"result": {"data": [], "continuation": START_MS}}).encode()
    after = deribit.older(page, request)
    assert after is not None
    assert f"end_timestamp={START_MS}" in after.url
    with pytest.raises(DataError, match="a continuation must go back in time"):
        deribit.older(page, after)
    feed = FEEDS["aave-liquidations"]
    (request, *_) = feed.plan(_query("aave-liquidations"))
    row = json.loads(SAMPLES["aave-liquidations"].text)["data"]["liquidationCalls"][0]
    many = [{**row, "id": f"{i:05d}"} for i in range(1_000)]
    full = json.dumps({"data": {"liquidationCalls": many}}).encode()
    after = feed.follow(full, request)
    assert after is not None
    assert after.body is not None
    assert json.loads(after.body)["variables"]["after"] == "00999"
    with pytest.raises(DataError, match=r"pages must go on"):
        feed.follow(full, after)
    link = json.dumps({"data": [], "next_page_url": "https://elsewhere/x"}).encode()
    with pytest.raises(DataError, match="must be on the same host"):
        coinmetrics.next_page(link, request)


BAD_ARCHIVES = {
    "bomb": (zipped("BTCUSDT-sample.csv", b"0" * 20_000_000), f"at most {MAX_RATIO} is allowed"),
    "outside": (zipped("../BTCUSDT-sample.csv", b"1"), "must hold only 'BTCUSDT-sample.csv', holds"),
    "other name": (zipped("x.csv", b"1"), "must hold only 'BTCUSDT-sample.csv', holds"),
    "no zip": (b"<html>", "cannot be read as zip: File is not a zip file"),
}


@pytest.mark.parametrize(("content", "match"), BAD_ARCHIVES.values(), ids=BAD_ARCHIVES.keys())
def test_bad_archives_are_refused(content: bytes, match: str) -> None:
    with pytest.raises(DataError, match=match):
        parse("binance-um-klines", content)


VENUE_ERRORS: dict[str, tuple[str, Any, str]] = {
    "bybit": ("bybit-funding", {"retCode": 10006, "retMsg": "Too many visits"}, "answered 10006: 'Too many"),
    "deribit": (
        "deribit-dvol",
        {"error": {"code": 10028, "message": "too_many_requests"}},
        "answered .*10028",
    ),
    "aave": ("aave-liquidations", {"errors": [{"message": "bad indexer"}]}, "answered .*bad indexer"),
    "binance": ("binance-rest-klines", {"code": -1121, "msg": "Invalid symbol."}, "must be a list of rows"),
    "coinmetrics": ("coinmetrics-reference-rates", {"error": {"type": "forbidden"}}, "an object with 'data'"),
}


@pytest.mark.parametrize(("name", "body", "match"), VENUE_ERRORS.values(), ids=VENUE_ERRORS.keys())
def test_a_venue_that_answers_with_an_error_is_quoted(name: str, body: Any, match: str) -> None:
    with pytest.raises(DataError, match=match):
        parse(name, json.dumps(body).encode())


def test_a_day_without_a_rate_is_left_out() -> None:
    body = json.loads(SAMPLES["coinmetrics-reference-rates"].text)
    del body["data"][3]["ReferenceRateUSD"]
    frame, _ = parse("coinmetrics-reference-rates", json.dumps(body).encode())
    assert len(frame) == 23
    assert "non-commercial" in FEEDS["coinmetrics-reference-rates"].note


def test_samples_know_their_kind() -> None:
    assert isinstance(SAMPLES["deribit-dvol"], Sample)
    assert {s.is_json for s in SAMPLES.values()} == {True, False}
