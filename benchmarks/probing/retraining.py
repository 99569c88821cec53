"""Retraining behind frozen blocks: how good a network the first blocks of a trained one still allow.

A linear probe on pooled features measures what an exit's head does, which is what MW-BP trains its blocks for. What
the blocks are worth to the *rest* of a network is another question, and this is its answer.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from compress.data import Split
from compress.networks import Network, cut
from compress.recipes import Recipe
from compress.runs import Run, load
from compress.training import Method
from compress.training.evaluation import accuracies, predict
from compress.training.loop import Training, fit

QUARTERS = {"1/4": 0.25, "1/2": 0.5, "3/4": 0.75}


class Frozen(nn.Module):
    """A part of a network that training leaves as it is: no gradients, and always in eval mode, batch norm included."""

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
    """A quarter, half and three quarters of the blocks: what is frozen, stem included, in three retrainings."""
    lengths = {round(share * blocks) for share in QUARTERS.values()}
    return sorted(length for length in lengths if 0 < length < blocks)


def retraining_recipe(run: Run, epochs: int | None = None) -> Recipe:
    """The run's own recipe (a pruned run's reference's), for other epochs if given, reporting its last weights.

    Neither a best epoch is selected, since validation images are what is reported, nor are weights averaged.
    """
    config = run.record.config["reference"] or run.record.config
    recipe = Recipe.from_json(config["recipe"])
    recipe = recipe.changed(epochs=epochs, batch_size=config.get("batch_size", recipe.batch_size))
    return dataclasses.replace(recipe, select="last", averaging="none")


def half_frozen(network: Network, blocks: int, seed: int) -> Network:
    """A network of one exit: stem and first `blocks` blocks of the given one, frozen, and a fresh rest, from `seed`."""
    trained = cut(network, len(network.spec.exits))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = Network(trained.spec)
    fresh.stem = Frozen(trained.stem)
    for number in range(blocks):
        fresh.blocks[number] = Frozen(trained.blocks[number])
    return fresh


def retrained_accuracy(run: Run, blocks: int, parts: Split, recipe: Recipe, *, augment: bool, title: str) -> float:
    """Validation accuracy of the run's network with all but its first `blocks` blocks trained anew, by plain BP.

    Args:
        parts: on the device to train on; its validation images are not empty.
        recipe: see `retraining_recipe`.
        augment: whether the recipe's crops and flips suit the data.
        title: what progress lines call it.

    Raises:
        DivergedError: the loss became NaN or infinite.
    """
    network = half_frozen(load(run), blocks, run.record.seed).to(parts.train.labels.device)
    training = Training(
        network,
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
