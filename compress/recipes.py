"""Training recipes by name: one function each, whose docstring gives its source and the accuracy to expect."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

from compress.documents import fitted
from compress.errors import UsageError, checked, nearest

FineTuneSchedule = Literal["small-rate", "restart"]
ClassWeights = Literal["none", "balanced"]
LEAST_STEPS = 10  # per epoch; fewer images get a smaller batch
BATCHES_OF = 8  # a reduced batch is a multiple of this: it splits over processes, and batch norm needs as many
MOST_EPOCHS, MOST_IMAGES = 10_000, 1_000_000  # per training, per batch
LATER = {"class_weights": "none", "zero_scale": False, "optimizer": "sgd"}  # not in records where so: ids are digests
RANGES: dict[str, tuple[float, float]] = {  # allowed range of fields, inclusive
    "epochs": (0, MOST_EPOCHS),
    "fine_tune_epochs": (1, MOST_EPOCHS),
    "batch_size": (1, MOST_IMAGES),
    **dict.fromkeys(("momentum", "label_smoothing", "warmup", "averaging_start", "ema_decay"), (0, 1)),
    **dict.fromkeys(("validation", "calibration"), (0, 1)),
    **dict.fromkeys(("weight_decay", "learning_rate", "fine_tune_learning_rate", "decay"), (0, sys.float_info.max)),
    "crop_padding": (0, 1 << 12),
    "split_seed": (0, 2**63 - 1),
}


@checked
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All settings of a training but network, data and seed; equal for all methods that are compared.

    Attributes:
        epochs: passes over the training images; 0 where given weights are taken, or pruned, as they are.
        batch_size: images per step; smaller for few images in a named recipe, see `batch`.
        least_steps: fewest steps of an epoch; smaller batches make up for few images. 1: keep the batch size.
        learning_rate: highest learning rate, of SGD with (Nesterov) momentum.
        schedule: one-cycle (linear warm-up, then cosine to zero), cosine, or multi-step, stepped every batch.
        warmup: for one-cycle, share of the training that is warm-up.
        milestones: for multi-step, shares of the training after which the rate is multiplied by `decay`.
        averaging: averaging of weights: none, ema (after every step) or swa (after every epoch), starting at
            `averaging_start` (a share of the training). Batch norm statistics are recomputed for averaged weights.
        crop, crop_padding, flip: augmentation, if the data set allows it: random crops, "pad" of the zero-padded image
            or "resized" from a random part of it, as for ImageNet; and mirroring, random or in alternate epochs.
        image_size: default size in pixels to which images of class folders are resized; None: not resized.
        optimizer: sgd, or muon for the kernels of convolutions behind the stem, see `compress.training.muon`.
        zero_scale: whether norm-last blocks begin as the identity: their last batch norm's scale is zero at first.
        stochastic_depth: probability of skipping the last residual block for an image; lower for earlier blocks.
        class_weights: of images in the cross-entropy: none, or balanced, the inverse of their class's frequency.
        validation, calibration: shares of the training images that are held out, drawn with `split_seed`.
        select: which epoch's weights are reported: the last, or the best by the last exit's validation accuracy.
        fine_tune_epochs, fine_tune_learning_rate, fine_tune_milestones: their values for fine-tuning a pruned network.
    """

    name: str
    epochs: int
    batch_size: int = 128
    least_steps: int = field(default=LEAST_STEPS, compare=False)
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    schedule: Literal["one-cycle", "cosine", "multi-step"] = "one-cycle"
    warmup: float = 0.25
    milestones: tuple[float, ...] = ()
    decay: float = 0.1
    averaging: Literal["none", "ema", "swa"] = "none"
    averaging_start: float = 0.75
    ema_decay: float = 0.99
    crop: Literal["pad", "resized"] = "pad"
    crop_padding: int = 4
    flip: Literal["none", "random", "alternating"] = "random"
    optimizer: Literal["sgd", "muon"] = "sgd"
    zero_scale: bool = False
    stochastic_depth: float = 0.0
    class_weights: ClassWeights = "none"
    image_size: int | None = None
    validation: float = 0.05
    calibration: float = 0.05
    split_seed: int = 0
    select: Literal["last", "best-validation"] = "last"
    fine_tune_epochs: int
    fine_tune_learning_rate: float = 0.01
    fine_tune_milestones: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name, (least, most) in RANGES.items():
            if not least <= getattr(self, name) <= most:
                at_most = f", {most:,} at most" if most < sys.float_info.max else ""
                raise UsageError(f"recipe {self.name}: {name} {getattr(self, name)} must be {least} or more{at_most}")
        for name in ("milestones", "fine_tune_milestones"):
            if not all(0 <= share <= 1 for share in getattr(self, name)):
                raise UsageError(f"recipe {self.name}: {name} {getattr(self, name)} are shares of the training, 0 to 1")
        for name, hint in get_type_hints(Recipe).items():
            if get_origin(hint) is Literal and getattr(self, name) not in get_args(hint):
                raise UsageError(f"recipe {self.name}: {name} {nearest(str(getattr(self, name)), get_args(hint))}")
        if self.image_size is not None and self.image_size < 1:
            raise UsageError(f"recipe {self.name}: image_size {self.image_size} must be 1 or more, or None")
        if not 0 <= self.stochastic_depth < 1:
            raise UsageError(f"stochastic-depth {self.stochastic_depth:g}: a share of the images, from 0 to below 1")
        if self.crop == "resized" and self.crop_padding:
            raise UsageError(f"recipe {self.name}: the crop is resized, so crop_padding must be 0")
        if self.select == "best-validation" and not self.validation:
            raise UsageError(f"recipe {self.name}: best-validation needs a validation share above 0")
        if self.select == "best-validation" and self.averaging != "none":
            raise UsageError(f"recipe {self.name}: the weights are either averaged or the best epoch's, not both")

    def batch(self, images: int) -> int:
        """The batch size for a number of training images; smaller for few images, unless the batch size was chosen.

        The smaller batch is the largest multiple of 8, at least 8, with which an epoch has `least_steps`. The learning
        rate is not changed, since what few images lack is steps.
        """
        named = RECIPES[self.name]().batch_size if self.name in RECIPES else None
        if self.batch_size != named or self.least_steps == 1:
            return min(self.batch_size, images)
        fewer = images // self.least_steps // BATCHES_OF * BATCHES_OF
        return min(self.batch_size, max(BATCHES_OF, fewer), images)

    def rate_factor(self, progress: float) -> float:
        """The factor, in [0, 1], on every learning rate when a share `progress` of the training is done.

        one-cycle: linear from 0 to 1 over the warm-up, then a cosine to 0. cosine: from 1 to 0. multi-step: `decay` to
        the power of the milestones passed.
        """
        if self.schedule == "multi-step":
            return self.decay ** sum(progress >= milestone for milestone in self.milestones)
        progress = min(progress, 1.0)
        warmup = self.warmup if self.schedule == "one-cycle" else 0.0
        if progress < warmup or warmup == 1:
            return progress / warmup
        return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))

    def fine_tuning(self, schedule: FineTuneSchedule = "small-rate") -> Recipe:
        """The recipe for fine-tuning a pruned network.

        ``small-rate``: with the rate and the milestones of fine-tuning. ``restart``: with those of training, which is
        known to improve even random pruning (Renda et al. 2020, arXiv 2003.02389; Le & Hua 2021, arXiv 2105.03193).

        Raises:
            UsageError: there is no such schedule.
        """
        if schedule not in get_args(FineTuneSchedule):
            raise UsageError(f"schedule {schedule!r}: {nearest(schedule, get_args(FineTuneSchedule))}")
        if schedule == "restart":
            return dataclasses.replace(self, epochs=self.fine_tune_epochs)
        return dataclasses.replace(
            self,
            epochs=self.fine_tune_epochs,
            learning_rate=self.fine_tune_learning_rate,
            milestones=self.fine_tune_milestones,
        )

    def changed(self, *, batch_size: int | None = None, **given: Any) -> Recipe:
        """A copy with the given values of fields; None leaves a field as it is.

        Raises:
            UsageError: a value is out of its range.
        """
        if given.get("learning_rate") == 0:
            raise UsageError("learning-rate 0: must be above 0")
        if given.get("warmup") is not None and self.schedule != "one-cycle":
            raise UsageError(
                f"warmup {given['warmup']:g}: recipe {self.name} has none: its schedule is {self.schedule}"
            )
        given |= {"batch_size": batch_size, "least_steps": None if batch_size is None else 1}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        return dataclasses.replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON-ready data."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}
        del values["least_steps"]  # the batch size that follows from it is recorded
        for name, usual in LATER.items():
            if values[name] == usual:
                del values[name]
        return values

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Recipe:
        """Read what `to_json` returned."""
        return fitted(data, cls, "recipe")


