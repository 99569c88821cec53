"""MACs, parameters, activations and bytes of a network and of each of its exits.

This is the only place that counts them. MACs are multiply-accumulates of convolutions and linear layers for one image,
activations the elements of their outputs (Dollar, Singh and Girshick, "Fast and Accurate Model Scaling", 2021). fvcore
counts both in one trace; `cross_check` compares the MACs with those that torch counts. Where fvcore is not installed,
torch counts both, with nothing to compare. Batch norm, pooling, activation functions and products of two computed
tensors, as in attention, are not counted. Only this module imports fvcore, which warns when it is imported.
"""

import contextlib
import math
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, mm_flop

from compress.errors import UsageError, checked
from compress.networks import Network, Spec, evaluating, standalone

MACS, ACTIVATIONS = ("conv", "linear"), ("conv activations", "linear activations")
# The operators that multiply by weights: torch's name and fvcore's.
IN_TORCH = {"convolution": "conv", "linear": "linear", "mm": "mm", "addmm": "addmm"}
TRACES = 64  # size of the cache
Count = Callable[[list[Any], list[Any]], Counter[str]]

_traced: dict[tuple[Spec, tuple[torch.Size, ...]], dict[str, Counter[str]]] = {}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """MACs and activations for one image, and the size of the network.

    Attributes:
        macs: multiply-accumulates of convolutions and linear layers, batch 1.
        params: parameters, without batch norm's running statistics.
        bytes: size of parameters and buffers; a file has a header of some 100 bytes per tensor in addition.
        activations: elements of the outputs of convolutions and linear layers, batch 1.
    """

    macs: int
    params: int
    bytes: int
    activations: int

    def __post_init__(self) -> None:
        for name, count in vars(self).items():
            if type(count) is not int or count < 0:
                raise UsageError(f"Cost: {name} {count!r} is no whole number from 0 on")

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(**{name: count + getattr(other, name) for name, count in vars(self).items()})


@checked
def cost(network: Network) -> Cost:
    """The cost of the whole network, all heads included."""
    parts = part_costs(network)
    return sum(parts.values(), Cost(macs=0, params=0, bytes=0, activations=0))


@checked
def exit_costs(network: Network) -> list[Cost]:
    """The cost of the network cut at each exit, shallow to deep: earlier heads are not counted."""
    parts = part_costs(network)
    costs = []
    for exit in network.spec.exits:
        trunk = [parts["stem"], *(parts[f"blocks.{index}"] for index in range(exit.block))]
        name = f"heads.{exit.block}"
        head = standalone(network.get_submodule(name))  # alone it has the weights that it shares here
        costs.append(sum(trunk, _weigh(head, _counts(network)[name])))
    return costs


def part_costs(network: Network) -> dict[str, Cost]:
    """The cost of the stem, of every block and of every head, by module name, from one trace."""
    counts = _counts(network)
    return {name: _weigh(network.get_submodule(name), counts[name]) for name in _parts(network)}


def cross_check(network: Network) -> None:
    """Check that torch's FlopCounterMode counts the same MACs in every part and module as fvcore.

    Convolutions and linear layers are compared separately. A matrix product outside a linear layer (`x @ weight`) is an
    error, since fvcore's count would miss it; batched products, as in attention and einsum, are ignored. Every network
    that is recorded or reported must be checked; candidates of a search need not be.

    Raises:
        UsageError: the counts differ; it names the operator, the innermost module, and both counts.
    """
    if not _has_fvcore():
        return
    ours, theirs = _counts(network), _counts_of_torch(network)
    # Modules that only hold others are never run, and torch does not know them.
    names = {"", *_parts(network), *(ours.keys() & theirs.keys())} - _shared_layers(network)
    for name in sorted(names, key=lambda name: (-name.count("."), name)):
        for operator in IN_TORCH.values():
            by_fvcore, by_torch = ours[name][operator], theirs[name][operator]
            if by_fvcore != by_torch:
                raise UsageError(
                    f"{network.spec.arch}, {f'module {name}' if name else 'outside its parts'}: "
                    f"{by_fvcore:,} MACs of {operator} by fvcore, {by_torch:,} by torch's FlopCounterMode; "
                    "what multiplies by weights must be a convolution or a linear layer of torch.nn"
                )


def _parts(network: Network) -> list[str]:
    """The names of the modules whose costs add up to those of exits."""
    blocks = [f"blocks.{index}" for index in range(len(network.blocks))]
    return ["stem", *blocks, *(f"heads.{block}" for block in network.heads)]


def _shared_layers(network: Network) -> set[str]:
    """The names of layers that shared heads run, too: torch knows a module by one of its places alone."""
    heads = [head for head in network.heads.values() if standalone(head) is not head]
    shared = {module for head in heads for module in standalone(head).modules()}
    return {name for name, module in network.named_modules() if module in shared}


