"""Channel pruning of a network by torch-pruning: widths and weights out, an ordinary network back."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any, cast

import torch
import torch_pruning
from torch import Tensor, nn

from compress.errors import UsageError
from compress.networks import Network, Spec
from compress.networks.blocks import BLOCKS, Block, SegmentSpec
from compress.networks.heads import OWN

# torch_pruning.__version__ disagrees with the distribution's.
TORCH_PRUNING = metadata.version("torch-pruning")

IMPORTANCES: dict[str, Callable[[], torch_pruning.importance.Importance]] = {
    "l1": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=1),
}


@dataclass(frozen=True)
class Channel:
    """A prunable channel: those joined by residual additions are one, in the group that they form."""

    group: int
    index: int


def rank_channels(network: Network, method: str) -> list[Channel]:
    """The channels that can be removed, least important first over the whole network.

    Scores and groups are torch-pruning's. Every group's best channel is left out, so that one always stays:
    torch-pruning's own pruner leaves a group whole that its threshold would empty, so that a ratio of 0.9 may remove
    fewer channels than 0.8.
    """
    with prunable(network.spec):
        _, groups = _groups(copy.deepcopy(network))
        importance = IMPORTANCES[method]()
        with torch.no_grad():
            scores = [importance(group) for group in groups]
    return ranked(scores)


def ranked(scores: list[Tensor]) -> list[Channel]:
    """All channels of all groups but each group's best one, in the order of their scores."""
    removable = [
        (float(score), Channel(group, index))
        for group, group_scores in enumerate(scores)
        for index, score in enumerate(group_scores)
        if index != int(group_scores.argmax())
    ]
    return [channel for _, channel in sorted(removable, key=lambda one: one[0])]


def remove_channels(network: Network, channels: Iterable[Channel]) -> Network:
    """A copy without those channels, an ordinary network: rebuilt strictly from its own spec.

    It has run forward and backward once, is in eval mode and keeps device and precision.
    """
    removed: dict[int, list[int]] = {}
    for channel in channels:
        removed.setdefault(channel.group, []).append(channel.index)
    pruned = copy.deepcopy(network)
    with prunable(network.spec):
        graph, groups = _groups(pruned)
        for group, indices in removed.items():
            root = groups[group][0].dep
            graph.get_pruning_group(root.target.module, root.handler, sorted(indices)).prune()
        return _rebuild(pruned)


@contextlib.contextmanager
def prunable(spec: Spec) -> Iterator[None]:
    """Say in one line that torch-pruning cannot prune somebody else's net; in ours an error is an error."""
    try:
        yield
    except Exception as error:
        if not spec.foreign or isinstance(error, UsageError):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"{spec.arch} cannot be pruned: torch-pruning does not know one of its layers, or its code names a width "
            f"({reason})"
        ) from error


def channels_to_remove(spec: Spec, ratio: float) -> int:
    """How many channels a ratio stands for, rounded as torch-pruning does."""
    total = prunable_channels(spec)
    return total - int(total * (1 - ratio))


def prunable_channels(spec: Spec) -> int:
    """How many channels can be pruned: every block's inner ones, and once those that residual additions join.

    In somebody else's net they are counted as torch-pruning groups them.
    """
    if spec.foreign:
        with prunable(spec), torch.random.fork_rng(devices=[]):
            _, groups = _groups(Network(spec))
        return sum(len(group[0].idxs) for group in groups)
    kinds = [BLOCKS[block.kind] for block in spec.blocks]
    pairs = list(zip(spec.blocks, kinds, strict=True))
    joined = sum(block.out for block, kind in pairs if block.projection or not kind.has_shortcut)
    return spec.stem.out + joined + sum(block.width for block, kind in pairs if kind.has_width)


def _groups(network: Network) -> tuple[Any, list[Any]]:
    """torch-pruning's dependency graph of the network, and its groups of channels that can only go together."""
    graph = torch_pruning.DependencyGraph().build_dependency(network.eval(), (blank(network),))
    return graph, list(graph.get_all_groups(ignored_layers=classifiers(network)))


def classifiers(network: Network) -> list[nn.Module]:
    """The layers of all heads, and so the classes, which no pruning may touch.

    As modules: given as a type they would be ignored in silence, and the classes pruned away.
    """
    kept = _layers(network.heads)
    if network.spec.exits[-1].head == OWN and not _layers(list(network.heads.values())[-1]):
        kept.append(_layers(network.blocks[-1])[-1])  # a classifier before pooling, as SqueezeNet's
    return kept


def _layers(part: nn.Module) -> list[nn.Module]:
    return [layer for layer in part.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]


def _rebuild(pruned: Network) -> Network:
    """The pruned modules as an ordinary network: widths read off the weights, everything else as it was."""
    with torch.random.fork_rng(devices=[]):  # every weight drawn here is replaced by a pruned one
        network = Network(_resized(pruned) if pruned.spec.foreign else _narrowed(pruned))
    network.load_state_dict(pruned.state_dict(), strict=True)
    parameter = next(pruned.parameters())
    network.to(parameter.device, parameter.dtype).eval()
    _smoke_test(network)
    return network


def _narrowed(pruned: Network) -> Spec:
    """The spec of a network of ours, its widths read off the weights."""
    spec, weights = pruned.spec, pruned.state_dict()
    widths = [cast(Block, block).widths for block in pruned.blocks]
    blocks = tuple(
        dataclasses.replace(block, width=width, out=out)
        for block, (width, out) in zip(spec.blocks, widths, strict=True)
    )
    stem = dataclasses.replace(spec.stem, out=len(weights["stem.0.weight"]))
    return dataclasses.replace(spec, stem=stem, blocks=blocks)


@torch.no_grad()
def _resized(pruned: Network) -> Spec:
    """The spec of somebody else's net: shapes of features as they come out, and of all weights that changed theirs."""
    blocks, features = [], pruned.stem(blank(pruned))
    for block, segment in zip(pruned.spec.blocks, pruned.blocks, strict=True):
        assert isinstance(block, SegmentSpec)
        features = segment(features)
        positions = block.shape[:-1] if len(block.shape) == 2 else ()
        shape = (*positions, features.shape[-1]) if positions else tuple(features.shape[1:])
        blocks.append(dataclasses.replace(block, out=shape[-1 if positions else 0], shape=shape))
    spec = dataclasses.replace(pruned.spec, blocks=tuple(blocks), resized=())
    whole = Network(spec).state_dict()
    shapes = [(name, tuple(tensor.shape)) for name, tensor in pruned.state_dict().items()]
    return dataclasses.replace(
        spec, resized=tuple((name, shape) for name, shape in shapes if shape != tuple(whole[name].shape))
    )


def _smoke_test(network: Network) -> None:
    """Run a copy forward and backward: widths that do not fit would otherwise show only in training."""
    trial = copy.deepcopy(network).train()
    torch.stack(trial(blank(trial))).sum().backward()


def blank(network: Network) -> Tensor:
    """Two blank images, as batch norm in train mode needs."""
    parameter = next(network.parameters())
    return torch.zeros(2, *network.spec.input_shape, device=parameter.device, dtype=parameter.dtype)
