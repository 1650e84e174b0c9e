"""The configuration: what loads, where its paths point, and a table of files that are refused by name."""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from calibrator.config import MAX_YAML_BYTES, Config, load_config, parse_config
from calibrator.domain import ChangeLimits
from calibrator.errors import ConfigError

ARCHITECTURE = """
data: {source: files, bars: [bars.parquet], markets: all, bar: 1h, label: start}   # an entry may be a mapping
forecast: {horizon: 24, cadence: 24, origin_hour: 0}     # bars, bars, hour of the day (UTC) of the decisions
margin: {close_out: 24, level: 0.99}                     # bars
backtest: {start: 2021-01-01, end: 2025-06-29}           # first and last origin, inclusive
"""
HEAD = "data: {source: embedded}\n"
BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{new}: &{new} [{','.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{','.join(['*' + old] * 9)}]}}\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)

BAD = {
    "empty": ("", "must be a mapping of sections, was NoneType"),
    "list": ("- 1\n", "must be a mapping of sections, was list"),
    "text": ("hello\n", "must be a mapping of sections, was str"),
    "not YAML": ("data: [unclosed\n", "not valid YAML"),
    "tabs": ("data:\n\tsource: embedded\n", "not valid YAML"),
    "binary": ("data: \x00\n", "not valid YAML: unacceptable character"),
    "two documents": (HEAD + "---\n" + HEAD, "not valid YAML: expected a single document"),
    "no data": ("forecast: {horizon: 24}\n", "data: Field required"),
    "files without files": ("data: {source: files}\n", "source 'files' needs at least one entry in bars"),
    "unknown section": (HEAD + "forcast: {}\n", "forcast: Extra inputs are not permitted"),
    "unknown key": (
        HEAD + "margin: {levle: 0.99}\n",
        "margin.levle: Extra inputs are not permitted, was 0.99",
    ),
    "unknown key of a market": (HEAD + "markets: {BTC: {lvl: 1}}\n", "markets.BTC.lvl: Extra inputs"),
    "key that is a number": (HEAD + "1: 2\n", "1: Keys should be strings"),
    "unknown source": ("data: {source: web}\n", "data.source: Input should be 'embedded' or 'files'"),
    "wrong type": (HEAD + "forecast: {horizon: soon}\n", "forecast.horizon: .* was 'soon'"),
    "fraction of a bar": (HEAD + "forecast: {horizon: 1.5}\n", "forecast.horizon: .* was 1.5"),
    "section that is a list": (HEAD + "margin: [1]\n", "margin: Input should be a valid dictionary"),
    "level one": (HEAD + "margin: {level: 1}\n", "margin.level: Input should be less than 1, was 1"),
    "level in percent": (HEAD + "margin: {level: 99}\n", "margin.level: .* less than 1, was 99"),
    "level not a number": (HEAD + "margin: {level: .nan}\n", "margin.level: .*was nan"),
    "infinite": (HEAD + "margin: {impact: .inf}\n", "margin.impact: .*was inf"),
    "infinite increase": (HEAD + "margin: {limits: {max_increase: .inf}}\n", "max_increase: .*was inf"),
    "infinite bars": (HEAD + "forecast: {horizon: .inf}\n", "forecast.horizon: .*was inf"),
    "overflowing": (HEAD + "margin: {impact: 1.0e+400}\n", "margin.impact: .*was inf"),
    "no bars": (HEAD + "forecast: {cadence: 0}\n", "forecast.cadence: .* greater than or equal to 1, was 0"),
    "too many bars": (HEAD + "forecast: {horizon: 100001}\n", "less than or equal to 100000, was 100001"),
    "ten thousand digits": (
        HEAD + f"forecast: {{horizon: {'9' * 10_000}}}\n",
        "not valid YAML: Exceeds the limit",
    ),
    "ten thousand hexadecimal digits": (
        HEAD + f"forecast: {{horizon: 0x{'f' * 10_000}}}\n",
        "forecast.horizon: .* was a number of thousands of digits",
    ),
    "horizon not whole": (
        HEAD + "forecast: {horizon: 30}\n",
        "horizon must be a multiple of cadence, were 30 and 24",
    ),
    "window too short for GARCH": (HEAD + "forecast: {garch_window: 100}\n", "garch_window: .* was 100"),
    "window too short for HAR": (HEAD + "forecast: {har_window: 100}\n", "har_window: .* was 100"),
    "floors above one together": (
        HEAD + "forecast: {combination_floor: 0.5}\n",
        "combination_floor: .* was 0.5",
    ),
    "hour 24": (HEAD + "forecast: {origin_hour: 24}\n", "origin_hour: .* was 24"),
    "leaves above entering": (HEAD + "regime: {stress: [0.2, 0.3]}\n", "stress: leave must not exceed enter"),
    "calmer stress": (
        HEAD + "regime: {stress: [0.1, 0.05]}\n",
        "stress must be entered at a probability not below",
    ),
    "label without history": (
        HEAD + "regime: {window: 100}\n",
        "min_window must not exceed window, were 365 and 100",
    ),
    "start after end": (
        HEAD + "backtest: {start: 2024-01-02, end: 2024-01-01}\n",
        "start must not be after end, were 2024-01-02",
    ),
    "no such day": (HEAD + "as_of: 2024-13-45\n", "not valid YAML: month must be in"),
    "no time": (HEAD + "as_of: tomorrow\n", "as_of.*was 'tomorrow'"),
    "floor that never comes": (
        HEAD + "margin: {tail_min: 400, floor_window: 365}\n",
        "tail_min must not exceed floor_window while floor is above 0, were 400 and 365",
    ),
    "tiers fall": (HEAD + "margin: {tiers: [0, 10, 5]}\n", "tiers must rise from 0"),
    "no first tier": (HEAD + "margin: {tiers: [10]}\n", "tiers must rise from 0"),
    "pair twice": (
        HEAD + "haircut: {pairs: [{collateral: A, location: x}, {collateral: A, location: x}]}\n",
        "pairs: A/USD@x is there twice",
    ),
    "pair with itself": (
        HEAD + "haircut: {pairs: [{collateral: A, debt: A, location: x}]}\n",
        "collateral and debt must differ, both were A",
    ),
    "pair with a long name": (
        HEAD + f"haircut: {{pairs: [{{collateral: {'A' * 60}, location: x1}}]}}\n",
        "must have at most 64 letters",
    ),
    "basis without reference": (
        HEAD + "haircut: {pairs: [{collateral: A, basis: B, location: x}]}\n",
        "reference and basis belong together",
    ),
    "two references of one pair": (
        HEAD + "haircut: {pairs: [{collateral: A, reference: R, basis: B, location: x}, "
        "{collateral: A, location: y}]}\n",
        "A/USD must have one reference and basis at every location",
    ),
    "one stress counted twice": (
        HEAD + "margin: {stress: {depth: 2, volatility: 2}}\n",
        "depth and volatility must not both exceed 1, the same stress would count twice, were 2.0 and 2.0",
    ),
    "fund of nothing": (HEAD + "buffer: {fund: 0}\n", "buffer.fund: .* was 0"),
    "bar of no length": ("data: {source: embedded, bar: 0h}\n", "data.bar: .* was '0h'"),
    "bar without unit": ("data: {source: embedded, bar: 60}\n", "data.bar: .* was 60"),
    "protocol with a path": (HEAD + "publish: {protocol: ../x}\n", "publish.protocol: .* was '../x'"),
    "python object": (
        HEAD + "as_of: !!python/object/apply:os.system [ls]\n",
        "not valid YAML: could not determine",
    ),
    "python name": (
        HEAD + "as_of: !!python/name:os.system\n",
        "not valid YAML: could not determine a constructor",
    ),
    "own tag": (HEAD + "as_of: !secret x\n", "not valid YAML: could not determine a constructor"),
    "integer that is none": (HEAD + 'forecast: {horizon: !!int ""}\n', "not valid YAML"),
    "flag that is none": (HEAD + 'tracking: {enabled: !!bool "x"}\n', "not valid YAML"),
    "time that is none": (HEAD + 'as_of: !!timestamp "x"\n', "not valid YAML"),
    "alias": ("data: &d {source: embedded}\nas_of: *d\n", "not valid YAML: aliases are not allowed"),
    "billion laughs": (BOMB + "data: *i\n", "not valid YAML: aliases are not allowed"),
    "billion merges": (MERGES + "data: *i\n", "not valid YAML: aliases are not allowed"),
    "contains itself": ("data: &d [*d]\n", "not valid YAML: aliases are not allowed"),
    "five thousand brackets": (HEAD + "as_of: " + "[" * 5000 + "]" * 5000, "not valid YAML"),
}


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_a_bad_file_is_refused_by_name(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(write(tmp_path, text))
    assert str(caught.value).startswith(f"config {tmp_path / 'run.yaml'}: ")
    assert len(str(caught.value)) < 700
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.yaml: cannot be read: .*No such file"):
        load_config(tmp_path / "none.yaml")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"data: \xff\xfe\n")
    with pytest.raises(ConfigError, match="cannot be read: 'utf-8' codec"):
        load_config(path)


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"larger than {MAX_YAML_BYTES} bytes"):
        load_config(write(tmp_path, HEAD + "#" * MAX_YAML_BYTES))


