"""Weight slicing: the network without some entries of its weights, rebuilt strictly from its own spec."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from baselines.channel_tracking import Axis
from baselines.masked_equivalence import Kept, check_equivalence, take
from compress.errors import UsageError, first_line
from compress.networks import Network, Spec, in_the_net
from compress.networks.blocks import SegmentSpec
from compress.networks.layer_resizing import resize, set_number

# The entries to remove along every axis of a weight, or of what `channel_tracking` follows besides weights.
Gone = Mapping[Axis, list[int]]


def narrowed(network: Network, gone: Gone) -> Network:
    """A copy without these entries, in eval mode, on the same device and of the same precision.

    It has run forward and backward once, and was checked against the network with the removed weights set to zero.

    Raises:
        UsageError: it differs from that.
        Exception: the network's code fails, as where it names a width that is no longer so.
    """
    kept = _kept(network, gone)
    with torch.random.fork_rng(devices=[]), contextlib.redirect_stderr(io.StringIO()):  # every weight is replaced below
        smaller = Network(narrowed_spec(network, gone, kept))
    parameter = next(network.parameters())
    smaller.to(parameter.device, parameter.dtype).eval()  # before weights are loaded, which would be rounded
    smaller.load_state_dict(network.state_dict() | take(network, kept), strict=True)
    _smoke_test(smaller)
    check_equivalence(network, smaller, kept)
    return smaller


def narrowed_spec(network: Network, gone: Gone, kept: Kept) -> Spec:
    """The spec of the network without these entries."""
    spec, shapes = network.spec, {name: tuple(places.shape) for name, places in kept.items()}
    if not spec.foreign:
        blocks = tuple(
            dataclasses.replace(
                block,
                width=shapes[f"blocks.{index}.conv1.weight"][0],
                out=shapes[f"blocks.{index}.conv{block.layers}.weight"][0],
            )
            for index, block in enumerate(spec.blocks)
        )
        return dataclasses.replace(
            spec, stem=dataclasses.replace(spec.stem, out=shapes["stem.0.weight"][0]), blocks=blocks
        )
    segments = [
        _narrowed_segment(block, len(gone.get((f"blocks.{index}", 0), ())))
        for index, block in enumerate(spec.blocks)
        if isinstance(block, SegmentSpec)
    ]
    own = {f"heads.{exit.block}" for exit in spec.exits[:-1]}  # auxiliary heads follow the shape of their features
    state = network.state_dict()
    resized = dict(spec.resized) | {
        name: shape
        for name, shape in shapes.items()
        if shape != tuple(state[name].shape) and ".".join(name.split(".")[:2]) not in own
    }
    return dataclasses.replace(
        spec,
        blocks=tuple(segments),
        resized=tuple(sorted(resized.items())),
        numbers=tuple(sorted((dict(spec.numbers) | _numbers(network, gone)).items())),
    )


def why_not(network: Network, gone: Gone) -> str | None:
    """Why these entries cannot be removed; None where they can, or where only a rebuilt network tells."""
    trial, kept, state = copy.deepcopy(network), _kept(network, gone), network.state_dict()
    shapes = [(name, tuple(places.shape)) for name, places in kept.items() if places.shape != state[name].shape]
    # The graph has numbers, but no layers, for weights that code uses outside layers.
    if any(type(trial.get_submodule(name.rpartition(".")[0])) is nn.Module for name, _ in shapes):
        return None
    try:
        for name, number in _numbers(network, gone).items():
            set_number(trial, name, number)
    except UsageError:
        return None
    try:
        resize(trial, shapes)
        with torch.no_grad(), module_named(trial):
            trial(blank(trial))
        check_equivalence(network, trial, kept)
    except Exception as error:
        return first_line(error)
    return None


@contextlib.contextmanager
def module_named(network: Network) -> Iterator[None]:
    """Name the last module that was reached in any error of a forward pass: the error is there or behind it."""
    reached = [""]
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: reached.append(name))
        for name, module in network.named_modules()
        if not list(module.children())
    ]
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # where torch.fx prints the code that failed
            yield
    except Exception as error:
        raise ValueError(f"at {in_the_net(network, reached[-1])}: {error}") from error
    finally:
        for hook in hooks:
            hook.remove()


def blank(network: Network) -> Tensor:
    """Two blank images, the fewest that batch norm takes in train mode."""
    parameter = next(network.parameters())
    return torch.zeros(2, *network.spec.input_shape, device=parameter.device, dtype=parameter.dtype)


def _kept(network: Network, gone: Gone) -> dict[str, Tensor]:
    """The entries that stay of every weight, as indices into the flattened tensor; shared ones under every name."""
    state = network.state_dict(keep_vars=True)
    first: dict[int, str] = {}
    kept = {}
    for name, tensor in state.items():
        places = torch.arange(tensor.numel(), device=tensor.device).view(tensor.shape)
        for dim in range(tensor.dim()):
            if dropped := gone.get((first.setdefault(id(tensor), name), dim)):
                left = torch.ones(tensor.shape[dim], dtype=torch.bool, device=tensor.device)
                left[dropped] = False
                places = places.index_select(dim, left.nonzero().flatten())
        if tensor.is_floating_point():
            kept[name] = places
    return kept


def _narrowed_segment(block: SegmentSpec, dropped: int) -> SegmentSpec:
    out = block.out - dropped
    shape = (block.shape[0], out) if len(block.shape) == 2 else (out, *block.shape[1:])
    return dataclasses.replace(block, out=out, shape=shape)


def _numbers(network: Network, gone: Gone) -> dict[str, int]:
    """New values of the modules' numbers that count removed entries."""
    return {
        name: network.numbers[name] - len(entries) for (name, _), entries in gone.items() if name in network.numbers
    }


def _smoke_test(network: Network) -> None:
    """Run a copy forward and backward, as widths that do not fit would otherwise show only in training."""
    trial = copy.deepcopy(network).train()
    with torch.random.fork_rng(devices=[]), module_named(trial):  # dropout draws
        torch.stack(trial(blank(trial))).sum().backward()
