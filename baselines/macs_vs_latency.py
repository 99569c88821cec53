"""MACs against latency: whether a pruned network's latency fell less than its MACs, and what may help."""

from __future__ import annotations

import math

from baselines.technique import DEPTH, Technique
from compress.networks import Spec

NOTICED = 1.1  # a smaller ratio of MACs may not show in latency


def lags(speedup: float, fastest: float) -> bool:
    """Whether latency fell less than by the root of the ratio of MACs.

    Args:
        speedup: MACs before / after.
        fastest: lower quartile of latency after / before.
    """
    return speedup >= NOTICED and fastest > 1 / math.sqrt(speedup)


def remedy(technique: Technique, spec: Spec) -> str:
    """Other options of ``prune`` or ``bench`` to try where a pruned network's latency lags."""
    blocks = "--method depth-cut" if spec.foreign else "--method blocks"
    if technique.choosing.method in DEPTH:
        return "another engine may gain more (compress bench RUN --engine compile)"
    rounded = "" if technique.round_to > 1 else "widths in multiples (--round-to 8) or "
    return f"narrow layers leave an engine waiting; {rounded}fewer blocks ({blocks}) may gain more"
