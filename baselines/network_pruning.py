"""Pruning of a network without a run: for a training loop of one's own."""

from __future__ import annotations

import copy

import torch

from baselines.budget import NEAREST, TOLERANCE, Budget
from baselines.budget_search import check_held, meet
from baselines.pruning_candidates import find_candidates
from baselines.removal_order import Size
from baselines.scoring_data import ScoringData
from baselines.technique import CRITERIA, Technique
from compress.data import Dataset, Labelled, Normalisation, open_dataset
from compress.errors import UsageError, checked
from compress.networks import Network
from compress.recipes import Recipe, recipe_named
from compress.training.objectives import Objective, bp, mwbp
from compress.training.plan import augmentation_by, split_by


@checked
def prune_network(
    network: Network,
    *,
    budget: Budget,
    technique: Technique | str = "l1",
    dataset: Dataset | str | None = None,
    recipe: Recipe | str = "quick",
    seed: int = 0,
) -> Network:
    """Return a smaller copy of a network, which keeps all exits; nothing is trained, and no run is read or written.

    Args:
        budget: what the copy may cost, relative to this network; any but a latency.
        technique: a method that prunes, in one step; or its name.
        dataset: data set, or its name, whose images score and re-estimate batch norm. None: batch norm's statistics
            are kept, and only methods are possible that look at weights alone.
        recipe: recipe, or its name, for the images that it holds out, and its label smoothing.
        seed: random seed of what is drawn.

    Raises:
        UsageError: the technique needs images, or does more than prune once; or the budget cannot be met.
    """
    technique = Technique(method=technique) if isinstance(technique, str) else technique
    recipe = recipe_named(recipe) if isinstance(recipe, str) else recipe
    dataset = open_dataset(dataset) if isinstance(dataset, str) else dataset
    _check(budget, technique, dataset, network)
    start = copy.deepcopy(network).eval()
    scoring = _scoring(start, dataset, recipe, seed)
    candidates, whole = find_candidates(technique, start, scoring), Size.of(start)
    removed = meet(budget, candidates.order, whole=whole, within=NEAREST if technique.nearest else TOLERANCE)
    smaller = candidates.without(removed)
    check_held(budget, whole, candidates.order.size(removed), Size.of(smaller))
    if dataset is not None:
        scoring.reestimate(smaller)
    return smaller.train(network.training)


def _check(budget: Budget, technique: Technique, dataset: Dataset | None, network: Network) -> None:
    if technique.kind == "control" or technique.steps > 1:
        what = f"method {technique.method}" if technique.kind == "control" else f"steps {technique.steps}"
        raise UsageError(f"{what}: needs training, and this prunes once and trains nothing")
    if budget.latency_ratio is not None:
        raise UsageError("latency_ratio: is measured by `compress prune`; give macs, params, speedup or ratio here")
    criterion = CRITERIA.get(technique.method)
    looks = technique.method == "blocks" or technique.allocate or (criterion and criterion.needs_gradients)
    if looks and dataset is None:
        what = "allocate sensitivity" if technique.allocate else f"method {technique.method}"
        raise UsageError(f"{what}: looks at images: give a dataset, or take l1")
    if dataset is not None and (dataset.input_shape, len(dataset.classes)) != (
        network.spec.input_shape,
        network.spec.classes,
    ):
        raise UsageError(
            f"dataset {dataset.name}: images {dataset.input_shape} of {len(dataset.classes)} classes, and the network "
            f"takes {network.spec.input_shape} of {network.spec.classes}"
        )


def _scoring(network: Network, dataset: Dataset | None, recipe: Recipe, seed: int) -> ScoringData:
    """What to score on; without a data set a black image, at which methods that need none do not look."""
    objective: Objective = mwbp(network.spec) if len(network.spec.exits) > 1 else bp(network.spec)
    device = next(network.parameters()).device
    if dataset is not None:
        parts = split_by(recipe, dataset).to(device)
        augmentation = augmentation_by(recipe, seed, augmentable=dataset.augmentable)
        return ScoringData.of(parts, objective, recipe.label_smoothing, seed, augmentation)
    channels = network.spec.input_shape[0]
    black = Labelled(
        images=torch.zeros(1, *network.spec.input_shape, dtype=torch.uint8), labels=torch.zeros(1, dtype=torch.int64)
    )
    return ScoringData(
        train=black,
        judging=black,
        normalisation=Normalisation(mean=(0.0,) * channels, std=(1.0,) * channels),
        objective=objective,
        label_smoothing=recipe.label_smoothing,
        seed=seed,
    )
