"""`compress exits` on a run: what is written, what is refused, and that a certificate holds for what serves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.certifying import certify_run as certifying
from benchmarks.certifying.certify_run import Trial, Wanted, certify_run
from benchmarks.certifying.exit_images import digest_of_part, given_weights, open_images
from benchmarks.certifying.exit_timing import ServedExits, measure_time
from benchmarks.certifying.exits_file import read_policies, write_policies
from compress import Place
from compress.data import in_order, normalise, open_dataset
from compress.errors import UsageError
from compress.inference import EarlyExit, simulate
from compress.inference.certificate import RiskName
from compress.inference.risks import RISKS
from compress.networks import digest_of_weights
from compress.recipes import Recipe
from compress.runs import EARLY_EXIT, RECORD, Run, find_run, load
from compress.training import train

Command = Callable[..., tuple[int, str, str]]
LOOSE = Wanted(risk="agreement", epsilon=0.6, delta=0.4, latency=False, device="cpu")  # for 40 images, barely trained


@pytest.fixture
def run(reopened: list[Run], tmp_path: Path) -> Run:
    """A run with two exits, 40 validation and 40 calibration images."""
    return find_run(shutil.copytree(reopened[-1].path, tmp_path / "runs" / reopened[-1].id))


def test_the_run_gets_a_policy_and_a_certificate_of_what_was_measured(run: Run) -> None:
    document = certify_run(run, LOOSE)
    assert document["certified"]
    [policy] = read_policies(run)
    certificate, split = policy.certificate, open_images(run)
    assert certificate is not None
    assert (certificate.n, certificate.step > 0, certificate.observed <= certificate.bound <= 0.6) == (40, True, True)
    assert certificate.data == digest_of_part(split.calibration) != digest_of_part(split.validation)
    assert certificate.weights == digest_of_weights(load(run))
    assert policy.server == ("eager", "fp32", "cpu")
    assert certificate.void(policy.policy, engine="eager", precision="fp32", device="cpu") is None
    assert "void" in (certificate.void(policy.policy, engine="onnxruntime", precision="fp32", device="cpu") or "")
    assert "void" in (certificate.void(policy.policy, engine="eager", precision="fp32", device="cuda") or "")
    images = normalise(next(split.test.batches(in_order(len(split.test), len(split.test)))), run.normalisation)
    served = EarlyExit(load(run), policy.policy)(images)
    assert policy.test_accuracy == float((served.labels == split.test.labels).double().mean())
    assert policy.shares == tuple(float((served.exits == exit).double().mean()) for exit in (1, 2))
    assert policy.shares[0] > 0
    assert policy.mean_macs < policy.curve[0].mean_macs


def test_certifying_again_replaces_the_policy_and_other_limits_are_kept_beside_it(run: Run) -> None:
    for wanted in (LOOSE, LOOSE, Wanted(risk="agreement", epsilon=0.7, delta=0.4, latency=False, device="cpu")):
        certify_run(run, wanted)
    assert [each.certificate.epsilon for each in read_policies(run) if each.certificate] == [0.6, 0.7]


def test_the_choice_does_not_depend_on_calibration_or_test_images(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial(run=run, wanted=LOOSE)
    path = trial.path
    assert {"calibration", "test"}.isdisjoint(vars(trial))  # they have not been computed
    trial.certified()
    assert "test" not in vars(trial)
    assert trial.path is path


def test_too_few_images_are_an_answer(run: Run, compress: Command) -> None:
    status, out, _ = compress("exits", run.path, "--max-drop", "1", "--no-latency", "--json")
    document = json.loads(out)
    assert (status, document["certified"], document["policies"], document["needed"]) == (0, False, [], 450)
    status, out, _ = compress("exits", run.path, "--risk", "agreement", "--no-latency")
    assert status == 0
    assert out.startswith(
        "nothing can be certified with 40 calibration images: the most cautious policy that lets any "
    )
    assert "if that stayed so, an estimated 299 would be needed; --calibration of" in out
    assert not (run.path / EARLY_EXIT).exists()


@pytest.mark.parametrize("risk", ["drop", "agreement"])
def test_the_images_needed_follow_from_the_losses_of_the_most_cautious_policy(
    run: Run, risk: RiskName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 5,000 images, of which a hundred lose by it: 2 points, above what 450 or 299 images without a loss need."""
    lost = np.zeros(5000, dtype=np.int8)
    lost[::50] = 1
    trial = Trial(run=run, wanted=replace(LOOSE, risk=risk, epsilon=0.021, delta=0.05))
    monkeypatch.setattr(certifying, "certify_path", lambda *_, **__: (0, lost))
    monkeypatch.setattr(certifying, "worst_losses", lambda policy, *_: lost if policy == trial.path[1] else 1 / 0)
    found = trial.certified()
    assert isinstance(found, dict)
    assert found["needed"] == RISKS[risk].needed(lost, 0.021, 0.05)
    assert found["needed"] > 5000
    assert "with 5,000 calibration images: the most cautious" in found["reason"]
    assert "has a risk of 2.00 points on them; if that stayed so, an estimated " in found["reason"]
    found = replace(trial, wanted=replace(trial.wanted, epsilon=0.02)).certified()
    assert isinstance(found, dict)
    assert found["needed"] is None
    assert "not far enough below the 2 allowed, so no number of images would do" in found["reason"]


