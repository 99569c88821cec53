"""Markdown: prose is wrapped, tables and commands are not, and wrapping makes no list of a sentence."""

import pytest
from markdown_it import MarkdownIt
from matplotlib.figure import Figure as Drawing

from benchmarks.report.markdown import WIDTH, as_markdown
from benchmarks.report.section import Block, Bullets, Figure, Section, Table, Text
from benchmarks.results.cells import Number

LONG = "word " * 40 + "word"


def test_every_block_has_its_form() -> None:
    table = Table.of(
        [{"verdict": "less", "network": "A", "MACs": Number("1M", 1e6)}, {"network": "B", "empty": "-"}], last="verdict"
    )
    blocks: list[Block] = [Text("Words."), Bullets(["a", "b"]), table, Figure("name", "A caption", Drawing())]
    assert as_markdown([Section("Title", blocks)]) == (
        "### Title\n\nWords.\n\n- a\n- b\n\n"
        "| network | MACs | verdict |\n| --- | ---: | --- |\n| A | 1M | less |\n| B | - | - |\n\n"
        "![A caption](name.svg)\n"
    )


def test_the_end_of_a_long_list_is_folded() -> None:
    text = as_markdown([Section("", [Bullets(["a", "b", "c"], shown=1)])])
    assert text.endswith("- a\n\n<details>\n<summary>2 more</summary>\n\n- b\n- c\n\n</details>\n")
    assert MarkdownIt().render(text).count("<ul>") == 2
    assert "details" not in as_markdown([Section("", [Bullets(["a", "b"], shown=2)])])


def test_prose_is_wrapped_and_nothing_else() -> None:
    wrapped = as_markdown([Section("", [Text(LONG), Bullets([LONG])])])
    assert max(map(len, wrapped.splitlines())) <= WIDTH
    assert MarkdownIt().render(wrapped).count("<li>") == 1
    kept = as_markdown([Section("", [Bullets([LONG], wrapped=False), Table({LONG: [LONG]}), Text(f"a\n{LONG}")])])
    assert kept.count(LONG) == 4


@pytest.mark.parametrize("word", ["-", "+", "*", "=", "---", "===", "1.", "1)", "2."])
def test_no_line_begins_with_what_is_a_list_or_a_heading(word: str) -> None:
    for start in range(WIDTH):
        lines = as_markdown([Section("", [Text(f"{'x' * start} {word} word {word} " * 9)])]).splitlines()[2:]
        assert not [line for line in lines if line.split(" ")[0] == word]
