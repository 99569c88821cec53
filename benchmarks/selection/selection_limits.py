"""Limits: what a selected network may cost at most, and how accurate it must be at least."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from compress.errors import UsageError, checked

COSTS = ("seconds", "macs", "bytes", "params")  # the first that is limited decides between networks of equal accuracy


@checked
@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on one network, each of them included; None where there is none.

    Attributes:
        macs: multiply-accumulates of an image.
        params: parameters.
        bytes: of the weights; of the quantised ONNX file in int8.
        seconds: median time of a batch.
        accuracy: the least accuracy on validation images, a fraction.

    Raises:
        UsageError: a limit that is not above 0, or an accuracy above 1.
    """

    macs: float | None = None
    params: float | None = None
    bytes: float | None = None
    seconds: float | None = None
    accuracy: float | None = None

    def __post_init__(self) -> None:
        for name, limit in vars(self).items():
            if limit is not None and not 0 < limit < math.inf:
                raise UsageError(f"limit on {name} {limit}: must be above 0")
        if self.accuracy is not None and self.accuracy > 1:
            raise UsageError(f"limit on accuracy {self.accuracy}: a fraction, such as 0.9")

    @property
    def cost(self) -> str:
        """The cost by which networks of equal accuracy are ordered: one that is limited, else MACs."""
        return next((cost for cost in COSTS if getattr(self, cost) is not None), "macs")

    def misses(self, costs: Mapping[str, float | None], accuracy: float | None) -> dict[str, float]:
        """By what factor, above 1, each limit is missed; what is not known yet misses none."""
        factors = {
            name: value / limit
            for name in COSTS
            if (limit := getattr(self, name)) is not None and (value := costs.get(name)) is not None
        }
        if self.accuracy is not None and accuracy is not None:
            factors["accuracy"] = self.accuracy / accuracy if accuracy else math.inf
        return {name: factor for name, factor in factors.items() if factor > 1}
