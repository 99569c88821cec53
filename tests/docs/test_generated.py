"""What is generated in README.md and docs/ is what the code and reports/quickstart say now."""

import pytest

from docs.generate import COPIED, FIGURE, PARTS, ROOT, generated, results


@pytest.mark.parametrize("page", PARTS)
def test_generated_parts_are_fresh(page: str) -> None:
    assert (ROOT / page).read_text() == generated(page), f"{page} is stale: make docs-generate"


def test_the_readme_begins_with_what_the_small_headline_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """In its place stands a small report that declares a contrast."""
    monkeypatch.setattr("docs.generate.WINNER", ROOT / "reports" / "none")
    monkeypatch.setattr("docs.generate.HEADLINE", ROOT / "tests" / "benchmarks" / "comparison")
    shown = results()
    assert shown.startswith(
        "![A small comparison: test accuracy against MACs](tests/benchmarks/comparison/accuracy-macs.svg)"
    )
    assert "Real records of networks that are far too small" in shown
    assert "- 1. the primary contrast: **open**." in shown
    assert "| MwResNet-8-2 (exit 2) |" in shown
    monkeypatch.setattr("docs.generate.HEADLINE", ROOT / "reports" / "none")
    assert "fashion-mini" in results()


def test_the_figure_in_the_pages_is_the_reports() -> None:
    assert COPIED.read_bytes() == FIGURE.read_bytes(), f"{COPIED} is stale: make docs-generate"
