"""Depth: whole residual blocks left out of a network, and a network cut at a block to get a new end."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from baselines.evidence import Evidence
from baselines.steps import Removed, Size, Steps
from compress.data import in_order, normalise
from compress.errors import UsageError
from compress.network_cost import exit_costs, part_costs
from compress.networks import Network, Spec, default_heads, evaluating, initialised
from compress.networks.blocks import BLOCKS
from compress.networks.spec import ExitSpec
from compress.training.evaluation import BATCH


def removable_blocks(spec: Spec) -> tuple[int, ...]:
    """The numbers (1-based) of the blocks each of which can be left out: residual, their shortcut the identity.

    The block that opens a stage stays, and so does the only one between two exits. Of several between two exits at
    least one has to: see `block_steps`.

    Raises:
        UsageError: it is somebody else's net, whose blocks say nothing of their shortcuts.
    """
    if spec.foreign:
        instead = "--method depth-cut" if len(spec.blocks) > 1 else "a method that removes channels, as --method l1"
        raise UsageError(
            f"blocks: {spec.arch} is somebody else's net, so which blocks it can do without is not known; use {instead}"
        )
    return tuple(
        number
        for segment in _between_exits(spec)
        if len(segment) > 1
        for number in segment
        if _is_identity(spec, number)
    )


def harm(network: Network, evidence: Evidence) -> dict[int, float]:
    """By how much the loss rises (nats) when a block alone is skipped, of every removable block.

    The loss is the mean cross-entropy on the images to judge on, of all exits as the objective weighs them, the weights
    scaled to add up to one. Every block is skipped once in the network as it is, in eval mode (Veit et al. 2016, arXiv
    1605.06431: residual networks hardly suffer from that): that skipping two may harm more than the sum is not looked
    at. What comes before a block is computed once; `evidence.macs` grows by what was.

    Raises:
        UsageError: there is no such block.
    """
    blocks, part = removable_blocks(network.spec), evidence.judging
    if not blocks:
        raise UsageError(f"blocks: {network.spec.arch} has none to leave out: each opens a stage, or an exit needs it")
    losses = torch.zeros(1 + len(blocks), len(network.spec.exits), dtype=torch.float64, device=part.labels.device)
    indices = in_order(len(part), BATCH)
    with evaluating(network), torch.inference_mode():
        for chosen, images in zip(indices, part.batches(indices), strict=True):
            normalised = normalise(images, evidence.normalisation)
            losses += _summed_losses(network, normalised, part.labels[chosen], blocks)
    evidence.macs += len(part) * _macs_of_scoring(network, blocks)
    weights = losses.new_tensor(evidence.objective.loss_weights)
    whole, *without = (losses @ (weights / weights.sum()) / len(part)).tolist()
    return {block: loss - whole for block, loss in zip(blocks, without, strict=True)}


def block_steps(network: Network, harms: Mapping[int, float]) -> Steps:
    """Blocks one by one, the least harmful first: a knob is a removable block, in their order (see `blocks_of`).

    Where all blocks between two exits could go, the most harmful has no move, so that any of the moves fit together.
    """
    spec = network.spec
    blocks = removable_blocks(spec)
    candidates = set(blocks)
    for segment in _between_exits(spec):
        if candidates.issuperset(segment):
            candidates.remove(max(segment, key=lambda block: (harms[block], block)))
    order = sorted(candidates, key=lambda block: (harms[block], block))
    whole, costs = exit_costs(network)[-1], part_costs(network)

    def size(removed: Removed) -> Size:
        gone = [costs[_name(block)] for block in blocks_of(spec, removed)]
        return Size(whole.macs - sum(cost.macs for cost in gone), whole.params - sum(cost.params for cost in gone))

    return Steps(units=(1,) * len(blocks), moves=tuple(((blocks.index(block), 1),) for block in order), size=size)


def blocks_of(spec: Spec, removed: Removed) -> tuple[int, ...]:
    """The blocks that `removed` of `block_steps` stands for."""
    return tuple(block for block, gone in zip(removable_blocks(spec), removed, strict=True) if gone)


def without_blocks(network: Network, removed_blocks: Iterable[int]) -> Network:
    """A copy without those blocks (numbered from 1), an ordinary network: blocks renumbered, exits and heads with them.

    An exit after a removed block moves to the last one left before it. In eval mode the logits are, bit for bit, those
    of the whole network with those blocks skipped. Mode, device and precision are kept.

    Raises:
        UsageError: a block cannot be left out, or all between two exits would be.
    """
    spec, gone = network.spec, set(removed_blocks)
    if unfit := sorted(gone.difference(removable_blocks(spec))):
        able = ", ".join(map(str, removable_blocks(spec))) or "none"
        raise UsageError(f"block {unfit[0]} of {spec.arch} cannot be left out; those that can: {able}")
    for number, segment in enumerate(_between_exits(spec), start=1):
        if gone.issuperset(segment):
            raise UsageError(
                f"blocks {', '.join(map(str, segment))} of {spec.arch} are all that exit {number} adds: one has to stay"
            )
    kept = [number for number in range(1, len(spec.blocks) + 1) if number not in gone]
    moved = {exit.block: sum(number <= exit.block for number in kept) for exit in spec.exits}
    left = copy.deepcopy(network)
    left.blocks = nn.ModuleList(left.blocks[number - 1] for number in kept)
    left.heads = nn.ModuleDict({str(moved[int(block)]): head for block, head in left.heads.items()})
    left.spec = dataclasses.replace(
        spec,
        blocks=tuple(spec.blocks[number - 1] for number in kept),
        exits=tuple(dataclasses.replace(exit, block=moved[exit.block]) for exit in spec.exits),
    )
    return left


def cut_steps(network: Network) -> Steps:
    """Blocks from the end on, of which one stays: the one knob is how many `cut_anew` takes off."""
    spec, blocks = network.spec, len(network.spec.blocks)
    ends = [_new_end(spec, block) for block in range(1, blocks)]
    every = _with_ends(spec, blocks, spec.exits[-1:], ends)
    costs = exit_costs(initialised(every, 0))  # one trace: an exit costs what the network cut there does

    def size(removed: Removed) -> Size:
        cost = costs[blocks - 1 - removed[0]]
        return Size(cost.macs, cost.params)

    return Steps(units=(blocks,), moves=(((0, 1),),) * (blocks - 1), size=size, lockstep=True)


def cut_anew(network: Network, block: int, seed: int) -> Network:
    """A copy that ends after `block` (1-based) with a new head there, whose weights `seed` decides.

    The head is the architecture's own for features there, also where an exit was: in somebody else's net
    `suitable_head`. Exits before it keep their heads. Mode, device and precision are kept.

    Raises:
        UsageError: there is no block to cut off after it.
    """
    spec = network.spec
    if not 1 <= block < len(spec.blocks):
        raise UsageError(
            f"block {block}: {spec.arch} has {len(spec.blocks)}, so it can be cut after 1 to {len(spec.blocks) - 1}"
        )
    earlier = [exit for exit in spec.exits if exit.block < block]
    part = initialised(_with_ends(spec, block, earlier, [_new_end(spec, block)]), seed)
    like, own = next(network.parameters()), part.state_dict()
    learnt = {name: tensor for name, tensor in network.state_dict().items() if name in own}
    own |= {name: tensor for name, tensor in learnt.items() if not name.startswith(f"heads.{block}.")}
    part.to(like.device, like.dtype).load_state_dict(own, strict=True)
    return part.train(network.training)


def _between_exits(spec: Spec) -> list[range]:
    """The numbers of the blocks up to the first exit, then of those up to the next, and so on."""
    return [range(start + 1, end + 1) for start, end in pairwise([0, *(exit.block for exit in spec.exits)])]


def _is_identity(spec: Spec, number: int) -> bool:
    """Whether a block without its branch is the identity, and none that opens a stage.

    A shortcut without a projection keeps the shape, which the spec has checked. The first stage may open with such a
    block.
    """
    block = spec.blocks[number - 1]
    return number > 1 and BLOCKS[block.kind].has_shortcut and not (block.projection or block.opens_stage)


def _name(block: int) -> str:
    return f"blocks.{block - 1}"


def _summed_losses(network: Network, images: Tensor, labels: Tensor, blocks: tuple[int, ...]) -> Tensor:
    """Cross-entropies summed over images, `(1 + blocks, exits)`: of the whole network, then without each block."""

    def loss(number: int, features: Tensor) -> list[Tensor]:
        if str(number) not in network.heads:
            return []
        return [functional.cross_entropy(network.heads[str(number)](features), labels, reduction="sum")]

    features, whole, without = network.stem(images), list[Tensor](), list[list[Tensor]]()
    for number, block in enumerate(network.blocks, start=1):
        if number in blocks:
            skipped, losses = features, [*whole, *loss(number, features)]  # earlier exits do not notice
            for later, following in enumerate(network.blocks[number:], start=number + 1):
                skipped = following(skipped)
                losses += loss(later, skipped)
            without.append(losses)
        features = block(features)
        whole += loss(number, features)
    return torch.stack([torch.stack(losses) for losses in (whole, *without)])


def _macs_of_scoring(network: Network, blocks: tuple[int, ...]) -> int:
    """MACs of `_summed_losses` for one image: the network once, and for every block what comes after it."""
    costs = part_costs(network)

    def after(number: int) -> int:
        later = [_name(block) for block in range(number + 1, len(network.blocks) + 1)]
        return sum(costs[name].macs for name in [*later, *(f"heads.{b}" for b in network.heads if int(b) >= number)])

    return costs["stem"].macs + after(0) + sum(map(after, blocks))


def _new_end(spec: Spec, block: int) -> ExitSpec:
    """The exit that a network cut after `block`, not its last one, ends with."""
    (head,) = default_heads(spec.with_exits((block, len(spec.blocks))))
    return ExitSpec(block=block, head=head)


def _with_ends(spec: Spec, blocks: int, old: Sequence[ExitSpec], new: Sequence[ExitSpec]) -> Spec:
    """The first so many blocks, with exits that were there and new ones, resized as the whole was."""
    return dataclasses.replace(
        spec,
        blocks=spec.blocks[:blocks],
        exits=tuple(sorted((*old, *new), key=lambda exit: exit.block)),
    )
