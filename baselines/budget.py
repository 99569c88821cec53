"""Budgets: what a pruned network may cost, and the search for the ratio that meets it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from baselines.channels import Channel, channels_to_remove, rank_channels, remove_channels
from compress.cost import exit_costs
from compress.errors import UsageError
from compress.networks import Network
from compress.training.progress import console, duration

TOLERANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What is asked of pruning, one of three: a `ratio` of channels removed, a `speedup` in MACs, or `macs` left.

    Raises:
        UsageError: none or several are given, or one is out of range.
    """

    ratio: float | None = None
    speedup: float | None = None
    macs: float | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("ratio", "speedup", "macs") if getattr(self, name) is not None]
        if len(given) != 1:
            raise UsageError(f"give one of --ratio, --speedup and --macs, not {' and '.join(given) or 'none'}")
        if self.ratio is not None and not 0 < self.ratio < 1:
            raise UsageError(f"ratio {self.ratio:g}: the share of channels removed lies between 0 and 1, as in 0.5")
        if self.speedup is not None and not 1 < self.speedup < math.inf:
            raise UsageError(f"speedup {self.speedup:g}: MACs before / after must be above 1, as in 2.6")
        if self.macs is not None and not 0 < self.macs < math.inf:
            raise UsageError(f"macs {self.macs:g}: must be above 0, as in 97e6")

    @property
    def option(self) -> tuple[str, float]:
        """The option's name and value."""
        return next((name, value) for name, value in vars(self).items() if value is not None)

    def __str__(self) -> str:
        """As in ``ratio 0.5`` or ``macs 97000000``: exact, since it goes into commands."""
        name, value = self.option
        return f"{name} {int(value) if value == int(value) else value!r}"


def meet(budget: Budget, network: Network, method: str) -> Network:
    """The network pruned to the budget; MACs (of the last exit) to within 1%.

    Channels go in the order of their importance. One whose removal alone would overshoot the MACs, as one joined over
    a whole stage may, is kept, and less costly ones that come after it go instead.

    Raises:
        UsageError: the MACs cannot be met; the message names what can.
    """
    candidates = rank_channels(network, method)
    if budget.ratio is not None:
        return remove_channels(network, candidates[: channels_to_remove(network.spec, budget.ratio)])
    before = _macs(network)
    target = before / budget.speedup if budget.speedup else float(budget.macs or 0)
    if before * (1 - TOLERANCE) <= target < before:
        raise UsageError(f"{_in_words(target, before)} is what the network has, to within 1%: nothing would be pruned")
    started = time.monotonic()
    least = _macs(remove_channels(network, candidates))
    expected = 2 * len(candidates).bit_length() * (time.monotonic() - started)
    console.print(f"looking for the channels to remove: about {duration(expected)} at most")
    if not least <= target * (1 + TOLERANCE) or not target < before:
        raise UsageError(
            f"{_in_words(target, before)} cannot be reached: this network has {before:,} and can be pruned to "
            f"{_in_words(least, before)} at the least"
        )
    removed = 0  # the first so many candidates go
    while True:
        removed, nearest = _largest_prefix(network, candidates, removed, target * (1 - TOLERANCE))
        if _macs(nearest) <= target * (1 + TOLERANCE):
            return nearest
        if removed == len(candidates):
            break
        overshooting = remove_channels(network, candidates[: removed + 1])
        del candidates[removed]
    raise UsageError(
        f"{_in_words(target, before)} cannot be met to within {TOLERANCE:.0%}: the nearest are "
        f"{_in_words(_macs(nearest), before)} and {_in_words(_macs(overshooting), before)}"
    )


def _largest_prefix(network: Network, candidates: list[Channel], start: int, floor: float) -> tuple[int, Network]:
    """The most candidates, `start` or more, whose removal leaves `floor` MACs, and the network without them."""
    low, kept = start, remove_channels(network, candidates[:start])
    step, high = 1 if start else len(candidates), len(candidates)
    while low < high:  # halve; where a start is given the answer is near it, so gallop from there first
        middle = min(low + step, (low + high + 1) // 2)
        pruned = remove_channels(network, candidates[:middle])
        if _macs(pruned) >= floor:
            low, kept, step = middle, pruned, 4 * step
        else:
            high, step = middle - 1, max(1, (high - low) // 2)
    return low, kept


def _macs(network: Network) -> int:
    return exit_costs(network)[-1].macs


def _in_words(macs: float, before: int) -> str:
    return f"{macs:,.0f} MACs (a speed-up of {before / macs:.2f})"
