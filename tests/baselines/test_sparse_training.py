"""Sparse training: it makes weak channels weaker, costs what it costs, and changes nothing else."""

import copy
import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch_pruning
from torch import nn

from baselines import FineTuning, Technique, carry_out
from baselines.sparse_training import STRENGTHS, regulariser, sparse_trained
from compress import Architecture, Place, Start
from compress.data import Dataset, split
from compress.errors import UsageError
from compress.network_cost import cost
from compress.networks import Network, spec_of
from compress.recipes import Recipe, recipe_named
from compress.runs import Run, find_run, load
from compress.training import Hook, Method, Objective, train
from compress.training.hooks import Options
from compress.training.loop import Training, fit
from tests.baselines.jobs import job_of
from tests.baselines.networks import differing, network_of

RECIPE = replace(recipe_named("quick"), epochs=3, batch_size=30)
Trained = Callable[..., Network]
STRONG = {"bn-scale": 0.05, "group-norm": 0.02}  # for what takes a few steps instead of thousands


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def reference(tiny: Dataset, brief: Recipe, runs: Path) -> Run:
    return train("resnet8", tiny, recipe=brief, place=Place(runs=runs))


def training_of(tiny: Dataset, method: str | None, strength: float, *, exits: int = 1) -> Training:
    """A training of a seeded network, by BP or MW-BP."""
    spec = spec_of(Architecture("resnet8", widths="4,8,16"), exits=exits, input_shape=tiny.input_shape, classes=10)
    torch.manual_seed(0)
    network = Network(spec)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.2, 1.0)
    parts = split(tiny, validation=RECIPE.validation, calibration=RECIPE.calibration, seed=RECIPE.split_seed)
    objective = Method(name="bp" if exits == 1 else "mwbp").objective(spec)
    hook = Hook(regularise=regulariser(network, method, strength)) if method else Hook()
    return Training(
        network, parts, RECIPE, objective, augment=True, seed=0, precision="fp32", options=Options(hook=hook)
    )


@pytest.fixture(scope="module")
def trained(tiny: Dataset) -> Trained:
    """A function that trains a network from the seed, once for every method and strength."""

    @functools.cache
    def made(method: str | None, strength: float, exits: int = 1) -> Network:
        training = training_of(tiny, method, strength, exits=exits)
        fit(training, title="trained")
        return training.network

    return made


def test_slimming_shrinks_every_scale_of_batch_norm_and_the_small_ones_by_a_larger_share(
    trained: Trained,
) -> None:
    plain, slim = (trained(method, strength, 3) for method, strength in ((None, 0.0), ("bn-scale", STRONG["bn-scale"])))
    layers = [name for name, module in plain.named_modules() if isinstance(module, nn.BatchNorm2d)]
    scales, sparse = (
        torch.cat([network.get_parameter(f"{name}.weight").detach().abs() for name in layers])
        for network in (plain, slim)
    )
    assert (sparse < scales).float().mean() > 0.95
    weak = scales < scales.median()
    assert (sparse / scales)[weak].mean() < (sparse / scales)[~weak].mean() - 0.1


