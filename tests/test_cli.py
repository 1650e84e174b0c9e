"""The consumer's command, end to end: what it prints, how it ends, what it does not load."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from calibrator.cli import main
from calibrator.publish.canonical import digest
from calibrator.publish.document import (
    CollateralParameters,
    HaircutParameters,
    ParameterDocument,
    PerpetualParameters,
    PlannedMargin,
    TierParameters,
    encode,
)
from calibrator.publish.keys import create_keys
from calibrator.publish.repository import publish

ISSUED = datetime(2025, 1, 1, tzinfo=UTC)
HELD = "stale bars [red]since 2024-12-31[/red]"


def perpetual(maintenance: int, previous: int | None) -> PerpetualParameters:
    return PerpetualParameters(
        symbol="BTC-USD",
        regime="STRESS",
        stress_probability_ppm=512_000,
        volatility_ppm=31_000,
        status="fresh",
        reasons=(),
        close_out_bars=24,
        level_ppm=990_000,
        previous_ppm=previous,
        attribution={"volatility": maintenance - (previous or 0) - 100, "tail": 100},
        margins=tuple(
            TierParameters(
                notional_floor=floor,
                initial_margin_ppm=maintenance * 2,
                maintenance_margin_ppm=maintenance + floor // 1_000,
            )
            for floor in (0, 1_000_000)
        ),
        plan=tuple(
            PlannedMargin(
                effective_from=ISSUED + timedelta(days=day),
                initial_margin_ppm=120_000,
                maintenance_margin_ppm=60_000,
            )
            for day in range(1, 6)
        ),
    )


def collateral(haircut: int, previous: int | None) -> CollateralParameters:
    return CollateralParameters(
        symbol="[bold]ETH",
        regime="CALM",
        stress_probability_ppm=0,
        volatility_ppm=1,
        status="held",
        reasons=(HELD,),
        close_out_bars=24,
        level_ppm=990_000,
        previous_ppm=previous,
        attribution={"tail": haircut - (previous or 0)},
        haircut=HaircutParameters(
            haircut_ppm=haircut,
            loan_to_value_ppm=690_000,
            liquidation_threshold_ppm=720_000,
            liquidation_penalty_ppm=50_000,
            debt="USDC",
            location="mainnet",
        ),
        plan=(),
    )


def document(sequence: int, previous: bytes | None, *markets: object) -> bytes:
    fields = {
        "sequence": sequence,
        "protocol": "demo",
        "issued_at": ISSUED,
        "valid_from": ISSUED,
        "expires_at": ISSUED + timedelta(days=7),
        "previous_digest": None if previous is None else digest(previous),
        "config_digest": "b" * 64,
        "data_digest": "c" * 64,
        "model_digests": {"har": "d" * 64},
        "bar_seconds": 3_600,
        "horizon_bars": 24,
        "markets": markets,
    }
    return encode(ParameterDocument.model_validate(fields))


FIRST = document(1, None, perpetual(50_000, None), collateral(200_000, None))
SECOND = document(2, FIRST, perpetual(55_000, 50_000), collateral(195_000, 200_000))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two documents as files, and a home that has published both; the working folder of the test."""
    (tmp_path / "old.json").write_bytes(FIRST)
    (tmp_path / "new.json").write_bytes(SECOND)
    create_keys(tmp_path / "home" / "keys")
    for payload in (FIRST, SECOND):  # the command reads the clock, so the publisher has to
        publish(tmp_path / "home", payload, now=datetime.now(UTC))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


