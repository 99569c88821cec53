"""Quantities: what a number with a unit says is the nearest float to it, so that a limit admits what equals it."""

import pytest

from compress.cli.quantities import COUNTS, SHARES, SIZES, TIMES, quantity
from compress.errors import UsageError


def test_a_percentage_is_the_share_itself() -> None:
    for percent in range(1, 100):
        assert quantity("min-accuracy", f"{percent}%", SHARES, "90%") == percent / 100


def test_units_multiply_exactly() -> None:
    assert quantity("max-macs", "1.001M", COUNTS, "30M") == 1_001_000
    assert quantity("max-bytes", "1.1KiB", SIZES, "2MB") == 1126.4
    assert quantity("max-latency", "0.7ms", TIMES, "5ms") == 0.0007
    assert quantity("max-macs", "1e-2G", COUNTS, "30M") == 1e7


@pytest.mark.parametrize("text", ["1e999", "1e-999", "0"])
def test_what_no_float_above_0_says_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="must be above 0"):
        quantity("max-macs", text, COUNTS, "30M")
