"""Tracing of a classifier into a torch.fx graph that is right in train and eval mode, and its possible cuts.

A graph can be cut after a node if later nodes use no earlier value but this node's. Nodes are in the order in which the
forward ran them, so a segment is the nodes between two cuts, in-place operations included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_map

from compress.errors import UsageError, first_line
from compress.networks.foreign.channel_layout import channel_dims
from compress.networks.modes import evaluating, modes_kept

LAYERS = (
    nn.modules.conv._ConvNd,
    nn.Linear,
    nn.MultiheadAttention,
)  # attention has a projection and a linear layer
CONSTANT = "_tensor_constant"  # how torch.fx begins the name of a tensor that a forward makes
LAYER_FUNCTIONS = ("conv1d", "conv2d", "conv3d", "linear")


@dataclass(frozen=True)
class Step:
    """A node of the graph, and what is needed to cut after it.

    Attributes:
        owner: name of the innermost module whose forward ran it; empty for the network's own forward.
        shape: shape of its value for a batch of two; None if it is no tensor.
        channels: channel dimension; None if unknown.
        depth: convolutions and linear layers on the longest path up to and including it.
        reaches: last step that uses a value or weight of the steps before this one; a cut after this step is possible
            if that is not later than this step.
    """

    node: fx.Node
    owner: str
    shape: tuple[int, ...] | None
    channels: int | None
    depth: int
    reaches: int


@dataclass(frozen=True)
class Trace:
    """A classifier's steps in order, and the step that each module returns (-1: no single step)."""

    model: nn.Module
    steps: tuple[Step, ...]
    modules: dict[str, int]

    def layers(self, step: int) -> int:
        """Number of convolutions and linear layers in a step, which may be a module traced as a leaf."""
        return _layers(self.model, self.steps[step].node)


class _Tracer(fx.Tracer):
    """A torch.fx tracer that treats modules of some types as leaves and notes what every module returns."""

    proxy_buffer_attributes = True  # so that tracing changes no buffer in place

    def __init__(self, pieces: set[type[nn.Module]]) -> None:
        super().__init__()
        self.pieces = pieces
        self.running = [""]
        self.failed: str | None = None
        self.returned: dict[str, list[fx.Node | None]] = {}

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """Only images are an argument; others keep their defaults."""
        return root_fn, [self.root, self.create_proxy("placeholder", "images", (), {})]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in self.pieces or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = self.path_of_module(m)
        looked_into = not self.is_leaf_module(m, name)
        self.running += [name] * looked_into
        try:
            value = super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed = self.failed or self.running[-1] or None
            raise
        finally:
            del self.running[len(self.running) - looked_into :]
        self.returned.setdefault(name, []).append(value.node if isinstance(value, fx.Proxy) else None)
        return value

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        node.meta["owner"] = self.running[-1]
        return node


def trace(model: nn.Module, input_shape: tuple[int, int, int]) -> Trace:
    """Trace a classifier `(N, C, H, W)` -> `(N, classes)` for images of a shape `(C, H, W)`.

    Modules that torch.fx cannot trace, or that run other operations in train mode than in eval mode, become leaves.

    Raises:
        UsageError: the network cannot be traced, does not take such images, or is no classifier.
    """
    tracer = _trace_both_modes(model)
    nodes = list(tracer.graph.nodes)
    shapes = _run(model, tracer.graph, input_shape)
    place = {node: index for index, node in enumerate(nodes)}
    modules = {
        name: place[returned[0]] if len(returned) == 1 and returned[0] is not None else -1
        for name, returned in tracer.returned.items()
    }
    depths: dict[fx.Node, int] = {}
    for node in nodes:
        depths[node] = max((depths[source] for source in node.all_input_nodes), default=0) + _layers(model, node)
    values, weights = _last_uses(model, nodes)
    channels = channel_dims(model, nodes, shapes)
    steps, reaches = [], 0
    for index, node in enumerate(nodes):
        reaches = max(reaches, weights[index])
        steps.append(Step(node, node.meta["owner"], shapes.get(node), channels.get(node), depths[node], reaches))
        reaches = max(reaches, values[index])
    return Trace(model, tuple(steps), modules)


def _trace_both_modes(model: nn.Module) -> _Tracer:
    """The tracer of a graph that is equal in train and eval mode, except for flags that follow the mode."""
    pieces: set[type[nn.Module]] = set()
    while True:
        tracers = [_Tracer(pieces), _Tracer(pieces)]
        with modes_kept(model):
            for tracer, training in zip(tracers, (True, False), strict=True):
                model.train(training)
                try:
                    tracer.graph = tracer.trace(model)
                except Exception as error:
                    if tracer.failed is None:
                        raise UsageError(
                            f"torch.fx cannot trace {type(model).__name__}: {first_line(error)}"
                        ) from error
                    owner: str | None = tracer.failed
                    break
            else:
                owner = _follow_mode(tracers[0].graph, tracers[1].graph, model)
        if owner is None:
            return tracers[1]
        if not owner:
            raise UsageError(
                f"{type(model).__name__} cannot be split: its own forward takes another path in train mode "
                "than in eval mode; put what differs into a module"
            )
        pieces.add(type(model.get_submodule(owner)))  # it was not a leaf yet


