"""The operator's fetch against a venue on loopback: what comes, what is kept, what is an alert."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from calibrator.config import load_config, load_fetch
from calibrator.config_fetch import FetchConfig
from calibrator.data.asking import Query
from calibrator.data.catalogue import FEEDS
from calibrator.data.sources import digest, load_bars, load_inputs
from calibrator.errors import CalibratorError, ChangedError, ConfigError, DataError, FetchError, LockError
from calibrator.publish.storage import lock
from pipelines.benchmarks.data_sample import NOW, START, START_MS, kline_rows, zipped
from pipelines.benchmarks.data_samples import SAMPLES, parse
from pipelines.fetch import Fetched, run
from pipelines.fetch_report import quality

ROOT = Path(__file__).parents[2]
CAPTURED = ("bybit-liquidations", "hyperliquid-fills")
DAY = pd.Timedelta("1D")
QUICK = {"attempts": 2, "wait_seconds": 0.01, "max_wait_seconds": 0.02, "step_seconds": 2.0}


def _config(folder: Path, **source: Any) -> FetchConfig:
    base = {"name": "bars", "feed": "binance-um-klines", "markets": ["BTCUSDT"], "from": START.isoformat()}
    base |= {} if source.get("feed") == "aave-liquidations" else {"base": "http://127.0.0.1:9"}
    return FetchConfig.model_validate({"folder": folder / "data", "sources": [{**base, **source}], **QUICK})


def _run(config: FetchConfig, now: pd.Timestamp = NOW) -> Fetched:
    (made,) = run(config, now=now, progress=lambda *_: None)
    return made


def _day(number: int, *, seed: int = 1) -> str:
    return "\n".join(",".join(row) for row in kline_rows(24, first=START_MS + number * 86_400_000, seed=seed))


def _archive(venue: Any, reply: Any, number: int, *, seed: int = 1, **how: Any) -> str:
    """Put one day's klines and its checksum on the venue."""
    date = f"{START + number * DAY:%Y-%m-%d}"
    name = f"BTCUSDT-1h-{date}"
    path = f"/data/futures/um/daily/klines/BTCUSDT/1h/{name}.zip"
    content = zipped(f"{name}.csv", _day(number, seed=seed).encode())
    venue.routes[path] = reply(content, **how)
    venue.routes[f"{path}.CHECKSUM"] = reply(f"{hashlib.sha256(content).hexdigest()}  {name}.zip\n".encode())
    return path


# --- every feed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in FEEDS if n not in CAPTURED])
def test_every_feed_comes_in_and_a_rerun_changes_nothing(
    name: str, venue: Any, reply: Any, tmp_path: Path
) -> None:
    sample, feed = SAMPLES[name], FEEDS[name]
    whole, _ = parse(name)
    start = whole["time"].min().floor("D")
    interval = "1d" if sample.step == DAY else "1h"
    query = Query(sample.market, start, start + DAY, interval, venue.url, {"exchange": "x"})
    for request in feed.plan(query):
        path = request.url.removeprefix(venue.url).partition("?")[0]
        stem = path.rsplit("/", 1)[-1].removesuffix(".zip")
        text = sample.text.encode()
        content = zipped(f"{stem}.csv", text) if sample.wrap == "zip" else sample.content()
        venue.routes[path or "/"] = reply(content)
        line = f"{hashlib.sha256(content).hexdigest()}  {stem}.zip\n"
        venue.routes[f"{path}.CHECKSUM"] = reply(line.encode())
    until = {} if feed.live else {"until": (start + DAY).isoformat()}
    config = _config(
        tmp_path, name=name, feed=name, markets=[sample.market], interval=interval, base=venue.url,
        options={"exchange": "x"}, **{"from": start.isoformat(), **until},
    )  # fmt: skip
    made = _run(config)
    assert len(made.frame)
    assert set(made.frame.columns) == set(whole.columns)
    again = _run(config)
    assert (again.digest, digest(pd.read_parquet(again.path))) == (made.digest, made.digest)
    if feed.plan(query)[0].until <= NOW:
        assert again.asked == 0


# --- incremental, idempotent, immutable ---------------------------------------------------------------------


def test_a_later_fetch_asks_only_for_what_is_new(venue: Any, reply: Any, tmp_path: Path) -> None:
    for number in range(4):
        _archive(venue, reply, number)
    early = _run(_config(tmp_path, base=venue.url), now=START + 2 * DAY)
    assert (len(early.frame), early.asked) == (48, 2)
    late = _run(_config(tmp_path, base=venue.url), now=START + 4 * DAY)
    assert (len(late.frame), late.asked) == (96, 2)
    pd.testing.assert_frame_equal(late.frame.head(48), early.frame)
    assert (tmp_path / "data" / "snapshots" / f"{early.digest}.parquet").exists()


