"""The calibration-speed benchmark on a small share: it runs, compares equals, and writes its page."""

from datetime import date
from pathlib import Path

import numpy as np

from calibrator.calibrate.simulation import Dynamics, simulate_losses
from pipelines.benchmarks.calibration_speed import numpy_losses, run, write


def test_both_simulations_are_the_same() -> None:
    rng = np.random.default_rng(1)
    one = np.ones(3)
    world = (
        Dynamics(one * 1e-6, one * 0.1, one * 0.85, one * 1e-4),
        rng.standard_t(5, (50, 3)),
        rng.integers(0, 50, (40, 6)),
    )
    for mine, theirs in zip(simulate_losses(*world), numpy_losses(*world), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-15)


def test_the_page_has_every_part(tmp_path: Path) -> None:
    speed = run(scale=0.01)
    assert list(speed.calibration.index) == [
        "tails at 5 levels",
        "conformal step",
        "long-run floors",
        "anti-procyclical tools, margins of 8 tiers",
        "plans of 30 steps",
        "in all",
    ]
    assert (speed.simulation > 0).all().all()
    files = write(speed, home=tmp_path, made_on=date(2026, 1, 1), docs=tmp_path / "docs")
    text = files["committed table"].read_text()
    assert "times as fast as numpy's loop" in text
    assert "| plans of 30 steps |" in text
