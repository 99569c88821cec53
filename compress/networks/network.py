"""The network class: a stem, blocks, and one or more exits, at which it can be cut."""

import copy
import dataclasses
import hashlib
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from compress.errors import UsageError, checked
from compress.networks.blocks import BLOCKS, Block, NormLastBlock
from compress.networks.foreign.parts import foreign_parts
from compress.networks.heads import HEADS, OWN
from compress.networks.shared_head import SHARED, SharedHead, standalone
from compress.networks.spec import Spec
from compress.networks.stems import STEMS


@checked
class Network(nn.Module):
    """A trunk of blocks with one or more exits, built from its `Spec`.

    Maps normalised images `(N, C, H, W)` to a list of logits `(N, classes)`, one per exit, shallow to deep; the last
    exit is `[-1]`.

    Attributes:
        numbers: for a foreign network, attributes that count channels or heads and follow from no weight's shape.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        self.stem: nn.Module
        self.numbers: dict[str, int] = {}
        own_head = nn.Module()
        if spec.foreign:
            parts = foreign_parts(spec)
            self.stem, own_head, self.numbers = parts.stem, parts.head, parts.numbers
            self.blocks = nn.ModuleList(parts.segments)
        else:
            self.stem = STEMS[spec.stem.kind](spec.input_shape[0], spec.stem.out)
            inputs = [spec.stem.out, *(block.out for block in spec.blocks)]
            self.blocks = nn.ModuleList(
                BLOCKS[block.kind](width, block) for width, block in zip(inputs, spec.blocks, strict=False)
            )
        # Keyed by block number, so weights keep their names when the network is cut.
        self.heads = nn.ModuleDict()
        if spec.exits[-1].head == SHARED:
            raise UsageError(f"{spec.arch}: the last head is {SHARED}: it is one of a network that was cut there")
        for exit, shape in zip(spec.exits, (spec.shapes[exit.block - 1] for exit in spec.exits), strict=True):
            if exit.head == SHARED:
                self.heads[str(exit.block)] = nn.Identity()  # until the last head is there
                continue
            head = own_head if exit.head == OWN else HEADS[exit.head](shape, spec.classes, exit.width)
            self.heads[str(exit.block)] = head
        for exit in [exit for exit in spec.exits if exit.head == SHARED]:
            later: list[Any] = list(self.blocks[exit.block :])
            self.heads[str(exit.block)] = SharedHead((block.shortcut_alone for block in later), head)
        for part in [head for head in self.heads.values() if head is not own_head] if spec.foreign else [self]:
            part.apply(_initialise)  # a foreign network has initialised itself

    def forward(self, images: Tensor, trunk_share: Tensor | None = None) -> list[Tensor]:
        """The logits of every exit.

        Args:
            trunk_share: share of the gradients of auxiliary exits, 0-dim, that goes on into the trunk; None: all.
        """
        logits: dict[int, Tensor] = {}
        waiting: dict[int, Tensor] = {}
        features = self.stem(images)
        for number, block in enumerate(self.blocks, start=1):
            features = block(features)
            if str(number) in self.heads:
                head, share = self.heads[str(number)], trunk_share if number < len(self.blocks) else None
                if isinstance(head, SharedHead):
                    waiting[number] = features
                else:
                    logits[number] = head(features if share is None else _shared(features, share))
        for number, features in waiting.items():  # after the trunk's pass has set the statistics of its batch norms
            found = self.heads[str(number)](features)
            logits[number] = found if trunk_share is None else _shared(found, trunk_share)
        return [logits[number] for number in sorted(logits)]

    def segments(self, ends: Sequence[int]) -> list[nn.ModuleList]:
        """Split the trunk after these blocks (ascending, up to the last); the stem is in the first segment."""
        segments = [self.blocks[start:stop] for start, stop in pairwise([0, *ends])]
        segments[0].insert(0, self.stem)
        return segments

    def drop_blocks(self, rate: float) -> None:
        """Use stochastic depth in training: block l of L drops its branch with probability `rate` * l / L.

        Raises:
            UsageError: the network has no residual blocks.
        """
        residual = [block for block in self.blocks if isinstance(block, Block) and block.has_shortcut]
        if rate and not residual:
            raise UsageError(f"stochastic-depth {rate:g}: {self.spec.arch} has no residual blocks of ours to leave out")
        for number, block in enumerate(self.blocks, start=1):
            if block in residual:
                block.drop = rate * number / len(self.blocks)


def _shared(features: Tensor, share: Tensor) -> Tensor:
    """The same features (or logits), bit for bit, that pass on a share of their gradient."""
    return features.detach().lerp(features, share.to(features.dtype))


def initialised(spec: Spec, seed: int, *, zero_scale: bool = False) -> Network:
    """A network with initial weights drawn from a random seed; the global random state does not change.

    With `zero_scale` the scale of every norm-last block's last batch norm is zero: the blocks begin as the identity.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(spec)
    for block in network.blocks:
        if zero_scale and isinstance(block, NormLastBlock):
            nn.init.zeros_(block.norm3.weight)
    return network


@checked
def cut(network: Network, exit: int) -> Network:
    """Return the network up to `exit` (1-based): a copy of the blocks up to it, and its head.

    In eval mode and at the same precision, its logits equal those of `exit` in the whole network bit for bit.

    Raises:
        UsageError: the network has no such exit.
    """
    exits = network.spec.exits
    if not 1 <= exit <= len(exits):
        raise UsageError(f"exit {exit}: {network.spec.arch} has exits 1 to {len(exits)}")
    last = exits[exit - 1]
    part = copy.deepcopy(network)  # keeps mode, device, precision and memory format, and draws no random number
    del part.blocks[last.block :]
    for block in [block for block in part.heads if block != str(last.block)]:
        del part.heads[block]
    part.heads[str(last.block)] = standalone(part.heads[str(last.block)])
    part.spec = dataclasses.replace(
        network.spec,
        blocks=network.spec.blocks[: last.block],
        exits=(last,),
    )
    return part


def in_the_net(network: Network, name: str) -> str:
    """The name of a module or weight in the foreign network that a network is made of: ``layer1.0.conv1``."""
    parts = name.split(".", 2)
    return parts[2] if network.spec.foreign and len(parts) == 3 else name


def code_digest(spec: Spec) -> str | None:
    """A digest of the code of a foreign network's segments and layers; None for networks of this package.

    A foreign name may stand for another network later; networks of this package follow from their spec.
    """
    if not spec.foreign:
        return None
    with torch.random.fork_rng(devices=[]):
        network = Network(spec)
    own_head = list(network.heads.values())[-1]
    parts = [f"{part!r}\n{getattr(part, 'code', '')}" for part in (*network.blocks, own_head)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _initialise(module: nn.Module) -> None:
    """The authors' initialisation: convolutions N(0, sqrt(2 / (k*k*out))), batch norm 1 and 0, linear biases 0.

    For a grouped convolution, `out` is the number of outputs per group.
    """
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    elif isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