def _weigh(module: nn.Module, counts: Counter[str]) -> Cost:
    tensors = [*module.parameters(), *module.buffers()]
    return Cost(
        macs=_sum(counts, MACS),
        params=sum(parameter.numel() for parameter in module.parameters()),
        bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
        activations=_sum(counts, ACTIVATIONS),
    )


def _sum(counts: Counter[str], operators: tuple[str, ...]) -> int:
    return sum(counts[operator] for operator in operators)


def _counts(network: Network) -> dict[str, Counter[str]]:
    """MACs and activations of every module by name and operator, counted by fvcore or, without it, by torch.

    Traces of our own networks are cached by spec and shapes; other networks are traced every time, as their code may
    have changed. `cross_check` always runs the network itself.
    """
    if network.spec.foreign:
        return _trace(network)
    alike = network.spec, tuple(tensor.shape for tensor in network.state_dict().values())
    if alike not in _traced:
        if len(_traced) == TRACES:
            _traced.clear()
        _traced[alike] = _trace(network)
    return _traced[alike]


def _trace(network: Network) -> dict[str, Counter[str]]:
    if not _has_fvcore():
        return _macs_and_activations_of_torch(network)
    with _blank(network) as image, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's deprecation notices, on every call
        from fvcore.nn.jit_analysis import JitModelAnalysis
        from fvcore.nn.jit_handles import conv_flop_jit, linear_flop_jit

        analysis = JitModelAnalysis(network, (image,)).ancestor_mode("caller")
        analysis.set_op_handle("aten::_convolution", _both("conv", conv_flop_jit))
        analysis.set_op_handle("aten::linear", _both("linear", lambda *node: Counter(linear=linear_flop_jit(*node))))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        counts: dict[str, Counter[str]] = analysis.by_module_and_operator()
    return {name: Counter({key: int(count) for key, count in found.items()}) for name, found in counts.items()}


def _both(operator: str, macs: Count) -> Count:
    """A counter of an operator's MACs and, as in fvcore's ActivationCountAnalysis, its activations."""
    from fvcore.nn.jit_handles import generic_activation_jit

    activations = generic_activation_jit(f"{operator} activations")
    return lambda inputs, outputs: macs(inputs, outputs) + activations(inputs, outputs)


def _has_fvcore() -> bool:
    return find_spec("fvcore") is not None


def _counts_of_torch(network: Network) -> dict[str, Counter[str]]:
    """MACs of every module by name and operator (in fvcore's names), counted by torch."""
    linear = torch.ops.aten.linear
    counts = defaultdict[str, Counter[str]](Counter)
    for name, found in _by_torch(network, {linear: _linear_flop, linear.default: _linear_flop}).items():
        known = {IN_TORCH[operator]: flops // 2 for operator, flops in found.items() if operator in IN_TORCH}
        counts[name] = Counter(known)
    return counts


def _macs_and_activations_of_torch(network: Network) -> dict[str, Counter[str]]:
    """MACs and activations of every module by name and operator (in fvcore's names), counted by torch."""
    convolution, linear = torch.ops.aten.convolution, torch.ops.aten.linear
    formulas = dict.fromkeys((convolution, convolution.default, linear, linear.default), _elements)
    counts = _counts_of_torch(network)
    for name, found in _by_torch(network, formulas).items():
        counts[name] += Counter({f"{IN_TORCH[key]} activations": found[key] for key in ("convolution", "linear")})
    return counts


def _by_torch(network: Network, formulas: Mapping[Any, Callable[..., int]]) -> dict[str, Counter[str]]:
    """What formulas of operators add up to in every module, by the module's name and the operator's."""
    # Only inference mode shows linear layers as such; otherwise torch may decompose them into other products.
    # torch 2.14 looks its overload up before it takes it apart, releases before that the packet of its overloads.
    counter = FlopCounterMode(display=False, custom_mapping={**formulas})
    with _blank(network) as image, torch.inference_mode(), counter:
        network(image)
    root, counts = type(network).__name__, defaultdict[str, Counter[str]](Counter)
    for name, found in counter.get_flop_counts().items():
        own = "" if name == "Global" else name.removeprefix(root).removeprefix(".")
        counts[own] = Counter({str(operator).removeprefix("aten."): count for operator, count in found.items()})
    return counts


def _linear_flop(inputs: tuple[int, ...], weight: tuple[int, ...], *_: Any, **__: Any) -> int:
    """FLOPs of a linear layer, by torch's formula for the product of its rows and its weight."""
    flops: int = mm_flop((math.prod(inputs[:-1]), inputs[-1]), weight[::-1])
    return flops


def _elements(*_: Any, out_shape: tuple[int, ...], **__: Any) -> int:
    """The number of elements of an operator's output."""
    return math.prod(out_shape)


@contextlib.contextmanager
def _blank(network: Network) -> Iterator[Tensor]:
    """Yield a blank image, with the network in eval mode.

    The fast path of attention is disabled, since its single operator is not counted; its linear layers are.
    """
    like = next(network.parameters())
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with evaluating(network):
            yield torch.zeros(1, *network.spec.input_shape, device=like.device, dtype=like.dtype)
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
