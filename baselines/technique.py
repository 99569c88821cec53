"""Techniques: the methods that make a network smaller, and their options; plain data, imported without torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from compress.errors import UsageError, checked, nearest


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """A criterion of torch-pruning.

    Attributes:
        card: what it measures and where it comes from, in one line.
        name, options: torch-pruning's class, and the arguments that it is made with.
        needs_gradients: whether it looks at gradients.
        sparse: whether it is meant for a network that was trained to be sparse.
    """

    card: str
    name: str
    options: dict[str, Any] = field(default_factory=dict)
    needs_gradients: bool = False
    sparse: bool = False

    def make(self) -> Any:
        """A new instance of torch-pruning's class."""
        import torch_pruning  # here, as importing it takes seconds

        return getattr(torch_pruning.importance, self.name)(**self.options)


# Two criteria of torch-pruning 1.6.1 are left out as unsound, which tests show: hessian, since
# `GroupHessianImportance.accumulate_grad` keeps the last sample alone, and greg, since `GrowingRegPruner.regularize`
# adds to a copy of batch norm's gradients and so never regularises batch norm.
CRITERIA: dict[str, Criterion] = {
    "random": Criterion(
        card="channels drawn by the seed: what any criterion has to beat",
        name="RandomImportance",
    ),
    "l1": Criterion(
        card="sum of absolute weights over the group's layers (Li et al. 2017, arXiv 1608.08710)",
        name="GroupMagnitudeImportance",
        options={"p": 1},
    ),
    "l2": Criterion(
        card="sum of squared weights over the group's layers",
        name="GroupMagnitudeImportance",
        options={"p": 2},
    ),
    "fpgm": Criterion(
        card="distance to the layer's other filters: those near their median go (He et al. 2019, arXiv 1811.00250)",
        name="FPGMImportance",
    ),
    "lamp": Criterion(
        card="squared weights relative to those of the group's better channels (Lee et al. 2021, arXiv 2010.07611)",
        name="LAMPImportance",
    ),
    "bn-scale": Criterion(
        card="batch norm's scales, after sparse training: network slimming (Liu et al. 2017, arXiv 1708.06519)",
        name="BNScaleImportance",
        sparse=True,
    ),
    "taylor": Criterion(
        card="|weight x gradient| on training images, batch norm's left out (Molchanov et al. 2019, arXiv 1906.10771)",
        name="GroupTaylorImportance",
        needs_gradients=True,
    ),
    "group-norm": Criterion(
        card="squared weights relative to the group's largest, after sparse training: DepGraph (Fang et al. 2023, "
        "arXiv 2301.12900), as `group_sl` in the authors' reproduce/main.py",
        name="GroupMagnitudeImportance",
        options={"p": 2, "normalizer": "max"},
        sparse=True,
    ),
}

# The other methods, with a line on each.
DEPTH = {
    "blocks": "whole residual blocks, whose absence raises the loss least (Veit et al. 2016, arXiv 1605.06431)",
    "depth-cut": "all blocks behind one, which gets a new head",
}
CONTROLS = {
    "scratch-e": "control: the pruned shape from scratch, the reference's epochs (Liu et al. 2019, arXiv 1810.05270)",
    "scratch-b": "control: the pruned shape from scratch, those epochs times MACs before / after, 4 times at most",
    "shallow": "control: the plain network of fewer blocks",
    "distilled": "control: that network taught by the reference, temperature 4, half of the loss (Hinton et al. 2015)",
}
METHODS = {name: criterion.card for name, criterion in CRITERIA.items()} | DEPTH | CONTROLS
SPARSE = tuple(name for name, criterion in CRITERIA.items() if criterion.sparse)
SHAPED = ("scratch-e", "scratch-b")
SHAPES = tuple(name for name in (*CRITERIA, *DEPTH) if name not in SPARSE)  # methods whose shape these can train
TAUGHT = "distilled"
MOST_STEPS = 1000
MOST_RUNS = 180  # steps that are runs of their own: each record holds those before, and `documents.DEEPEST` are read

Scope = Literal["all", "inner"]
Ranking = Literal["global", "uniform"]
Allocation = Literal["sensitivity"]


