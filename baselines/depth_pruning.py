"""Depth pruning: residual blocks removed from a network, or all blocks behind one, which gets a new head."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from baselines.removal_order import RemovalOrder, Removed, Size
from baselines.scoring_data import ScoringData
from compress.data import in_order, normalise
from compress.errors import UsageError
from compress.network_cost import exit_costs, part_costs
from compress.networks import Network, Spec, default_heads, evaluating, initialised
from compress.networks.blocks import BLOCKS
from compress.networks.spec import ExitSpec
from compress.training.evaluation import BATCH


def removable_blocks(spec: Spec) -> tuple[int, ...]:
    """The numbers (from 1) of the blocks that can be removed: residual blocks whose shortcut is the identity.

    A block that opens a stage stays, and so does the only one between two exits. Of several between two exits at least
    one has to stay: see `block_order`.

    Raises:
        UsageError: it is a foreign net, whose shortcuts are not known.
    """
    if spec.foreign:
        instead = "--method depth-cut" if len(spec.blocks) > 1 else "a method that removes channels, as --method l1"
        raise UsageError(
            f"blocks: {spec.arch} is somebody else's net, whose residual blocks are not known; use {instead}"
        )
    return tuple(
        number
        for segment in _between_exits(spec)
        if len(segment) > 1
        for number in segment
        if _is_identity(spec, number)
    )


def harm(network: Network, scoring: ScoringData) -> dict[int, float]:
    """The rise of the loss (nats) when a block alone is skipped, for every removable block.

    The loss is the mean cross-entropy on the judging images, averaged over exits with the objective's weights. Blocks
    are skipped in eval mode (Veit et al. 2016, arXiv 1605.06431: residual networks hardly suffer from that); that
    skipping two may harm more than their sum is not considered. Features before a skipped block are computed once. The
    MACs spent are added to `scoring`.

    Raises:
        UsageError: no block can be removed.
    """
    blocks, part = removable_blocks(network.spec), scoring.judging
    if not blocks:
        raise UsageError(f"blocks: {network.spec.arch} has none to leave out: each opens a stage, or an exit needs it")
    losses = torch.zeros(1 + len(blocks), len(network.spec.exits), dtype=torch.float64, device=part.labels.device)
    indices = in_order(len(part), BATCH)
    with evaluating(network), torch.inference_mode():
        for chosen, images in zip(indices, part.batches(indices), strict=True):
            normalised = normalise(images, scoring.normalisation)
            losses += _summed_losses(network, normalised, part.labels[chosen], blocks)
    scoring.macs += len(part) * _macs_of_scoring(network, blocks)
    weights = losses.new_tensor(scoring.objective.loss_weights)
    whole, *without = (losses @ (weights / weights.sum()) / len(part)).tolist()
    return {block: loss - whole for block, loss in zip(blocks, without, strict=True)}


def block_order(network: Network, harms: Mapping[int, float]) -> RemovalOrder:
    """The removal order of blocks, the least harmful first; its structures are the removable blocks.

    Where all blocks between two exits can be removed, the most harmful has no move, so that any moves go together.
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

    return RemovalOrder(
        units=(1,) * len(blocks), moves=tuple(((blocks.index(block), 1),) for block in order), size=size
    )


def blocks_of(spec: Spec, removed: Removed) -> tuple[int, ...]:
    """The numbers of the blocks that removed units of `block_order` stand for."""
    return tuple(block for block, gone in zip(removable_blocks(spec), removed, strict=True) if gone)


def without_blocks(network: Network, removed_blocks: Iterable[int]) -> Network:
    """A copy without these blocks (numbered from 1), whose blocks, exits and heads are renumbered.

    An exit after a removed block moves to the last block before it that is left. In eval mode the logits are, bit for
    bit, those of the whole network with these blocks skipped. Mode, device and precision are kept. The blocks are
    removable, and at least one stays between two exits, as after any moves of `block_order`.
    """
    spec, gone = network.spec, set(removed_blocks)
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


