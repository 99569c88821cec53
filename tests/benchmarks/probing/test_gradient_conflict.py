"""Conflicts of exits' gradients: hand-worked cases, PCGrad on vectors, backward passes, and a training left alone."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.probing import gradient_conflict
from benchmarks.probing.gradient_conflict import MeasuredTraining, conflicts, surgery, thirds
from compress.data import Dataset
from compress.errors import UsageError
from compress.networks import initialised
from compress.recipes import Recipe
from compress.runs import load
from compress.training import Place, plan_of, train
from compress.training.loop import fit


def order() -> np.random.Generator:
    return np.random.default_rng(3)


def test_two_gradients_by_hand() -> None:
    # (1, 0) and (-1, 1): their product is -1; surgery makes (1/2, 1/2) and (0, 1) of them.
    gradients = np.array([[1.0, 0.0], [-1.0, 1.0]])
    gram = gradients @ gradients.T
    assert np.allclose(surgery(gram, order()) @ gradients, [[0.5, 0.5], [0.0, 1.0]])
    found = conflicts(gram, order())
    assert found["norms"] == pytest.approx([1, 2**0.5])
    assert found["cosines"] == pytest.approx([-(0.5**0.5)])
    assert found["change"] == pytest.approx(0.5**0.5)  # from (0, 1) to (1/2, 3/2)


def test_gradients_that_agree_and_one_of_zero_are_left_alone() -> None:
    gradients = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    found = conflicts(gradients @ gradients.T, order())
    assert (found["change"], found["cosines"]) == (0, pytest.approx([0.5**0.5, 0, 0]))


def test_surgery_is_pcgrad_on_vectors() -> None:
    gradients = np.random.default_rng(0).normal(size=(5, 4))
    drawn, expected = order(), []
    for number, gradient in enumerate(gradients):
        projected = gradient.copy()
        for other in drawn.permutation(5):
            if other != number and projected @ gradients[other] < 0:
                projected -= projected @ gradients[other] / (gradients[other] @ gradients[other]) * gradients[other]
        expected.append(projected)
    assert not np.allclose(expected, gradients)
    assert np.allclose(surgery(gradients @ gradients.T, order()) @ gradients, expected)


def test_thirds_count_conflicts_where_exits_meet() -> None:
    def measured(step: int, cosine: float, change: float) -> dict[str, object]:
        alone = {"exits": [2], "cosines": [], "change": 0.0}
        return {
            "step": step,
            "places": {"trunk": {"exits": [1, 2], "cosines": [cosine], "change": change}, "end": alone},
        }

    rows = thirds([measured(0, 0.5, 0.0), measured(1, -0.25, 0.5), measured(5, 0.25, 0.0)], steps=6)
    assert rows == [
        {
            "third": "first",
            "place": "trunk",
            "measurements": 2,
            "mean_cosine": 0.125,
            "share_in_conflict": 0.5,
            "mean_change": 0.25,
        },
        {
            "third": "last",
            "place": "trunk",
            "measurements": 1,
            "mean_cosine": 0.25,
            "share_in_conflict": 0.0,
            "mean_change": 0.0,
        },
    ]


@pytest.fixture
def dropping(brief: Recipe) -> Recipe:
    """Two steps, with random numbers in every layer; then averaged weights."""
    return replace(brief, batch_size=64, stochastic_depth=0.5, averaging="ema")


def test_a_measured_run_is_bit_for_bit_that_of_train(tiny: Dataset, dropping: Recipe, tmp_path: Path) -> None:
    place = Place(runs=tmp_path, precision="fp32")
    plan = plan_of("resnet8", tiny, method="mwbp", exits=2, recipe=dropping, place=place)
    training = MeasuredTraining(plan, every=1)
    fit(training, title="measured")
    assert training.steps > 1
    assert [row["step"] for row in training.measured] == list(range(training.steps))
    expected = load(train("resnet8", tiny, method="mwbp", exits=2, recipe=dropping, place=place)).state_dict()
    assert training.network.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in training.network.state_dict().items())


def test_measured_steps_leave_statistics_and_random_state_as_others_do(tiny: Dataset, dropping: Recipe) -> None:
    plan = plan_of("resnet8", tiny, method="mwbp", exits=2, recipe=dropping, place=Place(precision="fp32"))

    def after(every: int) -> tuple[int, list[Tensor]]:
        training = MeasuredTraining(plan, every)
        training.network.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            images = torch.rand(8, *plan.spec.input_shape)
            for done in (1, 2):
                training.step(images, torch.arange(8), done=done)
            tensors = [tensor.detach() for tensor in training.stepping.step.tensors()]
            return len(training.measured), [*tensors, torch.random.get_rng_state()]

    (never, expected), (twice, found) = after(every=3), after(every=1)
    assert (never, twice) == (0, 2)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_measured_gradients_are_those_of_separate_backward_passes(tiny: Dataset, brief: Recipe) -> None:
    plan = plan_of("resnet8", tiny, method="mwbp", exits=3, recipe=brief, place=Place(precision="fp32"))
    weights, smoothing = plan.objective.loss_weights, brief.label_smoothing
    assert len(set(weights)) > 1
    images, labels = torch.rand(8, *plan.spec.input_shape), torch.arange(8)
    training = MeasuredTraining(plan, every=1)
    training.network.train()
    training.step(images, labels, done=0)
    [row] = training.measured

    def gradient(exit: int, parts: list[str]) -> Tensor:
        network = initialised(plan.spec, plan.seed).train()
        loss = functional.cross_entropy(network(images)[exit - 1], labels, label_smoothing=smoothing)
        (loss * weights[exit - 1]).backward()
        parameters = [parameter for part in parts for parameter in network.get_submodule(part).parameters()]
        return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]).double()

    places = {
        "segment 1": ([1, 2, 3], ["stem", "blocks.0"]),
        "segment 2": ([2, 3], ["blocks.1"]),
        "segment 3": ([3], ["blocks.2"]),
        "trunk": ([1, 2, 3], ["stem", "blocks"]),
    }
    assert {name: place["exits"] for name, place in row["places"].items()} == {n: p[0] for n, p in places.items()}
    for name, (exits, parts) in places.items():
        gradients = torch.stack([gradient(exit, parts) for exit in exits])
        expected = conflicts((gradients @ gradients.T).numpy(), order())
        assert row["places"][name]["norms"] == pytest.approx(expected["norms"], rel=1e-4)
        assert row["places"][name]["cosines"] == pytest.approx(expected["cosines"], abs=1e-4)


def test_the_command_writes_what_it_prints(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gradient_conflict, "open_dataset", lambda name, data_dir: tiny)
    out = tmp_path / "found.json"
    words = ["--arch", "resnet8", "--widths", "4,8,8", "--exits", "2", "--epochs", "1", "--every", "5"]
    gradient_conflict.app([*words, "--precision", "fp32", "--out", str(out)], result_action="return_value")
    document, printed = json.loads(out.read_text()), capsys.readouterr().out.splitlines()
    assert len(printed) == 2 + len(document["thirds"])
    assert [line.split()[0] for line in printed[1:-1]] == [row["third"] for row in document["thirds"]]
    assert [row["step"] for row in document["measured"]] == list(range(0, document["setup"]["steps"], 5))


def test_what_cannot_be_measured_is_refused(tiny: Dataset, brief: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exits 1"):
        MeasuredTraining(plan_of("resnet8", tiny, method="mwbp", exits=1, recipe=brief), every=1)
    with pytest.raises(UsageError, match="no directory"):
        gradient_conflict.main(out=tmp_path / "nowhere" / "found.json")
