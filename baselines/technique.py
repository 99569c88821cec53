"""Techniques: by which method a network is made smaller, and with which options; plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from baselines.criteria import IMPORTANCES
from compress.errors import UsageError, checked, nearest

# A card each; what removes channels has its own in `importance`.
DEPTH = {
    "blocks": "whole residual blocks, whose absence raises the loss least (Veit et al. 2016, arXiv 1605.06431)",
    "depth-cut": "all blocks behind one, which gets a new head",
}
CONTROLS = {
    "scratch-e": "control: the pruned shape from scratch, the reference's epochs (Liu et al. 2019, arXiv 1810.05270)",
    "scratch-b": "control: the same, those epochs times MACs before / after, 4 times at most",
    "shallow": "control: the plain network of fewer blocks",
    "distilled": "control: that network taught by the reference, temperature 4, half of the loss (Hinton et al. 2015)",
}
METHODS = {name: importance.card for name, importance in IMPORTANCES.items()} | DEPTH | CONTROLS
SPARSE = tuple(name for name, importance in IMPORTANCES.items() if importance.sparse)
SHAPED = ("scratch-e", "scratch-b")
SHAPES = tuple(name for name in (*IMPORTANCES, *DEPTH) if name not in SPARSE)  # that they can have
TAUGHT = "distilled"
MOST_STEPS = 1000

Scope = Literal["all", "inner"]
Ranking = Literal["global", "uniform"]
Allocation = Literal["sensitivity"]


@checked
@dataclass(frozen=True, kw_only=True)
class Technique:
    """A method and its options.

    Attributes:
        method: a key of `METHODS`.
        scope: all groups of channels, or inner ones alone: those that no residual addition joins (Li et al. 2017).
        ranking: global, one order over all groups, or uniform, the same share of each.
        allocate: sensitivity: widths by what narrowing each group alone does to the loss; no `ranking` then.
        round_to: widths are multiples of it, the nearest ones.
        steps: how often to prune, each time followed by fine-tuning, or with `gradual` within one fine-tuning.
        shape: scratch-e, scratch-b: the method whose shape is trained.
        keep: modules whose layers keep the channels that they write, by name; or their names separated by commas.
        nearest: where a budget cannot be met to within 1%, take the nearest network that can be had.

    Raises:
        UsageError: unknown, out of range, or options that do not go together.
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
        self._check_together()

    @property
    def width(self) -> bool:
        """Whether channels are removed, here or for the shape that is trained from scratch."""
        return (self.shape if self.method in SHAPED else self.method) in IMPORTANCES

    @property
    def kind(self) -> str:
        """Of the runs: prune or control."""
        return "control" if self.method in CONTROLS else "prune"

    @property
    def choosing(self) -> Technique:
        """The technique that chooses the shape: itself, but for what trains a shape from scratch."""
        return dataclasses.replace(self, method=self.shape, shape="l1") if self.method in SHAPED else self

    @property
    def label(self) -> str:
        """In a few words, as reports have it: ``l1 inner uniform``, ``taylor in 3 steps``, ``scratch-e of l1``."""
        words = [self.method]
        words += [f"of {self.shape}"] if self.method in SHAPED else []
        words += [self.scope] if self.scope != "all" else []
        words += ["by sensitivity"] if self.allocate else [self.ranking] if self.ranking != "global" else []
        words += [f"to {self.round_to}"] if self.round_to > 1 else []
        words += [f"keeping {' '.join(self.keep)}"] if self.keep else []
        words += [f"{'gradual' if self.gradual else ''} in {self.steps} steps".strip()] if self.steps > 1 else []
        return " ".join(words)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON has them; without modules to keep where there are none, as of old."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "keep" or value}

    def options(self) -> list[str]:
        """The command-line options that say the same."""
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
