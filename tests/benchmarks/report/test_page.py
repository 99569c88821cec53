"""The page in a real browser: opens without a network, sorts by value, shows figures; nothing is injected."""

import json
import shutil
from collections.abc import Iterator
from html import escape
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from benchmarks.report.page import sort_key, write_page

EVIL = "</script><script>document.title = 'injected'</script><img src=https://example.org/x onerror=alert(1)>"
MARKDOWN = f"""# Title {EVIL}

`{EVIL}`

| network | test accuracy, % | MACs | verdict |
| --- | ---: | ---: | ---: |
| b | **86.57 ± 2.17 (n = 3)** | 96.1M | less accurate |
| a | 9.20 (n = 1) | - | not distinguishable |
| c | 86.40 | 0.855M | more accurate |
| d | 86.6 [2.3x] | 7.75T | {EVIL} |

![Accuracy against MACs](accuracy-macs.svg)

![Accuracy against latency](accuracy-latency.svg)

"""
DRAWING = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"><g><title>{}</title></g></svg>'


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page")
    for name in ("accuracy-macs", "accuracy-latency"):
        (out / f"{name}.svg").write_text(DRAWING.format(escape(EVIL)))
    return write_page(MARKDOWN, out)


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


def test_figures_are_in_the_file_with_their_tooltips(browser: webdriver.Chrome) -> None:
    drawings = browser.find_elements(By.CSS_SELECTOR, "figure > svg")
    assert [drawing.size["width"] for drawing in drawings] == [40, 40]
    titles = "return [...document.querySelectorAll('figure > svg title')].map(title => title.textContent)"
    assert browser.execute_script(titles) == [EVIL, EVIL]
    captions = browser.find_elements(By.TAG_NAME, "figcaption")
    assert [caption.text for caption in captions] == ["Accuracy against MACs", "Accuracy against latency"]


def test_nothing_is_fetched_nothing_injected_and_nothing_complained_about(browser: webdriver.Chrome) -> None:
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    fetched = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    assert {url.partition(":")[0] for url in fetched} <= {"file", "data", "blob"}
    assert browser.title == f"Title {EVIL}"
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")] == []


@pytest.mark.parametrize(
    ("cell", "key"),
    [
        ("86.20 ± 1.08 (n = 3)", 86.2),
        ("**86.57 ± 2.17 (n = 3)**", 86.57),
        ("96.1M", 96.1e6),
        ("0.855M", 0.855e6),
        ("7.75T", 7.75e12),
        ("1.5 GB", 1.5e9),
        ("2.29x", 2.29),
        ("38%", 38),
        ("(8%)", 8),
        ("(> 99%)", 99),
        ("1.2e-3", 1.2e-3),
        ("-1.68 to 2.56", -1.68),
        ("+0.35", 0.35),
        ("< 0.001", 0.001),
        ("41,859,968", 41_859_968),
        ("3, 1", 3),
        ("2 of 5", 2),
        ("-", None),
        ("ResNet-56, l1 2.32x", None),
        ("", None),
    ],
)
def test_a_cell_is_sorted_by_the_number_it_begins_with(cell: str, key: float | None) -> None:
    assert sort_key(cell) == (None if key is None else pytest.approx(key))
