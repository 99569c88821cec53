"""The training loop: resuming is exact, and a failure leaves the last good state."""

import copy
import functools
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress import Architecture, Place
from compress.data import Dataset, normalise, split
from compress.errors import UsageError
from compress.network_cost import cost
from compress.networks import Network, cut, spec_of
from compress.recipes import Recipe, recipe_named
from compress.runs import load, read_run
from compress.training import Method, plan_of, train
from compress.training.loop import DivergedError, Training, fit
from compress.training.progress_bar import TrainingProgress

VARIANTS: dict[str, dict[str, Any]] = {
    "one-cycle": {},
    "cosine, label smoothing": {"schedule": "cosine", "label_smoothing": 0.1},
    "multi-step, alternating flip": {"schedule": "multi-step", "milestones": (0.4, 0.8), "flip": "alternating"},
    "ema": {"averaging": "ema", "averaging_start": 0.0},
    "swa": {"averaging": "swa", "averaging_start": 0.5},
    "stochastic depth": {"stochastic_depth": 0.5},
    "best on validation": {"select": "best-validation"},
}


def training_of(tiny: Dataset, recipe: Recipe) -> Training:
    spec = spec_of("resnet8", exits=3, input_shape=tiny.input_shape)
    torch.manual_seed(0)
    network = Network(spec)
    parts = split(tiny, validation=recipe.validation, calibration=recipe.calibration, seed=recipe.split_seed)
    objective = Method(name="mwbp").objective(spec)
    return Training(network, parts, recipe, objective, augment=True, seed=0, precision="fp32")


def weights_differ(network: Network, other: Network) -> list[str]:
    others = other.state_dict()
    return [name for name, tensor in network.state_dict().items() if not torch.equal(tensor, others[name])]


class KilledError(Exception):
    """Stands for the end of the process."""


def recipe_of(variant: str) -> Recipe:
    return replace(recipe_named("quick"), epochs=3, batch_size=32, **VARIANTS[variant])


@pytest.fixture(scope="module")
def uninterrupted(tiny: Dataset) -> Callable[[str], Training]:
    """The whole training of a variant, made once."""

    @functools.cache
    def trained(variant: str) -> Training:
        training = training_of(tiny, recipe_of(variant))
        fit(training, title="whole")
        return training

    return trained


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_resumed_training_ends_with_the_same_weights_bit_for_bit(
    variant: str, uninterrupted: Callable[[str], Training], tiny: Dataset, tmp_path: Path
) -> None:
    recipe, whole = recipe_of(variant), uninterrupted(variant)

    def die_in_the_second_epoch(training: Training) -> None:
        if training.epochs_done == 2:
            raise KilledError  # before this epoch's checkpoint, so it is trained again

    with pytest.raises(KilledError):
        fit(training_of(tiny, recipe), title="part", checkpoint=tmp_path, on_epoch=die_in_the_second_epoch)
    resumed = training_of(tiny, recipe)
    fit(resumed, title="resumed", checkpoint=tmp_path)

    assert weights_differ(whole.network, resumed.network) == []
    assert [line["train_loss"] for line in whole.history] == [line["train_loss"] for line in resumed.history]


def test_every_variant_changes_the_outcome(uninterrupted: Callable[[str], Training]) -> None:
    """Else the test above would hold for fields that nothing reads."""
    weights = [[*uninterrupted(variant).network.parameters()] for variant in VARIANTS]
    outcomes = {torch.cat([tensor.flatten() for tensor in tensors]).detach().numpy().tobytes() for tensors in weights}
    assert len(outcomes) >= len(VARIANTS) - 1  # the best epoch may be the last one


def test_the_best_epoch_on_validation_images_is_reported(tiny: Dataset) -> None:
    recipe = replace(recipe_named("quick"), epochs=4, batch_size=16, learning_rate=1.0, select="best-validation")
    training = training_of(tiny, recipe)
    states = {}

    def keep(training: Training) -> None:
        states[training.epochs_done] = {name: value.clone() for name, value in training.network.state_dict().items()}

    fit(training, title="best", on_epoch=keep)
    scores = [line["val_accuracy"][-1] for line in training.history]
    best = states[1 + scores.index(max(scores))]
    assert all(torch.equal(value, best[name]) for name, value in training.network.state_dict().items())


