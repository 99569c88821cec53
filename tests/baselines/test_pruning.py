"""Every technique from end to end: what is recorded, what is on the disk, and that its command is the same run."""

import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines import METHODS, Budget, Technique, prune
from baselines.masked_equivalence import BOUND
from baselines.technique import SHAPED, SPARSE
from compress import Place
from compress.data import Dataset
from compress.network_cost import cost
from compress.recipes import Recipe
from compress.runs import WEIGHTS, Run, find_run, load
from compress.training.evaluation import predict

Command = Callable[..., tuple[int, str, str]]

HALF = Budget(speedup=2)
IMAGES, STEPS, BATCH = 180, 11, 16  # of training: 5% of 200 are held out twice; so few get batches of 16
COARSE = ("blocks", "depth-cut", "shallow", "distilled")  # whose sizes jump
# Methods that differ from l1 only in their scores, which have tests of their own; scratch-e is tried of blocks.
LIKE_L1 = ("random", "l2", "fpgm", "lamp", "scratch-e")
TECHNIQUES = {
    **{name: Technique(method=name, nearest=name in COARSE) for name in METHODS if name not in LIKE_L1},
    "inner uniform to 4": Technique(scope="inner", ranking="uniform", round_to=4, nearest=True),
    "gradual": Technique(method="taylor", steps=2, gradual=True),
    "scratch-e of blocks": Technique(method="scratch-e", shape="blocks", nearest=True),
}
# Techniques that look at images to choose.
LOOKING = {"taylor", "blocks", "gradual", "scratch-e of blocks"}


@pytest.fixture(scope="module", params=list(TECHNIQUES))
def made(request: pytest.FixtureRequest, small: Dataset, quick: Recipe, runs: Path, reference: Run) -> tuple[str, Run]:
    """A technique by its name, and the run that it makes of the reference at half of the MACs."""
    technique = TECHNIQUES[request.param]
    return request.param, prune(
        "resnet14", small, budget=HALF, technique=technique, recipe=quick, place=Place(runs=runs)
    )


def own_macs(run: Run) -> int:
    """The MACs of a training whose network kept its shape: forward once, backward twice, and the teacher forward.

    After each of the first seven epochs, within 88 steps, batch norm's statistics take another pass over all images.
    """
    teacher = run.record.config["teacher"]
    taught = cost(load(run.path.parent / teacher)).macs if teacher else 0
    epochs: int = run.record.cost["epochs"]
    macs = cost(load(run)).macs
    return epochs * STEPS * BATCH * (3 * macs + taught) + min(epochs, 7) * IMAGES * macs


def test_the_record_says_what_was_asked_for_and_what_came_of_it(made: tuple[str, Run], reference: Run) -> None:
    name, run = made
    technique, record, network = TECHNIQUES[name], run.record, load(run)
    assert (record.status, record.kind, record.method) == ("finished", technique.kind, technique.method)
    assert (record.kind == "control") == (technique.method in (*SHAPED, "shallow", "distilled"))
    assert record.results["requested"] == {"speedup": 2}
    achieved = record.results["achieved"]
    whole = cost(load(reference)).macs
    assert achieved["macs"] == cost(network).macs
    assert achieved["params"] == sum(parameter.numel() for parameter in network.parameters())
    assert achieved["speedup"] == whole / cost(network).macs
    assert ("ratio" in achieved) == technique.width
    assert achieved.get("equals_masked_whole_to") == (BOUND if technique.width else None)
    if not technique.nearest:
        assert achieved["speedup"] == pytest.approx(2, rel=0.0102)
    assert record.config["request"].items() >= {**technique.to_json(), "speedup": 2, "schedule": "small-rate"}.items()


def test_validation_accuracies_are_those_of_the_networks_before_and_after(
    made: tuple[str, Run], reference: Run
) -> None:
    name, run = made
    results = run.record.results
    if run.record.kind == "control":
        assert not {"val_accuracy_before", "val_accuracy_pruned"} & results.keys()
        return
    # The network that pruning began with, before any sparse training and any step.
    assert results["val_accuracy_before"] == [reference.exits[-1]["val_accuracy"]]
    if name == "gradual":
        assert "val_accuracy_pruned" not in results  # never all at once
    else:
        [pruned] = results["val_accuracy_pruned"]
        assert 0 <= pruned <= 1


def test_every_cost_is_charged(made: tuple[str, Run], runs: Path, reference: Run) -> None:
    name, run = made
    spent, parent = run.record.cost, run.record.parent
    if name != "gradual":
        assert spent["training_macs"] == own_macs(run)
    else:
        assert 0.5 * own_macs(reference) / 5 < spent["training_macs"] < own_macs(reference) / 5
    assert (spent["choosing_macs"] > 0) == (name in LOOKING)
    if name == "taylor":
        assert spent["choosing_macs"] == 3 * cost(load(reference)).macs * IMAGES
    before = reference.record.cost["total_training_macs"]
    if TECHNIQUES[name].method in SPARSE:
        sparse = find_run(str(parent), runs)
        assert (sparse.record.parent, sparse.record.method) == (reference.id, f"sparse-{name}")
        assert sparse.record.cost["total_training_macs"] == before + own_macs(sparse)
        before = sparse.record.cost["total_training_macs"]
    elif name in ("shallow", "distilled"):
        assert parent is None
        assert run.record.config["teacher"] == (reference.id if name == "distilled" else None)
        before *= name == "distilled"
    else:
        assert parent == reference.id
    assert spent["total_training_macs"] == spent["training_macs"] + spent["choosing_macs"] + before


def test_nothing_is_pickled_and_what_is_loaded_gives_the_logits_that_were_recorded(
    made: tuple[str, Run], small: Dataset
) -> None:
    _, run = made
    files = {str(file.relative_to(run.path)) for file in run.path.rglob("*") if file.is_file()}
    assert files - {".lock"} == {"run.json", "metrics.jsonl", WEIGHTS, "predictions.npz"}
    network = load(run).to(memory_format=torch.channels_last)  # as it was trained and evaluated
    logits = predict(network, small.test, run.normalisation)
    with np.load(run.path / "predictions.npz", allow_pickle=False) as recorded:
        assert torch.equal(torch.from_numpy(recorded["test_logits"]), logits.half())


def test_the_recorded_command_is_the_same_run(made: tuple[str, Run], compress: Command, runs: Path) -> None:
    _, run = made
    before = sorted(runs.iterdir())
    program, *arguments = shlex.split(run.record.command)
    status, out, err = compress(*arguments, "--runs", runs)
    assert (program, status) == ("compress", 0), err
    assert f"{run.path}" in err.split("finished before, ")[-1]
    assert out.splitlines()[-1] == f"run: {run.path}"
    assert sorted(runs.iterdir()) == before
