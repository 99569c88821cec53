"""Lag: MACs that fall where latency does not, and what may help."""

from __future__ import annotations

import math

from baselines.technique import DEPTH, Technique
from compress.networks import Spec

NOTICED = 1.1  # times fewer MACs; of less, a latency may show nothing


def lags(speedup: float, fastest: float) -> bool:
    """Whether latency fell by less than the root of MACs before / after; `fastest`: the lower quartile of its ratio."""
    return speedup >= NOTICED and fastest > 1 / math.sqrt(speedup)


def remedy(technique: Technique, spec: Spec) -> str:
    """What else to try where a network that a technique gave lags, as options of ``prune``."""
    blocks = "--method depth-cut" if spec.foreign else "--method blocks"
    if technique.choosing.method in DEPTH:
        return "another engine may gain more (compress bench RUN --engine compile)"
    rounded = "" if technique.round_to > 1 else "widths in multiples (--round-to 8) or "
    return f"narrow layers leave an engine waiting; {rounded}fewer blocks ({blocks}) may gain more"
