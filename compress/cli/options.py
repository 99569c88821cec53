"""Options that commands share, in groups; cyclopts reads their help from the docstrings.

Importing this module imports no torch, and the ``check`` of a group refuses what is wrong without it.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar

from cyclopts import Group, Parameter, Token
from cyclopts.validators import Number

from compress.cli.runs_option import Runs, writable
from compress.data.catalogue import BUNDLED, FOLDER, check_request
from compress.data.division import Division
from compress.errors import UsageError
from compress.networks.architecture_names import FORMS, parse
from compress.recipes import RECIPES, Recipe
from compress.runs import find_run

if TYPE_CHECKING:
    from compress.data import Dataset
    from compress.networks import Architecture
    from compress.runs import Run
    from compress.training import Method, Place, Start

T = TypeVar("T")
DEFAULT_RECIPE = "quick"
SEEDS = 2**63  # seeds are below it
PANELS = (  # of `--help`, in their order
    *("Network", "Budget: give one of these; several values are separated by commas", "Method", "Multi-exit training"),
    *("Limits", "Bundle", "Measuring", "Prediction", "Recipe", "Start and distillation", "Data", "Runs", "Cluster"),
    "Output",
)


def whole_number(_: object, tokens: Sequence[Token]) -> int:
    """Return the integer that an option says, where cyclopts would round 0.5."""
    text = tokens[0].value
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise ValueError(f"{text!r}: a whole number")
    return int(text)


Flag = Annotated[bool, Parameter(show_default=False)]
Whole = Annotated[int, Parameter(converter=whole_number)]
Seed = Annotated[Whole, Parameter(validator=Number(gte=0, lt=SEEDS))]
Precision = Literal["auto", "fp32", "bf16"]
if TYPE_CHECKING:
    Form: TypeAlias = str
    RecipeName: TypeAlias = str
else:
    Form, RecipeName = Literal[tuple(FORMS.values())], Literal[tuple(RECIPES)]


def device_name(_: object, name: str) -> None:
    """Refuse the name of a device that no machine has; whether this one has it takes torch to find out."""
    if not re.fullmatch(r"auto|cpu|meta|(cuda|mps|xpu)(:[0-9]{1,3})?", name):
        raise ValueError(f"{name!r}: use auto, cpu or, where there is one, cuda")


def panel(title: str) -> Group:
    """Return the panel of this title that ``--help`` shows options in, in the order of ``PANELS``."""
    return Group(title, sort_key=PANELS.index(title))


def options(title: str) -> Callable[[type[T]], type[T]]:
    """Return a decorator that makes a dataclass a group of options with a panel of its own."""

    def group(cls: type[T]) -> type[T]:
        cls.__doc__ = re.sub(r"\n {12}", " ", cls.__doc__ or "")  # cyclopts would keep the lines of a description
        return Parameter(name="*", group=panel(title))(cls)

    return group


@options("Output")
@dataclass(frozen=True, kw_only=True)
class Output:
    """Options of every command.

    Attributes:
        json: Print one JSON document on stdout, nothing else.
        debug: Show the traceback of an error.
    """

    json: Flag = False
    debug: Flag = False


@options("Runs")
@dataclass(frozen=True, kw_only=True)
class PlaceOptions:
    """Where runs are kept and computed.

    Attributes:
        runs: Directory of the run directories; or a URL of an object store: s3://BUCKET/PATH, gs://BUCKET/PATH.
        device: auto (CUDA if there is one), cpu, cuda, ...
    """

    runs: Runs = Path("runs")
    device: Annotated[str, Parameter(validator=device_name)] = "auto"


@options("Runs")
@dataclass(frozen=True, kw_only=True)
class TrainingPlaceOptions(PlaceOptions):
    """Where and how runs are computed.

    Attributes:
        precision: Number format; auto: bf16 if the hardware has it.
        resume: Continue a failed run (an interrupted one always does).
    """

    precision: Precision = "auto"
    resume: Flag = False

    def place(self) -> "Place":
        """Return what these options say as the library takes it; refuse the URL of a store that cannot be written."""
        from compress.training import Place

        return Place(**vars(self) | {"runs": writable(self.runs)})


@options("Data")
@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The data set.

    Attributes:
        dataset: fashion-mini, fashion-mnist, cifar10, cifar100, svhn, cifar10-16x16, or folder:PATH (your own images)
            (default: fashion-mini; of a study, its own; of a run to prune from, the run's).
        data_dir: Directory in which data are looked for first.
        image_size: Pixels to resize images of folder:PATH to, or to enlarge others to for a foreign network (default:
            64 where they are smaller).
        stream: Keep images of folder:PATH on disk (default: above 2 GiB).
        skip_unreadable: Leave out unreadable images of folder:PATH.
        split: For folder:PATH without parts: percent of train, val and test images, such as 70/15/15 (the default) or
            80/20 (no val); or a run, whose files keep their parts while new ones are divided.
        split_seed: Seed of that division (default: 0).
        workers: Processes that read streamed images (default: one per core, at most 4; 0: none but this one).
        normalisation: imagenet, or MEAN,.../STD,...: constants that weights of your own were trained with (default: as
            published, or measured on the training images; of a run to prune from, the run's).
    """

    dataset: str | None = None
    data_dir: Path | None = None
    image_size: Whole | None = None
    stream: Annotated[bool | None, Parameter(negative="--no-stream")] = None
    skip_unreadable: Flag = False
    split: str | None = None
    split_seed: Seed | None = None
    workers: Whole | None = None
    normalisation: str | None = None

    def check(self, recipe: Recipe, default: str = BUNDLED, *, arch: str = "") -> None:
        """Refuse a data set that is unknown or not here, and options that do not fit it."""
        if self.normalisation:
            from compress.data import Normalisation

            Normalisation.parse(self.normalisation)
        check_request(**self._request(recipe, default, arch))

    def open(self, recipe: Recipe, default: str = BUNDLED, *, arch: str = "") -> "Dataset":
        """Return the data set asked for, or the default one, which is then named on stderr.

        A foreign network (``arch``) enlarges images itself, unless they are class folders.
        """
        from compress.console import console
        from compress.data import open_dataset

        if self.dataset is None and default == BUNDLED:
            console.print(
                "data: fashion-mini, 8,000 bundled images of Fashion-MNIST (the paper used CIFAR-10, CIFAR-100 and "
                "SVHN: --dataset cifar10; see compress data)"
            )
        dataset = open_dataset(**self._request(recipe, default, arch))
        return dataset.normalised_by(self.normalisation) if self.normalisation else dataset

    def open_of(self, run: "Run", recipe: Recipe) -> "Dataset":
        """Return the data set asked for, or else the one that a run was trained on."""
        from compress.training import data_of, normalised_as

        if self.dataset is not None or run.record.data["name"] == BUNDLED:
            dataset = self.open(recipe)
            return dataset if self.normalisation else normalised_as(run, dataset)
        how = (self.image_size, self.stream, self.split, self.split_seed, self.skip_unreadable or None)
        if any(value is not None for value in (*how, self.normalisation)):
            raise UsageError(
                "--image-size, --stream, --skip-unreadable, --split, --split-seed and --normalisation go with "
                f"--dataset: run {run.id} says how its images were read"
            )
        return data_of(run, self.data_dir, workers=self.workers)

    def _request(self, recipe: Recipe, default: str, arch: str) -> dict[str, Any]:
        """Return the arguments of `open_dataset`."""
        given = vars(self) | {"name": default if self.dataset is None else self.dataset}
        given["division"] = Division.asked(given.pop("split"), given.pop("split_seed"))
        del given["dataset"], given["normalisation"]
        if not given["name"].startswith(FOLDER):
            given["image_size"] = None if is_foreign(arch) else self.image_size
        elif self.image_size is None:
            given["image_size"] = recipe.image_size
        return given


