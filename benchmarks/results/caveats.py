"""Caveats: what few seeds leave of a finding, in the words that all sections share."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.statistics.scores import ENOUGH_SEEDS

SINGLE = (
    "With one seed (n = 1) nothing is known of the scatter of training. Of two networks of one seed each, interval, p "
    "and verdict are on the trained networks as they are: they say whether these differ on such test images, and "
    "nothing of training them again, and so nothing of the methods that trained them. Of one seed and several, the "
    "interval has the scatter of the several alone."
)


def preliminary(seeds: Sequence[float]) -> str:
    """As in ``**Preliminary: 2 seeds of some networks.** ``, for so many seeds each; empty where all have enough."""
    fewest = int(min(seeds))
    if fewest >= ENOUGH_SEEDS:
        return ""
    some = " of some networks" if max(seeds) > fewest else ""
    return f"**Preliminary: {'one seed' if fewest == 1 else f'{fewest} seeds'}{some}.** "


def with_caveat(words: str, seeds: Sequence[int]) -> str:
    """A finding on networks of so many seeds each, as in ``these two trained networks: less accurate``.

    With one seed of every network it is one on trained networks, whatever the test; with few of some it is preliminary.
    """
    if max(seeds) == 1:
        return f"these{' two' if len(seeds) == 2 else ''} trained networks: {words}"
    if min(seeds) == 1:
        return f"{words} (preliminary: one seed of some networks)"
    return f"{words} (preliminary)" if min(seeds) < ENOUGH_SEEDS else words
