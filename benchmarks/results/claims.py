"""Claims: what a study declares before its runs. Read without what computes: training needs no statistics.

Their names are those of networks, which mean the last exit, or `NAME:EXIT` and `NAME:ensemble` for another prediction.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

from compress.ensemble_exit import ExitName, whole_and_exit
from compress.errors import UsageError, checked

MARGIN = 0.2  # points; accuracies that differ by less are equivalent


@checked
@dataclass(frozen=True, kw_only=True)
class Claim:
    """That a network, or the best of several, is more accurate than another.

    Attributes:
        claim: in words.
        of: names of networks or exits; of k the one that is best on validation images is compared, at a k-th of the
            level.
        against: one name for all of them, or one for each.
        joined: whether it belongs to the claim before it, so that both are needed.
        margin: points; where nothing is decided and the interval lies within it, the accuracies are equivalent.
        if_equivalent: what it means, in words, where this one is equivalent and all before it in its step hold.
    """

    claim: str
    of: tuple[str, ...]
    against: tuple[str, ...]
    joined: bool = False
    margin: float = MARGIN
    if_equivalent: str = ""

    def __post_init__(self) -> None:
        if not self.of or len(set(self.of)) < len(self.of):
            raise UsageError(f"primary {self.claim!r}: of names one or more different runs")
        if len(self.against) not in (1, len(self.of)):
            raise UsageError(f"primary {self.claim!r}: against names one run, or one for each of {', '.join(self.of)}")
        for name, other in self.pairs.items():
            if name == other:
                raise UsageError(f"primary {self.claim!r}: a contrast has two different runs, not {name!r} twice")
        if not 0 < self.margin < math.inf:
            raise UsageError(f"primary {self.claim!r}: margin {self.margin:g}: points above 0, as in 0.2")

    @property
    def pairs(self) -> dict[str, str]:
        """What each of the networks is compared with."""
        others = self.against * len(self.of) if len(self.against) == 1 else self.against
        return dict(zip(self.of, others, strict=True))

    @property
    def names(self) -> tuple[str, ...]:
        """All names, each once."""
        return tuple(dict.fromkeys((*self.of, *self.against)))

    @property
    def networks(self) -> tuple[str, ...]:
        """All networks that have to be there."""
        return tuple(dict.fromkeys(whole_and_exit(name)[0] for name in self.names))

    def renamed(self, rename: Callable[[str], str]) -> Claim:
        """The claim under other names."""
        of, against = (tuple(map(rename, given)) for given in (self.of, self.against))
        return dataclasses.replace(self, of=of, against=against)


def with_exit(network: str, exit: ExitName | None) -> str:
    """The name of an exit, or of the ensemble, of a network; of its last exit for None."""
    return network if exit is None else f"{network}:{exit}"