def _follow_mode(train: fx.Graph, evaluate: fx.Graph, model: nn.Module) -> str | None:
    """Bind every flag that is true in the train graph and false in the eval graph to the eval graph's mode.

    Returns None; or, if the graphs differ in more than such flags, the module of the first difference.
    """
    places = [{node: index for index, node in enumerate(graph.nodes)} for graph in (train, evaluate)]
    flagged = []
    for node, other in zip(train.nodes, evaluate.nodes, strict=False):
        (first, shape), (second, other_shape) = _flat(node, places[0], model), _flat(other, places[1], model)
        pairs = list(zip(first, second, strict=False))
        follows = any(a is True and b is False for a, b in pairs)
        if shape != other_shape or any(a != b and not (a is True and b is False) for a, b in pairs):
            return str(max(node.meta["owner"], other.meta["owner"], key=lambda name: name.count(".") + bool(name)))
        if follows:
            flagged.append((node, other))
    for node, other in flagged:
        with evaluate.inserting_before(other):
            mode = evaluate.create_node("get_attr", "training")
            mode.meta["owner"] = other.meta["owner"]
        other.args, other.kwargs = tree_map(
            lambda train, evaluate, mode=mode: mode if train is True and evaluate is False else evaluate,
            (node.args, node.kwargs),
            (other.args, other.kwargs),
        )
    return None


@dataclass(frozen=True)
class _Place:
    """The position of a node, distinct from a number among arguments."""

    index: int


def _flat(node: fx.Node, places: dict[fx.Node, int], model: nn.Module) -> tuple[list[Any], TreeSpec]:
    """A node's operation and arguments, other nodes by their position, as a list and its structure."""
    arguments = fx.node.map_aggregate((node.args, node.kwargs), lambda value: _placed(value, places))
    target: Any = node.target
    if node.op == "get_attr" and str(target).startswith(CONSTANT):  # every forward makes it, and fx names it, anew
        made = getattr(model, str(target))
        target = (str(made.dtype), tuple(made.shape), made.tolist())
    return tree_flatten((node.op, target, arguments))


def _placed(value: Any, places: dict[fx.Node, int]) -> Any:
    return _Place(places[value]) if isinstance(value, fx.Node) else value


class _Recorder(fx.Interpreter):
    """Runs a graph and records the shape of every tensor."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        super().__init__(model, graph=graph)
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.shapes[n] = tuple(value.shape)
        return value


def _run(model: nn.Module, graph: fx.Graph, input_shape: tuple[int, int, int]) -> dict[fx.Node, tuple[int, ...]]:
    """The shapes of all tensors for a batch of two; checks that graph and network agree in eval mode."""
    like = next(model.parameters(), torch.empty(0))
    size = 2 * input_shape[0] * input_shape[1] * input_shape[2]
    images = torch.linspace(-1, 1, size, device=like.device, dtype=like.dtype).view(2, *input_shape)
    recorder = _Recorder(model, graph)
    try:
        with evaluating(model), torch.no_grad():
            expected = model(images)
            found = recorder.run(images)
    except Exception as error:
        shape = "x".join(map(str, input_shape))
        raise UsageError(f"{type(model).__name__} does not take images of {shape}: {first_line(error)}") from error
    if not isinstance(expected, Tensor) or expected.dim() != 2 or len(expected) != 2:
        what = f"shape {tuple(expected.shape)}" if isinstance(expected, Tensor) else f"a {type(expected).__name__}"
        raise UsageError(f"{type(model).__name__} is no classifier: it returns {what}, not logits (N, classes)")
    if not torch.allclose(expected, found, rtol=1e-4, atol=1e-5, equal_nan=True):
        raise UsageError(f"{type(model).__name__} cannot be traced: its graph does not compute what its forward does")
    return recorder.shapes


def _last_uses(model: nn.Module, nodes: list[fx.Node]) -> tuple[list[int], list[int]]:
    """For every node, the position of the last use of its value, and of its weights."""
    place = {node: index for index, node in enumerate(nodes)}
    values = [max((place[user] for user in node.users if user.target != "training"), default=0) for node in nodes]
    for index, node in enumerate(nodes):
        if node.op == "get_attr" and node.target == "training":
            values[index] = 0  # every segment has its own mode
    used: dict[int, list[int]] = {}
    for index, node in enumerate(nodes):
        for tensor in _weights(model, node):
            used.setdefault(id(tensor), []).append(index)
    weights = [0] * len(nodes)
    for indices in used.values():
        weights[indices[0]] = max(weights[indices[0]], indices[-1])
    return values, weights


def _weights(model: nn.Module, node: fx.Node) -> list[Tensor]:
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        return [*module.parameters(), *module.buffers()]
    if node.op == "get_attr":
        value = attribute(model, str(node.target))
        return [value] if isinstance(value, Tensor) else []
    return []


def attribute(model: nn.Module, name: str) -> Any:
    """The attribute at a dotted name."""
    value: Any = model
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _layers(model: nn.Module, node: fx.Node) -> int:
    if node.op == "call_module":
        return sum(isinstance(module, LAYERS) for module in model.get_submodule(str(node.target)).modules())
    return int(node.op == "call_function" and getattr(node.target, "__name__", "") in LAYER_FUNCTIONS)
