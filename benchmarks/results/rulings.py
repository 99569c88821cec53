"""Rulings: what the primary contrasts say of each pair of networks that they compared. Other sections repeat it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks.results.claim_verdicts import Step
from benchmarks.statistics.scores import ENOUGH_SEEDS

SIGNS = {"for": 1, "against": -1}  # of a decision; any other shows neither network to be the better one


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """What a step says of a pair.

    Attributes:
        step: its number.
        sign: 1 where the first network is shown to be the more accurate, -1 where the other is, 0 where neither is.
        undecided: what is said where neither is, as in ``open``.
        caveat: what few seeds leave of it, as in `` (preliminary)``.
    """

    step: int
    sign: int
    undecided: str
    caveat: str = ""

    @property
    def reversed(self) -> Ruling:
        """What it says of the second network and the first."""
        return replace(self, sign=-self.sign)

    def __str__(self) -> str:
        """As in ``primary contrast 1: open (preliminary)``."""
        words = {1: "more accurate", -1: "less accurate"}.get(self.sign, self.undecided)
        return f"primary contrast {self.step}: {words}{self.caveat}"


def rulings(steps: Sequence[Step]) -> dict[tuple[str, str], Ruling]:
    """The ruling on every pair of exits, in both orders; on a pair of several claims the first one's.

    Steps behind one that is not decided for rule on nothing: their pairs are judged as any other that is exploratory.
    """
    found: dict[tuple[str, str], Ruling] = {}
    confirmatory = [(number, step) for number, step in enumerate(steps, start=1) if step.confirmatory]
    for number, step in confirmatory:
        for pair, ruling in _of_step(number, step):
            found.setdefault(pair, ruling)
            found.setdefault(pair[::-1], ruling.reversed)
    return found


def _of_step(number: int, step: Step) -> Iterator[tuple[tuple[str, str], Ruling]]:
    """The pairs that were tested; all that were declared where none could be compared."""
    if not step.parts:
        for claim in step.claims:
            for pair in claim.pairs.items():
                yield pair, Ruling(step=number, sign=0, undecided="not compared")
    early = " (preliminary)" if len(step.seeds) < ENOUGH_SEEDS else ""
    for part in step.tested:
        equivalent = part.decision == "equivalent"
        yield (
            (part.network, part.against),
            Ruling(
                step=number,
                sign=SIGNS.get(part.decision, 0),
                undecided=f"equivalent within {part.claim.margin:g} points" if equivalent else "open",
                caveat=early,
            ),
        )
