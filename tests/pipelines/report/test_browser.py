"""The report in a real browser: what a person sees, in the light, in the dark and on paper."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray

from pipelines.report.page import Review, build_report

BROWSER = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="needs Debian's chromium"),
]
OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--disable-dev-shm-usage", "--force-device-scale-factor=1",
]  # fmt: skip
Open = Callable[..., str]


@pytest.fixture(scope="module")
def browse(review: Review, tmp_path_factory: pytest.TempPathFactory) -> Open:
    folder = tmp_path_factory.mktemp("browser")
    page = folder / "report.html"
    page.write_text(build_report(review), encoding="utf-8")

    def run(*options: str) -> str:
        profile = tmp_path_factory.mktemp("profile")
        command = [str(BROWSER), *OPTIONS, f"--user-data-dir={profile}", *options, page.as_uri()]
        done = subprocess.run(command, check=True, capture_output=True, timeout=120)
        return done.stdout.decode()

    return run


def picture(browse: Open, path: Path, *options: str) -> NDArray[np.int64]:
    browse(f"--screenshot={path}", *options)
    return (imread(path)[:, :, :3] * 255).round().astype(np.int64)


def share(pixels: NDArray[np.int64], colour: str) -> float:
    """Share of pixels of exactly this colour."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return float((pixels == wanted).all(axis=2).mean())


def test_a_person_sees_the_page(browse: Open, tmp_path: Path) -> None:
    pixels = picture(browse, tmp_path / "light.png", "--window-size=1240,7000")
    assert share(pixels, "#ffffff") > 0.5
    for what, colour, least in (
        ("margins and forecasts", "#1f5fbf", 2e-4),
        ("margins before the limits", "#c8690a", 1e-5),
        ("breaches", "#c4232e", 1e-6),
        ("losses", "#aab4bf", 1e-3),
        ("stress events", "#f2dca6", 1e-4),
        ("a green light", "#dff3e4", 1e-4),
    ):
        assert share(pixels, colour) > least, what
    # Nothing is wider than the window: its right edge is empty from top to bottom.
    assert (pixels[:, -8:] == 255).all()


def test_it_can_be_read_in_the_dark(browse: Open, tmp_path: Path) -> None:
    pixels = picture(browse, tmp_path / "dark.png", "--window-size=1240,7000", "--force-dark-mode")
    assert share(pixels, "#14181d") > 0.5
    assert share(pixels, "#ffffff") < 1e-3
    assert share(pixels, "#6aa5f5") > 2e-4


def test_it_is_readable_on_a_telephone(browse: Open, tmp_path: Path) -> None:
    pixels = picture(browse, tmp_path / "narrow.png", "--window-size=500,6000")
    assert (pixels[:, -4:] == 255).all()


def test_it_prints(browse: Open, tmp_path: Path) -> None:
    browse(f"--print-to-pdf={tmp_path / 'report.pdf'}", "--no-pdf-header-footer")
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert content.count(b"/Type /Page\n") + content.count(b"/Type /Page ") >= 5


def test_the_browser_repairs_nothing(browse: Open, review: Review) -> None:
    """What the browser understood has the same figures and tables as what was written."""
    written, understood = build_report(review), browse("--dump-dom")
    for tag in ("<figure", "<svg", "<table", "<tr", "<td", "<section", "<li>", "<path"):
        assert understood.count(tag) == written.count(tag), tag
