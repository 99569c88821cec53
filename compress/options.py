"""Options that commands share, as groups; cyclopts reads their help from the docstrings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from compress.data import Dataset, open_dataset
from compress.recipes import recipe_named
from compress.training import Method
from compress.training.progress import console

DEFAULT_DATASET, DEFAULT_RECIPE = "fashion-mini", "quick"


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
class Place:
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
        recipe: Training protocol: quick (minutes), paper (days on a CPU) or imagenet.
        epochs: Instead of the recipe's (prune: of fine-tuning; study: of training).
        precision: auto (bf16 where the hardware has it), fp32 or bf16.
        resume: Go on with a run that failed (one that was interrupted goes on by itself).
    """

    dataset: str | None = None
    data_dir: Path | None = None
    image_size: int | None = None
    stream: bool | None = None
    skip_unreadable: Annotated[bool, Parameter(negative="")] = False
    workers: int | None = None
    recipe: str | None = None
    epochs: int | None = None
    precision: str = "auto"
    resume: Annotated[bool, Parameter(negative="")] = False

    def open(self, default: str = DEFAULT_DATASET, *, enlarged: bool = False) -> Dataset:
        """The data set asked for, else the default, which is then named.

        `enlarged`: the network makes its images the size, unless they are class folders.
        """
        if self.dataset is None and default == DEFAULT_DATASET:
            console.print(
                "data: fashion-mini, 8,000 bundled images of Fashion-MNIST (the paper used CIFAR-10, CIFAR-100 and "
                "SVHN: --dataset cifar10; see compress data)"
            )
        name, size = self.dataset or default, self.image_size
        if not name.startswith("folder:"):
            size = None if enlarged else size
        elif size is None:
            size = recipe_named(self.recipe or DEFAULT_RECIPE).image_size
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
class Architecture:
    """What the name of an architecture leaves open.

    Attributes:
        width: Factor on the channels of all stages.
        blocks: Blocks a stage, as in 3,3,3, instead of the architecture's.
        widths: Channels a stage, as in 25,50,100, instead of the architecture's.
        form: Of a ResNet's blocks: pre-activation, post-activation or norm-last, instead of what the name says.
    """

    width: int = 1
    blocks: str = ""
    widths: str = ""
    form: str = ""

    def options(self) -> dict[str, Any]:
        """As `compress.create` takes them."""
        return dict(vars(self))


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


ARCHITECTURE, COMMON, EXTRAS, PLACE, PROTOCOL = Architecture(), Common(), Extras(), Place(), Protocol()
