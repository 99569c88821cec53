"""Masked: a pruned network must be the function that the whole one is with the removed weights at zero.

Code that reorders channels, or weights that two layers share, may leave a network that runs, wired wrongly. So every
pruning is held against its masked whole, however its channels were found.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from compress.errors import UsageError
from compress.networks import Network, in_the_net

IMAGES = 2
DRAWS = 4  # of weights and images, at most: until the logits depend on the images
BOUND = 1e-9  # of the largest logit: float64 rounds to 1e-14 or so over a hundred layers, wrong wiring is above 1e-5
JITTER = 0.1  # of a tensor's own spread
TINY = torch.finfo(torch.float64).tiny

# By name, which of the whole network's entries each tensor of a pruned one has, as places in the flattened tensor.
Kept = Mapping[str, Tensor]


def number_weights(network: Network) -> None:
    """Put into every entry of a network's weights its own place, so that a pruning shows which ones it keeps."""
    for tensor in _weights(network).values():
        tensor.data = torch.arange(tensor.numel(), dtype=torch.float64, device=tensor.device).view(tensor.shape)


def kept_weights(numbered: Network) -> dict[str, Tensor]:
    """What a pruning has kept of a network whose weights were numbered."""
    return {name: tensor.detach().long() for name, tensor in _weights(numbered).items()}


def take(network: Network, kept: Kept) -> dict[str, Tensor]:
    """The weights of a network that were kept, in the pruned one's shapes."""
    return {name: tensor.detach().flatten()[kept[name]] for name, tensor in _weights(network).items()}


def check_wiring(whole: Network, pruned: Network, kept: Kept) -> float:
    """The largest difference between the logits of a pruned network and of its masked whole, over the largest logit.

    Both run in float64 on a few images of noise, with all exits. Their weights are those of the whole, jittered, and
    batch norm has the statistics of these images: where nothing is zero, alike, dead or saturated, nothing is hidden.
    Norms over channels leave the removed ones out of their statistics.

    Raises:
        UsageError: they differ; the module is named whose output is the first to do so.
    """
    masked, small, worst = copy.deepcopy(whole).double().eval(), copy.deepcopy(pruned).double().eval(), 0.0
    generator, device = torch.Generator().manual_seed(0), next(whole.parameters()).device
    for _ in range(DRAWS):
        images = torch.randn(IMAGES, *whole.spec.input_shape, generator=generator, dtype=torch.float64).to(device)
        _jitter(masked, whole, generator)
        _mask(masked, kept)
        with torch.no_grad(), StatisticsOfKept():
            _settle(masked, images)
            expected = torch.stack(masked(images))
        small.load_state_dict(take(masked, kept), strict=False)
        with torch.no_grad():
            logits = torch.stack(small(images))
        off = float((logits - expected).abs().max() / expected.abs().max().clamp(min=TINY))
        if not off <= BOUND:  # as where it is no number
            raise UsageError(
                f"{whole.spec.arch} cannot be pruned: {_first_difference(masked, small, images)} is given other "
                "channels than those that its weights are kept for, as code before it reorders, mixes or counts them "
                f"(the logits are off by {off:.1g} of the largest from those with the removed weights at zero)"
            )
        worst = max(worst, off)
        if (logits != logits[:, :1]).flatten(1).any(1).all():  # at every exit
            break
    return worst


class StatisticsOfKept(TorchFunctionMode):
    """Within it, layer norm and group norm leave masked channels, whose weight is zero, out of their statistics.

    Where they have no weights, they leave out channels that are zero at all positions of all images.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if function is functional.layer_norm:
            return _layer_norm(*args, **given)
        if function is functional.group_norm:
            return _group_norm(*args, **given)
        return function(*args, **given)


def _layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    dims = tuple(range(-len(normalized_shape), 0))
    there = (weight if weight is not None else input.abs().flatten(0, -len(dims) - 1).amax(0)) != 0
    normed = _normed(input, there, dims, eps)
    normed = normed if weight is None else normed * weight
    return normed if bias is None else normed + bias


def _group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    there = (weight if weight is not None else input.abs().transpose(0, 1).flatten(1).amax(1)) != 0
    grouped = input.reshape(len(input), num_groups, input.shape[1] // num_groups, -1)
    normed = _normed(grouped, there.view(num_groups, -1, 1), (2, 3), eps).view(input.shape)
    shape = (-1, *[1] * (input.dim() - 2))
    normed = normed if weight is None else normed * weight.view(shape)
    return normed if bias is None else normed + bias.view(shape)


def _normed(input: Tensor, there: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    """The input with mean 0 and variance 1 over these dimensions, both taken over what is there; 0 elsewhere."""
    there = there.to(input.dtype).expand(input.shape)
    count = there.sum(dims, keepdim=True).clamp(min=1)
    centred = (input - (input * there).sum(dims, keepdim=True) / count) * there
    return centred / (centred.square().sum(dims, keepdim=True) / count + eps).sqrt()


def _weights(network: Network) -> dict[str, Tensor]:
    """Parameters and buffers by name, shared ones under every name; those of whole numbers are no weights."""
    state = network.state_dict(keep_vars=True)
    return {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}


def _jitter(network: Network, whole: Network, generator: torch.Generator) -> None:
    """Give a copy of a network its weights, parameters moved by a tenth of their spread, or of 1 if they have none."""
    given = _weights(whole)
    for name, tensor in _weights(network).items():
        value = given[name].detach().to(tensor).nan_to_num(posinf=1.0, neginf=-1.0)
        if isinstance(tensor, nn.Parameter):
            spread = value.std(correction=0) if value.std(correction=0) > 0 else value.new_ones(())
            noise = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype).to(tensor.device)
            value = value + JITTER * spread * noise
        tensor.data.copy_(value)


def _mask(network: Network, kept: Kept) -> None:
    """Set all entries that a pruning has not kept to zero."""
    for name, tensor in _weights(network).items():
        mask = torch.zeros(tensor.numel(), dtype=tensor.dtype, device=tensor.device)
        mask[kept[name].flatten()] = 1
        tensor.data.mul_(mask.view(tensor.shape))


def _settle(network: Network, images: Tensor) -> None:
    """Give batch norm the statistics of these images, in place."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.training, norm.momentum = True, 1.0
    network(images)
    for norm in norms:
        norm.training = False


def _first_difference(masked: Network, small: Network, images: Tensor) -> str:
    """The first module with weights whose outputs differ in sum, which masked channels do not change."""
    sums: list[list[tuple[str, float]]] = []
    for network in (masked, small):
        found: list[tuple[str, float]] = []
        hooks = [
            module.register_forward_hook(_summing(name, found))
            for name, module in network.named_modules()
            if next(module.parameters(recurse=False), None) is not None
        ]
        with torch.no_grad(), StatisticsOfKept() if network is masked else contextlib.nullcontext():
            network(images)
        for hook in hooks:
            hook.remove()
        sums.append(found)
    apart = (name for (name, one), (_, other) in zip(*sums, strict=False) if not abs(one - other) <= BOUND * abs(one))
    return f"module {in_the_net(masked, next(apart, f'heads.{list(masked.heads)[-1]}'))}"


def _summing(name: str, found: list[tuple[str, float]]) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: Any, outputs: Any) -> None:
        if isinstance(outputs, Tensor):
            found.append((name, float(outputs.abs().sum())))

    return hook
