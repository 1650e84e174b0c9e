"""Champion and challenger end to end: promoted through the gates, loaded if untouched, taken back."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import yaml
from matplotlib.image import imread
from typer.testing import CliRunner, Result

from calibrator.errors import DataError
from pipelines.__main__ import app
from pipelines.champion import read_champion
from pipelines.ledger import open_ledger

BROWSER = shutil.which("chromium")
SETTINGS = {
    "data": {"bars": ["bars.parquet"], "bar": "1d", "label": "end"},
    "forecast": {
        "horizon": 1, "cadence": 1, "har_window": 400, "garch_window": 300, "learner_refit": 150,
        "garch_refit": 120, "learner_seeds": 1,
    },
    "regime": {"window": 365, "min_window": 120},
    "margin": {"close_out": 1, "tail_window": 150, "tail_min": 40, "floor_window": 150, "plan_steps": 2,
               "tiers": [0, 10_000, 50_000, 200_000]},
    "markets": {"CCC": {"role": "collateral"}},
    "backtest": {"accounts": {"count": 20}, "sensitivity": {"mode": "off"}},
    "retrain": {"shadow": 120, "draws": 199},
    "tracking": {"enabled": False},
}  # fmt: skip
OPEN = {
    "size": 0.999, "coverage_size": 1e-9, "coverage_loss": 0.5, "shortfall": 9.0, "increase": 9.0,
    "peak_to_trough": 9.0,
}  # fmt: skip
"""Gates through which anything with a smaller loss goes."""


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def furnish(folder: Path, bars: pd.DataFrame, **changes: object) -> Path:
    bars.to_parquet(folder / "bars.parquet", index=False)
    (folder / "run.yaml").write_text(yaml.safe_dump(SETTINGS | changes))
    return folder


def gates(**values: float) -> dict[str, object]:
    return {"retrain": {**SETTINGS["retrain"], "gates": values}}  # type: ignore[dict-item]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, daily: pd.DataFrame) -> Path:
    """A home in which a retraining kept the champion: the gates ask for a gain nobody has."""
    place = furnish(tmp_path_factory.mktemp("kept"), daily, **gates(min_gain=0.5))
    ended = command("retrain", "--config", place / "run.yaml", "--home", place / "home")
    assert ended.exit_code == 0, ended.output
    assert "(unchanged)" in ended.output
    return place


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory, daily: pd.DataFrame, kept: Path) -> Path:
    """The same home after a retraining through open gates."""
    place = furnish(tmp_path_factory.mktemp("promoted"), daily, **gates(**OPEN))
    shutil.copytree(kept / "home", place / "home")
    ended = command("retrain", "--config", place / "run.yaml", "--home", place / "home")
    assert ended.exit_code == 0, ended.output
    return place


def contest(place: Path) -> dict[str, object]:
    (path,) = (place / "home" / "reviews").glob("*/contest.json")
    return dict(json.loads(path.read_text()))


def test_closed_gates_keep_the_champion_and_write_it_down(kept: Path) -> None:
    found = contest(kept)
    assert found["winner"] is None
    champion = read_champion(kept / "home")
    assert champion is not None
    assert (champion.name, champion.forecast) == ("default", {})
    card = (kept / "home" / "models" / champion.id / "card.md").read_text()
    for part in ("## Data", "2021-01-02", "## Scores", "## Known failures", "SHA-256"):
        assert part in card
    (rate,) = re.findall(r"a challenger that is no better: ([\d.]+)%", card)
    assert float(rate) == pytest.approx(100 * float(found["false_promotion"]), abs=0.05)  # type: ignore[arg-type]
    assert float(rate) <= 7.5  # 30 of 400 worlds
    names = {p.name for p in (kept / "home" / "models" / champion.id).iterdir()}
    assert names >= {
        "manifest.json",
        "card.md",
        "garch_normal.json",
        "gjr_t.json",
        "lightgbm_0.txt",
        "pooled.json",
    }


def test_open_gates_promote_the_best_and_production_uses_it(promoted: Path) -> None:
    found = contest(promoted)
    champion = read_champion(promoted / "home")
    assert champion is not None
    verdicts = {v["name"]: v for v in found["verdicts"]}  # type: ignore[attr-defined]
    better = [n for n, v in verdicts.items() if v["qlike"] < v["champion_qlike"]]
    assert champion.name == found["winner"] == min(better, key=lambda n: verdicts[n]["qlike"])
    assert (
        champion.forecast
        == {"quick-weights": {"combination_memory": 0.98}, "bold-weights": {"combination_rate": 1.5}}[
            champion.name
        ]
    )
    ended = command("calibrate", "--config", promoted / "run.yaml", "--home", promoted / "home")
    assert ended.exit_code == 0, ended.output
    path = next((promoted / "home" / "runs").glob("*/forecasts.parquet"))
    rows = pd.read_parquet(path)
    ours = rows[rows["model"] == "combination"].set_index(["market", "origin"])["variance"]
    assert len(ours) > 500
    margins = {c["market"]: c["challenger_bps"] for c in verdicts[champion.name]["changes"]}
    document = json.loads(path.with_name("parameters.json").read_text())
    for market in document["markets"]:
        if market["role"] == "perpetual":
            assert market["margins"][0]["maintenance_margin_ppm"] == round(100 * margins[market["symbol"]])


def test_the_same_retraining_is_not_done_twice(promoted: Path) -> None:
    ended = command("retrain", "--config", promoted / "run.yaml", "--home", promoted / "home")
    assert ended.exit_code == 0, ended.output
    with open_ledger(promoted / "home") as ledger:
        assert len(ledger.decisions()) == 2


def test_one_command_takes_a_promotion_back_and_the_ledger_knows_when(promoted: Path, tmp_path: Path) -> None:
    place = furnish(tmp_path, pd.read_parquet(promoted / "bars.parquet"))
    shutil.copytree(promoted / "home", place / "home")
    with open_ledger(place / "home") as ledger:
        first, second = ledger.decisions()
    ended = command("rollback", "--config", place / "run.yaml", "--home", place / "home")
    assert ended.exit_code == 0, ended.output
    champion = read_champion(place / "home")
    assert champion is not None
    assert champion.id == first["model"]
    between = datetime.fromisoformat(second["decided"]) + timedelta(microseconds=1)
    asked = {first["decided"]: first, between.isoformat(): second, datetime.now(UTC).isoformat(): first}
    for at, decision in asked.items():
        said = command("live", "--home", place / "home", "--at", at)
        assert decision["model"] in said.output, at
    assert command("live", "--home", place / "home", "--at", "2000-01-01").exit_code == 3
    assert (
        command("rollback", "--config", place / "run.yaml", "--home", place / "home", "--to", "x").exit_code
        == 3
    )


def spoil(name: str) -> Callable[[Path], None]:
    def change(home: Path) -> None:
        champion = json.loads((home / "models" / "champion.json").read_text())["id"]
        path = home / "models" / (name if name == "champion.json" else f"{champion}/{name}")
        path.write_bytes(path.read_bytes()[:-40])

    return change


TAMPERED = {
    "truncated trees": (spoil("lightgbm_0.txt"), "SHA-256 must be"),
    "changed settings": (spoil("manifest.json"), "SHA-256 must be"),
    "torn pointer": (spoil("champion.json"), "cannot be read"),
    "removed card": (lambda home: next(home.glob("models/*/card.md")).unlink(), "cannot be read"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_champion_that_is_not_the_accepted_one_is_not_loaded(
    promoted: Path, tmp_path: Path, name: str
) -> None:
    change, says = TAMPERED[name]
    shutil.copytree(promoted / "home" / "models", tmp_path / "models")
    for other in (tmp_path / "models").iterdir():
        pointed = json.loads((tmp_path / "models" / "champion.json").read_text())["id"]
        if other.is_dir() and other.name != pointed:
            shutil.rmtree(other)
    change(tmp_path)
    with pytest.raises(DataError, match=says):
        read_champion(tmp_path)


BAD = {
    "unknown setting": ({"x": {"colour": "red"}}, "retrain.challengers.x: forecast.colour"),
    "out of bounds": ({"x": {"combination_memory": 2.0}}, "forecast.combination_memory"),
    "not of a kind": ({"x": {"horizon": "long"}}, "forecast.horizon"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_challenger_that_cannot_be_is_named(promoted: Path, tmp_path: Path, name: str) -> None:
    challengers, says = BAD[name]
    changed = {"retrain": {**SETTINGS["retrain"], "challengers": challengers}}  # type: ignore[dict-item]
    place = furnish(tmp_path, pd.read_parquet(promoted / "bars.parquet"), **changed)
    shutil.copytree(promoted / "home" / "walks", place / "home" / "walks")
    ended = command("retrain", "--config", place / "run.yaml", "--home", place / "home")
    assert ended.exit_code == 3, ended.output
    assert says in " ".join(ended.output.split())


def test_the_page_says_what_a_committee_asks(promoted: Path) -> None:
    ended = command("review", "--home", promoted / "home")
    assert ended.exit_code == 0, ended.output
    (page,) = (promoted / "home" / "reviews").glob("*/review.html")
    text = page.read_text()
    winner = contest(promoted)["winner"]
    for part in (
        f"Promoted: {winner}",
        "Diebold-Mariano",
        "AAA",
        "STRESS",
        "Worst days",
        "anti procyclical",
        "<svg",
    ):
        assert part in text, part
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "<script" not in text
    command("review", "--home", promoted / "home")
    assert page.read_text() == text


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="needs Debian's chromium")
def test_a_person_sees_the_page(promoted: Path, tmp_path: Path) -> None:
    command("review", "--home", promoted / "home")
    (page,) = (promoted / "home" / "reviews").glob("*/review.html")
    kept = Path(__file__).parents[2] / "screenshots"
    kept.mkdir(exist_ok=True)
    picture = kept / "review.png"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1240,4600"]
    options += ["--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND", "--no-first-run"]
    subprocess.run(
        [str(BROWSER), *options, f"--user-data-dir={tmp_path}", f"--screenshot={picture}", page.as_uri()],
        check=True, capture_output=True, timeout=240,
    )  # fmt: skip
    pixels = (imread(picture)[:, :, :3] * 255).round().astype(int)
    for what, colour, least in (
        ("the champion's lines", (0x1F, 0x5F, 0xBF), 1e-4),
        ("the challenger's lines", (0xC8, 0x69, 0x0A), 1e-4),
        ("gates that hold", (0xDF, 0xF3, 0xE4), 1e-4),
        ("losses", (0xAA, 0xB4, 0xBF), 1e-4),
    ):
        assert (pixels == colour).all(axis=2).mean() > least, what
    assert (pixels[:, -8:] == 255).all(), "wider than the window"


def test_without_a_retraining_there_is_nothing_to_review(tmp_path: Path) -> None:
    ended = command("review", "--home", tmp_path)
    assert ended.exit_code == 3
    assert "run `retrain` first" in " ".join(ended.output.split())
