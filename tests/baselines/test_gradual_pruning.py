"""Gradual pruning: momentum is sliced with the weights, every step is counted, and interruptions lose nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from baselines.channels import Channels, remove_channels
from baselines.gradual_pruning import even_shares, gradual_pruning, steps_at
from baselines.scoring_data import ScoringData
from compress import Architecture, Place
from compress.data import Dataset, Split, split
from compress.network_cost import cost
from compress.networks import Network, spec_of
from compress.recipes import Recipe, recipe_named
from compress.runs import load
from compress.training import Hook, Method, Plan, Prepared, execute, train
from compress.training.hooks import Options, ReshapableTraining
from compress.training.loop import Training, fit
from compress.training.updates import Simultaneous
from tests.baselines.networks import differing

EPOCHS, BATCH = 4, 60  # of 180 images: 3 steps an epoch
RECIPE = replace(recipe_named("quick"), epochs=EPOCHS, batch_size=BATCH, learning_rate=0.05)
CHOSEN: tuple[Channels, ...] = (
    {0: [1], 1: [0, 3]},
    {0: [0], 2: [2, 5]},
    {3: [1], 1: [1]},
)


def choose(network: Network, stage: int) -> Channels:
    assert not network.training
    return CHOSEN[stage]


def training_of(
    tiny: Dataset, recipe: Recipe, hook: Callable[[ScoringData], Hook], *, method: str = "bp", arch: str = "resnet8"
) -> Training:
    spec = spec_of(
        Architecture(arch, widths="4,8,16"),
        exits=3 if method == "mwbp" else 1,
        input_shape=tiny.input_shape,
        classes=10,
    )
    torch.manual_seed(0)
    network = Network(spec)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # all different, those too that no gradient reaches
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    parts = split(tiny, validation=recipe.validation, calibration=recipe.calibration, seed=recipe.split_seed)
    objective = Method(name=method).objective(spec)
    given = hook(ScoringData.of(parts, objective, 0.0, 0))
    return Training(
        network, parts, recipe, objective, augment=True, seed=0, precision="fp32", options=Options(hook=given)
    )


def gradual(scoring: ScoringData, *, shares: tuple[float, ...] = even_shares(3)) -> Hook:
    """Each choice costs 1000 MACs."""

    def at_a_price(network: Network, stage: int) -> Channels:
        scoring.macs += 1000
        return choose(network, stage)

    return gradual_pruning(shares, at_a_price, scoring)


@pytest.mark.parametrize(
    ("prunings", "total", "steps"),
    [(5, 100, [10, 20, 30, 40, 50]), (1, 100, [50]), (3, 2, [0, 1, 1]), (2, 1, [0, 0])],
)
def test_prunings_are_spread_over_the_first_half_and_all_happen(prunings: int, total: int, steps: list[int]) -> None:
    assert steps_at(even_shares(prunings), total) == steps


def positions(part: Tensor, whole: Tensor) -> list[int]:
    """Where in the whole the part's values stand; they are all different."""
    where = {value: position for position, value in enumerate(whole.flatten().tolist())}
    assert len(where) == whole.numel()
    return [where[value] for value in part.flatten().tolist()]


@pytest.mark.parametrize(("method", "arch"), [("bp", "resnet8v1"), ("mwbp", "resnet8")])
def test_what_is_kept_keeps_its_weights_and_its_momentum_bit_for_bit(method: str, arch: str, tiny: Dataset) -> None:
    """Weights, all different, say which of the old network's places a new one's come from."""
    compared = []

    def compare(training: ReshapableTraining, done: int) -> None:
        if done != 2:
            return
        assert isinstance(training.update, Simultaneous)
        weights = {name: weight.detach().clone() for name, weight in training.network.named_parameters()}
        momentum = {name: buffer.clone() for name, buffer in training.update.momentum().items()}
        training.reshape(lambda network: remove_channels(network, CHOSEN[0]), done=done)
        after = training.update.momentum()
        assert after.keys() == momentum.keys() == weights.keys()
        for name, weight in training.network.named_parameters():
            places = positions(weight, weights[name])
            assert after[name].flatten().tolist() == momentum[name].flatten()[places].tolist()
            assert after[name].stride() == weight.stride()  # the fused optimiser goes by place in memory
            compared.append(len(places) < weights[name].numel())
        assert training.network.training

    training = training_of(tiny, RECIPE, lambda _: Hook(before_step=compare), method=method, arch=arch)
    fit(training, title="compared")
    assert True in compared
    assert False in compared
    assert all(torch.isfinite(weight).all() for weight in training.network.parameters())


def test_before_the_first_step_there_is_no_momentum_and_pruning_makes_none(tiny: Dataset) -> None:
    left = []

    def at_once(training: ReshapableTraining, done: int) -> None:
        if done == 0:
            training.reshape(lambda network: remove_channels(network, CHOSEN[0]), done=done)
            assert isinstance(training.update, Simultaneous)
            left.append(training.update.momentum())

    recipe = replace(RECIPE, epochs=1)
    pruned_first = training_of(tiny, recipe, lambda _: Hook())
    pruned_first = Training(
        remove_channels(pruned_first.network, CHOSEN[0]),
        pruned_first.split,
        recipe,
        pruned_first.objective,
        augment=True,
        seed=0,
        precision="fp32",
    )
    fit(pruned_first, title="pruned before")
    training = training_of(tiny, recipe, lambda _: Hook(before_step=at_once))
    fit(training, title="pruned at once")
    assert left == [{}]
    assert differing(training.network, pruned_first.network) == []


