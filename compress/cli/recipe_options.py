"""Options that choose a training's recipe and change it."""

from dataclasses import dataclass
from typing import Any, Literal

from compress.cli.options import DEFAULT_RECIPE, Flag, RecipeName, Seed, Whole, options
from compress.recipes import ClassWeights, Recipe, recipe_named


@options("Recipe")
@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """The recipe.

    Attributes:
        recipe: Training protocol: minutes, hours or days on a CPU (default: quick; of a study, its own).
        epochs: Passes over the training images, instead of the recipe's.
    """

    recipe: RecipeName | None = None
    epochs: Whole | None = None

    def named(self, default: str = DEFAULT_RECIPE, **changes: Any) -> Recipe:
        """Return the recipe asked for, or the default one, with what `recipe_named` changes in it."""
        return recipe_named(default if self.recipe is None else self.recipe, **changes)


@options("Recipe")
@dataclass(frozen=True, kw_only=True)
class TrainingOptions(RecipeOptions):
    """The recipe of a training, and what to change in it.

    Attributes:
        learning_rate: Highest learning rate, instead of the recipe's.
        batch_size: Images per step, instead of the recipe's (which is smaller for few images).
        weight_decay: Weight decay, instead of the recipe's.
        label_smoothing: Share of the labels that is spread over all classes, such as 0.1, instead of the recipe's.
        warmup: Share of a one-cycle training that is warm-up, instead of the recipe's.
        averaging: Averaging of the weights: none, ema (every step) or swa (every epoch), instead of the recipe's.
        optimizer: sgd, or muon for the kernels of convolutions (with --update simultaneous).
        zero_scale: Blocks of --form norm-last begin as the identity: their last batch norm's scale is zero at first.
        stochastic_depth: Probability of skipping the last residual block for an image; lower for earlier blocks.
        class_weights: balanced: images of rare classes count more, as if all classes had as many.
        validation: Share of the training images held out to choose on, such as 0.05, instead of the recipe's;
            without effect on data that have validation images of their own, as class folders get by --split.
        calibration: Share held out to certify early exit and to calibrate int8, such as 0.2, instead of the recipe's.
        seed: Random seed for initial weights, data order and augmentation.
    """

    learning_rate: float | None = None
    batch_size: Whole | None = None
    weight_decay: float | None = None
    label_smoothing: float | None = None
    warmup: float | None = None
    averaging: Literal["none", "ema", "swa"] | None = None
    optimizer: Literal["sgd", "muon"] = "sgd"
    zero_scale: Flag = False
    stochastic_depth: float = 0.0
    class_weights: ClassWeights = "none"
    validation: float | None = None
    calibration: float | None = None
    seed: Seed = 0

    def changed(self) -> Recipe:
        """Return the recipe with all changes."""
        recipe = self.named(
            epochs=self.epochs, stochastic_depth=self.stochastic_depth, class_weights=self.class_weights
        )
        names = ("learning_rate", "batch_size", "weight_decay", "label_smoothing", "warmup", "averaging")
        given = {name: getattr(self, name) for name in (*names, "optimizer", "validation", "calibration")}
        return recipe.changed(**given, zero_scale=self.zero_scale or None)


RECIPE = RecipeOptions()