def cut_order(network: Network) -> RemovalOrder:
    """The removal order of blocks from the last on; its one structure is the number that `cut_anew` cuts off."""
    spec, blocks = network.spec, len(network.spec.blocks)
    ends = [_new_end(spec, block) for block in range(1, blocks)]
    every = _with_ends(spec, blocks, spec.exits[-1:], ends)
    costs = exit_costs(initialised(every, 0))  # an exit costs what the network cut there does

    def size(removed: Removed) -> Size:
        cost = costs[blocks - 1 - removed[0]]
        return Size(cost.macs, cost.params)

    return RemovalOrder(units=(blocks,), moves=(((0, 1),),) * (blocks - 1), size=size, lockstep=True)


def cut_anew(network: Network, block: int, seed: int) -> Network:
    """A copy that ends after `block` (from 1) with a new head there, initialised from `seed`.

    The head is the architecture's own for features there, also where an exit was; in a foreign net it is
    `suitable_head`. Earlier exits keep their heads. Mode, device and precision are kept.
    """
    spec = network.spec
    earlier = [exit for exit in spec.exits if exit.block < block]
    part = initialised(_with_ends(spec, block, earlier, [_new_end(spec, block)]), seed)
    like, own = next(network.parameters()), part.state_dict()
    learnt = {name: tensor for name, tensor in network.state_dict().items() if name in own}
    own |= {name: tensor for name, tensor in learnt.items() if not name.startswith(f"heads.{block}.")}
    part.to(like.device, like.dtype).load_state_dict(own, strict=True)
    return part.train(network.training)


def _between_exits(spec: Spec) -> list[range]:
    """The numbers of the blocks up to the first exit, of those from there to the next exit, and so on."""
    return [range(start + 1, end + 1) for start, end in pairwise([0, *(exit.block for exit in spec.exits)])]


def _is_identity(spec: Spec, number: int) -> bool:
    """Whether a block without its branch is the identity, and the block opens no stage but the first."""
    block = spec.blocks[number - 1]
    return number > 1 and BLOCKS[block.kind].has_shortcut and not (block.projection or block.opens_stage)


def _name(block: int) -> str:
    return f"blocks.{block - 1}"


def _summed_losses(network: Network, images: Tensor, labels: Tensor, blocks: tuple[int, ...]) -> Tensor:
    """Cross-entropies summed over images, `(1 + blocks, exits)`: with all blocks, then with each one skipped."""

    def loss(number: int, features: Tensor) -> list[Tensor]:
        if str(number) not in network.heads:
            return []
        return [functional.cross_entropy(network.heads[str(number)](features), labels, reduction="sum")]

    features, whole, without = network.stem(images), list[Tensor](), list[list[Tensor]]()
    for number, block in enumerate(network.blocks, start=1):
        if number in blocks:
            skipped, losses = features, [*whole, *loss(number, features)]  # earlier exits do not change
            for later, following in enumerate(network.blocks[number:], start=number + 1):
                skipped = following(skipped)
                losses += loss(later, skipped)
            without.append(losses)
        features = block(features)
        whole += loss(number, features)
    return torch.stack([torch.stack(losses) for losses in (whole, *without)])


def _macs_of_scoring(network: Network, blocks: tuple[int, ...]) -> int:
    """MACs of `_summed_losses` for one image: the whole network once, and what follows each block."""
    costs = part_costs(network)

    def after(number: int) -> int:
        later = [_name(block) for block in range(number + 1, len(network.blocks) + 1)]
        return sum(costs[name].macs for name in [*later, *(f"heads.{b}" for b in network.heads if int(b) >= number)])

    return costs["stem"].macs + after(0) + sum(map(after, blocks))


def _new_end(spec: Spec, block: int) -> ExitSpec:
    """The last exit of the network cut after `block`."""
    (head,) = default_heads(spec.with_exits((block, len(spec.blocks))))
    return ExitSpec(block=block, head=head)


def _with_ends(spec: Spec, blocks: int, old: Sequence[ExitSpec], new: Sequence[ExitSpec]) -> Spec:
    """The spec of the first blocks alone, with some of its exits and new ones."""
    return dataclasses.replace(
        spec,
        blocks=spec.blocks[:blocks],
        exits=tuple(sorted((*old, *new), key=lambda exit: exit.block)),
    )
