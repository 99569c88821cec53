"""Quantities on the command line: counts, sizes, times and shares, with their units."""

import math
import re
from collections.abc import Mapping
from decimal import Decimal

from compress.errors import UsageError

COUNTS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
SIZES = {"": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
TIMES = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
DURATIONS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
SHARES = {"": 1.0, "%": 0.01}


def quantity(option: str, text: str, units: Mapping[str, float], like: str) -> float:
    """Return the number above 0 that an option says, in the unit that counts 1.

    Raises:
        UsageError: there is something else; `like` gives examples of what is allowed.
    """
    match = re.fullmatch(r"([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]{1,3})?)([a-zA-Zµ%]*)", text.replace(" ", ""))
    if not match or match[2] not in units:
        raise UsageError(f"--{option} {text}: a number with its unit, such as {like}")
    value = float(Decimal(match[1]) * Decimal(repr(units[match[2]])))  # 70 * 0.01 is above 0.7 in binary
    if not 0 < value < math.inf:
        raise UsageError(f"--{option} {text}: must be above 0")
    return value
