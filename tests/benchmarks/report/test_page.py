"""The page in a real browser: opens without a network, sorts by value, draws plots; nothing is injected."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from benchmarks import read_comparison
from benchmarks.probing.probe_file import read_probe
from benchmarks.report.figures.style import EXITS, SEPARATE, numbers, style
from benchmarks.report.hover import hover_plots
from benchmarks.report.hover_blocks import block_plots
from benchmarks.report.page import sort_key, write_page
from benchmarks.results.rows import rows, summarise
from compress.runs import METRICS, Run

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

![Elsewhere](elsewhere.svg)

![Channels kept](channels.svg)

![Probes](probe.svg)
"""
COMPARISON = Path(__file__).parents[1] / "comparison"


def summary() -> pd.DataFrame:
    """Two exits of one training of two seeds, and a network of one seed, measured by nobody."""
    shared = {"arm": "mwbp", "family": "train", "base": "MwResNet-8-2", "step": float("nan"), "params": 1e4}
    exits = {"series": "mw", "arm_key": "mw", "network": EVIL, "exits": 2, "n": 2, "total_training_macs": 1e12}
    plain = {"series": "bp", "arm_key": "bp", "network": "ResNet-14", "exits": 1, "n": 1, "total_training_macs": 2e12}
    interval = {"test_accuracy_half_width": 0.1}
    return pd.DataFrame(
        [
            shared | exits | {"exit": 1, "last": False, "macs": 1e6, "test_accuracy": 0.5} | interval,
            shared | exits | {"exit": 2, "last": True, "macs": 2e6, "test_accuracy": 0.7} | interval,
            shared | plain | {"exit": 1, "last": True, "macs": 4e6, "test_accuracy": 0.8},
        ]
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page")
    for name in ("accuracy-latency", "elsewhere"):
        (out / f"{name}.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"></svg>')
    runs = read_comparison(COMPARISON).runs
    blocks = block_plots(runs, summarise(rows(runs)), "")
    return write_page(MARKDOWN, hover_plots([], summary(), "bp", "") | blocks, out)


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
        drawn = "return document.documentElement.dataset.ready === '' && Bokeh.documents[0]?.is_idle"
        WebDriverWait(chrome, 120).until(lambda _: chrome.execute_script(drawn))
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


def test_plots_are_drawn_and_show_details(browser: webdriver.Chrome) -> None:
    sources: list[dict[str, Any]] = browser.execute_script(
        "return Bokeh.documents[0].roots()[0].renderers.filter(one => one.name === 'points')"
        ".map(one => one.data_source.data)"
    )
    assert [source["network"] for source in sources] == [[EVIL, EVIL], ["ResNet-14"]]
    assert sources[0]["test accuracy, %"] == ["50.00 ± 10.00 (n = 2)", "70.00 ± 10.00 (n = 2)"]
    assert sources[0]["exit"] == ["1 of 2", "2 of 2"]
    x, y = browser.execute_script(
        "document.querySelector('figure').scrollIntoView();"
        "const view = Bokeh.index.get_one(Bokeh.documents[0].roots()[0]);"
        "const {left, top} = view.canvas_view.el.getBoundingClientRect();"
        "return [left + view.frame.x_scale.compute(2), top + view.frame.y_scale.compute(70)];"
    )
    browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})
    texts = "const texts = (root) => [...root.querySelectorAll('*')].filter(one => one.shadowRoot)"
    texts += ".map(one => one.shadowRoot.textContent + texts(one.shadowRoot)).join(' ');"
    WebDriverWait(browser, 10).until(
        lambda _: (
            "70.00 ± 10.00 (n = 2)" in (text := browser.execute_script(f"{texts} return texts(document)"))
            and EVIL in text
        )
    )


