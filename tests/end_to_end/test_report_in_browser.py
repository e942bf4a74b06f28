"""The report as its readers see it: opened in a real browser, without a network."""

import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.report import compose_report, to_html
from analysis.study_tables import StudyTables
from study.commands.reporting import study_tables, write_report
from study.loading import load_study
from study.tables import DATASETS
from tests.analysis.report.reported import only, simulated
from tests.analysis.simulated_study import random_spec, write_simulated_study

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
    complaints: list[str] = field(default_factory=list)  # errors and warnings on the console


def watched(browser: Any) -> Opened:
    """A new page, and what it asks for and complains of."""
    seen = Opened(browser.new_page(viewport={"width": 1280, "height": 900}))
    seen.page.on("request", lambda request: seen.requests.append(request.url))
    seen.page.on("console", lambda message: complain(seen, message.type, message.text))
    seen.page.on("pageerror", lambda error: complain(seen, "error", str(error)))
    return seen


def complain(seen: Opened, kind: str, text: str) -> None:
    if kind in ("error", "warning"):
        seen.complaints.append(text)


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
    seen = watched(browser)
    seen.page.goto(report.as_uri())
    seen.page.wait_for_selector("body.ready", timeout=WAIT)
    yield seen
    seen.page.close()


def test_every_chart_is_drawn_without_a_network_or_a_complaint(
    opened: Opened, report: Path
) -> None:
    assert opened.page.locator("[data-figure]").count() >= 10
    assert_drawn(opened.page)
    assert opened.requests == [report.as_uri()]
    assert opened.complaints == []


def assert_drawn(page: Any) -> None:
    figures = page.locator("[data-figure]")
    for place in range(figures.count()):
        figure = figures.nth(place)
        box = figure.locator("svg.marks").bounding_box()
        assert box["width"] > 100, figure.get_attribute("data-figure")
        assert box["height"] > 30, figure.get_attribute("data-figure")
        # Axes and legends are drawn of no data, too: there have to be marks.
        assert figure.locator("[role='graphics-symbol'], [role='graphics-object'] path").count()


def described(tables: StudyTables) -> StudyTables:
    """The study with eigenvalues of its dataset."""
    row = dict.fromkeys(DATASETS.names) | {
        "dataset": "mnist",
        "dataset_fingerprint": tables.trials["dataset_fingerprint"].iloc[0],
        "total_variance": 20.0,
        "quantity": "eigenvalue",
    }
    rows = [row | {"component": place, "value": 10 / place} for place in range(1, 9)]
    return replace(tables, datasets=pd.DataFrame(rows, columns=DATASETS.names))


def kinds_of_study(folder: Path) -> dict[str, StudyTables]:
    grid = study_tables(simulated(folder))
    trials = grid.trials
    search = write_simulated_study(folder / "random", spec=random_spec(120, "random"))
    one_beta = trials[trials["beta"] == 2]
    return {
        "described": described(grid),
        "random search": study_tables(load_study(search)),
        "running": only(grid, trials.sample(frac=0.1, random_state=0)),
        "one beta, one seed": only(grid, one_beta[one_beta["seed"] == 0]),
        "short sweep": only(grid, trials[trials["latent_dim"] <= 8]),
        "one trial": only(grid, trials[trials["status"] == "completed"].head(1)),
        "all failed": only(grid, trials[trials["status"] == "failed"]),
        "control": replace(grid, trials=trials.assign(objective="no_sampling")),
    }


@pytest.mark.slow
def test_no_kind_of_study_gives_a_complaint(browser: Any, tmp_path: Path) -> None:
    complaints = {}
    for name, tables in kinds_of_study(tmp_path).items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            page = to_html(compose_report(tables))
        file = tmp_path / f"{name}.html"
        file.write_text(page, encoding="utf-8")
        seen = watched(browser)
        seen.page.goto(file.as_uri())
        seen.page.wait_for_selector("body.ready", timeout=WAIT)
        assert_drawn(seen.page)
        complaints[name] = seen.complaints
        seen.page.close()
    assert complaints == {name: [] for name in complaints}


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
    assert opened.complaints == []


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