@checked
@dataclass(frozen=True, kw_only=True)
class Technique:
    """A method and its options.

    Attributes:
        method: a key of `METHODS`.
        scope: "all" groups of channels, or "inner" ones, which no residual addition joins (Li et al. 2017).
        ranking: "global", one order over all groups, or "uniform", the same share of each group.
        allocate: "sensitivity": widths by the rise of the loss as each group alone is narrowed, instead of `ranking`.
        round_to: widths are rounded to the nearest multiple of it.
        steps: number of pruning steps (iterative pruning), each followed by fine-tuning.
        gradual: the steps happen within one fine-tuning.
        shape: for scratch-e and scratch-b: the method whose shape is trained.
        keep: names of modules whose layers keep all their output channels; also as one string with commas.
        nearest: take the nearest network where a budget cannot be met to within 1%.

    Raises:
        UsageError: an option is unknown, out of range, or does not go with another.
    """

    method: str = "l1"
    scope: Scope = "all"
    ranking: Ranking = "global"
    allocate: Allocation | None = None
    round_to: int = 1
    steps: int = 1
    gradual: bool = False
    shape: str = "l1"
    keep: Sequence[str] = ()
    nearest: bool = False

    def __post_init__(self) -> None:
        names = self.keep.split(",") if isinstance(self.keep, str) else self.keep
        object.__setattr__(self, "keep", tuple(dict.fromkeys(name.strip() for name in names)))
        if "" in self.keep:
            raise UsageError(f"--keep {','.join(names)}: names of modules, separated by commas, as in layer1.0.conv1")
        if self.method not in METHODS:
            raise UsageError(f"method {self.method!r}: {nearest(self.method, METHODS)}")
        for name, value, known in (
            ("scope", self.scope, get_args(Scope)),
            ("ranking", self.ranking, get_args(Ranking)),
            ("allocate", self.allocate or "sensitivity", get_args(Allocation)),
            ("shape", self.shape, SHAPES),
        ):
            if value not in known:
                raise UsageError(f"--{name} {value}: {nearest(str(value), known)}")
        if self.round_to < 1:
            raise UsageError(f"--round-to {self.round_to}: a whole number of channels, 1 or more")
        if not 1 <= self.steps <= MOST_STEPS:
            raise UsageError(f"--steps {self.steps}: 1 or more, {MOST_STEPS} at most")
        if self.steps > MOST_RUNS and not self.gradual:
            raise UsageError(f"--steps {self.steps}: {MOST_RUNS} at most, each a run; with --gradual {MOST_STEPS}")
        self._check_together()

    @property
    def width(self) -> bool:
        """Whether it removes channels, or trains a shape from scratch that was found so."""
        return (self.shape if self.method in SHAPED else self.method) in CRITERIA

    @property
    def kind(self) -> str:
        """The kind of its runs: prune or control."""
        return "control" if self.method in CONTROLS else "prune"

    @property
    def choosing(self) -> Technique:
        """The technique that selects the shape: itself, or for a control from scratch that of its shape."""
        return dataclasses.replace(self, method=self.shape, shape="l1") if self.method in SHAPED else self

    @property
    def label(self) -> str:
        """The technique in a few words: ``l1 inner uniform``, ``taylor in 3 steps``, ``scratch-e of l1``."""
        words = [self.method]
        words += [f"of {self.shape}"] if self.method in SHAPED else []
        words += [self.scope] if self.scope != "all" else []
        words += ["by sensitivity"] if self.allocate else [self.ranking] if self.ranking != "global" else []
        words += [f"to {self.round_to}"] if self.round_to > 1 else []
        words += [f"keeping {' '.join(self.keep)}"] if self.keep else []
        words += [f"{'gradual' if self.gradual else ''} in {self.steps} steps".strip()] if self.steps > 1 else []
        return " ".join(words)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values; without `keep` where it is empty."""
        fields = {name: value for name, value in dataclasses.asdict(self).items() if name != "keep" or value}
        return fields | ({"keep": [*self.keep]} if self.keep else {})  # a list, as in a record that was read

    def options(self) -> list[str]:
        """The command-line options that give this technique."""
        words = ["--method", self.method]
        for option, value, default in (
            ("--scope", self.scope, "all"),
            ("--allocate", self.allocate, None),
            ("--round-to", self.round_to, 1),
            ("--steps", self.steps, 1),
            ("--shape", self.shape, "l1"),
            ("--keep", ",".join(self.keep), ""),
        ):
            words += [option, str(value)] if value != default else []
        words += ["--uniform"] * (self.ranking == "uniform") + ["--gradual"] * self.gradual
        return words + ["--nearest"] * self.nearest

    def _check_together(self) -> None:
        given = {word for word in self.options() if word.startswith("--")} - {"--method", "--nearest", "--shape"}
        of_channels = given - {"--steps"} if self.method in DEPTH or self.method in SHAPED else given
        if not self.width and of_channels:
            raise UsageError(f"{sorted(of_channels)[0]}: goes with methods that remove channels, not {self.method}")
        if self.shape != "l1" and self.method not in SHAPED:
            raise UsageError(f"--shape {self.shape}: goes with {' and '.join(SHAPED)}, not {self.method}")
        if self.steps > 1 and (self.method in CONTROLS or self.method == "depth-cut"):
            raise UsageError(f"--steps {self.steps}: {self.method} has no steps in between: leave it out")
        if self.gradual and self.allocate:
            raise UsageError("--gradual: prunes by a ranking: leave out --allocate")
        if self.gradual and self.steps == 1:
            raise UsageError("--gradual: prunes in several steps of one fine-tuning: give --steps 2 or more")
        if self.allocate and self.ranking == "uniform":
            raise UsageError("--allocate sensitivity: gives every group a width of its own; leave out --uniform")
