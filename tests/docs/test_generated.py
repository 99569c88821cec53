"""What is generated in README.md and docs/ is what the code and reports/quickstart say now."""

import pytest

from docs.generate import COPIED, FIGURE, PARTS, ROOT, generated


@pytest.mark.parametrize("page", PARTS)
def test_generated_parts_are_fresh(page: str) -> None:
    assert (ROOT / page).read_text() == generated(page), f"{page} is stale: make docs-generate"


def test_the_figure_in_the_pages_is_the_reports() -> None:
    assert COPIED.read_bytes() == FIGURE.read_bytes(), f"{COPIED} is stale: make docs-generate"