def test_a_period_that_still_grows_is_asked_again(venue: Any, reply: Any, tmp_path: Path) -> None:
    rows = [[int(r[0]), *r[1:6], int(r[6]), *r[7:]] for r in kline_rows(6)]
    venue.routes["/fapi/v1/klines"] = reply(json.dumps(rows).encode())
    config = _config(tmp_path, feed="binance-rest-klines", base=venue.url)
    early = _run(config, now=START + pd.Timedelta("3h30min"))
    assert len(early.frame) == 3
    late = _run(config, now=START + pd.Timedelta("9h"))
    assert (len(late.frame), late.asked) == (6, 1)


def test_a_missing_day_is_reported_and_asked_again(venue: Any, reply: Any, tmp_path: Path) -> None:
    _archive(venue, reply, 0)
    _archive(venue, reply, 2)
    config = _config(tmp_path, base=venue.url, until=(START + 3 * DAY).isoformat())
    made = _run(config)
    assert made.findings[["rule", "count"]].to_numpy().tolist() == [["not published", 1]]
    assert ["BTCUSDT", "gap", 1] in quality(made)[["market", "rule", "count"]].to_numpy().tolist()
    _archive(venue, reply, 1)
    assert len(_run(config).frame) == 72


def test_a_republished_file_is_an_alert_and_never_a_silent_refresh(
    venue: Any, reply: Any, tmp_path: Path
) -> None:
    for number in range(2):
        _archive(venue, reply, number)
    end = (START + 2 * DAY).isoformat()
    before = _run(_config(tmp_path, base=venue.url, until=end))
    _archive(venue, reply, 1, seed=9)
    with pytest.raises(
        ChangedError, match=r"changed files that are in use: BTCUSDT-1h-2024-03-02 \(changed\)"
    ):
        _run(_config(tmp_path, base=venue.url, until=end))
    report = _run(_config(tmp_path, base=venue.url, until=end, on_changed="report"))
    assert report.digest == before.digest
    assert report.findings["rule"].to_list() == ["republished file"]
    fresh = _config(tmp_path, base=venue.url, until=end, accept_changed=["BTCUSDT-1h-2024-03-02"])
    assert _run(fresh).digest != before.digest


def test_a_snapshot_that_was_tampered_with_is_refused(venue: Any, reply: Any, tmp_path: Path) -> None:
    _archive(venue, reply, 0)
    config = _config(tmp_path, base=venue.url, until=(START + DAY).isoformat())
    made = _run(config)
    path = made.path.resolve()
    made.frame.assign(volume=1.0).to_parquet(path, index=False)
    with pytest.raises(DataError, match="its rows are not those of its name"):
        _run(config)
    path.write_bytes(b"torn")
    with pytest.raises(DataError, match="snapshot cannot be read"):
        _run(config)


# --- faults -------------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[dict[str, Any], type[CalibratorError], str]] = {
    "page with status 200": ({"body": b"<html>login</html>"}, ChangedError, "SHA-256 must be"),
    "server error": ({"status": 500}, FetchError, "answers 500"),
    "half an archive": ({"body": b"PK\x03\x04", "lacking": 50}, FetchError, "remote protocol error"),
}