def test_averaged_weights_get_batch_norm_statistics_of_their_own(tiny: Dataset) -> None:
    training = training_of(tiny, replace(recipe_named("quick"), epochs=2, averaging="swa", averaging_start=0.0))
    fit(training, title="swa")
    network = training.network
    with torch.no_grad():
        first = network.get_buffer("blocks.0.norm1.running_mean")  # of the stem's output
        images = normalise(training.split.train.images, training.split.normalisation)
        expected = network.stem(images).mean(dim=(0, 2, 3))
    torch.testing.assert_close(first, expected, rtol=1e-4, atol=1e-5)


def test_training_lowers_the_loss_of_every_exit(tiny: Dataset) -> None:
    training = training_of(tiny, replace(recipe_named("quick"), epochs=6, batch_size=20))
    fit(training, title="learns")
    first, last = training.history[0]["train_loss"], training.history[-1]["train_loss"]
    assert all(after < before for before, after in zip(first, last, strict=True))
    assert last[-1] < 0.75 * first[-1]


def test_a_corrupt_checkpoint_is_named(tiny: Dataset, tmp_path: Path) -> None:
    recipe = replace(recipe_named("quick"), epochs=1)
    fit(training_of(tiny, recipe), title="whole", checkpoint=tmp_path)
    file = tmp_path / "last.pt"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UsageError, match="corrupt"):
        fit(training_of(tiny, recipe), title="again", checkpoint=tmp_path)


def test_a_loss_that_is_not_finite_fails_the_run_and_keeps_the_last_good_checkpoint(
    tiny: Dataset, tmp_path: Path
) -> None:
    quick = recipe_named("quick")
    recipe = replace(quick, epochs=2, batch_size=32, schedule="multi-step", milestones=(0.5,), decay=1e30)
    with pytest.raises(DivergedError, match="not finite in epoch 2"):
        train("resnet8", tiny, recipe=recipe, place=Place(runs=tmp_path))
    [path] = tmp_path.iterdir()
    assert read_run(path).record.status == "failed"
    state = torch.load(path / "checkpoint" / "last.pt", weights_only=True)
    assert len(state["history"]) == 1
    assert all(torch.isfinite(value).all() for value in state["network"].values())
    with pytest.raises(
        UsageError, match=r"failed before: the loss is not finite.*--resume tries again from its last good epoch"
    ):
        train("resnet8", tiny, recipe=recipe, place=Place(runs=tmp_path))
    with pytest.raises(DivergedError):  # goes on, from the second epoch, and diverges again
        train("resnet8", tiny, recipe=recipe, place=Place(runs=tmp_path, resume=True))


def test_a_last_step_that_diverges_fails_the_run_too(tiny: Dataset, tmp_path: Path) -> None:
    """The loss of the only step is fine; the weights that it leaves are not."""
    recipe = replace(recipe_named("quick", epochs=1).changed(batch_size=4096), learning_rate=1e30, schedule="cosine")
    with pytest.raises(DivergedError, match=r"in epoch 1 \(learning rate .*\); a lower --learning-rate may help"):
        train("resnet8", tiny, recipe=recipe, place=Place(runs=tmp_path))
    [path] = tmp_path.iterdir()
    assert read_run(path).record.status == "failed"
    with pytest.raises(UsageError, match="--resume tries again from the beginning"):  # there is no good epoch
        train("resnet8", tiny, recipe=recipe, place=Place(runs=tmp_path))


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_refused(seed: int, tiny: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="seed"):
        train("resnet8", tiny, seed=seed, place=Place(runs=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_checkpoint(tiny: Dataset, tmp_path: Path) -> None:
    """The system refuses to let a file grow beyond a limit, as it would on a full disk."""
    recipe = replace(recipe_named("quick"), epochs=2, batch_size=32)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_the_disk(training: Training) -> None:
        if training.epochs_done == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))

    try:
        with pytest.raises(UsageError, match=r"cannot write .*last\.pt.*untouched"):
            fit(training_of(tiny, recipe), title="full", checkpoint=tmp_path, on_epoch=fill_the_disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]
    resumed = training_of(tiny, recipe)
    fit(resumed, title="resumed", checkpoint=tmp_path)
    assert resumed.epochs_done == 2


