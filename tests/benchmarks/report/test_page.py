"""The page in a real browser: opens without a network, sorts by value, shows its figures; nothing is injected."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure as Drawing
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from benchmarks.report.page import as_page
from benchmarks.report.section import Block, Bullets, Figure, Section, Table, Text
from benchmarks.results.cells import MISSING, accuracy_cell, millions, ratio
from benchmarks.results.escaping import code, inline

EVIL = "</script><script>document.title = 'injected'</script><img src=https://example.org/x onerror=alert(1)>"
SVG = '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"><title>A tip</title></svg>'
ROWS = [
    {"network": name, "test accuracy, %": accuracy_cell({**accuracy, "n": 3}), "MACs": macs, "verdict": verdict}
    for name, accuracy, macs, verdict in (
        ("b", {"test_accuracy": 0.8657, "test_accuracy_half_width": 0.0217}, millions(96.1e6), "less accurate"),
        ("a", {"test_accuracy": 0.092, "test_accuracy_half_width": np.nan}, MISSING, "*not* distinguishable"),
        ("c", {"test_accuracy": 0.864, "test_accuracy_half_width": np.nan}, millions(0.855e6), "more accurate"),
        ("d", {"test_accuracy": 0.866, "test_accuracy_half_width": np.nan}, millions(7.75e12), EVIL),
    )
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    blocks: list[Block] = [Text(code(EVIL)), Bullets([EVIL]), Table.of(ROWS), Figure("drawn", EVIL, Drawing())]
    sections = [Section(inline(f"Title {EVIL}"), level=1), Section("A section", blocks)]
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(as_page(f"Title {EVIL}", sections, {"drawn": SVG.encode()}))
    return path


@pytest.fixture(scope="module")
def browser(page: Path) -> Iterator[webdriver.Chrome]:
    """Chromium without a network, showing the page."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("chromium and chromedriver are not installed: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    offline = "--host-resolver-rules=MAP * ~NOTFOUND"
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1000", offline):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(driver)) as chrome:
        chrome.get(page.as_uri())
        ready = "return document.documentElement.dataset.ready === ''"
        WebDriverWait(chrome, 120).until(lambda _: chrome.execute_script(ready))
        yield chrome


def click(browser: webdriver.Chrome, column: int, expected: str) -> None:
    """Click on the head of the column; the rows' first letters are then as expected, a moment later."""
    browser.find_elements(By.CSS_SELECTOR, "th")[column].click()
    rows = "return [...document.querySelectorAll('tbody td:first-child')].map(cell => cell.textContent).join('')"
    WebDriverWait(browser, 20).until(lambda _: browser.execute_script(rows) == expected, expected)


@pytest.mark.parametrize(
    ("column", "upwards", "downwards"), [(1, "acbd", "dbca"), (2, "cbda", "dbca"), (0, "abcd", "dcba")]
)
def test_tables_are_sorted_by_value_and_what_is_missing_stays_last(
    browser: webdriver.Chrome, column: int, upwards: str, downwards: str
) -> None:
    click(browser, column, upwards)
    click(browser, column, downwards)


def test_figures_are_in_the_page_with_what_hovering_shows(browser: webdriver.Chrome) -> None:
    [drawing] = browser.find_elements(By.CSS_SELECTOR, "figure > svg")
    assert drawing.size == {"width": 40, "height": 30}
    [tip] = browser.find_elements(By.CSS_SELECTOR, "figure > svg > title")
    assert tip.get_attribute("textContent") == "A tip"
    assert browser.find_element(By.CSS_SELECTOR, "figcaption").text == EVIL


def test_nothing_is_fetched_nothing_injected_and_nothing_complained_about(browser: webdriver.Chrome) -> None:
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    assert {request["request"]["url"].partition(":")[0] for request in sent} <= {"file", "data", "blob"}
    assert browser.title == f"Title {EVIL}"
    assert browser.find_element(By.CSS_SELECTOR, "h1").text == f"Title {EVIL}"
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")] == []


def test_columns_of_numbers_bear_what_they_are_sorted_by(page: Path) -> None:
    text = page.read_text()
    assert '<td class="number" data-order="96100000.0">96.1M</td>' in text
    assert '<td class="number" data-order="">-</td>' in text
    assert "<td><em>not</em> distinguishable</td>" in text
    mixed = Table.of([{"a": ratio(2.5), "b": "words"}, {"a": ratio(1.5), "b": ratio(2)}])
    assert (mixed.numeric("a"), mixed.numeric("b")) == (True, False)
