"""Hooks of a training: size of regularisation, costs, and combinations that are refused."""

import copy
import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from compress import Place
from compress.data import Dataset, split
from compress.errors import UsageError
from compress.network_cost import cost
from compress.networks import Network, create, spec_of
from compress.recipes import Recipe, recipe_named
from compress.runs import Run
from compress.training import Hook, Method, Objective, Plan, Prepared, execute, train
from compress.training.hooks import Options, ReshapableTraining
from compress.training.loop import Training, fit
from compress.training.updates import update_of

RATE, MOMENTUM = 0.01, 0.9
RECIPE = replace(recipe_named("quick"), learning_rate=RATE, momentum=MOMENTUM, weight_decay=0.0)


def add_one(network: Network) -> None:
    for parameter in network.parameters():
        assert parameter.grad is not None
        parameter.grad.add_(1.0)


@pytest.mark.parametrize("method", [Method(name="mwbp"), Method(name="mwbp", gradient_equilibrium=True)])
def test_a_regulariser_counts_as_much_in_heads_and_every_segment_as_at_the_plain_rate(method: Method) -> None:
    """The first step of Nesterov's momentum moves a weight by the rate times (1 + momentum) of the gradient."""
    torch.manual_seed(0)
    plain = Network(spec_of("resnet8", exits=3, input_shape=(1, 8, 8), classes=10)).double()
    regularised = copy.deepcopy(plain)
    images, labels = torch.randn(8, 1, 8, 8, dtype=torch.float64), torch.arange(8)
    objective = method.objective(plain.spec)
    for network, regularise in ((plain, None), (regularised, add_one)):
        update_of(objective, network, RECIPE, regularise).step(objective.losses(network(images), labels))
    for parameter, other in zip(plain.parameters(), regularised.parameters(), strict=True):
        moved = torch.full_like(parameter, RATE * (1 + MOMENTUM))
        torch.testing.assert_close(parameter - other, moved, rtol=1e-9, atol=1e-12)


def test_a_segment_without_weights_has_no_gradient_to_scale() -> None:
    """As in a foreign network whose second block is a pooling layer."""
    network = create("resnet8", exits=3)
    objective = Method(gradient_equilibrium=True).objective(network.spec)
    update = update_of(objective, network, RECIPE, add_one)
    update.optimizers[0].param_groups[0]["params"] = []
    images, labels = torch.randn(2, *network.spec.input_shape), torch.tensor([0, 1])
    update.step(objective.losses(network(images), labels))


def never(_: Any, __: int) -> None:
    raise AssertionError("no step is taken")


REFUSED: dict[str, tuple[Hook, dict[str, Any], str]] = {
    "regulariser, sequential": (Hook(regularise=add_one), {"update": "sequential"}, "update sequential"),
    "pruning, sequential": (Hook(before_step=never), {"update": "sequential"}, "update sequential"),
    "pruning, frozen trunk": (Hook(before_step=never), {"frozen_trunk": True}, "a frozen trunk needs one that stays"),
    "pruning, ema": (Hook(before_step=never), {"averaging": "ema"}, r"weight averaging \(ema\) needs"),
    "pruning, compiled": (Hook(before_step=never), {"compile": True}, "--compile needs one that stays"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_hook_does_not_go_with_is_refused_in_one_line(case: str, tiny: Dataset) -> None:
    hook, options, message = REFUSED[case]
    spec = spec_of("resnet8", exits=2, input_shape=tiny.input_shape)
    parts = split(tiny, validation=RECIPE.validation, calibration=RECIPE.calibration, seed=0)
    of_objective = {field.name for field in dataclasses.fields(Objective)}
    objective = replace(
        Method(name="mwbp").objective(spec), **{key: value for key, value in options.items() if key in of_objective}
    )
    recipe = replace(RECIPE, averaging=options.get("averaging", "none"))
    with pytest.raises(UsageError, match=message) as refused:
        Training(
            Network(spec),
            parts,
            recipe,
            objective,
            augment=True,
            seed=0,
            precision="fp32",
            options=Options(compile=options.get("compile", False), hook=hook),
        )
    assert "\n" not in str(refused.value)


def test_several_processes_do_not_prune_while_they_train() -> None:
    objective = Method(name="bp").objective(spec_of("resnet8"))
    with pytest.raises(UsageError, match="2 processes needs one that stays"):
        Hook(before_step=never).check(objective, RECIPE, compile=False, processes=2)
    Hook(regularise=add_one).check(objective, replace(RECIPE, averaging="ema"), compile=True, processes=2)


def test_a_hook_is_called_before_every_step_in_order_and_a_resumed_training_goes_on_counting(
    tiny: Dataset, tmp_path: Path
) -> None:
    spec = spec_of("resnet8", input_shape=tiny.input_shape)
    recipe = replace(RECIPE, epochs=2, batch_size=60)  # of 180 images: 3 steps an epoch
    parts = split(tiny, validation=recipe.validation, calibration=recipe.calibration, seed=0)
    seen: list[int] = []

    def training() -> Training:
        hook = Hook(before_step=lambda _, done: seen.append(done))
        objective = Method(name="bp").objective(spec)
        return Training(
            Network(spec), parts, recipe, objective, augment=True, seed=0, precision="fp32", options=Options(hook=hook)
        )

    class KilledError(Exception):
        pass

    def die_after_the_first_epoch(state: Training) -> None:
        if state.epochs_done == 2:
            raise KilledError

    with pytest.raises(KilledError):
        fit(training(), title="part", checkpoint=tmp_path, on_epoch=die_after_the_first_epoch)
    fit(training(), title="resumed", checkpoint=tmp_path)
    assert seen == [0, 1, 2, 3, 4, 5, 3, 4, 5]


def test_the_cost_of_choosing_is_recorded_and_charged(tiny: Dataset, brief: Recipe, tmp_path: Path) -> None:
    parent = train("resnet8", tiny, recipe=brief, place=Place(runs=tmp_path))
    assert (parent.record.cost["choosing_macs"], parent.record.cost["choosing_seconds"]) == (0, 0)
    plan = Plan(
        name="ResNet-8 chosen",
        kind="control",
        method="shallow",
        objective=Method(name="bp").objective(parent.spec),
        spec=parent.spec,
        recipe=brief,
        dataset=tiny,
        seed=0,
        precision="fp32",
        device=torch.device("cpu"),
        runs=tmp_path,
        command="",
        parent=parent,
    )

    def prepare(_: Any) -> Prepared:
        return Prepared(
            network=Network(parent.spec),
            results={"requested": {"speedup": 2}},
            conclude=lambda network: {"achieved": {"macs": cost(network).macs}},
            hook=Hook(before_step=charge),
            choosing_macs=1000,
            choosing_seconds=0.5,
        )

    def charge(training: ReshapableTraining, _: int) -> None:
        training.spent.choosing_macs += 1
        training.spent.choosing_seconds += 0.25

    run: Run = execute(plan, prepare)
    steps = 180 // brief.batch_size
    own = cost(Network(parent.spec)).macs * (
        3 * steps * brief.batch_size + 180
    )  # once more for batch norm's statistics
    assert run.record.cost["training_macs"] == own
    assert run.record.cost["choosing_macs"] == 1000 + steps
    assert run.record.cost["choosing_seconds"] == 0.5 + 0.25 * steps
    assert run.record.cost["total_training_macs"] == own + 1000 + steps + parent.record.cost["total_training_macs"]
    assert run.record.results["requested"] == {"speedup": 2}
    assert run.record.results["achieved"] == {"macs": cost(Network(parent.spec)).macs}
