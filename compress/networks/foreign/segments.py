"""Division of a traced classifier into segments: possible exits, natural blocks, and splitting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, takewhile
from math import prod

from torch import fx, nn

from compress.errors import UsageError, nearest
from compress.networks.foreign.tracing import Trace, trace
from compress.networks.spec import END
from compress.networks.strided_pointwise import CONVOLUTIONS, subsample_call, subsample_modules

IN_PLACE = ("iadd", "imul", "isub", "itruediv", "setitem")


@dataclass(frozen=True)
class Features:
    """The output of a segment.

    Attributes:
        module: module that returns it; ``end`` for the input of the network's own head.
        shape: shape for a single image: `(C, H, W)`, or `(positions, C)` if channels are last.
        depth: convolutions and linear layers on the longest path to it.
    """

    module: str
    shape: tuple[int, ...]
    depth: int

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.shape[0 if len(self.shape) == 3 else -1]


class Divisible:
    """A classifier that can be split into segments at its modules.

    Args:
        model: `(N, C, H, W)` -> `(N, classes)`; segments share its modules.
        input_shape: `(C, H, W)` of one image.

    Raises:
        UsageError: torch.fx cannot trace it, it does not take such images, or has no head of its own.
    """

    def __init__(self, model: nn.Module, input_shape: tuple[int, int, int]) -> None:
        self.trace: Trace = trace(model, input_shape)
        subsample_modules(model)
        self.steps = self.trace.steps
        self.end = self._find_end()

    @cached_property
    def cuts(self) -> list[int]:
        """The steps after which the network can be cut, head included."""
        return [index for index, step in enumerate(self.steps) if step.shape and step.reaches <= index]

    @cached_property
    def points(self) -> dict[str, int]:
        """The modules after which exits can be, and the step that each returns, in order; steps may be repeated.

        There is a convolution or a linear layer before each.
        """
        cuts = {cut for cut in self.cuts if 0 < cut < self.end and self.steps[cut].depth}
        cuts = {cut for cut in cuts if len(self.steps[cut].shape or ()) in (3, 4)}
        found = {name: step for name, step in self.trace.modules.items() if step in cuts}
        return dict(sorted(found.items(), key=lambda point: (point[1], len(point[0]))))

    @cached_property
    def blocks(self) -> tuple[str, ...]:
        """The names of the modules that end natural blocks; the last is ``end``.

        A module with parallel paths is a block (a residual block, say), and so are all modules of its type, unless
        some of them are parts of other blocks. If there is none, as in VGG, a block is a convolution and everything up
        to the next. Operations before the first block or between two blocks belong to the later block.
        """
        named = dict(self.trace.model.named_modules())
        types = {type(named[name]) for name in self._containers()}
        passed = [name for name, module in named.items() if type(module) in types]
        within = {type(named[name]) for name in passed if _inside(name, passed)}  # as squeeze-and-excitation is
        found = {step for name, step in self.points.items() if type(named[name]) in types - within}
        steps = sorted(found or set(self.points.values()))
        kept: list[int] = []
        for step, following in pairwise([*steps, self.end]):
            depth, next_depth = self.steps[step].depth, self.steps[following].depth
            if next_depth > depth > (self.steps[kept[-1]].depth if kept else 0):
                kept.append(step)
        return (*(self.name_of(step) for step in kept), END)

    def name_of(self, step: int) -> str:
        """The shortest name of a module that returns this step."""
        return next(name for name, at in self.points.items() if at == step)

    def place(self, names: Sequence[str]) -> tuple[str, ...]:
        """Check the names of exits and return their shortest names; the last is ``end``.

        Raises:
            UsageError: a name is no module, or no possible exit, or is repeated, or the names are not in order.
        """
        listed = ",".join(names)
        if not names or names[-1] != END:
            raise UsageError(f"exits {listed or 'empty'}: the last one must be the net's own, write 'end'")
        steps = []
        for name in names[:-1]:
            if name not in self.points:
                raise UsageError(f"exits {listed}: {self._why_not(name)}")
            steps.append(self.points[name])
        if len(set(steps)) < len(steps):
            raise UsageError(f"exits {listed}: two are the same place in the net, each can have one exit")
        if steps != sorted(steps):
            right = ",".join([*sorted(names[:-1], key=self.points.__getitem__), END])
            raise UsageError(f"exits {listed}: not in the order in which the net runs them, write {right}")
        return (*map(self.name_of, steps), END)

    def with_blocks(self, exits: Sequence[str]) -> tuple[str, ...]:
        """The natural blocks and the exits, in order."""
        steps = {self.points[name] for name in (*self.blocks[:-1], *exits[:-1])}
        return (*map(self.name_of, sorted(steps)), END)

    def features(self, module: str) -> Features:
        """The features at a module of `points`, or at ``end``."""
        step = self.steps[self._step(module)]
        assert step.shape
        channels_last = len(step.shape) == 3 or step.channels == 3
        shape = (prod(step.shape[1:-1]), step.shape[-1]) if channels_last else step.shape[1:]
        return Features(module, shape, step.depth)

    def split(self, modules: Sequence[str]) -> tuple[list[fx.GraphModule], fx.GraphModule]:
        """Split into segments that end at these modules (in order, the last ``end``), and the network's own head.

        They share the network's modules under their names.
        """
        bounds = [0, *map(self._step, modules), len(self.steps) - 2]
        *segments, head = (self._segment(start, stop) for start, stop in pairwise(bounds))
        return segments, head

    def _step(self, module: str) -> int:
        return self.end if module == END else self.points[module]

    def _segment(self, start: int, stop: int) -> fx.GraphModule:
        """The steps after `start` up to `stop` as a module, which copies its input if it changes it in place."""
        graph = fx.Graph()
        features = graph.placeholder("features")
        first = self.steps[start].node
        if start and any(_changes(self.trace.model, user, first) for user in first.users):
            features = graph.call_method("clone", (features,))
        copies = {first: features}
        for step in self.steps[start + 1 : stop + 1]:
            copies[step.node] = copied = graph.node_copy(step.node, copies.__getitem__)
            if step.node.target in CONVOLUTIONS:
                subsample_call(copied, self._kernel(step.node))
        graph.output(copies[self.steps[stop].node])
        return fx.GraphModule(self.trace.model, graph, class_name="Segment")

    def _kernel(self, convolution: fx.Node) -> tuple[int, ...]:
        """The shape of the weight in a call of a convolution; empty if it is no tensor of the graph."""
        weight = convolution.args[1] if len(convolution.args) > 1 else convolution.kwargs["weight"]
        return next((step.shape or () for step in self.steps if step.node is weight), ())

    def _find_end(self) -> int:
        """The last step before global pooling, searched backwards from the first cut with two dimensions."""
        flat = next((cut for cut in self.cuts if cut and len(self.steps[cut].shape or ()) == 2), None)
        before = [cut for cut in self.cuts if flat is not None and 0 < cut <= flat]
        pooling = [cut for cut in before if self._pools(cut)]
        before = [cut for cut in before if cut < (pooling[-1] if pooling else before[-1])]
        if not before or len(self.steps[before[-1]].shape or ()) not in (3, 4):
            raise UsageError(
                f"{type(self.trace.model).__name__} cannot be split: it has no place where features of an image, "
                "(N, C, H, W) or (N, tokens, C), are all that its head takes"
            )
        return before[-1]

    def _pools(self, cut: int) -> bool:
        """Whether a step is global pooling, or selects one of the tokens."""
        node, shape = self.steps[cut].node, self.steps[cut].shape or ()
        target = node.target if node.op != "call_module" else type(self.trace.model.get_submodule(str(node.target)))
        kind = str(getattr(target, "__name__", target)).lower()
        if kind in ("getitem", "select"):
            return len(shape) == 2
        whole = len(shape) == 2 or set(shape[2:]) == {1}
        return kind == "mean" or "adaptive" in kind or ("pool" in kind and whole)

    def _containers(self) -> set[str]:
        """The innermost modules that contain all of a passage with parallel paths and with layers."""
        found = set()
        for start, stop in pairwise(cut for cut in self.cuts if cut <= self.end):
            between = range(start + 1, stop + 1)
            if len(between) > 1 and any(self.trace.layers(step) for step in between):
                owners = [self.steps[step].owner.split(".") for step in between]
                common = takewhile(lambda parts: len(set(parts)) == 1, zip(*owners, strict=False))
                found.add(".".join(parts[0] for parts in common))
        return found - {""}

    def _why_not(self, name: str) -> str:
        """The reason why a module is no possible exit, and the possible ones."""
        where = f"it can be at {', '.join(self.blocks)}"
        known = dict(self.trace.model.named_modules())
        if name == END:
            return "'end' is the last exit and cannot be another"
        if name not in known or not name:
            return f"{name!r} is not a module of the net; {nearest(name, [*self.points, END])}"
        at = self.trace.modules.get(name, -1)
        if at < 0:
            return f"{name!r} is not run by itself, or several times, or returns no single tensor; {where}"
        if at >= self.end:
            return f"{name!r} is where the net's own head begins, or after it; write 'end'"
        later = next((point for point, step in self.points.items() if step >= at), END)
        if at not in self.cuts:
            return f"{name!r} is passed by another path; the nearest place is {later!r}"
        return f"{name!r} hands on {self.steps[at].shape}, no features of an image; the nearest place is {later!r}"


def _inside(name: str, others: Sequence[str]) -> bool:
    return any(name.startswith(f"{other}.") for other in others)


def _changes(model: nn.Module, user: fx.Node, features: fx.Node) -> bool:
    """Whether a step changes its input in place."""
    if user.op == "call_module":
        return bool(getattr(model.get_submodule(str(user.target)), "inplace", False))
    name = str(getattr(user.target, "__name__", user.target))
    by_name = name in IN_PLACE or (name.endswith("_") and not name.endswith("__"))
    return bool(user.kwargs.get("inplace", by_name)) and bool(user.args) and user.args[0] is features
