"""Controls: what pruning has to beat, from the pruned shape trained from scratch to the plain shallower network.

`scratch-e` and `scratch-b` train the pruned shape anew (`scratch`, `scratch_epochs`). `shallow` trains the plain
network of the same family that has the budget's size (`shallow_steps`), and `distilled` trains it with the reference as
its teacher (`DISTILLED`).
"""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from itertools import pairwise

from torch import Tensor

from baselines.steps import Removed, Size, Steps
from baselines.technique import SHAPED
from compress.errors import UsageError, nearest
from compress.network_cost import exit_costs
from compress.networks import Architecture, Network, Spec, initialised, spec_of
from compress.networks.architecture_names import parse
from compress.recipes import Recipe
from compress.training import Method
from compress.training.methods import TEMPERATURE
from compress.training.planning import DEFAULT_TEACHER_SHARE

LONGEST = 4  # times the recipe's epochs, at most, that scratch-b trains
# Half of the loss is cross-entropy, half the divergence from the teacher at temperature 4, times 4^2 (Hinton et al.
# 2015, arXiv 1503.02531, whose temperatures depend on the task; these are ours, as for every other taught network).
DISTILLED = Method(name="bp", teacher=DEFAULT_TEACHER_SHARE, temperature=TEMPERATURE)


def scratch(spec: Spec, seed: int) -> Network:
    """The network of a pruned shape, freshly initialised as for any training: the seed alone decides.

    Somebody else's net brings its own initialisation, for its own widths: of a tensor that pruning resized, the first
    so many entries are taken, and weights are multiplied by the root of inputs before / after, so that what they add
    up to keeps its variance.
    """
    network = initialised(spec, seed)
    if spec.resized:
        whole = initialised(dataclasses.replace(spec, resized=(), numbers=()), seed).state_dict()
        state = network.state_dict()
        network.load_state_dict({name: _first(whole[name], tensor) for name, tensor in state.items()}, strict=True)
    return network


def scratch_epochs(method: str, recipe: Recipe, before: float, after: float) -> int:
    """The epochs of a training from scratch, given the MACs of the reference and of the pruned network.

    ``scratch-e``: as many as the recipe's. ``scratch-b``: as many as cost what the reference's did, to the nearest, and
    at most `LONGEST` times as many. After Liu et al. 2019 (arXiv 1810.05270), who compare pruned networks with both;
    the cap is ours.

    Raises:
        UsageError: there is no such method.
    """
    if method not in SHAPED:
        raise UsageError(f"method {method!r}: {nearest(method, SHAPED)}")
    factor = min(before / after, LONGEST) if method == "scratch-b" else 1
    return max(1, round(factor * recipe.epochs))


def shallower(spec: Spec) -> list[Spec]:
    """The plain networks of the same family with fewer blocks in every stage, the deepest first; each has one exit.

    Form and widths stay, and so does the proportion of the stages: of ResNet-56 they are ResNet-50, 44, ... 8, of
    stages of 4, 4 and 6 blocks the one of 2, 2 and 3. Exits of the network itself do not matter.

    Raises:
        UsageError: it is of no such family, no longer what its name says, or the shallowest there is.
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


def shallow_steps(spec: Spec) -> Steps:
    """The family of `shallower`, deepest first: the one knob is the place in it, 0 for the network itself."""
    family = [spec, *shallower(spec)]

    @cache
    def size(removed: Removed) -> Size:
        cost = exit_costs(initialised(family[removed[0]], 0))[-1]
        return Size(cost.macs, cost.params)

    return Steps(units=(len(family),), moves=(((0, 1),),) * (len(family) - 1), size=size, lockstep=True)


def _first(whole: Tensor, like: Tensor) -> Tensor:
    """The leading part of a tensor that has another's shape, scaled by the root of the inputs that it lost."""
    part = whole[tuple(slice(size) for size in like.shape)]
    lost = part.ndim > 1 and part.shape[1] < whole.shape[1]
    return part * math.sqrt(whole.shape[1] / part.shape[1]) if lost else part


def _blocks_by_stage(spec: Spec) -> list[int]:
    """How many blocks each stage of a ResNet has: all but the first open with a projection."""
    openers = [index for index, block in enumerate(spec.blocks) if block.projection]
    return [end - start for start, end in pairwise([0, *openers, len(spec.blocks)])]
