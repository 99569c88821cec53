"""Masked equivalence: a pruned network computes what the whole one does with the removed weights set to zero.

Where code reorders channels, or layers share weights, a pruned network may run but be wired wrongly. So every pruned
network is compared with the masked whole network.
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
DRAWS = 4  # most draws of weights and images, which end once the logits depend on the images
BOUND = 1e-9  # relative to the largest logit; float64 rounds to some 1e-14 in a hundred layers, errors exceed 1e-5
JITTER = 0.1  # relative to the standard deviation of a tensor
TINY = torch.finfo(torch.float64).tiny

# The entries of the whole network that every tensor of the pruned one has, as indices into the flattened tensor.
Kept = Mapping[str, Tensor]


def take(network: Network, kept: Kept) -> dict[str, Tensor]:
    """The kept weights of a network, in the shapes of the pruned one."""
    return {name: tensor.detach().flatten()[kept[name]] for name, tensor in _weights(network).items()}


def check_equivalence(whole: Network, pruned: Network, kept: Kept) -> float:
    """The largest difference between logits of the pruned and the masked network, relative to the largest logit.

    Both run in float64 on a few images of noise, with all exits. They have the whole network's weights, with noise
    added, and batch norm has the statistics of these images, so that no zero, equal, dead or saturated values hide a
    difference. Norms over channels leave the removed ones out of their statistics.

    Raises:
        UsageError: the logits differ; the first module whose output differs is named.
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
        if not off <= BOUND:  # also where it is NaN
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
    """Within this mode layer norm and group norm leave masked channels out of their statistics.

    Masked are channels whose weight is zero; in a norm without weights, those that are zero everywhere.
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
    """The input normalised over these dimensions with the statistics of the unmasked channels; 0 elsewhere."""
    there = there.to(input.dtype).expand(input.shape)
    count = there.sum(dims, keepdim=True).clamp(min=1)
    centred = (input - (input * there).sum(dims, keepdim=True) / count) * there
    return centred / (centred.square().sum(dims, keepdim=True) / count + eps).sqrt()


def _weights(network: Network) -> dict[str, Tensor]:
    """Parameters and buffers of floating point by name, shared ones under every name."""
    state = network.state_dict(keep_vars=True)
    return {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}


def _jitter(network: Network, whole: Network, generator: torch.Generator) -> None:
    """Give a copy the weights of the whole network, with noise of a tenth of their deviation, or 0.1 if that is 0."""
    given = _weights(whole)
    for name, tensor in _weights(network).items():
        value = given[name].detach().to(tensor).nan_to_num(posinf=1.0, neginf=-1.0)
        if isinstance(tensor, nn.Parameter):
            spread = value.std(correction=0) if value.std(correction=0) > 0 else value.new_ones(())
            noise = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype).to(tensor.device)
            value = value + JITTER * spread * noise
        tensor.data.copy_(value)


def _mask(network: Network, kept: Kept) -> None:
    """Set all entries to zero that pruning has not kept."""
    for name, tensor in _weights(network).items():
        mask = torch.zeros(tensor.numel(), dtype=tensor.dtype, device=tensor.device)
        mask[kept[name].flatten()] = 1
        tensor.data.mul_(mask.view(tensor.shape))


def _settle(network: Network, images: Tensor) -> None:
    """Set batch norm's statistics to those of these images, in place."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.training, norm.momentum = True, 1.0
    network(images)
    for norm in norms:
        norm.training = False


def _first_difference(masked: Network, pruned: Network, images: Tensor) -> str:
    """The first module with weights whose output differs in the sum of magnitudes, which masking does not change."""
    sums: list[list[tuple[str, float]]] = []
    for network in (masked, pruned):
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
    pairs = zip(*sums, strict=False)
    apart = (name for (name, total), (_, small) in pairs if not abs(total - small) <= BOUND * abs(total))
    return f"module {in_the_net(masked, next(apart, f'heads.{list(masked.heads)[-1]}'))}"


def _summing(name: str, found: list[tuple[str, float]]) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: Any, outputs: Any) -> None:
        if isinstance(outputs, Tensor):
            found.append((name, float(outputs.abs().sum())))

    return hook
