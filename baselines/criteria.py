"""Criteria: what the importance of a channel is measured by. Nothing heavy is imported before it is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Importance:
    """A criterion of torch-pruning's, and what it needs.

    Attributes:
        card: what it measures and where it comes from, in one line.
        make: a fresh one.
        primed: it needs gradients.
        sparse: it is meant for a network that was trained to be sparse.
    """

    card: str
    make: Callable[[], Any]
    primed: bool = False
    sparse: bool = False


def _theirs(name: str, **options: Any) -> Callable[[], Any]:
    """What makes torch-pruning's importance of that name."""

    def make() -> Any:
        import torch_pruning  # here, as importing it takes seconds

        return getattr(torch_pruning.importance, name)(**options)

    return make


IMPORTANCES: dict[str, Importance] = {
    "random": Importance(
        card="channels drawn by the seed: what any criterion has to beat",
        make=_theirs("RandomImportance"),
    ),
    "l1": Importance(
        card="sum of absolute weights over the group's layers (Li et al. 2017, arXiv 1608.08710)",
        make=_theirs("GroupMagnitudeImportance", p=1),
    ),
    "l2": Importance(
        card="sum of squared weights over the group's layers",
        make=_theirs("GroupMagnitudeImportance", p=2),
    ),
    "fpgm": Importance(
        card="distance to the layer's other filters: those near their median go (He et al. 2019, arXiv 1811.00250)",
        make=_theirs("FPGMImportance"),
    ),
    "lamp": Importance(
        card="squared weights relative to those of the group's better channels (Lee et al. 2021, arXiv 2010.07611)",
        make=_theirs("LAMPImportance"),
    ),
    "bn-scale": Importance(
        card="batch norm's scales, after sparse training: network slimming (Liu et al. 2017, arXiv 1708.06519)",
        make=_theirs("BNScaleImportance"),
        sparse=True,
    ),
    "taylor": Importance(
        card="|weight x gradient| on training images, batch norm's left out (Molchanov et al. 2019, arXiv 1906.10771)",
        make=_theirs("GroupTaylorImportance"),
        primed=True,
    ),
    "group-norm": Importance(
        card="squared weights relative to the group's largest, after sparse training: DepGraph (Fang et al. 2023, "
        "arXiv 2301.12900), as `group_sl` in the authors' reproduce/main.py",
        make=_theirs("GroupMagnitudeImportance", p=2, normalizer="max"),
        sparse=True,
    ),
}