@pytest.mark.parametrize(("fault", "error", "match"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_stops_the_fetch_and_keeps_what_came_before(
    venue: Any, reply: Any, tmp_path: Path, fault: dict[str, Any], error: type[CalibratorError], match: str
) -> None:
    _archive(venue, reply, 0)
    path = _archive(venue, reply, 1)
    good = venue.routes[path]
    venue.routes[path] = reply(**fault)
    config = _config(tmp_path, base=venue.url, until=(START + 2 * DAY).isoformat())
    with pytest.raises(error, match=match):
        _run(config)
    assert len(list((tmp_path / "data" / "records" / "bars").glob("*.json"))) == 1
    venue.routes[path] = good
    assert _run(config).asked == 1


def test_a_truncated_gzip_and_a_page_are_refused_by_the_parser(
    venue: Any, reply: Any, tmp_path: Path
) -> None:
    whole = SAMPLES["tardis-liquidations"].content()
    config = _config(
        tmp_path, feed="tardis-liquidations", base=venue.url, options={"exchange": "x"},
        until=(START + DAY).isoformat(),
    )  # fmt: skip
    for body, match in ((whole[:-20], "cannot be read as gzip"), (b"<html>", "cannot be read as gzip")):
        venue.routes["/v1/x/liquidations/2024/03/01/BTCUSDT.csv.gz"] = reply(body)
        with pytest.raises(DataError, match=match):
            _run(config)
    assert not (tmp_path / "data" / "current").exists()


def test_two_fetches_do_not_share_a_folder(tmp_path: Path) -> None:
    config = _config(tmp_path, base="http://127.0.0.1:9")
    with lock(tmp_path / "data" / "fetch.lock"), pytest.raises(LockError, match="held by another process"):
        _run(config)


def test_a_venue_that_has_nothing_is_an_error(venue: Any, tmp_path: Path) -> None:
    config = _config(tmp_path, base=venue.url, until=(START + DAY).isoformat())
    with pytest.raises(DataError, match="the venue has none of its 1 answers"):
        _run(config)


# --- captured files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CAPTURED)
def test_captured_files_become_snapshots_and_a_changed_one_is_an_alert(name: str, tmp_path: Path) -> None:
    sample = SAMPLES[name]
    path = tmp_path / "captured.jsonl"
    path.write_text(sample.text)
    config = _config(tmp_path, feed=name, markets=[sample.market], files=[str(path)])
    made = _run(config)
    pd.testing.assert_frame_equal(made.frame, parse(name)[0])
    path.write_text(sample.text.split("\n")[0])
    with pytest.raises(ChangedError, match=r"captured\.jsonl \(changed\)"):
        _run(config)


# --- as a user would ----------------------------------------------------------------------------------------

YAML = """\
fetch:
  folder: data
  wait_seconds: 0.05
  sources:
    - {{name: bars, feed: binance-um-klines, markets: [BTCUSDT], base: "{url}", from: 2024-03-01,
       until: 2024-03-13}}
data: {{source: files, bars: [data/current/bars.parquet], label: end}}
"""


def _command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "pipelines", "fetch", "--config", str(folder / "run.yaml")]


def test_a_killed_fetch_is_resumed_to_identical_digests(venue: Any, reply: Any, tmp_path: Path) -> None:
    for number in range(12):
        _archive(venue, reply, number, delay=0.2)
    (tmp_path / "run.yaml").write_text(YAML.format(url=venue.url))
    environment = {**os.environ, "COLUMNS": "200"}
    with subprocess.Popen(_command(tmp_path), cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as first:
        until = time.monotonic() + 60
        while sum(p.endswith(".zip") for p in venue.asked) < 6 and time.monotonic() < until:
            time.sleep(0.01)
        first.send_signal(signal.SIGKILL)
    assert first.returncode == -signal.SIGKILL
    kept = len(list((tmp_path / "data" / "records" / "bars").glob("*.json")))
    assert 1 <= kept < 12
    venue.asked.clear()
    ended = subprocess.run(
        _command(tmp_path), cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert sum(p.endswith(".zip") for p in venue.asked) == 12 - kept
    assert "survivors only" in ended.stdout
    made = json.loads((tmp_path / "data" / "manifests" / "bars.json").read_text())
    elsewhere = load_fetch(tmp_path / "run.yaml", ["fetch.folder=other"])
    assert _run(elsewhere).digest == made["digest"]
    assert made["rows"] == 12 * 24
    bars, _ = load_bars(load_config(tmp_path / "run.yaml"), as_of=None)
    assert digest(bars) == made["digest"]


def test_fetched_inputs_are_read_with_the_time_at_which_they_were_known(
    venue: Any, reply: Any, tmp_path: Path
) -> None:
    venue.routes["/info"] = reply(SAMPLES["hyperliquid-funding"].content())
    source = {"name": "funding", "feed": "hyperliquid-funding", "markets": ["BTC"], "base": venue.url}
    made = _run(_config(tmp_path, **source))
    (tmp_path / "run.yaml").write_text(f"data: {{bars: [b.parquet], funding: {made.path}}}\n")
    loaded = load_inputs(load_config(tmp_path / "run.yaml"), as_of=None).funding
    pd.testing.assert_frame_equal(loaded, made.frame)


BAD_CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "feed": ({"feed": "no-such"}, "no feed 'no-such'"),
    "interval": ({"interval": "1y"}, "interval must be a number and one of"),
    "no address": ({"feed": "aave-liquidations"}, "needs `base`"),
    "future": ({"from": "2030-01-01"}, "after now"),
    "exchange": ({"feed": "tardis-funding", "base": "http://127.0.0.1:9"}, "must name an exchange"),
    "stream": ({"feed": "bybit-liquidations"}, "name captured files"),
    "resolution": ({"feed": "deribit-dvol", "interval": "7h"}, "interval must be one of"),
}


@pytest.mark.parametrize(("source", "match"), BAD_CONFIGS.values(), ids=BAD_CONFIGS.keys())
def test_a_source_that_cannot_be_is_refused(tmp_path: Path, source: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        _run(_config(tmp_path, **source))


BAD_YAML = {
    "no section": ("data: {source: embedded}\n", "has no section 'fetch'"),
    "no source": ("fetch: {sources: []}\n", "fetch.sources"),
    "twice": (
        "fetch:\n  sources:\n" + 2 * "    - {name: a, feed: f, markets: [A], from: 2024-01-01}\n",
        "two sources have one name",
    ),
    "backward": (
        "fetch: {sources: [{name: a, feed: f, markets: [A], from: 2024-01-02, until: 2024-01-01}]}\n",
        "until must be after from",
    ),
}


@pytest.mark.parametrize(("text", "match"), BAD_YAML.values(), ids=BAD_YAML.keys())
def test_a_fetch_section_is_checked_by_name(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigError, match=match):
        load_fetch(tmp_path / "run.yaml")


def test_the_example_of_the_readme_is_a_valid_configuration() -> None:
    config = load_fetch(ROOT / "pipelines" / "config" / "fetch.yaml")
    assert {s.feed for s in config.sources} <= set(FEEDS)
    assert config.folder.resolve() == (ROOT / "data").resolve()