def quick() -> Recipe:
    """Minutes on two CPU cores: five one-cycle epochs without augmentation.

    Ours, chosen with MwResNet-26-4 on `fashion-mini` and 5,000 validation images of Fashion-MNIST that are not in it,
    where its last exit should reach 87%. In so few epochs crops and mirroring cost more than they give. It shows that
    things work, not which method is better: it is far from converged, and a short training favours auxiliary losses.
    Its 300 calibration images of `fashion-mini` certify risks of a few percent and more, not below.
    """
    return Recipe(
        name="quick",
        epochs=5,
        batch_size=48,
        learning_rate=0.15,
        weight_decay=5e-4,
        crop_padding=0,
        flip="none",
        fine_tune_epochs=1,
    )


def short() -> Recipe:
    """Hours on two CPU cores: twelve one-cycle epochs with crops and mirroring, for whole CIFAR or Fashion-MNIST.

    Ours, and not tuned: batch and augmentation as in `paper`, rate and decay as usual for one-cycle trainings of small
    ResNets. Pruned networks get a quarter of the epochs at a tenth of the rate. What it should reach was not measured;
    it ends far from converged (ResNets of 44 layers reach 94% on CIFAR-10), which favours shallow nets and auxiliary
    losses. A tenth of the training images, 5,000 of CIFAR's, is held out for calibration: enough to certify early exit.
    """
    return Recipe(
        name="short",
        epochs=12,
        learning_rate=0.2,
        weight_decay=5e-4,
        calibration=0.1,
        fine_tune_epochs=3,
        fine_tune_learning_rate=0.02,
    )