def test_the_callers_random_state_is_left_alone(tiny: Dataset, brief: Recipe, tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    train("resnet8", tiny, recipe=brief, place=Place(runs=tmp_path))
    assert torch.equal(torch.rand(1), expected)


def test_a_finished_run_is_found_and_its_record_is_true(tiny: Dataset, brief: Recipe, tmp_path: Path) -> None:
    run = train("resnet8", tiny, method="mwbp", exits="1,end", recipe=brief, seed=3, place=Place(runs=tmp_path))
    weights = (run.path / "model.safetensors").stat().st_mtime_ns
    again = train("resnet8", tiny, method="mwbp", exits="1,end", recipe=brief, seed=3, place=Place(runs=tmp_path))
    assert again.id == run.id
    assert (run.path / "model.safetensors").stat().st_mtime_ns == weights
    assert run.id.startswith("mwresnet8-2_tiny_s3_")
    assert not (run.path / "checkpoint").exists()

    network = load(run)
    images = normalise(tiny.test.images, run.normalisation)
    with torch.no_grad():
        logits = torch.stack(network(images))
    stored = np.load(run.path / "predictions.npz", allow_pickle=False)
    np.testing.assert_allclose(stored["test_logits"].astype("float32"), logits, rtol=2e-3, atol=2e-3)
    for exit, row in zip(logits, run.exits, strict=True):
        assert row["test_accuracy"] == pytest.approx(float((exit.argmax(1) == tiny.test.labels).float().mean()))
    record = run.record
    seen = 180 // brief.batch_size * brief.batch_size
    assert record.cost["training_macs"] == cost(network).macs * record.cost["epochs"] * (3 * seen + 180)
    assert record.results["batch_norm"].startswith("recomputed over all 180 training images after every epoch")
    assert record.data["split"] == {"train": 180, "validation": 10, "calibration": 10, "test": 100, "seed": 0}


def test_the_recorded_command_has_exits_and_precision_and_a_comment_on_recipes_made_in_python(tiny: Dataset) -> None:
    command = plan_of("resnet8", tiny, method="mwbp", exits=1, place=Place(precision="bf16")).command
    assert "--exits 1 " in command
    assert "--precision bf16" in command
    assert "#" not in command
    named = recipe_named("quick", epochs=1)
    for recipe in (replace(named, name="mine"), replace(named, momentum=0.5), replace(named, crop_padding=1)):
        assert "# with a recipe made in Python" in plan_of("resnet8", tiny, recipe=recipe).command


def test_different_configurations_are_different_runs(tiny: Dataset) -> None:
    plans = [
        plan_of("resnet8", tiny),
        plan_of("resnet8", tiny, seed=1),
        plan_of(Architecture("resnet8", width=2), tiny),
        plan_of("resnet8", tiny, method="mwbp"),
        plan_of("resnet8", replace(tiny, test=tiny.train)),
    ]
    assert len({plan.path for plan in plans}) == len(plans)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
def test_a_device_that_is_not_here_is_named(tiny: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="device 'cuda' is not available here"):
        train("resnet8", tiny, place=Place(device="cuda", runs=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_bf16_trains_where_it_is_asked_for(tiny: Dataset, brief: Recipe, tmp_path: Path) -> None:
    run = train("resnet8", tiny, recipe=brief, place=Place(precision="bf16", runs=tmp_path))
    assert run.record.environment["precision"] == "bf16"
    assert load(run).get_parameter("stem.0.weight").dtype == torch.float32


ARCHITECTURES = [
    *map(Architecture, ("resnet8v1", "resnet8nl")),
    Architecture("mobilenetv2", widths="8,8,8,8,16,16,16"),
]


@pytest.mark.parametrize("arch", ARCHITECTURES, ids=lambda arch: arch.name)
def test_every_architecture_goes_on_by_mwbp_as_if_never_interrupted_and_is_cut(
    arch: Architecture, tiny: Dataset
) -> None:
    few = replace(tiny, train=tiny.train.subset(torch.arange(0, 200, 20)))
    spec = spec_of(arch, exits=3, input_shape=tiny.input_shape)
    recipe = replace(recipe_named("quick"), epochs=2, batch_size=5, validation=0.0, calibration=0.0)

    def training() -> Training:
        torch.manual_seed(0)
        parts = split(few, validation=0.0, calibration=0.0, seed=0)
        objective = Method(name="mwbp").objective(spec)
        return Training(Network(spec), parts, recipe, objective, augment=True, seed=0, precision="fp32")

    whole = training()
    with TrainingProgress(arch.name, epochs=2, steps=whole.steps) as progress:
        whole.epoch(progress)
        kept = copy.deepcopy(whole.state())
        whole.epoch(progress)
        resumed = training()
        resumed.restore(kept)
        resumed.epoch(progress)
    assert weights_differ(whole.network, resumed.network) == []
    assert weights_differ(whole.network, training().network) != []
    network, images = whole.network.eval(), torch.randn(2, *tiny.input_shape)
    with torch.no_grad():
        for exit, logits in enumerate(network(images), start=1):
            assert torch.equal(cut(network, exit)(images)[-1], logits)