def test_plots_of_several_panels_are_drawn(browser: webdriver.Chrome) -> None:
    shown = (
        "const found = (root) => [...root.querySelectorAll('*')].flatMap(one =>"
        " (one.shadowRoot ? found(one.shadowRoot) : []).concat(one.matches('.bk-Figure') ? [one] : []));"
        "return [...document.querySelectorAll('figure')].map(one => found(one).length)"
    )
    expected = [1, 0, 0, 1, 5]  # a plot, two files, an arm, and measures
    WebDriverWait(browser, 20).until(lambda _: browser.execute_script(shown) == expected, shown)


def test_figures_without_a_plot_are_in_the_file(browser: webdriver.Chrome) -> None:
    images = browser.find_elements(By.CSS_SELECTOR, "figure img")
    assert [(image.get_attribute("alt"), image.size["width"]) for image in images] == [
        ("Accuracy against latency", 40),
        ("Elsewhere", 40),
    ]


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


def test_a_network_has_the_colour_of_the_figures_and_latencies_are_of_one_session() -> None:
    measured = summary().assign(
        bench_session=["a", "a", "b"], latency_reference="run exit 1", latency_conditions="cpu", latency_ratio_b1=1.0
    )
    plots = hover_plots([], measured, "bp", "")

    def colours(stem: str) -> dict[str, str]:
        points: list[Any] = list(plots[stem].select(name="points"))
        return {one.data_source.data["network"][0]: one.glyph.line_color for one in points}

    mw = style(EXITS, numbers(measured)["mw"])["color"]
    assert colours("accuracy-macs") == {EVIL: mw, "ResNet-14": style(SEPARATE, 0)["color"]}
    assert colours("accuracy-latency") == {EVIL: mw}


def test_channels_and_probes_have_a_panel_an_arm_and_a_measure() -> None:
    runs = read_comparison(COMPARISON).runs
    plots = block_plots(runs, summarise(rows(runs)), "-2")
    assert {*plots} == {"channels-2", "probe-2"}

    def points(stem: str) -> list[dict[str, Any]]:
        found: list[Any] = list(plots[stem].select({"name": "points"}))
        return [one.data_source.data for one in found]

    [shares] = points("channels-2")  # one arm at one speed-up
    pruned, whole = ([run.spec for run in runs if run.record.kind == kind] for kind in ("prune", "train"))
    widths = np.mean([[block.width for block in spec.blocks] for spec in pruned], axis=0)
    assert shares["within"] == pytest.approx(widths / [block.width for block in whole[0].blocks])
    probed = [run for run in runs if read_probe(run)]
    assert probed
    drawn = [(data["run"][0], data["value"]) for data in points("probe-2")]
    for run in probed:
        accuracies = [100 * block["probe_accuracy"] for block in (read_probe(run) or {})["blocks"]]
        assert drawn.count((run.id, accuracies)) == 2  # over the share of blocks, and over layers


def test_training_curves_are_of_readable_histories(runs: list[Run], tmp_path: Path) -> None:
    records = [replace(run.record, cost=run.record.cost | {"epochs": 2}) for run in runs]
    places = [Path(shutil.copytree(run.path, tmp_path / run.id)) for run in runs]
    copies = [Run(path=path, record=record) for path, record in zip(places, records, strict=True)]
    written = json.loads((runs[0].path / METRICS).read_text())
    for run in copies:
        (run.path / METRICS).write_text(2 * '{"val_accuracy": [0.5]}\n')
    assert "training-curves" not in hover_plots(copies, summarise(rows(copies)), None, "")
    epochs = [written | {"epoch": epoch, "val_accuracy": [epoch / 4]} for epoch in (1, 2)]
    (copies[0].path / METRICS).write_text("\n".join(map(json.dumps, epochs)))
    points: list[Any] = list(
        hover_plots(copies, summarise(rows(copies)), None, "")["training-curves"].select(name="points")
    )
    assert [(one.data_source.data["network"][0], one.data_source.data["y"]) for one in points] == [
        ("ResNet-14", [25, 50])
    ]