def small() -> Recipe:
    """Half an hour a network on a CPU core: fifteen one-cycle epochs on `cifar10-16x16`, for nets of half width.

    Ours: `short` with crops as far as suits images of half the size. Pruned networks get half the epochs again. It is
    for studies of training, so that only a twentieth, 2,500 of CIFAR's images, is held out for calibration.
    """
    return dataclasses.replace(short(), name="small", epochs=15, crop_padding=2, calibration=0.05, fine_tune_epochs=8)


def fast() -> Recipe:
    """Seconds to minutes on a GPU: twenty one-cycle epochs in batches of 472, for whole CIFAR. Not run on a GPU yet.

    Ours: `short` with batches that keep a GPU busy. The rate is that of `paper`, times the batch's size over 128, plus
    10%: so David Page went from 128 to 512 images on one GPU without loss (How to Train Your ResNet 2, 2018; another
    net). An epoch of the 42,500 images that are not held out has 90 steps, and after 88 batch norm's statistics have
    settled. What it should reach was not measured. Pruned networks get a quarter of the epochs at a tenth of the rate.
    """
    return dataclasses.replace(
        short(),
        name="fast",
        epochs=20,
        batch_size=472,
        learning_rate=0.4,
        fine_tune_epochs=5,
        fine_tune_learning_rate=0.04,
    )


