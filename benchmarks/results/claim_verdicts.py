"""Verdicts on claims: tested in a fixed sequence, on the seeds that are complete."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.results.claims import Claim
from benchmarks.statistics.difference import ALPHA, Difference, difference
from benchmarks.statistics.paired_difference import PairedDifference
from benchmarks.statistics.scores import Scores

Decision = Literal["for", "against", "equivalent", "open"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A claim with what was found.

    Attributes:
        network, against: the pair that was compared, as the scores name them.
        given: their difference given the test images: what decides.
        over: their difference over other test images too.
    """

    claim: Claim
    network: str
    against: str
    given: PairedDifference
    over: Difference

    @property
    def confidence(self) -> float:
        """That of the interval that decides: of k networks, the one that is chosen is tested at a k-th of the level.

        A seed that does well on validation images does well on test images too, so that the best of networks that are
        equal looks better than it is.
        """
        return 1 - ALPHA / len(self.claim.of)

    @property
    def decision(self) -> Decision:
        """What the interval over seeds says of the claim; open where it says nothing."""
        low, high = self.given.interval(self.confidence)
        if low > 0:
            return "for"
        if high < 0:
            return "against"
        return "equivalent" if self.is_small else "open"

    @property
    def is_small(self) -> bool:
        """Whether two one-sided tests find the difference within the claim's margin, whatever its sign."""
        return self.given.equivalent(self.claim.margin / 100, 1 - self.confidence)

    @property
    def level(self) -> float:
        """The confidence of the interval that decided: of two one-sided tests it is the narrower one."""
        return 1 - 2 * (1 - self.confidence) if self.decision == "equivalent" else self.confidence


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of the sequence: a claim with those that are joined to it.

    Attributes:
        claims: as declared, of the names that the scores have.
        seeds: the complete blocks: those in which every network of the step has a run.
        begun: number of seeds in which some network of the step has a run.
        parts: the claims with what was found; empty where nothing can be compared.
        confirmatory: whether all steps before it were decided for; otherwise it is exploratory.
    """

    claims: tuple[Claim, ...]
    seeds: tuple[int, ...]
    begun: int
    parts: tuple[Part, ...] = ()
    confirmatory: bool = True

    @property
    def holds(self) -> bool:
        """Whether all of its claims are decided for."""
        return bool(self.parts) and all(part.decision == "for" for part in self.parts)

    @property
    def tested(self) -> tuple[Part, ...]:
        """The claims that are tested at the full level: in their order, up to the first that is not decided for.

        All of them are needed, which protects what they say together; each by itself needs those before it.
        """
        if not self.confirmatory:
            return ()
        kept = itertools.takewhile(lambda part: part.decision == "for", self.parts)
        return self.parts[: len([*kept]) + 1]

    def tests(self, part: Part) -> bool:
        """Whether a claim of it is one of those."""
        return any(part is each for each in self.tested)

    @property
    def meaning(self) -> str:
        """What the declaration says of a part that is equivalent behind parts that hold; empty where none is."""
        decisions = [part.decision for part in self.parts]
        if not decisions or decisions[-1] != "equivalent" or set(decisions[:-1]) - {"for"}:
            return ""
        return self.claims[-1].if_equivalent


def judge_claims(
    claims: Sequence[Claim], scores: Mapping[str, Scores], validation: Mapping[str, Mapping[int, float]]
) -> list[Step]:
    """The claims, step by step, each at the full level: a fixed sequence, whose first failure ends the confirmation.

    Args:
        claims: of names that the scores have, in the order declared.
        scores: of last exits, by series, and of others that claims name.
        validation: accuracies on validation images by name and seed, which alone choose among several networks.
    """
    steps: list[Step] = []
    grouped: list[list[Claim]] = []
    for claim in claims:
        if claim.joined and grouped:
            grouped[-1].append(claim)
        else:
            grouped.append([claim])
    for group in grouped:
        step = _step(tuple(group), scores, validation)
        steps.append(dataclasses.replace(step, confirmatory=all(before.holds for before in steps)))
    return steps


def _step(
    claims: tuple[Claim, ...], scores: Mapping[str, Scores], validation: Mapping[str, Mapping[int, float]]
) -> Step:
    names = list(dict.fromkeys(name for claim in claims for name in claim.names))
    found = [set(scores[name].seeds) if name in scores else set[int]() for name in names]
    seeds = tuple(sorted(set.intersection(*found)))
    parts = [_part(claim, seeds, scores, validation) for claim in claims] if seeds else []
    made = tuple(part for part in parts if part)
    return Step(
        claims=claims, seeds=seeds, begun=len(set.union(*found)), parts=made if len(made) == len(claims) else ()
    )


def _part(
    claim: Claim,
    seeds: tuple[int, ...],
    scores: Mapping[str, Scores],
    validation: Mapping[str, Mapping[int, float]],
) -> Part | None:
    """The claim with what was found; None where there are several networks and no validation images to choose on."""
    means = {name: sum(validation.get(name, {}).get(seed, math.nan) for seed in seeds) for name in claim.of}
    if len(claim.of) > 1 and any(map(math.isnan, means.values())):
        return None
    network = max(means, key=means.__getitem__) if len(means) > 1 else claim.of[0]  # of equal ones the first
    against = claim.pairs[network]
    first, second = (_only(scores[name], seeds) for name in (network, against))
    return Part(
        claim=claim,
        network=network,
        against=against,
        given=PairedDifference.of(first, second),
        over=difference(first, second),
    )


def _only(scores: Scores, seeds: tuple[int, ...]) -> Scores:
    return Scores(seeds=seeds, right=scores.right[[scores.seeds.index(seed) for seed in seeds]])