def test_a_budget_gives_a_policy_without_a_guarantee(run: Run, compress: Command) -> None:
    macs = Trial(run=run, wanted=LOOSE, data_dir=None).macs
    status, out, _ = compress("exits", run.path, "--budget-macs", f"{macs.mean():.0f}", "--no-latency", "--json")
    [policy] = json.loads(out)["policies"]
    assert (status, policy["certificate"], policy["budget_macs"]) == (0, None, round(macs.mean()))
    assert macs[0] <= policy["mean_macs"] <= macs[-1]


@pytest.mark.parametrize("engine", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.slow)])
def test_runtimes_are_certified_on_their_own_logits(run: Run, engine: str) -> None:
    trial = Trial(
        run=run, wanted=Wanted(risk="agreement", epsilon=0.6, delta=0.4, engine=engine, device="cpu"), data_dir=None
    )
    eager = Trial(run=run, wanted=LOOSE, data_dir=None)
    assert np.allclose(trial.validation.logits, eager.validation.logits, atol=1e-3)
    found = trial.certified()
    assert not isinstance(found, dict)
    assert found.engine == engine


@pytest.mark.parametrize("engine", ["eager", pytest.param("onnxruntime", marks=pytest.mark.slow)])
def test_time_is_measured_against_every_static_exit(run: Run, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.certifying.exit_timing.TIMED", {1: 2, 128: 8})
    monkeypatch.setattr("benchmarks.measuring.rounds.SHORTEST", 1e-4)
    trial = Trial(run=run, wanted=LOOSE, data_dir=None)
    serving = ServedExits(
        network=trial.network,
        normalisation=run.normalisation,
        policy=trial.path[len(trial.path) // 2],
        engine=engine,
        precision="fp32",
        device=trial.device,
    )
    measured = measure_time(serving, trial.split.test, rounds=2)
    assert [row.batch_size for row in measured.rows] == [1, 100]  # there are 100 test images
    assert all(len(row.static_ratios) == 2 and row.static_ratios[-1] == (1, 1, 1) for row in measured.rows)


def test_rounding_between_batch_sizes_stays_within_the_margin(run: Run) -> None:
    trial = Trial(run=run, wanted=LOOSE, data_dir=None)
    found = trial.certified()
    assert not isinstance(found, dict)
    policy = trial.path[found.step]
    images = normalise(next(trial.split.test.batches(in_order(100, 100))), run.normalisation)
    early = EarlyExit(trial.network, policy)
    exits = simulate(trial.test.logits, policy).exits
    for size in (1, 7, 100):
        assert (np.concatenate([early(batch).exits.numpy() for batch in images.split(size)]) == exits).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--max-drop", "0"), "--max-drop 0: above 0 and below 100"),
        (("--max-drop", "100"), "--max-drop 100: above 0 and below 100"),
        (("--confidence", "100"), "--confidence 100: above 0 and below 100"),
        (("--confidence", "nan"), "--confidence nan"),
        (("--risk", "drp"), "drp"),
        (("--engine", "openvino", "--precision", "bf16"), "openvino has fp32"),
        (("--budget-macs", "many"), "--budget-macs many: a number"),
        (("--budget-macs", "5", "--no-latency"), "budget 5 MACs"),
        (("--threads", "0"), "--threads 0"),
    ],
)
def test_what_is_out_of_range_is_refused(
    run: Run, refused: Callable[..., str], arguments: tuple[str, ...], message: str
) -> None:
    assert message in refused("exits", run.path, *arguments)


