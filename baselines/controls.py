"""Controls: networks that pruning has to beat, from its own shape trained from scratch to the plain shallower network.

`scratch-e` and `scratch-b` train the pruned shape from new weights (`scratch`, `scratch_epochs`). `shallow` trains the
plain network of the same family that meets the budget (`shallow_order`), and `distilled` trains it with the reference
as its teacher (`DISTILLED`).
"""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from itertools import pairwise

from torch import Tensor

from baselines.removal_order import RemovalOrder, Removed, Size
from compress.errors import UsageError
from compress.networks import Architecture, Network, Spec, initialised, spec_of
from compress.networks.architecture_names import parse
from compress.recipes import Recipe
from compress.training import Method
from compress.training.methods import TEMPERATURE
from compress.training.planning import DEFAULT_TEACHER_SHARE

LONGEST = 4  # greatest multiple of the recipe's epochs that scratch-b trains for
# Half of the loss is cross-entropy, half the divergence from the teacher at temperature 4, times 4^2 (Hinton et al.
# 2015, arXiv 1503.02531, whose temperatures depend on the task; these are ours, as for every other taught network).
DISTILLED = Method(name="bp", teacher=DEFAULT_TEACHER_SHARE, temperature=TEMPERATURE)


def scratch(spec: Spec, seed: int, *, zero_scale: bool = False) -> Network:
    """A network of a pruned shape, newly initialised from the seed as for any training.

    A foreign net has its own initialisation, for its own widths. A tensor that pruning resized takes the leading
    entries of that, and weights are multiplied by the root of inputs before / after, so that their sums keep their
    variance.
    """
    network = initialised(spec, seed, zero_scale=zero_scale)
    if spec.resized:
        whole = initialised(dataclasses.replace(spec, resized=(), numbers=()), seed).state_dict()
        state = network.state_dict()
        network.load_state_dict({name: _first(whole[name], tensor) for name, tensor in state.items()}, strict=True)
    return network


def scratch_epochs(method: str, recipe: Recipe, before: float, after: float) -> int:
    """The epochs of a training from scratch.

    ``scratch-e``: the recipe's. ``scratch-b``: as many as cost what the reference's training did, at most `LONGEST`
    times the recipe's. After Liu et al. 2019 (arXiv 1810.05270), who compare pruned networks with both; the cap is
    ours.

    Args:
        before, after: MACs of the reference and of the pruned network.
    """
    factor = min(before / after, LONGEST) if method == "scratch-b" else 1
    return max(1, round(factor * recipe.epochs))


def shallower(spec: Spec) -> list[Spec]:
    """The plain networks of the same family with fewer blocks in every stage, the deepest first, with one exit each.

    Block form, widths and the proportion of the stages are kept: for ResNet-56 they are ResNet-50, 44, ... 8; for
    stages of 4, 4 and 6 blocks it is the network of 2, 2 and 3. The exits of `spec` do not matter.

    Raises:
        UsageError: the network has no such family, is not what its name says any more, or is the shallowest.
    """
    if spec.foreign or parse(spec.arch).family != "resnet":
        raise UsageError(f"shallow: {spec.arch} has no family of shallower networks; ResNets and wide ones have")
    named = spec_of(spec.arch, input_shape=spec.input_shape, classes=spec.classes)
    if (named.stem, named.blocks) != (spec.stem, spec.blocks):
        raise UsageError(
            f"shallow: this network is a {spec.arch} by name, but pruned or cut, and belongs to no family: take the "
            "whole one as the reference"
        )
    stages = _blocks_by_stage(spec)
    parts = math.gcd(*stages)
    if parts == 1:
        raise UsageError(
            f"shallow: no network has fewer blocks in proportion to {spec.arch}'s stages of "
            f"{', '.join(map(str, stages))}"
        )
    counts = [[count // parts * kept for count in stages] for kept in range(parts - 1, 0, -1)]
    return [
        spec_of(Architecture(spec.arch, blocks=few), input_shape=spec.input_shape, classes=spec.classes)
        for few in counts
    ]


def shallow_order(spec: Spec) -> RemovalOrder:
    """The removal order through `shallower`: its one structure is the index there, 0 for the network itself."""
    family = [spec, *shallower(spec)]

    @cache
    def size(removed: Removed) -> Size:
        return Size.of(initialised(family[removed[0]], 0))

    return RemovalOrder(units=(len(family),), moves=(((0, 1),),) * (len(family) - 1), size=size, lockstep=True)


def _first(whole: Tensor, like: Tensor) -> Tensor:
    """The leading entries of a tensor in the shape of `like`, scaled by the root of inputs before / after."""
    part = whole[tuple(slice(size) for size in like.shape)]
    lost = part.ndim > 1 and part.shape[1] < whole.shape[1]
    return part * math.sqrt(whole.shape[1] / part.shape[1]) if lost else part


def _blocks_by_stage(spec: Spec) -> list[int]:
    """The number of blocks in each stage of a ResNet; all stages but the first open with a projection."""
    openers = [index for index, block in enumerate(spec.blocks) if block.projection]
    return [end - start for start, end in pairwise([0, *openers, len(spec.blocks)])]