def test_the_architectures_file_works_as_it_stands(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, ARCHITECTURE))
    assert config.data.bars[0].path == tmp_path / "bars.parquet"
    assert config.data.step == pd.Timedelta("1h")
    assert (config.forecast.horizon, config.forecast.steps) == (24, 1)
    assert config.margin.level == 0.99
    assert config.backtest.start == datetime(2021, 1, 1, tzinfo=UTC)
    assert config.backtest.end == datetime(2025, 6, 29, tzinfo=UTC)
    assert config.as_of == "last"


def test_relative_paths_resolve_against_the_file_and_absolute_ones_stay(tmp_path: Path) -> None:
    text = """
data:
  bars: [one.csv, {path: ../two.csv, from: 2024-01-01, until: 2024-02-01, label: end}, /abs/three.csv]
  implied_volatility: [iv.csv]
"""
    (tmp_path / "sub").mkdir()
    data = load_config(write(tmp_path / "sub", text)).data
    assert [f.path for f in data.bars] == [
        tmp_path / "sub" / "one.csv",
        tmp_path / "sub" / "../two.csv",
        Path("/abs/three.csv"),
    ]
    assert [f.path for f in data.implied_volatility] == [tmp_path / "sub" / "iv.csv"]
    assert data.bars[1].from_ == datetime(2024, 1, 1, tzinfo=UTC)
    assert data.bars[1].label == "end"
    assert data.bars[0].label is None


