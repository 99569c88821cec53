"""Estimates: how long the runs of a study take here, guessed from a few steps of a network of each shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from baselines import Budget
from baselines.effort import Images, effort, narrower
from benchmarks.study.entry import StudyRun, Target, entry_and_exit
from benchmarks.study.graph import Node
from benchmarks.study.setting import Setting
from compress.errors import UsageError
from compress.hardware import resolve_device
from compress.network_cost import Cost, exit_costs
from compress.networks import Network, Spec, cut, initialised
from compress.training import Objective, found_reference, image_seconds, precision_of
from compress.training.objectives import bp


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A network of about the shape that a run will have; where blocks go, the whole one and the share that is left."""

    network: Network
    objective: Objective
    share: float = 1.0

    @cached_property
    def cost(self) -> Cost:
        """Of the last exit, the blocks that go not counted off."""
        return exit_costs(self.network)[-1]

    @property
    def macs(self) -> float:
        """Of the last exit, of what is left."""
        return self.share * self.cost.macs

    @property
    def params(self) -> float:
        """Of the last exit, of what is left, roughly."""
        return self.share * self.cost.params

    def at(self, exit: int | None) -> Shape:
        """The same, cut at an exit (1-based) where one is named."""
        if exit is None:
            return self
        part = cut(self.network, exit)
        return Shape(network=part, objective=bp(part.spec), share=self.share)

    def narrower(self, budget: Budget) -> Shape:
        """The same, uniformly narrower."""
        return Shape(network=narrower(self.network, budget), objective=self.objective, share=self.share)

    def less(self, share: float) -> Shape:
        """The same with that share of its blocks left."""
        return Shape(network=self.network, objective=self.objective, share=self.share * share)


Load = list[tuple[Shape, float]]  # images of training, and through what


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """What runs of a study take, worked out and timed when asked for, each shape once.

    Attributes:
        bearers: which run bears what several share, as sparse training or a reference that no entry trains.
    """

    setting: Setting
    shapes: dict[tuple[object, ...], Shape] = field(default_factory=dict)
    timed: dict[tuple[Spec, Objective], float] = field(default_factory=dict)
    bearers: dict[tuple[object, ...], Node] = field(default_factory=dict)

    def seconds(self, nodes: Sequence[Node], *, left: Sequence[Node]) -> dict[Node, float | None]:
        """Of those left, roughly; None where it cannot be foreseen.

        What several runs share is the first one's: nothing, where that one is finished. Left out are latency as a
        budget, which is measured while choosing, and the measuring of all runs at the end.
        """
        loads = {node: self._load(node) for node in nodes}  # all, as the first may be finished
        return {node: self._in_seconds(loads[node]) for node in left}

    @cached_property
    def images(self) -> Images:
        """How many images there are."""
        return Images.of(self.setting.dataset, self.setting.recipe)

    def _in_seconds(self, load: Load | None) -> float | None:
        return None if load is None else sum(images * self._image(shape) for shape, images in load if images)

    def _load(self, node: Node) -> Load | None:
        entry, recipe = node.entry, self.setting.recipe
        try:
            if node.target is None:
                return [(self._trained(entry), self.images.training(recipe.epochs))]
            whole, smaller = self._whole(entry), self._pruned(entry, node.target)
            needed = effort(entry.technique, self.images, whole.network, recipe, speedup=whole.macs / smaller.macs)
        except UsageError:  # said when it is made
            return None
        shared = sum(images for what, images in needed.once.items() if self._bears(node, what))
        if entry.technique.method != "shallow" and self._bears(node, "reference") and self._trains_reference(node):
            shared += self.images.training(recipe.epochs)
        return [(whole, needed.whole + shared), (smaller, needed.smaller)]

    def _bears(self, node: Node, what: str) -> bool:
        shared = (node.entry.from_ or node.entry.arch, node.seed, what)
        return self.bearers.setdefault(shared, node) == node

    def _trains_reference(self, node: Node) -> bool:
        entry, setting = node.entry, self.setting
        if entry.from_ is not None or setting.plain(entry):
            return False
        return not found_reference(setting.spec(entry), setting.dataset, setting.recipe, node.seed, setting.runs)

    def _image(self, shape: Shape) -> float:
        setting, spec, objective = self.setting, shape.network.spec, shape.objective
        if (spec, objective) not in self.timed:
            device = resolve_device(setting.device)
            precision = precision_of(setting.precision, objective, device)
            self.timed[spec, objective] = image_seconds(
                spec, objective, setting.recipe, device=device, precision=precision
            )
        return shape.share * self.timed[spec, objective]

    def _of(self, reference: str) -> Shape:
        """What an entry, or its exit as NAME:EXIT, will be."""
        if (reference,) not in self.shapes:
            name, exit = entry_and_exit(reference)
            entry = next(entry for entry in self.setting.study.runs if entry.name == name)
            [target] = entry.targets
            shape = self._trained(entry) if target is None else self._pruned(entry, target)
            self.shapes[reference,] = shape.at(exit)
        return self.shapes[reference,]

    def _trained(self, entry: StudyRun) -> Shape:
        spec, method = self.setting.spec(entry), self.setting.method(entry)
        if (spec, method) not in self.shapes:
            network = initialised(spec, 0).eval()
            self.shapes[spec, method] = Shape(network=network, objective=method.objective(spec))
        return self.shapes[spec, method]

    def _whole(self, entry: StudyRun) -> Shape:
        return self._trained(entry) if entry.from_ is None else self._of(entry.from_)

    def _pruned(self, entry: StudyRun, target: Target) -> Shape:
        width = entry.technique.width
        key = (entry.from_ or entry.arch, width, target)
        if key not in self.shapes:
            self.shapes[key] = self._smaller(self._whole(entry), target, width=width)
        return self.shapes[key]

    def _smaller(self, whole: Shape, target: Target, *, width: bool) -> Shape:
        """Less of every layer where `width`, else fewer blocks: those take what they take in proportion."""
        if target.option == "ratio":
            return whole.narrower(Budget(ratio=float(target.value)))
        share = self._share(whole, target)
        if not width or target.option == "latency_ratio":
            return whole.less(share)
        return whole.narrower(
            Budget(params=share * whole.cost.params) if target.option == "params" else Budget(speedup=1 / share)
        )

    def _share(self, whole: Shape, target: Target) -> float:
        """What a budget leaves, of what it is counted in."""
        if isinstance(target.value, str):
            return self._of(target.value).macs / whole.macs
        if target.option == "speedup":
            return 1 / target.value
        return target.value if target.option == "latency_ratio" else target.value / getattr(whole, target.option)