class KilledError(Exception):
    """Stands for the end of the process."""


VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "mwbp": ("mwbp", {}),
    "stochastic depth": ("bp", {"stochastic_depth": 0.5}),
}


@pytest.mark.parametrize(("variant", "epochs"), [("mwbp", 3), ("stochastic depth", 1)])
def test_a_killed_gradual_pruning_goes_on_bit_for_bit(variant: str, epochs: int, tiny: Dataset, tmp_path: Path) -> None:
    """A training has 12 steps; it prunes before steps 2, 5 and 9, so that every kill lies between two prunings."""
    method, fields = VARIANTS[variant]
    recipe = replace(RECIPE, **fields)

    def training() -> Training:
        return training_of(tiny, recipe, lambda scoring: gradual(scoring, shares=(0.17, 0.42, 0.75)), method=method)

    whole = training()
    fit(whole, title="whole")

    def die(state: Training) -> None:
        if state.epochs_done == epochs + 1:
            raise KilledError  # before this epoch's checkpoint, so it is trained again

    with pytest.raises(KilledError):
        fit(training(), title="part", checkpoint=tmp_path, on_epoch=die)
    resumed = training()
    fit(resumed, title="resumed", checkpoint=tmp_path)

    assert differing(whole.network, resumed.network) == []
    assert resumed.network.spec == whole.network.spec
    assert [line["train_loss"] for line in whole.history] == [line["train_loss"] for line in resumed.history]
    assert (whole.training_macs, whole.spent.choosing_macs) == (resumed.training_macs, resumed.spent.choosing_macs)
    assert whole.spent.choosing_macs == 3000
    assert whole.spent.choosing_seconds > 0
    drops = [getattr(block, "drop", 0.0) for block in resumed.network.blocks]
    assert (max(drops) > 0) == ("stochastic_depth" in fields)


def test_the_best_epoch_is_one_of_the_network_as_it_was_left(tiny: Dataset) -> None:
    recipe = replace(RECIPE, epochs=6, batch_size=16, learning_rate=2.0, select="best-validation")
    shares = (0.5,)  # between the third epoch and the fourth
    training = training_of(tiny, recipe, lambda scoring: gradual(scoring, shares=shares))
    states = {}

    def keep(training: Training) -> None:
        if training.epochs_done <= 4:  # better than any epoch after the pruning, and its first better than the others
            training.history[-1]["val_accuracy"] = [1.0]
        states[training.epochs_done] = {name: value.clone() for name, value in training.network.state_dict().items()}

    fit(training, title="best", on_epoch=keep)
    scores = [line["val_accuracy"][-1] for line in training.history[3:]]
    assert scores[0] == max(scores)
    best = states[4]
    assert all(torch.equal(value, best[name]) for name, value in training.network.state_dict().items())


def test_a_stage_that_chooses_nothing_leaves_the_training_as_it_is(tiny: Dataset) -> None:
    def nothing(network: Network, _: int) -> Channels:
        for parameter in network.parameters():
            parameter.data.zero_()  # what is handed out is a copy
        return {}

    def idle(scoring: ScoringData) -> Hook:
        return gradual_pruning(even_shares(2), nothing, scoring)

    plain, hooked = training_of(tiny, RECIPE, lambda _: Hook()), training_of(tiny, RECIPE, idle)
    fit(plain, title="plain")
    fit(hooked, title="hooked")
    assert differing(plain.network, hooked.network) == []


def test_a_run_pruned_on_its_way_is_loaded_in_its_last_shape_and_its_cost_is_true(
    tiny: Dataset, brief: Recipe, tmp_path: Path
) -> None:
    parent = train("resnet8", tiny, recipe=brief, place=Place(runs=tmp_path))
    plan = Plan(
        name="ResNet-8 gradual",
        kind="prune",
        method="l1",
        objective=Method(name="bp").objective(parent.spec),
        spec=parent.spec,
        recipe=replace(RECIPE, epochs=2, batch_size=90),  # 4 steps
        dataset=tiny,
        seed=0,
        precision="fp32",
        device=torch.device("cpu"),
        runs=tmp_path,
        command="",
        parent=parent,
    )

    def prepare(parts: Split) -> Prepared:
        scoring = ScoringData.of(parts, plan.objective, 0.0, 0)
        return Prepared(
            network=load(parent),
            hook=gradual(scoring, shares=(0.25, 0.75)),
            conclude=lambda network: {"achieved": {"speedup": before / cost(network).macs}},
        )

    before = cost(load(parent)).macs
    run = execute(plan, prepare)
    between, after = (remove_channels(load(parent), CHOSEN[0]), load(run))
    assert after.spec == run.spec == remove_channels(between, CHOSEN[1]).spec != parent.spec
    own = 3 * 90 * (before + 2 * cost(between).macs + cost(after).macs)
    own += 180 * (cost(between).macs + cost(after).macs)  # batch norm's statistics, after each of the two epochs
    assert run.record.cost["training_macs"] == own
    assert run.record.cost["choosing_macs"] == 2000
    assert run.record.cost["total_training_macs"] == own + 2000 + parent.record.cost["total_training_macs"]
    assert run.record.results["achieved"]["speedup"] == before / cost(after).macs
