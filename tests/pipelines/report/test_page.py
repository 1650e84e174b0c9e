"""The report: what a risk committee looks for is there, once, escaped, and the same in every run."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from calibrator.publish.document import CollateralParameters, PerpetualParameters
from pipelines.report import tables
from pipelines.report.canvas import THEMED, Drawing, slug
from pipelines.report.figures import draw, png_files
from pipelines.report.page import Review, build_report
from pipelines.report.words import explain_market, ppm

SECTIONS = [
    "proposal", "plan", "forecast", "margins", "procyclicality", "policies", "portfolio", "stress", "events",
    "accounts", "data", "identity",
]  # fmt: skip
VOID = {"meta", "br"}


class Page(HTMLParser):
    """Collects what a reader and a browser see; refuses tags that are left open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    def ids(self) -> list[str]:
        return [attrs["id"] or "" for _, attrs in self.tags if "id" in attrs]


@pytest.fixture(scope="module")
def drawings(review: Review) -> tuple[Drawing, ...]:
    return draw(review)


@pytest.fixture(scope="module")
def html(review: Review, drawings: tuple[Drawing, ...]) -> str:
    return build_report(review, drawings=drawings)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


@pytest.fixture(scope="module")
def words(page: Page) -> str:
    return " ".join(" ".join(page.text).split())


def test_every_section_and_identifier_is_there_once(page: Page) -> None:
    assert page.open == []
    assert [i for i in page.ids() if i in SECTIONS] == SECTIONS
    assert len(page.ids()) == len(set(page.ids()))
    targets = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert [t for t in targets if t and t.removeprefix("#") not in page.ids()] == []


def test_nothing_leaves_the_page_and_nothing_runs(page: Page, html: str) -> None:
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "img", "object", "image"})
    namespaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\"'\s<>)]+", html)) == namespaces
    assert "@import" not in html
    assert set(re.findall(r"url\((.)", html)) == {"#"}


def test_names_are_escaped_wherever_they_stand(html: str, page: Page, words: str) -> None:
    assert "<b>" not in html
    assert ("b", {}) not in page.tags
    assert "<b>&$x_1$, long:" in words


def test_figures_refer_only_to_their_own_definitions(page: Page, html: str) -> None:
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", html))
    assert used - set(page.ids()) == set()


def test_every_figure_says_what_it_shows(drawings: tuple[Drawing, ...], page: Page) -> None:
    labels = [(attrs["aria-label"] or "").replace("\u00a0", " ") for tag, attrs in page.tags if tag == "svg"]
    assert sorted(labels) == sorted(d.alt for d in drawings)
    assert all(len(d.alt) > 40 and d.title for d in drawings)
    for d in drawings:
        shown = "".join(ET.fromstring(d.svg()).itertext())  # noqa: S314 - made here
        assert "%" in shown


def test_every_market_and_side_has_its_figures(review: Review, drawings: tuple[Drawing, ...]) -> None:
    names = {d.name for d in drawings}
    for market in review.markets:
        own = slug(market)
        assert {f"{kind}-{own}" for kind in ("volatility", "stress", "plan")} <= names
        assert f"margin-{own}-long" in names
        assert (f"margin-{own}-short" in names) == (market != "SOLUSDT")


def test_every_breach_is_marked(review: Review, drawings: tuple[Drawing, ...]) -> None:
    margins = review.backtest.margins
    for market in review.markets:
        own = margins[(margins["market"] == market) & (margins["side"] == "long")]
        figure = next(d for d in drawings if d.name == f"margin-{slug(market)}-long").figure
        marked = figure.axes[0].collections[0].get_offsets()
        hits = own.sort_values("origin").query("loss > margin")["loss"]
        assert np.allclose(np.asarray(marked)[:, 1], hits)
        assert len(hits) > 0


def test_the_colours_of_the_page_are_its_themes(html: str) -> None:
    drawn = html[html.index("<svg") :]
    assert [c for c in THEMED if c in drawn] == []
    used = set(re.findall(r"var\(--(\w+)\)", html))
    defined = set(re.findall(r"--(\w+):", html))
    assert used <= defined
    themes = re.findall(r":root \{([^}]*)\}", html)
    assert len(themes) == 3
    assert all(f"--{name}:" in theme for theme in themes for name in THEMED.values())