def paper() -> Recipe:
    """The MW-BP authors' protocol for CIFAR (arXiv 1611.01773): 400 epochs, rate 0.1, a tenth at 160 and 240.

    Nothing is held out and the last weights are reported (the authors picked the best epoch on the test set). Published
    for ResNets of 26 to 56 layers with auxiliary exits: 3.8-5.8% test error on CIFAR-10. Days on a CPU. Fine-tuning
    follows Torch-Pruning's CIFAR benchmark: 100 epochs from 0.01, a tenth at 60 and 80. Early exit cannot be certified
    without held-out images: `--validation 0.05 --calibration 0.1` hold some out.
    """
    return Recipe(
        name="paper",
        epochs=400,
        schedule="multi-step",
        milestones=(0.4, 0.6),
        validation=0.0,
        calibration=0.0,
        fine_tune_epochs=100,
        fine_tune_milestones=(0.6, 0.8),
    )


def imagenet() -> Recipe:
    """The reference training of torchvision's ResNets on ImageNet: 90 epochs, rate 0.1, a tenth at 30 and 60.

    The defaults of pytorch/vision, references/classification/train.py, on 8 GPUs: batch 256, SGD with plain momentum,
    decay 1e-4, random crops resized to 224 pixels and mirrored; evaluated at the centre after resizing to 256.
    Published for its first weights (IMAGENET1K_V1): top-1 accuracy 69.758% for ResNet-18, 73.314% for ResNet-34,
    76.130% for ResNet-50. Nothing is held out and the last weights are reported: ImageNet's 50,000 validation images
    are the test images here, so its folder `val` is to be named `test`. Not the same: colours are normalised by what
    10,000 training images measure. Fine-tuning is ours: 20 epochs at the lowest rate of the training. To certify early
    exit, hold images out: `--validation 0.01 --calibration 0.01`.
    """
    return Recipe(
        name="imagenet",
        epochs=90,
        batch_size=256,
        nesterov=False,
        schedule="multi-step",
        milestones=(1 / 3, 2 / 3),
        crop="resized",
        crop_padding=0,
        image_size=224,
        validation=0.0,
        calibration=0.0,
        fine_tune_epochs=20,
        fine_tune_learning_rate=0.001,
    )


_ALL = (quick, short, small, fast, paper, imagenet)
RECIPES: dict[str, Callable[[], Recipe]] = {make.__name__: make for make in _ALL}


# The fields that options of `compress train` change; and those that options of `compress prune` change for a reference.
OPTIONS = (
    *("epochs", "learning_rate", "batch_size", "weight_decay", "label_smoothing", "warmup", "averaging", "zero_scale"),
    "optimizer",
    *("stochastic_depth", "class_weights", "validation", "calibration"),
)
OF_REFERENCE = ("epochs", "stochastic_depth", "class_weights", "validation", "calibration")


def is_named(recipe: Recipe, options: Sequence[str] = OPTIONS) -> bool:
    """Whether a command line can give this recipe: a name, and these options."""
    if recipe.name not in RECIPES:
        return False
    given = {name: getattr(recipe, name) for name in options}
    return recipe == dataclasses.replace(RECIPES[recipe.name](), **given)


def options_of(recipe: Recipe, among: Sequence[str] = OPTIONS[1:]) -> list[str]:
    """The options of `compress train` that give this recipe, without its name and epochs."""
    named = RECIPES[recipe.name]() if recipe.name in RECIPES else recipe
    options = []
    for name in among:
        value = getattr(recipe, name)
        if value != getattr(named, name) or (name == "batch_size" and recipe.least_steps != named.least_steps):
            options += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return options


@checked
def recipe_named(
    name: str, *, epochs: int | None = None, stochastic_depth: float = 0.0, class_weights: ClassWeights = "none"
) -> Recipe:
    """The recipe of that name, with other `epochs` if given, and with stochastic depth and class weights.

    Raises:
        UsageError: there is no such recipe, or the number is below 1.
    """
    if name not in RECIPES:
        raise UsageError(f"recipe {name!r}: {nearest(name, RECIPES)}")
    recipe = dataclasses.replace(RECIPES[name](), stochastic_depth=stochastic_depth, class_weights=class_weights)
    return recipe if epochs is None else dataclasses.replace(recipe, epochs=epochs)
