"""Options that commands share, as groups; cyclopts reads their help from the docstrings."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, Token

from baselines import METHODS, Budget, Technique, macs_of
from compress.console import console
from compress.data import Dataset, open_dataset
from compress.errors import UsageError
from compress.networks import Architecture, is_foreign
from compress.recipes import FineTuneSchedule, Recipe, recipe_named
from compress.runs import Run
from compress.training import Method, data_of

DEFAULT_DATASET, DEFAULT_RECIPE = "fashion-mini", "quick"


def _whole(_: object, tokens: Sequence[Token]) -> int:
    """The number that an option says; cyclopts would round 0.5 to one."""
    text = tokens[0].value
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise ValueError(f"{text!r}: a whole number")
    return int(text)


WHOLE = Parameter(converter=_whole)
METHODS_HELP = "".join(f"{name}: {card}\n" for name, card in METHODS.items())


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Common:
    """Options of every command.

    Attributes:
        json: Print one JSON document on stdout, and nothing else there.
        debug: Show the traceback of an error.
    """

    json: Annotated[bool, Parameter(negative="")] = False
    debug: Annotated[bool, Parameter(negative="")] = False


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PlaceOptions:
    """Where a command computes and keeps its runs.

    Attributes:
        runs: Directory of the run directories.
        device: auto (CUDA where there is one), cpu, cuda, ...
    """

    runs: Annotated[Path, Parameter(env_var="COMPRESS_RUNS")] = Path("runs")
    device: str = "auto"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Options of the commands that train.

    Attributes:
        dataset: fashion-mini (bundled), fashion-mnist, cifar10, cifar100, svhn, or folder:PATH (your own images).
        data_dir: Where to look for the data first.
        image_size: Resize the images of folder:PATH to this size, in pixels; or, with other data, enlarge images to it
            for torchvision:NAME and the like (default 64 where they are smaller).
        stream: Leave the images of folder:PATH on disk (default: where decoded they are larger than 2 GiB).
        skip_unreadable: Leave out files of folder:PATH that are no whole images.
        workers: Processes that read streamed images (default: one a core, at most 4; 0: none but this one).
        recipe: Training protocol: quick (minutes), short (hours), paper (days on a CPU) or imagenet.
        epochs: Instead of the recipe's (prune: of fine-tuning, or of a control's training; study: of training).
        precision: auto (bf16 where the hardware has it), fp32 or bf16.
        resume: Go on with a run that failed (one that was interrupted goes on by itself).
    """

    dataset: str | None = None
    data_dir: Path | None = None
    image_size: Annotated[int | None, WHOLE] = None
    stream: bool | None = None
    skip_unreadable: Annotated[bool, Parameter(negative="")] = False
    workers: Annotated[int | None, WHOLE] = None
    recipe: str | None = None
    epochs: Annotated[int | None, WHOLE] = None
    precision: str = "auto"
    resume: Annotated[bool, Parameter(negative="")] = False

    def open_of(self, run: Run) -> Dataset:
        """The data set asked for, else the one that a run was trained on."""
        if self.dataset is not None or run.record.data["name"] == DEFAULT_DATASET:
            return self.open()
        if self.image_size is not None or self.stream is not None or self.skip_unreadable:
            raise UsageError(
                f"--image-size, --stream and --skip-unreadable go with --dataset: run {run.id} says how its images "
                "were read"
            )
        return data_of(run, self.data_dir, workers=self.workers)

    def named_recipe(self, default: str = DEFAULT_RECIPE, **changes: Any) -> Recipe:
        """The recipe asked for, else the default, with what `recipe_named` takes besides."""
        return recipe_named(default if self.recipe is None else self.recipe, **changes)

    def open(self, default: str = DEFAULT_DATASET, *, enlarged: bool = False) -> Dataset:
        """The data set asked for, else the default, which is then named.

        `enlarged`: the network makes its images the size, unless they are class folders.
        """
        if self.dataset is None and default == DEFAULT_DATASET:
            console.print(
                "data: fashion-mini, 8,000 bundled images of Fashion-MNIST (the paper used CIFAR-10, CIFAR-100 and "
                "SVHN: --dataset cifar10; see compress data)"
            )
        name, size = default if self.dataset is None else self.dataset, self.image_size
        if not name.startswith("folder:"):
            size = None if enlarged else size
        elif size is None:
            size = self.named_recipe().image_size
        return open_dataset(
            name,
            data_dir=self.data_dir,
            image_size=size,
            stream=self.stream,
            skip_unreadable=self.skip_unreadable,
            workers=self.workers,
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """What to change in the recipe.

    Attributes:
        learning_rate: The highest, instead of the recipe's.
        batch_size: Images a step, instead of the recipe's, or of fewer where there are few images.
        weight_decay: Instead of the recipe's.
    """

    learning_rate: float | None = None
    batch_size: int | None = None
    weight_decay: float | None = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ArchitectureOptions:
    """What the name of an architecture leaves open.

    Attributes:
        width: Factor on the channels of all stages.
        blocks: Blocks a stage, as in 3,3,3, instead of the architecture's.
        widths: Channels a stage, as in 25,50,100, instead of the architecture's.
        form: Of a ResNet's blocks: pre-activation, post-activation or norm-last, instead of what the name says.
    """

    width: Annotated[int, WHOLE] = 1
    blocks: str = ""
    widths: str = ""
    form: str = ""

    def of(self, arch: str, protocol: Protocol) -> Architecture:
        """The architecture of that name, with these options; anybody's net enlarges its images."""
        return Architecture(arch, image_size=protocol.image_size if is_foreign(arch) else None, **vars(self))


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Extras:
    """What the paper does not do; all off by default.

    Attributes:
        weights: A file of initial weights: a state dict, safetensors or torch.save's (read with weights only).
        pretrained: Start from the weights that torchvision or timm publishes (of torchvision:NAME, timm:NAME).
        compile: Run the blocks compiled: faster after a minute, results differ in their last bits.
        teacher: A run whose last exit's logits are distilled into every exit.
        teacher_weight: Its share of each loss (default 0.5 with a teacher).
        temperature: Of all distillation.
        stochastic_depth: Share of images for which the last residual block is left out, earlier ones less.
    """

    weights: Path | None = None
    pretrained: Annotated[bool, Parameter(negative="")] = False
    compile: Annotated[bool, Parameter(negative="")] = False
    teacher: str | None = None
    teacher_weight: float | None = None
    temperature: float = 4.0
    stochastic_depth: float = 0.0

    def method(self, **options: Any) -> Method:
        """The training method with these options and its own."""
        return Method(teacher=self.teacher_weight, temperature=self.temperature, **options)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BudgetOptions:
    """What a smaller network may cost: one of these, or several of a kind separated by commas.

    Attributes:
        ratio: Share of the prunable channels to remove, as in 0.5.
        speedup: MACs before / after, as in 2.6; met to within 1%, as are the next three.
        macs: MACs to leave, as in 97e6.
        params: Parameters to leave, as in 600e3.
        match: RUN or RUN:EXIT: the MACs of a run's last exit, or of that one.
        latency_ratio: Latency after / before, as in 0.5, measured here at batch 1; met to within the quartiles.
    """

    ratio: str | None = None
    speedup: str | None = None
    macs: str | None = None
    params: str | None = None
    match: str | None = None
    latency_ratio: str | None = None

    def all(self, runs: Path) -> list[Budget]:
        """A budget for every number, of the one option that was given."""
        given = {name: text for name, text in vars(self).items() if text is not None}
        if len(given) == 1 and self.match is not None:
            return [Budget(macs=macs_of(name, runs)) for name in self.match.split(",")]
        if len(given) != 1:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in vars(self))
            named = " and ".join(f"--{name.replace('_', '-')}" for name in given)
            raise UsageError(f"give one of {options}, not {named or 'none'}")
        [(name, text)] = given.items()
        return [Budget(**{name: number}) for number in numbers(name.replace("_", "-"), text)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TechniqueOptions:
    """How a network is made smaller.

    Attributes:
        scope: all, or inner: leave alone the channels that residual additions join over a stage.
        uniform: The same share of every group of channels, instead of one order over all.
        allocate: sensitivity: widths by what narrowing each group alone does to the loss.
        round_to: Make widths multiples of it, the nearest.
        steps: Prune so many times, at equal ratios, and fine-tune after each.
        gradual: Prune in those steps within the first half of one fine-tuning.
        shape: Of scratch-e and scratch-b: the method whose shape is trained.
        keep: Modules, separated by commas, whose layers keep the channels that they write.
        nearest: Where the budget cannot be met, take the nearest network that can be had.
    """

    method: Annotated[str, Parameter(help=METHODS_HELP)] = "l1"
    scope: str = "all"
    uniform: Annotated[bool, Parameter(negative="--global")] = False
    allocate: str | None = None
    round_to: Annotated[int, WHOLE] = 1
    steps: Annotated[int, WHOLE] = 1
    gradual: Annotated[bool, Parameter(negative="")] = False
    shape: str = "l1"
    keep: str = ""
    nearest: Annotated[bool, Parameter(negative="")] = False

    def technique(self) -> Technique:
        """The technique that these describe."""
        options: dict[str, Any] = {**vars(self), "ranking": "uniform" if self.uniform else "global"}
        del options["uniform"]
        options["keep"] = self.keep or ()
        return Technique(**options)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FineTuningOptions:
    """How what is left is trained.

    Attributes:
        schedule: small-rate (the recipe's for fine-tuning), or restart: rates as in training.
        learning_rate: The highest, instead of the schedule's; of a control: of its training.
        weight_decay: Instead of the recipe's.
    """

    schedule: FineTuneSchedule = "small-rate"
    learning_rate: float | None = None
    weight_decay: float | None = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """How latency is measured.

    Attributes:
        engine: eager (default), compile, onnxruntime, openvino or, on CUDA, cudagraphs; or several of them.
        precision: fp32 (default), bf16, fp16 or int8 (calibrated on held-out images); or several.
        batch_size: One or several, separated by commas.
        threads: Of the CPU.
        rounds: How often everything is timed.
        all: A directory of runs, or of a report: measure all its finished runs with every engine and precision that is
            here; a report's, which have no weights, with weights just drawn, but for int8.
        data_dir: Where to look first for the data that int8 needs.
    """

    engine: str | None = None
    precision: str | None = None
    batch_size: str = "1,128"
    threads: Annotated[int, WHOLE] = 1
    rounds: Annotated[int, WHOLE] = 9
    all: Path | None = None
    data_dir: Path | None = None

    def settings(self) -> dict[str, Any]:
        """What `bench` and `bench_all` both take."""
        sizes = numbers("batch-size", self.batch_size)
        if any(size != int(size) for size in sizes):
            raise UsageError(f"--batch-size {self.batch_size}: a whole number, or several separated by commas")
        batches = [int(size) for size in dict.fromkeys(sizes)]
        return {"batch_sizes": batches, "threads": self.threads, "rounds": self.rounds, "data_dir": self.data_dir}

    def engines(self) -> dict[str, Any]:
        """What `bench` alone takes: engines and precisions."""
        return {"engine": _names(self.engine or "eager"), "precision": _names(self.precision or "fp32")}

    def check(self, run: tuple[str, ...]) -> None:
        """Refuse to measure nothing, or both all runs and these."""
        if self.all is None and not run:
            raise UsageError(
                "bench: name the runs to measure, the one to compare with first (compress report lists them), "
                "or --all RUNS_DIR"
            )
        if self.all is not None and (run or self.engine or self.precision):
            raise UsageError("--all measures all runs with every engine: leave out runs, --engine and --precision")


def _names(text: str) -> list[str]:
    """The names in an option's text, separated by commas, each once."""
    return list(dict.fromkeys(part.strip() for part in text.split(",")))


def numbers(option: str, text: str) -> list[float]:
    """The numbers in an option's text, separated by commas.

    Raises:
        UsageError: there are others than finite numbers.
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [math.nan]
    if not all(map(math.isfinite, found)):
        raise UsageError(f"--{option} {text}: a number, or several separated by commas")
    return found


ARCHITECTURE, COMMON, EXTRAS, PLACE, PROTOCOL = ArchitectureOptions(), Common(), Extras(), PlaceOptions(), Protocol()
RECIPE = RecipeOptions()
BUDGET, TECHNIQUE, FINE_TUNING = BudgetOptions(), TechniqueOptions(), FineTuningOptions()
BENCH = BenchOptions()