@pytest.mark.parametrize(("arch", "exits"), [("resnet8v1", 3), ("mobilenetv2b1-2-1-1-1-1-1w8-8-8-16-16-24-24", 2)])
def test_group_norm_adds_the_gradients_that_torch_prunings_pruner_adds(arch: str, exits: int) -> None:
    network = network_of(arch, exits)
    theirs = copy.deepcopy(network)
    for parameter in (*network.parameters(), *theirs.parameters()):
        parameter.grad = torch.zeros_like(parameter)
    regulariser(network, "group-norm", 0.5)(network)
    torch_pruning.pruner.GroupNormPruner(
        theirs,
        (torch.zeros(2, *network.spec.input_shape),),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2, normalizer="max"),
        reg=0.5,
        ignored_layers=[layer for layer in theirs.heads.modules() if isinstance(layer, nn.Linear)],
    ).regularize(theirs)
    for ours, other in zip(network.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, other.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", STRENGTHS)
def test_strength_0_is_plain_training_bit_for_bit(method: str, trained: Trained) -> None:
    assert differing(trained(method, 0.0), trained(None, 0.0)) == []
    assert differing(trained(method, STRONG[method]), trained(None, 0.0)) != []


@pytest.mark.parametrize("method", STRENGTHS)
def test_groups_of_one_channel_or_of_equal_ones_bring_no_nan(method: str) -> None:
    torch.manual_seed(0)
    network = Network(spec_of(Architecture("resnet8", widths="1,8,16"), input_shape=(1, 8, 8), classes=10))
    regularise = regulariser(network, method, 1.0)
    sum(logits.sum() for logits in network.train()(torch.randn(4, 1, 8, 8))).backward()
    regularise(network)
    assert all(torch.isfinite(weight.grad).all() for weight in network.parameters() if weight.grad is not None)


@pytest.mark.parametrize("method", STRENGTHS)
def test_a_sparse_run_continues_its_reference_and_bears_its_cost(
    method: str, tiny: Dataset, brief: Recipe, runs: Path, reference: Run
) -> None:
    run = sparse_trained(reference, method, tiny, brief, seed=0, place=Place(runs=runs))
    record = run.record
    assert (record.kind, record.method, record.parent) == ("train", f"sparse-{method}", reference.id)
    assert record.seed == reference.record.seed
    strength = {"bn-scale": 1e-5, "group-norm": 5e-4}[method]
    assert record.config["request"]["regularisation"] == strength
    used = record.config["recipe"]
    assert (used["epochs"], used["learning_rate"]) == (brief.fine_tune_epochs, brief.fine_tune_learning_rate)
    assert used["weight_decay"] == (brief.weight_decay if method == "bn-scale" else 0)
    own = cost(load(run)).macs * (3 * (180 // brief.batch_size * brief.batch_size) + 180)  # batch norm settled
    assert record.cost["training_macs"] == own
    assert record.cost["total_training_macs"] == own + reference.record.cost["total_training_macs"]
    assert f"compress prune --arch resnet8 --ratio 0.5 --method {method} --from {reference.id} " in record.command
    assert record.command.endswith(f"# or any other budget: sparse training, at {strength:g}, is what comes first")
    assert run.spec == reference.spec
    assert sparse_trained(reference, method, tiny, brief, seed=0, place=Place(runs=runs)).id == run.id


def test_it_lasts_as_long_as_the_fine_tuning_that_follows(
    tiny: Dataset, brief: Recipe, runs: Path, reference: Run
) -> None:
    how = {"technique": Technique(method="bn-scale"), "fine_tuning": FineTuning(epochs=2)}
    pruned = carry_out(job_of(None, tiny, brief, runs, reference=reference.path, **how))
    sparse = find_run(str(pruned.record.parent), runs)
    assert [run.record.config["recipe"]["epochs"] for run in (sparse, pruned)] == [2, 2]
    assert " --epochs 2 " in sparse.record.command


def test_a_sparse_run_starts_from_the_references_weights_and_goes_by_its_objective(
    tiny: Dataset, brief: Recipe, tmp_path: Path, reference: Run
) -> None:
    still = replace(brief, fine_tune_learning_rate=0.0)
    run = sparse_trained(reference, "group-norm", tiny, still, seed=0, place=Place(runs=tmp_path))
    assert differing(load(run), load(reference)) == []  # statistics are those of the weights
    parent = train(
        "resnet8",
        tiny,
        method="mwbp",
        exits=2,
        recipe=brief,
        start=Start(teacher=reference.path),
        place=Place(runs=tmp_path),
    )
    taught = Objective.from_json(parent.record.config["objective"])
    assert taught.teacher > 0
    run = sparse_trained(parent, "bn-scale", tiny, brief, seed=0, place=Place(runs=tmp_path))
    assert run.record.config["objective"] == replace(taught, teacher=0.0).to_json()


def test_what_does_not_fit_is_refused_before_anything_is_written(
    tiny: Dataset, brief: Recipe, tmp_path: Path, reference: Run
) -> None:
    other_data = replace(tiny, test=tiny.train)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"dataset": other_data}, "was trained on tiny, whose images are not"),
        ({"recipe": recipe_named("paper")}, "another split"),
        ({"seed": -1}, "seed -1"),
    ]
    for options, message in cases:
        arguments: dict[str, Any] = {"method": "bn-scale", "dataset": tiny, "recipe": brief, "seed": 0} | options
        with pytest.raises(UsageError, match=message):
            sparse_trained(reference, place=Place(runs=tmp_path), **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", STRENGTHS)
def test_depthwise_convolutions_are_no_obstacle(method: str) -> None:
    torch.manual_seed(0)
    network = Network(
        spec_of(Architecture("mobilenetv2", widths="8,8,8,8,16,16,16"), input_shape=(3, 8, 8), classes=10)
    )
    regularise = regulariser(network, method, 1.0)
    sum(logits.sum() for logits in network.train()(torch.randn(4, 3, 8, 8))).backward()
    before = {name: weight.grad.clone() for name, weight in network.named_parameters() if weight.grad is not None}
    regularise(network)
    changed = [
        name
        for name, weight in network.named_parameters()
        if weight.grad is not None and not torch.equal(weight.grad, before[name])
    ]
    norm_layers = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert len(changed) >= (norm_layers if method == "bn-scale" else norm_layers // 2)
