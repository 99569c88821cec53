"""Retraining: the accuracy of a network whose first blocks are frozen and whose other blocks are trained anew.

A linear probe on pooled features measures what an exit's head can do, which MW-BP trains its blocks for. Retraining
measures what the first blocks are worth to the rest of the network.
"""

from __future__ import annotations

import dataclasses

from torch import Tensor, nn

from compress.data import Split
from compress.errors import UsageError
from compress.networks import Network, cut, initialised
from compress.recipes import Recipe
from compress.runs import Run, load
from compress.training import Method
from compress.training.evaluation import accuracies, predict
from compress.training.loop import Training, fit

QUARTERS = {"1/4": 0.25, "1/2": 0.5, "3/4": 0.75}


class Frozen(nn.Module):
    """A part of a network that training does not change: without gradients, always in eval mode."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.part(x)
        return output

    def train(self, mode: bool = True) -> Frozen:
        """Stay in eval mode, whatever `mode` says."""
        return self


def frozen_lengths(blocks: int) -> list[int]:
    """The numbers of blocks that are frozen, together with the stem: a quarter, half and three quarters of all."""
    lengths = {round(share * blocks) for share in QUARTERS.values()}
    return sorted(length for length in lengths if 0 < length < blocks)


def retraining_recipe(run: Run, epochs: int | None = None) -> Recipe:
    """The run's own recipe, or its reference's for a pruned run, with other epochs if given.

    It keeps the last weights: no best epoch, since validation accuracy is what is reported, and no averaging.
    """
    config = run.record.config["reference"] or run.record.config
    recipe = Recipe.from_json(config["recipe"])
    if not recipe.epochs and epochs is None:
        raise UsageError(f"run {run.id}: its reference was given, not trained: say how long to retrain, --epochs")
    recipe = recipe.changed(epochs=epochs, batch_size=config.get("batch_size", recipe.batch_size))
    return dataclasses.replace(recipe, select="last", averaging="none")


def half_frozen(network: Network, blocks: int, seed: int, *, zero_scale: bool = False) -> Network:
    """A network of one exit with the stem and the first `blocks` blocks frozen, and fresh weights elsewhere."""
    trained = cut(network, len(network.spec.exits))
    fresh = initialised(trained.spec, seed, zero_scale=zero_scale)
    fresh.stem = Frozen(trained.stem)
    for number in range(blocks):
        fresh.blocks[number] = Frozen(trained.blocks[number])
    return fresh


def retrained_accuracy(run: Run, blocks: int, parts: Split, recipe: Recipe, *, augment: bool, title: str) -> float:
    """Validation accuracy of the run's network after all but its first `blocks` blocks are trained anew, by plain BP.

    Args:
        parts: on the device to train on, with validation images.
        recipe: see `retraining_recipe`.
        augment: whether to apply the recipe's crops and flips.
        title: name in progress lines.

    Raises:
        DivergedError: the loss became NaN or infinite.
    """
    network = half_frozen(load(run), blocks, run.record.seed, zero_scale=recipe.zero_scale)
    training = Training(
        network.to(parts.train.labels.device),
        parts,
        recipe,
        Method(name="bp").objective(network.spec),
        augment=augment,
        seed=run.record.seed,
        precision=run.record.config["precision"],
    )
    fit(training, title=title)
    values = accuracies(predict(network, parts.validation, parts.normalisation), parts.validation.labels)
    assert values is not None
    return values[-1]
