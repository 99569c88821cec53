"""Escaping: whatever a record calls things, a report stays what it is."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from benchmarks.results.escaping import NAME, cell, code, inline, short_line
from compress.records import digest_of
from compress.run_ids import identify

SMALL = Path(__file__).parents[1] / "comparison"
HOSTILE = {
    "script": "</script><script>alert(1)</script><img src=x onerror=alert(1)>",
    "table": "a | b `c` **d**",
    "lines": "a\n\n# b\r\n| c |",
    "link": "[a](https://example.org) ![b](../../c.png)",
    "formula": "=cmd|' /C calc'!A0",
    "path": "../../../etc/passwd",
    "long": "x" * 5000,
    "unseen": "a\x00\x1b[31m\u202eb\uffff\udcff",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_name_in_markdown_is_the_same_text_and_nothing_else(text: str) -> None:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    table = f"| a | b |\n| --- | --- |\n| {inline(text)} | end |"
    for source, tags in ((f"# {inline(text)}", 1), (table, 4)):
        tokens = parser.parse(source)
        [*_, shown] = [token for token in tokens if token.type == "inline" and token.content != "end"]
        assert "".join(child.content for child in shown.children or ()) == short_line(text)
        assert {child.type for child in shown.children or ()} <= {"text", "text_special"}
        assert sum(token.type in ("heading_open", "th_open", "td_open") for token in tokens) == tags
    [shown] = [token for token in parser.parse(f"- {code(text)}") if token.type == "inline"]
    assert [child.type for child in shown.children or ()] == ["code_inline"]
    assert len(short_line(text)) <= NAME


def test_ordinary_names_stay_as_they_are() -> None:
    for name in (
        "ResNet-110, l1 inner uniform 2.60x (speedup 2.5)",
        "timm:vit_tiny",
        "Intel(R) Xeon(R) @ 2.10GHz (cpu)",
    ):
        assert inline(name) == short_line(name) == cell(name) == name
        assert code(name) == f"`{name}`"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@a", "\tx"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_an_id_is_the_name_of_a_directory(text: str) -> None:
    id = identify(text, text, 0, {})
    assert Path(id).name == id
    assert not id.startswith(".")
    assert id.encode()
    assert id.isprintable()
    assert len(id) < 200


def test_a_report_on_hostile_names_is_a_report(compress: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    for path in (SMALL / "runs").iterdir():
        if "_s0_" not in path.name:
            continue
        document: dict[str, Any] = json.loads((path / "run.json").read_text())
        if document["kind"] == "prune":
            document["spec"]["arch"] = document["config"]["spec"]["arch"] = document["arch"] = HOSTILE["unseen"]
        names = {"name": HOSTILE["script"], "copy": HOSTILE["formula"], "classes": [HOSTILE["path"]] * 10}
        document |= {"data": document["data"] | names, "command": HOSTILE["lines"]}
        document["environment"]["cpu"] = HOSTILE["table"]
        if document["config"]["spec"]["exits"][1:]:
            document["method"] = document["config"]["method"] = HOSTILE["formula"]
        copied = Path(shutil.copytree(path, tmp_path / "runs" / f"{path.name[:-8]}{digest_of(document['config'])}"))
        (copied / "run.json").write_text(json.dumps(document))
    status, _, err = compress("report", tmp_path / "runs", "--out", tmp_path / "out")
    assert status == 0, err
    assert "3 runs reported" in err
    markdown = (tmp_path / "out" / "report.md").read_text()
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert lines
    assert len({line.replace(r"\|", "").count("|") for line in lines if "eager fp32" in line}) == 1
    html = (tmp_path / "out" / "report.html").read_text()
    assert "<script>alert(1)" not in html
    assert "<img src=x" not in html
    with (tmp_path / "out" / "exits.csv").open(newline="") as file:
        cells = [value for row in csv.reader(file) for value in row]
    assert not [value for value in cells if value.startswith(("=", "@", "+"))]
    status, _, err = compress("report", tmp_path / "out", "--out", tmp_path / "again")
    assert status == 0, err
    assert (tmp_path / "again" / "report.md").read_text() == markdown
