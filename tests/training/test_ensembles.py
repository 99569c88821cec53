"""Exit ensembles: their weights on small cases, and a run's ensemble as one more exit through the whole toolkit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.measuring.candidates import candidates
from benchmarks.results.cells import exit_name
from benchmarks.results.predictions import of_last_exits, read_right, read_scores
from benchmarks.results.rows import rows, summarise
from benchmarks.selection.explanation import cautions
from benchmarks.selection.select import select
from compress import Dataset, Recipe, Run, UsageError, export_bundle, load, predictor, train
from compress.cli.app import main
from compress.cli.printing import show_runs
from compress.data import normalise
from compress.ensemble_exit import ENSEMBLE
from compress.network_cost import cost, cross_check, part_costs
from compress.networks import Ensemble, create, mean_of
from compress.records import parse_record
from compress.training import Method, Place, execution, plan_of
from compress.training.ensembles import ensemble_of, fit_weights
from compress.training.loop import Training


@pytest.fixture(scope="module")
def run(tiny: Dataset, brief: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of three exits whose last two are averaged."""
    place = Place(device="cpu", precision="fp32", runs=tmp_path_factory.mktemp("runs"))
    return train("resnet8", tiny, method=Method(ensemble=2), exits=3, recipe=brief.changed(validation=0.2), place=place)


def test_two_exits_by_hand() -> None:
    """Of an image one exit says (0, 2), the other (0, 0): all weight on the first; and the other way round."""
    logits = torch.tensor([[[0.0, 2.0]], [[0.0, 0.0]]])
    assert fit_weights(logits, torch.tensor([1]), prior=0) == pytest.approx((1, 0), abs=2e-3)
    assert fit_weights(logits, torch.tensor([0]), prior=0) == pytest.approx((0, 1), abs=2e-3)


def test_few_images_move_the_weights_little() -> None:
    """Of (0, 2w) and weights w and 1 - w: 2 / (1 + exp(2w)) = p (1 / (1 - w) - 1 / w) / 2, so w = 3/4 for this p."""
    logits, prior = torch.tensor([[[0.0, 2.0]], [[0.0, 0.0]]]), 1.5 / (1 + np.exp(1.5))
    assert fit_weights(logits, torch.tensor([1]), prior=prior) == pytest.approx((0.75, 0.25), abs=1e-4)
    one, many = (fit_weights(logits.repeat(1, count, 1), torch.tensor([1] * count))[0] for count in (1, 1000))
    assert 0.5 < one < 0.55 < 0.95 < many < 1


def test_the_best_weights_are_found() -> None:
    """Of two classes and logit differences 4 and -1 that are right at odds of 3 to 1: 5w - 1 = ln 3."""
    logits = torch.tensor([[[0.0, 4.0]] * 4, [[0.0, -1.0]] * 4])
    first, second = fit_weights(logits, torch.tensor([1, 1, 1, 0]), prior=0)
    assert first == pytest.approx((1 + np.log(3)) / 5, abs=1e-4)
    assert first + second == pytest.approx(1)


def test_no_weight_is_negative_where_the_last_exit_is_useless() -> None:
    """Of several draws, since in some the other weights, rounded, add up to more than 1."""
    for seed in range(8):
        drawn = np.random.default_rng(seed)
        logits, labels = drawn.normal(size=(4, 200, 4)), drawn.integers(4, size=200)
        logits[:3, np.arange(200), labels] += 1
        logits[3] = -20 * np.eye(4)[labels]
        weights = fit_weights(torch.from_numpy(logits), torch.from_numpy(labels), prior=0)
        assert min(weights) >= 0
        assert weights[3] == pytest.approx(0, abs=2e-6)
        assert sum(weights) == pytest.approx(1, abs=1e-12)


def test_no_other_weights_fit_better() -> None:
    drawn = np.random.default_rng(0)
    logits, labels = drawn.normal(size=(3, 200, 4)), drawn.integers(4, size=200)
    logits[1:, np.arange(200), labels] += [[0.5], [1.0]]

    def loss(weights: Any) -> float:
        mean = torch.from_numpy(np.tensordot(weights, logits, axes=1))
        return float(torch.nn.functional.cross_entropy(mean, torch.from_numpy(labels)))

    best = fit_weights(torch.from_numpy(logits), torch.from_numpy(labels), prior=0)
    assert sum(best) == pytest.approx(1)
    assert all(loss(best) <= loss(other) + 1e-6 for other in drawn.dirichlet([1, 1, 1], size=300))