def test_a_run_with_one_exit_is_refused(reopened: list[Run], refused: Callable[..., str]) -> None:
    assert "has one exit: nothing can leave early" in refused("exits", reopened[0].path)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images of every class that the tiny data set has not, in class folders."""
    root, whole = tmp_path_factory.mktemp("own"), open_dataset("fashion-mini")
    for label, name in enumerate(whole.classes):
        (root / name.replace("/", "-")).mkdir()
        for number in (whole.test.labels == label).nonzero().flatten()[-2:].tolist():
            image = whole.test.images[number, 0, ::2, ::2].contiguous().numpy()
            Image.fromarray(image).save(root / name.replace("/", "-") / f"{number}.png")
    return root


@pytest.mark.parametrize("risk", ["agreement", "drop"])
def test_images_of_ones_own_certify_in_place_of_those_held_out(
    run: Run, own: Path, compress: Command, risk: str
) -> None:
    held = digest_of_part(open_images(run).calibration)
    run.record.data["split"]["calibration"] = 0
    run.write_record()
    limits = ("--max-drop", "60", "--confidence", "60", "--risk", risk, "--no-latency")
    status, out, _ = compress("exits", run.path, "--calibration", f"folder:{own}", *limits, "--json")
    assert status == 0
    [policy] = json.loads(out)["policies"]
    certificate, images = policy["certificate"], open_images(run, calibration=f"folder:{own}", labelled=risk == "drop")
    assert certificate["n"] == 20
    assert certificate["data"] == digest_of_part(images.calibration) != held
    assert images.calibration.labels.tolist() == ([each // 2 for each in range(20)] if risk == "drop" else [-1] * 20)


def test_copies_of_images_that_the_run_had_are_left_out(
    run: Run, own: Path, tiny_folder: Path, tmp_path: Path, compress: Command, caplog: pytest.LogCaptureFixture
) -> None:
    mixed = shutil.copytree(own, tmp_path / "mixed")
    shutil.copytree(tiny_folder / "test", mixed, dirs_exist_ok=True)
    loose = ("--max-drop", "60", "--confidence", "60", "--risk", "agreement", "--no-latency", "--json")
    status, out, _ = compress("exits", run.path, "--calibration", f"folder:{mixed}", *loose)
    assert (status, json.loads(out)["policies"][0]["certificate"]["n"]) == (0, 20)
    assert "100 of 120 images are left out: 100 have the pixels of one that the run was trained" in caplog.text


def test_copies_of_training_images_that_were_held_out_certify_nothing(
    tiny_folder: Path, brief: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every training image is there twice, so that nearly every calibration image has a copy that was trained on."""
    folder = shutil.copytree(tiny_folder, tmp_path / "twice")
    for file in sorted((folder / "train").rglob("*.png")):
        shutil.copy(file, file.with_name(f"copy of {file.name}"))
    recipe = replace(brief, validation=0.2, calibration=0.2)
    data = open_dataset(f"folder:{folder}", image_size=8)
    run = train("resnet8", data, method="mwbp", exits=2, recipe=recipe, place=Place(runs=tmp_path / "runs"))
    held = run.record.data["split"]["calibration"]
    left = open_images(run).calibration
    assert 0 < len(left) < held / 2
    assert f"{held - len(left)} of {held} images are left out" in caplog.text


def test_weights_that_were_trained_elsewhere_may_have_seen_the_images(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    certify_run(run, LOOSE)
    assert "trained elsewhere" not in capsys.readouterr().err
    run.record.config["initial"] = "0" * 64
    certify_run(run, LOOSE)
    said = " ".join(capsys.readouterr().err.split())
    assert f"careful: {run.id} began with weights that were trained elsewhere: a certificate holds only if" in said
    assert given_weights({"reference": {"reference": {"initial": "0" * 64}}, "initial": None})  # pruned twice


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        ("{own}", "--calibration {own}: a folder of images, as in folder:PATH"),
        ("folder:{own}/none", "--calibration folder:{own}/none is not a folder"),
        ("folder:{own}/Bag", "{own}/Bag has 0 class folders"),
        ("folder:{tiny}/test", "none of 100 images is left: 100 have the pixels of one that the run was trained"),
    ],
)
def test_other_folders_certify_nothing(
    run: Run, own: Path, tiny_folder: Path, refused: Callable[..., str], calibration: str, message: str
) -> None:
    places = {"own": own, "tiny": tiny_folder}
    assert message.format(**places) in refused("exits", run.path, "--calibration", calibration.format(**places))


@pytest.mark.parametrize("part", ["validation", "calibration"])
def test_a_run_that_held_nothing_out_is_refused(run: Run, part: str) -> None:
    record = json.loads((run.path / RECORD).read_text())
    record["data"]["split"][part] = 0
    run.record.data["split"] = record["data"]["split"]
    with pytest.raises(UsageError, match=f"held out no {part} images.*train it by a recipe that holds out both"):
        open_images(run)


@pytest.mark.parametrize(
    ("place", "value"), [("certificate", {"risk": "drop"}), ("shares", [1.0]), ("policy", {"temperatures": [0.0]})]
)
def test_a_file_that_does_not_fit_is_said_and_measured_again(
    run: Run, place: str, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    certify_run(run, LOOSE)
    policies = read_policies(run)
    document = json.loads((run.path / EARLY_EXIT).read_text())
    document["policies"][0][place] = value
    (run.path / EARLY_EXIT).write_text(json.dumps(document))
    capsys.readouterr()
    assert read_policies(run) == []
    assert "skipped" in capsys.readouterr().err
    write_policies(run, policies)
    assert read_policies(run) == policies


def test_files_that_name_no_device_were_made_on_the_cpu(run: Run) -> None:
    certify_run(run, LOOSE)
    policies = read_policies(run)
    document = json.loads((run.path / EARLY_EXIT).read_text())
    for part in (document["policies"][0], document["policies"][0]["certificate"]):
        assert part.pop("device") == "cpu"
    (run.path / EARLY_EXIT).write_text(json.dumps(document))
    assert read_policies(run) == policies
    write_policies(run, [replace(policies[0], device="cuda")])  # another engine's, kept beside it
    assert [each.device for each in read_policies(run)] == ["cpu", "cuda"]


def test_a_fault_in_certifying_leaves_the_old_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    certify_run(run, LOOSE)
    before = (run.path / EARLY_EXIT).read_bytes()
    monkeypatch.setattr(certifying, "simulate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        certify_run(run, LOOSE)
    assert (run.path / EARLY_EXIT).read_bytes() == before