@pytest.mark.parametrize("bars", ["one.csv", "{path: one.csv}", "[one.csv]"])
def test_a_single_file_needs_no_list(bars: str, tmp_path: Path) -> None:
    config = load_config(write(tmp_path, f"data: {{bars: {bars}}}\n"))
    assert [f.path for f in config.data.bars] == [tmp_path / "one.csv"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-01", datetime(2024, 5, 1, tzinfo=UTC)),
        ("2024-05-01 12:30:00", datetime(2024, 5, 1, 12, 30, tzinfo=UTC)),
        ("2024-05-01T12:30:00+02:00", datetime(2024, 5, 1, 10, 30, tzinfo=UTC)),
        ("'2024-05-01'", datetime(2024, 5, 1, tzinfo=UTC)),
        ("now", "now"),
        ("last", "last"),
    ],
)
def test_times_without_zone_are_utc(text: str, expected: object, tmp_path: Path) -> None:
    assert load_config(write(tmp_path, HEAD + f"as_of: {text}\n")).as_of == expected


@pytest.mark.parametrize("spelled", ["off", "'off'", "no"])
def test_a_bare_off_is_the_word(spelled: str, tmp_path: Path) -> None:
    sections = ["data: {source: embedded, bar: 1d}", "backtest:", f"  sensitivity:\n    mode: {spelled}"]
    sections += ["margin:", f"  tools:\n    hold: {spelled}"]
    (tmp_path / "c.yaml").write_text("\n".join(sections))
    found = load_config(tmp_path / "c.yaml")
    assert (found.backtest.sensitivity.mode, found.margin.tools.hold) == ("off", "off")


def test_without_a_floor_its_window_may_be_short() -> None:
    margin = {"floor": 0, "tail_min": 400, "floor_window": 365}
    config = Config.model_validate({"data": {"source": "embedded"}, "margin": margin})
    assert config.margin.tail_min == 400


def test_a_markets_settings_fall_back_to_those_of_its_role() -> None:
    raw = {
        "data": {"source": "embedded"},
        "margin": {"close_out": 1, "level": 0.999, "loss": "terminal"},
        "haircut": {"close_out": 48, "level": 0.99},
        "markets": {"ETH": {"role": "collateral"}, "BTC": {"close_out": 2}, "SOL": {"loss": "excursion"}},
    }
    config = parse_config(raw, folder=Path(), source="test")
    eth, btc, sol, other = (config.market(m) for m in ("ETH", "BTC", "SOL", "XRP"))
    assert (eth.role, eth.close_out, eth.level, eth.loss) == ("collateral", 48, 0.99, "terminal")
    assert (btc.close_out, btc.level, btc.loss) == (2, 0.999, "terminal")
    assert (sol.close_out, sol.loss) == (1, "excursion")
    assert (other.role, other.close_out, other.level) == ("perpetual", 1, 0.999)


def test_limits_of_the_file_are_the_domains_by_default() -> None:
    config = Config.model_validate({"data": {"source": "embedded"}})
    assert config.margin.limits.to_domain() == ChangeLimits()


@pytest.mark.parametrize(("bar", "step"), [("1h", "1h"), ("15min", "15min"), ("1d", "1D"), ("4h", "4h")])
def test_the_length_of_a_bar(bar: str, step: str) -> None:
    config = Config.model_validate({"data": {"source": "embedded", "bar": bar}})
    assert config.data.step == pd.Timedelta(step)


def test_a_configuration_cannot_be_changed() -> None:
    config = Config.model_validate({"data": {"source": "embedded"}})
    with pytest.raises(ValueError, match="frozen"):
        config.margin.level = 0.5
    assert hash(config.market("A")) == hash(config.market("A"))