def test_the_network_averages_and_costs_next_to_nothing() -> None:
    torch.manual_seed(0)
    network = create("resnet20", exits=3, input_shape=(1, 16, 16)).eval()
    images = torch.randn(4, 1, 16, 16)
    ensemble = Ensemble(network, (0.25, 0.75))
    [logits] = ensemble(images)
    whole = network(images)
    assert torch.equal(logits, mean_of(whole, (0.25, 0.75)))
    torch.testing.assert_close(logits, 0.25 * whole[1] + 0.75 * whole[2])
    cross_check(ensemble)
    parts = part_costs(network)
    assert cost(ensemble).macs == cost(network).macs - parts[f"heads.{network.spec.exits[0].block}"].macs
    with pytest.raises(UsageError, match="has 3"):
        Ensemble(network, (0.25,) * 4)


def test_its_gain_is_told_on_calibration_images() -> None:
    """The last exit has one of four wrong that the exit before has right; on validation images both weigh the same."""
    last = torch.tensor([[0.0, 1.0], [4.0, 0.0], [4.0, 0.0], [4.0, 0.0]])
    before = torch.tensor([[4.0, 0.0]] * 4)
    mirrored = torch.tensor([[[4.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [4.0, 0.0]]])
    seen, unseen = (mirrored, torch.tensor([0, 0])), (torch.stack([before, last]), torch.tensor([0] * 4))
    network = create("resnet8", exits=2)
    row, _ = ensemble_of(network, 2, {"validation": seen, "calibration": unseen, "test": seen}, seen[1])
    assert (row["weights"], row["calibration_gain"]) == (pytest.approx([0.5, 0.5], abs=1e-4), 0.25)
    none = torch.zeros(2, 0, 2), torch.zeros(0, dtype=torch.int64)
    row, _ = ensemble_of(network, 2, {"validation": seen, "calibration": none, "test": seen}, seen[1])
    assert row["calibration_gain"] is None


def test_the_record_has_it_beside_the_exits(run: Run) -> None:
    row = run.ensemble
    assert row is not None
    assert (row["exit"], row["exits"], len(run.exits)) == ("ensemble", [2, 3], 3)
    assert run.prediction("ensemble") is row
    assert run.predictions[:-1] == run.exits
    parse_record((run.path / "run.json").read_bytes(), run.id)
    with np.load(run.path / "predictions.npz") as arrays:
        labels, logits = arrays["test_labels"], arrays["test_logits"].astype(float)
        stored = arrays["test_ensemble_logits"]
        validation = arrays["validation_logits"], arrays["validation_labels"]
        both = np.stack([arrays["calibration_ensemble_logits"], arrays["calibration_logits"][-1]])
        right = (both.argmax(axis=-1) == arrays["calibration_labels"]).mean(axis=-1)
    assert np.allclose(np.tensordot(row["weights"], logits[1:], axes=1), stored, atol=1e-2)
    assert (stored.argmax(axis=-1) == labels).mean() == pytest.approx(row["test_accuracy"], abs=0.02)
    assert len(both[0])
    assert right[0] - right[1] == pytest.approx(row["calibration_gain"], abs=1e-9)
    assert fit_weights(torch.from_numpy(validation[0][1:]), torch.from_numpy(validation[1])) == pytest.approx(
        row["weights"], abs=0.05
    )


def test_weights_that_do_not_add_up_are_refused(run: Run) -> None:
    record = json.loads((run.path / "run.json").read_text())
    record["results"]["ensemble"]["weights"] = [0.5, 0.6]
    with pytest.raises(UsageError, match="do not add up to 1"):
        parse_record(json.dumps(record).encode(), run.id)


def test_pruning_says_that_it_has_no_ensemble(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    main(["prune", "--from", str(run.path), "--ratio", "0.5", "--dry-run"])
    assert "what is pruned from it answers by its exits alone" in capfd.readouterr().err


def test_a_killed_run_ends_with_the_same_ensemble(
    tiny: Dataset, brief: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the second of two epochs, before its checkpoint, and trained again: bit for bit as never killed."""
    recipe, epochs, write = brief.changed(epochs=2, validation=0.2), [], execution._write_metrics

    def trained(folder: str) -> Run:
        place = Place(device="cpu", precision="fp32", runs=tmp_path / folder)
        return train("resnet8", tiny, method=Method(ensemble=2), exits=3, recipe=recipe, place=place)

    def die_in_the_second_epoch(run: Run, training: Training) -> None:
        epochs.append(training.epochs_done)
        if epochs == [1, 2]:
            raise KeyboardInterrupt
        write(run, training)

    whole = trained("whole")
    monkeypatch.setattr(execution, "_write_metrics", die_in_the_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        trained("killed")
    resumed = trained("killed")
    assert epochs == [1, 2, 2]  # the first epoch was not trained again
    assert resumed.ensemble == whole.ensemble is not None
    with np.load(resumed.path / "predictions.npz") as found, np.load(whole.path / "predictions.npz") as expected:
        assert sorted(found) == sorted(expected)
        assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_runs_without_it_keep_their_configuration(run: Run, tiny: Dataset, brief: Recipe, tmp_path: Path) -> None:
    assert run.record.config["ensemble"] == 2
    place = Place(device="cpu", precision="fp32", runs=tmp_path)
    plain = train("resnet8", tiny, method="mwbp", exits=3, recipe=brief.changed(validation=0.2), place=place)
    assert plain.record.config == {key: value for key, value in run.record.config.items() if key != "ensemble"}
    assert plain.ensemble is None
    assert [row["test_accuracy"] for row in plain.exits] == [row["test_accuracy"] for row in run.exits]
    with pytest.raises(UsageError, match="no ensemble"):
        predictor(f"{plain.path}:ensemble")


@pytest.mark.parametrize("exit", ["2", "ensemble"])
@pytest.mark.parametrize("command", [["exits"], ["probe"], ["bench"]])
def test_what_takes_whole_runs_says_so(
    command: list[str], exit: str, run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, f"{run.path}:{exit}"]) == 2
    assert "an exit is no run; name the whole run" in capfd.readouterr().err


def test_it_is_reported(run: Run) -> None:
    frame = rows([run])
    assert frame["exit"].tolist() == [1, 2, 3, "ensemble"]
    summary = summarise(frame)
    assert summary["last"].tolist() == [False, False, True, False]
    assert exit_name(summary.iloc[-1]).endswith("(ensemble)")
    assert len(read_right(run)[1]) == 4
    scores, left_out = read_scores([run])
    assert not left_out
    assert {exit for _, exit in scores} == {1, 2, 3, "ensemble"}
    [last] = of_last_exits(scores).values()
    assert np.array_equal(last.right[0], read_right(run)[1][2])


def test_it_is_printed_behind_the_exits(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    show_runs([run], as_json=False)
    assert run.ensemble is not None
    last, where = capsys.readouterr().out.splitlines()[-2:]
    assert last.startswith("ensemble of exits 2, 3, weights ")
    assert f"test accuracy {run.ensemble['test_accuracy']:.4f}; against the last exit " in last
    assert last.endswith(f"points on calibration images ({run.id}:ensemble)")
    assert where == f"run: {run.path}"


def test_it_can_be_selected(run: Run) -> None:
    made = select([f"{run.path}:{ENSEMBLE}"])
    assert made.chosen is not None
    assert run.ensemble is not None
    assert (made.chosen.exit, made.chosen.macs) == ("ensemble", run.ensemble["macs"])
    assert made.test_accuracy == run.ensemble["test_accuracy"]
    assert any("its weights were fitted on the validation images" in line for line in cautions(made))
    assert len(select([run.path]).feasible) == 4


def test_it_is_measured_and_served(run: Run, tiny: Dataset, tmp_path: Path) -> None:
    *_, candidate = candidates([run], tmp_path)
    assert run.ensemble is not None
    assert (candidate.exit, candidate.cost.macs) == ("ensemble", run.ensemble["macs"])
    images = tiny.test.images[:8]
    [expected] = Ensemble(load(run), run.ensemble["weights"])(normalise(images, run.normalisation))
    bundle = export_bundle(f"{run.path}:ensemble", out=tmp_path / "bundle", output="logits")
    assert bundle.manifest["source"]["exit"] == "ensemble"
    assert bundle.manifest["cost"]["macs"] == run.ensemble["macs"]
    card = (bundle.path / "README.md").read_text()
    assert card.startswith(f"# {run.id}, ensemble of exits 2, 3\n")
    assert f"by weights {run.ensemble['weights'][0]:g}, {run.ensemble['weights'][1]:g}, fitted on validation" in card
    assert np.allclose(bundle.infer()(images.numpy()), expected.detach().numpy(), atol=1e-4)


@pytest.mark.parametrize("source", ["run", "bundle"])
def test_it_predicts(source: str, run: Run, tiny_folder: Path, tmp_path: Path) -> None:
    name: Path | str = f"{run.path}:ensemble"
    if source == "bundle":
        name = export_bundle(f"{run.path}:ensemble", out=tmp_path / "bundle").path
    files = sorted(tiny_folder.glob("test/*/*"))[:3]
    assert [each.exit for each in predictor(name, device="cpu", workers=1).predict(files)] == ["ensemble"] * 3


def test_weights_need_validation_images(tiny: Dataset, brief: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fitted on validation images"):
        train(
            "resnet8", tiny, method=Method(ensemble=2), recipe=brief.changed(validation=0), place=Place(runs=tmp_path)
        )


def test_a_share_that_rounds_to_no_validation_image_is_refused_before_training(tiny: Dataset, brief: Recipe) -> None:
    images, method = len(tiny.train), Method(ensemble=2)
    with pytest.raises(UsageError, match=f"holds none of {images} images out: --validation 0.05 does"):
        plan_of("resnet8", tiny, method=method, recipe=brief.changed(validation=0.4 / images))
    assert plan_of("resnet8", tiny, method=method, recipe=brief.changed(validation=1 / images)).ensemble == 2
