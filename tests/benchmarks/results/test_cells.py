"""Cells: numbers as tables show them."""

import pytest

from benchmarks.results.cells import megabytes


@pytest.mark.parametrize(
    ("size", "shown"), [(3_417_000, "3.42 MB"), (999_400_000, "999 MB"), (1_123_400_000, "1123 MB"), (None, "-")]
)
def test_sizes_are_in_megabytes_however_large(size: float | None, shown: str) -> None:
    assert megabytes(size) == shown