class Ran:
    def __init__(
        self, arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(sys, "argv", ["calibrator", *arguments.split()])
        with pytest.raises(SystemExit) as ended:
            main()
        self.code = ended.value.code
        self.out, self.err = capsys.readouterr()


Run = Callable[[str], Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda arguments: Ran(arguments, monkeypatch, capsys)


VERIFY = "verify home/published --trusted t"
ROOT = "--root home/published/metadata/1.root.json"


def test_verify_then_output_then_rollback(place: Path, run: Run) -> None:
    first = run(f"{VERIFY} {ROOT} --as-of 2025-01-02 --output out.json")
    assert (first.code, first.err) == (0, "")
    assert first.out.startswith("verified: demo sequence 2, 2 markets (1 held), valid 2025-01-01 00:00 to")
    assert (place / "out.json").read_bytes() == SECOND
    again = run(f"{VERIFY} --as-of 2025-01-07T23:59:59Z --protocol demo")
    assert again.code == 0
    publish_other_history(place)
    refused = run(f"{VERIFY} --as-of 2025-01-02")
    assert refused.code == 7
    assert "last good, now stale: demo sequence 2" in refused.err
    assert "calibrator: SignatureError: home/published: metadata do not verify" in refused.err
    assert "Traceback" not in refused.err


def publish_other_history(place: Path) -> None:
    (place / "home").rename(place / "gone")
    create_keys(place / "home" / "keys")
    publish(place / "home", FIRST, now=datetime.now(UTC))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("verify home/published --trusted t", 7, "t has no trusted root yet: give one (--root FILE)"),
        (f"{VERIFY} {ROOT}", 7, "parameters.json expired at 2025-01-08 00:00"),
        (f"{VERIFY} {ROOT} --protocol aave", 5, "must be meant for protocol aave, is for demo"),
        (f"verify home --trusted t {ROOT}", 8, "home must be a published folder"),
        (f"{VERIFY} {ROOT} --name x.json", 8, "holds no document called x.json"),
        (f"{VERIFY} {ROOT} --output old.json/x --as-of 2025-01-02", 8, "cannot be written"),
        (f"{VERIFY} --root nothing", 8, "nothing cannot be read: No such file"),
        (f"{VERIFY} --as-of yesterday", 2, "a time must look like 2026-01-31T00:00:00Z"),
        ("verify home/published", 2, "Missing option '--trusted'"),
        ("show http://127.0.0.1:9", 2, "an address needs to be verified"),
        ("show nothing.json", 8, "nothing.json cannot be read"),
        ("show home/keys", 8, "holds no document called parameters.json"),
        ("show home/published/metadata/1.root.json", 8, "is not canonical JSON"),
        ("diff old.json", 2, "Missing argument"),
        ("launch", 2, "No such command 'launch'"),
    ],
)  # fmt: skip
def test_an_error_is_one_line_and_an_exit_code(
    place: Path, run: Run, arguments: str, code: int, message: str
) -> None:
    ended = run(arguments)
    assert ended.code == code
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""
    assert place.is_dir()


def test_debug_shows_the_traceback(place: Path, run: Run) -> None:
    ended = run("--debug show nothing.json")
    assert (ended.code, place.is_dir()) == (8, True)
    assert "Traceback" in ended.err


def test_trust_on_first_use_is_asked_for(place: Path, run: Run) -> None:
    ended = run(f"{VERIFY} --trust-on-first-use --as-of 2025-01-02")
    assert (ended.code, (place / "t" / "anchor.json").exists()) == (0, True)


@pytest.mark.parametrize("source", ["new.json", "home", "home/published"])
def test_show_says_everything(place: Path, run: Run, source: str) -> None:
    ended = run(f"show {source}")
    assert (ended.code, ended.err, place.is_dir()) == (0, "", True)
    shown = " ".join(ended.out.split())
    for text in (
        "demo, sequence 2",
        "STALE: expired 2025-01-08 00:00 UTC",
        "never loosen",
        "STRESS",
        "1,000,000",
        "11.00%",
        "5.60%",
        "01-02 00:00 6.00%",
        "and 2 more",
        "+50 bps: volatility +49, tail +1",
        "[bold]ETH/USDC @ mainnet",
        f"HELD {HELD}",
        "-50 bps: tail -50",
    ):
        assert text in shown


def test_diff_says_what_changes_and_for_whom(place: Path, run: Run) -> None:
    ended = run("diff old.json home/published")
    assert (ended.code, ended.err, place.is_dir()) == (0, "", True)
    rows = [" ".join(line.replace("│", " ").split()) for line in ended.out.splitlines()]
    assert "BTC-USD initial margin new positions from 0 10.00% 11.00% +100 tightens" in rows
    assert "BTC-USD maintenance margin open positions from 1,000,000 5.10% 5.60% +50 tightens" in rows
    assert "[bold]ETH/USDC @ mainnet haircut value of the collateral 20.00% 19.50% -50 loosens" in rows
    assert rows[-1] == "5 changes: 4 tighten, 1 loosen"
    assert "no margin, haircut, threshold or cap changes" in run("diff new.json new.json").out


@pytest.mark.parametrize(
    "arguments", ["--help", "verify --help", "show new.json", f"{VERIFY} {ROOT} --as-of 2025-01-02"]
)
def test_the_command_loads_nothing_heavy(place: Path, arguments: str) -> None:
    heavy = "{'pandas', 'numpy', 'mlflow', 'scipy', 'sklearn', 'lightgbm', 'pandera', 'yaml', 'boto3'}"
    code = (
        "import sys, atexit\n"
        f"atexit.register(lambda: print('loaded:', sorted({heavy} & set(sys.modules))))\n"
        "from calibrator.cli import main\n"
        f"sys.argv = {['calibrator', *arguments.split()]}\n"
        "main()\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=True)
    assert ran.stdout.endswith("loaded: []\n")


def test_help_teaches_by_example(run: Run) -> None:
    for command in ("", "verify ", "show ", "diff "):
        ended = run(f"{command}--help")
        assert ended.code == 0
        assert f"    calibrator {command}" in ended.out.replace("      calibrator", "    calibrator")
