"""The report as its readers see it: opened in a real browser, without a network."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from study.reporting import write_report
from tests.analysis.report.reported import simulated

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)

WAIT = 20_000  # ms; a busy machine takes five

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no browser: install Debian's `chromium` (or Chrome) to run this"
)


@dataclass
class Opened:
    page: Any
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    return Path(write_report(simulated(folder), folder / "report.html"))


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Opened]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    seen = Opened(page)
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("console", lambda message: message.type == "error" and seen.errors.append(message.text))
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.goto(report.as_uri())
    page.wait_for_selector("body.ready", timeout=WAIT)
    yield seen
    page.close()


def test_every_chart_is_drawn_without_a_network_or_an_error(opened: Opened, report: Path) -> None:
    page = opened.page
    figures = page.locator("[data-figure]")
    assert figures.count() >= 10
    for place in range(figures.count()):
        figure = figures.nth(place)
        box = figure.locator("svg.marks").bounding_box()
        assert box["width"] > 100, figure.get_attribute("data-figure")
        assert box["height"] > 30, figure.get_attribute("data-figure")
        # Axes and legends are drawn of no data, too: there have to be marks.
        assert figure.locator("[role='graphics-symbol'], [role='graphics-object'] path").count()
    assert opened.requests == [report.as_uri()]
    assert opened.errors == []


def test_a_chart_has_tooltips(opened: Opened) -> None:
    chart = opened.page.locator("[data-figure='rate-distortion']")
    chart.locator("path[aria-roledescription='point']").first.hover(force=True)
    tooltip = opened.page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for(timeout=5000)
    assert "test ELBO" in tooltip.inner_text()
    assert "trial_id" in tooltip.inner_text()


def rows(page: Any) -> int:
    return int(page.locator("#shown").inner_text().split()[0])


def column(page: Any, name: str) -> list[str]:
    headings = page.locator("#trials-table th").all_inner_texts()
    place = [heading.strip() for heading in headings].index(name) + 1
    texts: list[str] = page.locator(f"#trials-table tbody td:nth-child({place})").all_inner_texts()
    return texts


def test_trials_can_be_filtered(opened: Opened) -> None:
    page = opened.page
    assert rows(page) == 200
    page.fill("#filter", "conv latent_dim=16 beta=2")
    assert 0 < rows(page) < 50
    assert set(column(page, "latent_dim")) == {"16"}
    assert set(column(page, "beta")) == {"2"}
    assert all("conv" in name for name in column(page, "architecture"))
    page.fill("#filter", "no such thing")
    assert rows(page) == 0
    page.fill("#filter", "")
    page.select_option("#status", "failed")
    assert set(column(page, "status")) == {"failed"}


def test_trials_can_be_sorted(opened: Opened) -> None:
    page = opened.page
    page.select_option("#status", "completed")
    heading = page.locator("#trials-table th", has_text="test_kl")
    heading.click()
    rising = [float(text) for text in column(page, "test_kl")]
    heading.click()
    falling = [float(text) for text in column(page, "test_kl")]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    assert falling[0] > rising[-1]


def test_pages_hold_each_trial_once(opened: Opened) -> None:
    page, seen = opened.page, []
    while True:
        seen += page.locator("#trials-table tbody tr").evaluate_all(
            "rows => rows.map((row) => row.dataset.trial)"
        )
        if page.locator("#next").is_disabled():
            break
        page.click("#next")
    assert len(seen) == len(set(seen)) == 200


def test_a_trial_leads_to_its_units(opened: Opened) -> None:
    page = opened.page
    page.select_option("#status", "completed")
    latent_dim = int(column(page, "latent_dim")[0])
    link = page.locator("#trials-table tbody a").first
    trial_id = link.get_attribute("title")
    link.click()
    page.locator("#trial-chart svg.marks").wait_for(timeout=10_000)
    assert trial_id in page.locator("#trial-title").inner_text()
    assert page.locator("#units-table tbody tr").count() == latent_dim
    assert opened.errors == []


def test_a_link_to_a_trial_opens_it(browser: Any, opened: Opened, report: Path) -> None:
    trial_id = opened.page.locator("#trials-table tbody tr").last.get_attribute("data-trial")
    page = browser.new_page()
    page.goto(f"{report.as_uri()}#trial-{trial_id}")
    page.wait_for_selector("body.ready", timeout=WAIT)
    assert trial_id in page.locator("#trial-title").inner_text()
    page.close()


def test_print_leaves_controls_out(opened: Opened) -> None:
    opened.page.emulate_media(media="print")
    assert not opened.page.locator(".controls").is_visible()
    assert opened.page.locator("#answer").is_visible()
