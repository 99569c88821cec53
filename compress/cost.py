"""MACs, parameters and bytes of a network and of each of its exits: the one definition, used everywhere.

MACs are multiply-accumulates of convolutions and linear layers for one image. fvcore's tracer counts them; batch norm,
pooling and activations, which it counts too, are left out. fvcore is imported here alone: it warns when imported.
"""

import contextlib
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from compress.networks import Network, evaluating

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # torch.jit.script, deprecated
    from fvcore.nn import FlopCountAnalysis

COUNTED = ("conv", "linear")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one image costs, and what the network weighs.

    Attributes:
        macs: multiply-accumulates of convolutions and linear layers, batch 1.
        params: parameters (batch norm's running statistics not among them).
        bytes: parameters and buffers as they are stored.
    """

    macs: int
    params: int
    bytes: int

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(macs=self.macs + other.macs, params=self.params + other.params, bytes=self.bytes + other.bytes)


def cost(network: Network) -> Cost:
    """The cost of the whole network, all heads included."""
    parts = part_costs(network)
    return sum(parts.values(), Cost(macs=0, params=0, bytes=0))


def exit_costs(network: Network) -> list[Cost]:
    """The cost of the network cut at each exit, shallow to deep: earlier heads are not counted."""
    parts = part_costs(network)
    costs = []
    for exit in network.spec.exits:
        trunk = [parts["stem"], *(parts[f"blocks.{index}"] for index in range(exit.block))]
        costs.append(sum(trunk, parts[f"heads.{exit.block}"]))
    return costs


def head_macs(network: Network) -> list[int]:
    """The MACs of every exit's head alone, shallow to deep."""
    parts = part_costs(network)
    return [parts[f"heads.{exit.block}"].macs for exit in network.spec.exits]


def part_costs(network: Network) -> dict[str, Cost]:
    """The cost of the stem, of every block and of every head, by module name; one trace serves them all."""
    macs = macs_by_module(network)
    names = ["stem"]
    names += [f"blocks.{index}" for index in range(len(network.blocks))]
    names += [f"heads.{block}" for block in network.heads]
    return {name: _weigh(network.get_submodule(name), macs[name]) for name in names}


def _weigh(module: nn.Module, macs: int) -> Cost:
    tensors = [*module.parameters(), *module.buffers()]
    return Cost(
        macs=macs,
        params=sum(parameter.numel() for parameter in module.parameters()),
        bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
    )


def macs_by_module(network: Network) -> Counter[str]:
    """MACs of every module by name, traced in eval mode on one blank image; the network's own mode is kept."""
    like = next(network.parameters())
    image = torch.zeros(1, *network.spec.input_shape, device=like.device, dtype=like.dtype)
    with evaluating(network), torch.no_grad(), _attention_in_parts(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's deprecation notices, on every call
        analysis = FlopCountAnalysis(network, (image,))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        by_module = analysis.by_module_and_operator()
    return Counter({name: int(sum(counts[operator] for operator in COUNTED)) for name, counts in by_module.items()})


@contextlib.contextmanager
def _attention_in_parts() -> Iterator[None]:
    """Attention as the linear layers it is made of: in eval mode torch has one operator for all, without a count."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
