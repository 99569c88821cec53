"""`compress train` and `compress train-mwbp`: a network with one exit, or with several."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from cyclopts import Parameter

from compress.cli.options import (
    DATA,
    OUTPUT,
    ArchitectureOptions,
    DataOptions,
    Flag,
    Output,
    StartOptions,
    TrainingPlaceOptions,
    Whole,
    is_foreign,
    options,
    panel,
)
from compress.cli.recipe_options import TrainingOptions
from compress.console import console
from compress.errors import UsageError
from compress.training.methods import FROZEN, METHODS, SINGLE_EXIT, Method

ARCHITECTURES = (
    "resnetN (pre-activation), resnetNv1 (original form) or resnetNnl (norm-last), N = 6n+2; wrn-28-10; mobilenetv2; "
    "with exits MwResNet-56-5; or a foreign network: torchvision:NAME, timm:NAME, python:MODULE:FACTORY."
)
ArchName = Annotated[str, Parameter(group=panel("Network"), help=ARCHITECTURES)]


# Heads of auxiliary exits, named here since their module imports torch; a test compares the two.
Head = Literal[
    "bn-relu-gap-fc", "gap-fc", "bn-relu-flatten-fc", "relu-gap-fc", "bn-relu-conv-gap-fc", "ln-mean-fc", "shared"
]
Update = Literal["simultaneous", "sequential"]
Annealing = Literal["none", "last-third", "first-third"]
if TYPE_CHECKING:
    MethodName: TypeAlias = str
else:
    MethodName = Literal[tuple(name for name in METHODS if name not in SINGLE_EXIT)]


@options("Runs")
@dataclass(frozen=True, kw_only=True)
class CompiledPlaceOptions(TrainingPlaceOptions):
    """Where and how runs are computed.

    Attributes:
        compile: Compile the blocks: faster after a minute; results differ in the last bits.
        capture: On a GPU, capture each step as a CUDA graph with compiled blocks.
    """

    compile: Flag = False
    capture: Annotated[bool, Parameter(negative="--no-capture")] = True


@options("Multi-exit training")
@dataclass(frozen=True, kw_only=True)
class MultiExitOptions:
    """Exits, and how they are trained.

    Attributes:
        exits: Number of exits with the last one (default 5), equally spaced; block numbers, such as 5,9,13,17,end;
            names of modules, such as layer1,layer2,end; macs:5, at equal shares of the MACs; or paper, the published
            exits.
        head: Head of auxiliary exits (default: what suits the blocks); shared: the later blocks' shortcuts and the last
            exit's head, without weights of their own (stage cost).
        method: Training method: mwbp, its first form auxnet, or a control.
        update: simultaneous: one backward pass; sequential: the authors' order, one pass per exit, fp32
            (default: the method's).
        gamma: Weights of auxiliary losses: depth-squared, uniform, or numbers, such as 0.1,0.3,0.6,1.
        trunk: Method frozen-trunk: the run whose trunk gets exits (default: found, or trained first).
        self_distillation: Share of auxiliary losses in which the last exit is the teacher, 0 to 1.
        gradient_equilibrium: Train every segment with the mean of its exits' gradients, not the sum.
        ensemble: Average the logits of so many last exits, 2 or more, by weights fitted on validation images, as one
            more prediction: RUN:ensemble for select, bench, export and predict.
        ensemble_teacher: Share of every loss in which the mean of all exits is the teacher, 0 to 1.
        annealing: Anneal auxiliary losses in the trunk: to nothing in the last-third of the training, or from nothing
            in the first-third.
        auxiliary_weight: Factor on auxiliary losses in the trunk, such as 0.3; heads learn as fast as without.
    """

    exits: str | None = None
    head: Head | None = None
    method: MethodName = "mwbp"
    update: Update | None = None
    gamma: str = "depth-squared"
    trunk: str | None = None
    self_distillation: float = 0.0
    gradient_equilibrium: Flag = False
    ensemble: Whole = 0
    ensemble_teacher: float = 0.0
    annealing: Annealing = "none"
    auxiliary_weight: float = 1.0

    def check(self, arch: str) -> None:
        """Refuse exits that no network of our own has; which blocks there are takes torch to find out."""
        if self.exits is None or self.exits == "paper" or self.exits.startswith("macs:") or is_foreign(arch):
            return
        for word in self.exits.split(","):
            if not re.fullmatch(r"\s*([0-9]{1,9}|end)\s*", word):
                raise UsageError(f"exits: {word!r} is neither the number of a block nor 'end'")


ARCHITECTURE, TRAINING, START = ArchitectureOptions(), TrainingOptions(), StartOptions()
PLACE, MULTI_EXIT = CompiledPlaceOptions(), MultiExitOptions()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The options that both commands have."""

    architecture: ArchitectureOptions = ARCHITECTURE
    training: TrainingOptions = TRAINING
    start: StartOptions = START
    data: DataOptions = DATA
    place: CompiledPlaceOptions = PLACE
    output: Output = OUTPUT

    def train(self, arch: str, method: Method, multi_exit: MultiExitOptions) -> None:
        """Train a network and print its exits; what is wrong is refused before torch is imported."""
        recipe = self.training.changed()
        self.architecture.check(arch)
        multi_exit.check(arch)
        self.data.check(recipe, arch=arch)
        self.start.check(self.place.runs, multi_exit.trunk if method.name == FROZEN else None)

        from compress.cli.printing import show_runs
        from compress.training import train

        dataset = self.data.open(recipe, arch=arch)
        if self.training.validation is not None and dataset.validation:
            own = len(dataset.validation)
            console.print(f"--validation has no effect: {dataset.name} has {own:,} validation images of its own")
        run = train(
            self.architecture.architecture(arch, self.data.image_size, multi_exit.head),
            dataset,
            method=method,
            exits=multi_exit.exits,
            recipe=recipe,
            seed=self.training.seed,
            start=self.start.start(multi_exit.trunk),
            place=self.place.place(),
        )
        show_runs([run], as_json=self.output.json)


SHARED = TrainOptions()


def train(*, arch: ArchName = "resnet110", extra_decay: str | None = None, shared: TrainOptions = SHARED) -> None:
    """Train a network with one exit by plain backpropagation (BP).

    Args:
        extra_decay: Control: use the weight decay that MW-BP with these exits (a number, or blocks) would bring.
    """
    name = "bp" if extra_decay is None else "bp-extra-decay"
    shared.train(arch, shared.start.method(name=name, decay_exits=extra_decay), MULTI_EXIT)


def train_mwbp(
    *, arch: ArchName = "resnet44", multi_exit: MultiExitOptions = MULTI_EXIT, shared: TrainOptions = SHARED
) -> None:
    """Train a multi-exit network by multi-way backpropagation (MW-BP)."""
    method = shared.start.method(
        name=multi_exit.method,
        update=multi_exit.update,
        gamma=multi_exit.gamma,
        self_distillation=multi_exit.self_distillation,
        gradient_equilibrium=multi_exit.gradient_equilibrium,
        ensemble=multi_exit.ensemble,
        ensemble_teacher=multi_exit.ensemble_teacher,
        annealing=multi_exit.annealing,
        auxiliary_weight=multi_exit.auxiliary_weight,
    )
    shared.train(arch, method, multi_exit)