@options("Network")
@dataclass(frozen=True, kw_only=True)
class ArchitectureOptions:
    """What the name of an architecture leaves open.

    Attributes:
        width: Factor on the channels of all stages.
        blocks: Blocks per stage, such as 3,3,3, instead of the architecture's.
        widths: Channels per stage, such as 25,50,100, instead of the architecture's.
        form: Form of a ResNet's blocks, instead of the one that the name says.
    """

    width: Whole = 1
    blocks: str = ""
    widths: str = ""
    form: Form | None = None

    def check(self, arch: str) -> None:
        """Refuse the name of one of our own architectures that is unknown, and options that do not fit it."""
        if not is_foreign(arch):
            parse(arch, width=self.width, blocks=self.blocks, widths=self.widths, form=self.form or "")

    def architecture(self, arch: str, image_size: int | None, head: str | None) -> "Architecture":
        """Return the architecture of that name; a foreign network enlarges images to ``image_size`` itself."""
        from compress.networks import Architecture

        given = vars(self) | {"form": self.form or "", "head": head}
        return Architecture(arch, image_size=image_size if is_foreign(arch) else None, **given)


@options("Start and distillation")
@dataclass(frozen=True, kw_only=True)
class StartOptions:
    """What the training starts from, and learns from besides the labels.

    Attributes:
        weights: File of initial weights: a state dict as safetensors or torch.save write it.
        pretrained: Start from the weights published for torchvision:NAME or timm:NAME.
        teacher: Run whose last exit's logits are distilled into every exit.
        teacher_weight: Share of each loss that the teacher gives, 0 to 1 (default with a teacher: 0.5).
        temperature: Softmax temperature of all distillation.
    """

    weights: Path | None = None
    pretrained: Flag = False
    teacher: str | None = None
    teacher_weight: float | None = None
    temperature: float = 4.0

    def check(self, runs: Path, trunk: str | None) -> None:
        """Refuse runs that are not there."""
        for run in (self.teacher, trunk):
            if run is not None:
                find_run(run, runs)

    def method(self, **fields: Any) -> "Method":
        """Return the training method with these fields and the options of distillation."""
        from compress.training.methods import Method

        return Method(teacher=self.teacher_weight, temperature=self.temperature, **fields)

    def start(self, trunk: str | None) -> "Start":
        """Return what the training starts from as the library takes it."""
        from compress.training import Start

        return Start(weights=self.weights, pretrained=self.pretrained, teacher=self.teacher, trunk=trunk)


def is_foreign(arch: str) -> bool:
    """Return whether a name is that of a foreign network; on the command line no network is registered by name."""
    return ":" in arch


def numbers(option: str, text: str) -> list[float]:
    """Return the numbers in an option's text, separated by commas.

    Raises:
        UsageError: there is something else than finite numbers.
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [math.nan]
    if not all(map(math.isfinite, found)):
        raise UsageError(f"--{option} {text}: a number, or several separated by commas")
    return found


DATA, OUTPUT, PLACE = DataOptions(), Output(), PlaceOptions()
TRAINING_PLACE = TrainingPlaceOptions()
