"""Missing runs: all are named, and many are folded."""

from benchmarks.report.markdown import as_markdown
from benchmarks.report.page import as_page
from benchmarks.report.sections.missing_runs import missing_section


def test_every_missing_run_is_named_and_from_the_eleventh_on_folded() -> None:
    failures = [f"<net>, seed {seed}: the time limit came before it" for seed in range(12)]
    section = missing_section(failures)
    assert section
    shown, _, folded = as_markdown([section]).partition("<summary>2 more</summary>")
    assert shown.count("- did not run: \\<net\\>, seed ") == 10
    assert folded.count("- did not run: \\<net\\>, seed ") == 2
    page = as_page("", [section], {})
    assert page.count("<li>did not run: &lt;net&gt;, seed ") == 12
    assert "<details><summary>2 more</summary><ul><li>did not run: &lt;net&gt;, seed 10:" in page
    few = missing_section(failures[:10])
    assert few
    assert "details" not in as_markdown([few])
    assert missing_section([]) is None