def test_what_is_proposed_stands_on_the_page(review: Review, words: str) -> None:
    shown = words.replace("\u00a0", " ")
    for market in review.document.markets:
        assert explain_market(market).replace("\u00a0", " ") in shown
        if isinstance(market, PerpetualParameters):
            wanted = [market.margins[0].maintenance_margin_ppm, market.margins[0].initial_margin_ppm]
        else:
            assert isinstance(market, CollateralParameters)
            wanted = [market.haircut.loan_to_value_ppm, market.haircut.liquidation_threshold_ppm]
        assert all(ppm(value).replace("\u00a0", " ") in shown for value in wanted)
    assert review.document.data_digest in shown
    assert "missing price" in shown
    assert "Eurex, equity index, 2022 (published)" in shown


def test_simulated_accounts_are_called_simulated(page: Page, words: str) -> None:
    assert ("span", {"class": "stamp"}) in page.tags
    after = words[words.index("SIMULATED") :]
    assert after.startswith("SIMULATED Nobody's positions: 400 accounts drawn")


def test_expected_misses_are_listed_as_such(review: Review) -> None:
    listed = {row[1]: row[3] for row in tables.events(review).rows}
    assert listed["USDC depeg"] == "expected miss"
    assert listed["FTX"] == ""
    assert "Volmageddon" not in listed


def test_an_event_counts_the_decisions_whose_close_out_touches_it(review: Review) -> None:
    row = next(r for r in tables.events(review).rows if r[1] == "August 2023")
    margins = review.backtest.margins
    days = pd.to_datetime(["2023-08-17", "2023-08-18"], utc=True)
    assert int(row[4]) == int(margins["origin"].isin(days).sum())


def test_the_traffic_light_is_a_word_and_a_colour(review: Review, html: str) -> None:
    coverage = review.backtest.coverage.assign(zone=["red", "yellow", "green", "green", "green"])
    shown = build_report(
        replace(review, backtest=replace(review.backtest, coverage=coverage)), drawings=draw(review)
    )
    assert [shown.count(f'<tr class="zone-{z}">') for z in ("red", "yellow", "green")] == [1, 1, 3]
    assert shown != html


def test_equal_runs_give_equal_bytes(review: Review, html: str, drawings: tuple[Drawing, ...]) -> None:
    again = draw(review)
    assert build_report(review, drawings=again) == html
    assert png_files(again[:4]) == png_files(drawings[:4])


def test_drawing_a_picture_leaves_the_page_as_it_was(drawings: tuple[Drawing, ...]) -> None:
    before = drawings[0].svg()
    picture = drawings[0].png()
    assert picture.startswith(b"\x89PNG")
    assert imread(BytesIO(picture)).shape[1] > 1000
    assert drawings[0].svg() == before


def test_many_markets_get_small_multiples(review: Review, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ALL_IN_DETAIL": 2, "LARGEST": 1, "WORST": 1}.items():
        monkeypatch.setattr(f"pipelines.report.review.{name}", value)
    assert len(review.detailed()) == 2
    (other,) = set(review.markets) - set(review.detailed())
    made = draw(review)
    assert not any(d.name == f"volatility-{slug(other)}" for d in made)
    multiples = next(d for d in made if d.name == "margins-all")
    assert "other 1 markets" in multiples.title
    page = Page(build_report(review, drawings=made))
    assert "figure-margins-all" in page.ids()


def test_a_market_that_is_held_over_is_shown_without_decisions(review: Review) -> None:
    first = review.document.markets[0]
    held = first.model_copy(update={"symbol": "AAA", "status": "held", "reasons": ("no data",), "plan": ()})
    document = review.document.model_copy(update={"markets": (held, *review.document.markets)})
    row = tables.perpetuals(replace(review, document=document)).rows[0]
    assert row[0] == "AAA"
    assert row[4:6] == ["-", "-"]
    assert row[-1] == "held"
    assert tables.plan(replace(review, document=document)).rows[0][2:] == ["-"] * 5


@pytest.mark.parametrize("origins", [1, 2, 40])
def test_a_short_backtest_has_a_page_too(review: Review, origins: int) -> None:
    last = np.sort(review.backtest.margins["origin"].unique())[-origins]
    margins = review.backtest.margins[review.backtest.margins["origin"] >= last]
    made = {
        m: replace(d, table=d.table.iloc[-origins:], path=d.path[-origins:])
        for m, d in review.production.decisions.items()
    }
    short = replace(
        review,
        production=replace(review.production, decisions=made),
        backtest=replace(review.backtest, margins=margins, replays=None, population=None, summary={}),
        findings=review.findings.iloc[:0],
    )
    page = Page(build_report(short))
    assert [i for i in page.ids() if i in SECTIONS] == SECTIONS
    assert "The data gate found nothing to report." in " ".join(page.text)
