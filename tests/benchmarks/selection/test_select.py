"""Selecting from real runs: what is measured, of what, and what is skipped."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from benchmarks import Limits, Serving, select
from benchmarks.certifying.exit_timing import ServedExits
from benchmarks.certifying.exits_file import ExitPolicy, read_policies, write_policies
from benchmarks.measuring.candidates import candidates
from benchmarks.selection.explanation import cautions
from compress.cli import select_command
from compress.data import normalise
from compress.errors import UsageError
from compress.export import exporting
from compress.export.held_out import open_held_out
from compress.export.subject import Subject
from compress.inference import Certificate, EarlyExit, Policy, leaving_macs, mean_macs, simulate
from compress.networks import digest_of_weights
from compress.recipes import Recipe
from compress.runs import PREDICTIONS, WEIGHTS, Run, load
from compress.training import data_of
from compress.training.plan import split_by
from tests.benchmarks.selection.conftest import chosen

EAGER = Serving(engine="eager", rounds=6)


def test_the_exits_of_all_runs_are_compared_and_those_above_the_limit_left_out(
    directory: Path, reopened: list[Run]
) -> None:
    deep, shallow, multi = reopened
    limit = shallow.exits[0]["macs"]
    made = select(limits=Limits(macs=limit), directory=directory)
    names = {str(each): each for each in made.contenders}
    assert set(names) == {deep.id, shallow.id, f"{multi.id}:1", f"{multi.id}:2"}
    assert [name for name, each in names.items() if each.left_out] == [deep.id]
    assert names[deep.id].left_out.endswith(f"{deep.exits[0]['macs'] / limit:.3g} times the limit")
    best = max(each.val_accuracy or 0 for each in made.feasible)
    assert made.chosen is not None
    assert (made.chosen.val_accuracy or 0) >= best - made.max_drop
    for each in made.contenders:
        row = each.run.prediction(each.exit)
        assert (each.macs, each.params, each.val_accuracy) == (row["macs"], row["params"], row["val_accuracy"])
    assert made.test_accuracy == made.chosen.run.prediction(made.chosen.exit)["test_accuracy"]
    only = select([f"{multi.id}:1"], directory=directory)
    assert [str(each) for each in only.contenders] == [f"{multi.id}:1"]


def test_test_images_decide_nothing(directory: Path, reopened: list[Run]) -> None:
    before = select(directory=directory)
    for run in reopened:
        record = json.loads((directory / run.id / "run.json").read_text())
        for exit in record["results"]["exits"]:
            exit["test_accuracy"] = 1 - exit["test_accuracy"]
        (directory / run.id / "run.json").write_text(json.dumps(record))
        arrays = dict(np.load(directory / run.id / PREDICTIONS))
        arrays["test_logits"] = -arrays["test_logits"]
        np.savez(directory / run.id / PREDICTIONS, **arrays)
    after = select(directory=directory)
    assert [str(each) for each in before.contenders] == [str(each) for each in after.contenders]
    assert chosen(before) == chosen(after)
    assert after.test_accuracy == pytest.approx(1 - (before.test_accuracy or 0))
    assert all("test" not in key for key in after.contenders[0].to_json())


def test_latency_is_measured_by_the_engine_and_only_within_the_other_limits(
    directory: Path, reopened: list[Run]
) -> None:
    deep, shallow, multi = reopened
    macs = shallow.exits[0]["macs"]
    serving = Serving(rounds=6)
    made = select(limits=Limits(macs=macs, seconds=1.0), serving=serving, directory=directory)
    by_name = {str(each): each for each in made.contenders}
    assert by_name[deep.id].seconds is None
    low, middle, high = by_name[shallow.id].seconds or (0, 0, 0)
    assert 0 < low <= middle <= high < 1
    assert by_name[shallow.id].seconds == by_name[f"{multi.id}:2"].seconds  # one shape, timed once
    assert made.noise > 0
    none = select(limits=Limits(seconds=1e-9), serving=EAGER, directory=directory)
    assert none.chosen is None
    assert none.nearest is not None
    assert none.nearest.left_out.endswith("times the limit")
    assert none.test_accuracy is None


def test_what_is_damaged_or_unfinished_is_skipped_with_a_line(directory: Path, reopened: list[Run]) -> None:
    deep, shallow, multi = reopened
    (directory / deep.id / PREDICTIONS).write_bytes(b"no archive")
    (directory / shallow.id / WEIGHTS).write_bytes((directory / shallow.id / WEIGHTS).read_bytes()[:100])
    (directory / "empty").mkdir()
    made = select(directory=directory)
    assert {each.run.id for each in made.contenders} == {multi.id}
    said = "\n".join(made.skipped)
    assert f"run {deep.id}: {PREDICTIONS} is corrupt" in said
    assert f"run {shallow.id}: {WEIGHTS} is corrupt" in said
    assert "empty: no run.json there" in said
    (directory / multi.id / PREDICTIONS).unlink()
    with pytest.raises(UsageError, match=r"no run can be chosen from: .*predictions\.npz is missing"):
        select(directory=directory)


def test_accuracies_of_another_network_are_not_taken_for_the_runs(directory: Path, reopened: list[Run]) -> None:
    deep, shallow, _ = reopened
    arrays = dict(np.load(directory / shallow.id / PREDICTIONS))
    arrays["validation_logits"] = -arrays["validation_logits"]
    np.savez(directory / shallow.id / PREDICTIONS, **arrays)
    made = select([deep.id, shallow.id], directory=directory)
    assert chosen(made) == deep.id
    assert made.skipped == [f"run {shallow.id}: {PREDICTIONS} has other accuracies than its record"]


def test_the_accuracy_of_int8_is_that_of_the_quantised_network(
    directory: Path, reopened: list[Run], tmp_path: Path
) -> None:
    run = reopened[1]
    made = select([run.id], serving=Serving(precision="int8"), limits=Limits(bytes=10**9), directory=directory)
    [found] = made.contenders
    images = split_by(Recipe.from_json(run.record.config["recipe"]), data_of(run))
    [candidate] = candidates([run], tmp_path / "onnx", open_held_out([run]))
    path = candidate.source.onnx("int8")
    assert found.bytes == path.stat().st_size
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for part, accuracy in ((images.validation, found.val_accuracy), (images.test, made.test_accuracy)):
        [pixels] = part.batches([torch.arange(len(part))])
        [logits] = session.run(None, {"images": normalise(pixels, run.normalisation).numpy()})
        assert accuracy == pytest.approx(float((logits.argmax(axis=1) == part.labels.numpy()).mean()))


@pytest.fixture
def early(directory: Path, reopened: list[Run]) -> Run:
    """A run with a policy by which about half of the images leave at the first exit, certified for eager in fp32."""
    run = Run(directory / reopened[2].id, reopened[2].record)
    weights = digest_of_weights(load(run))
    logits = np.load(run.path / PREDICTIONS)["validation_logits"].astype(float)
    shares = np.exp(logits[0] - logits[0].max(axis=1, keepdims=True))
    threshold = float(np.median(shares.max(axis=1) / shares.sum(axis=1)))
    policy = Policy(temperatures=(1.0, 1.0), thresholds=(threshold,), weights=weights)
    certificate = Certificate(
        risk="drop", epsilon=0.01, delta=0.05, n=40, observed=0.0, bound=0.01, margin=0.0, step=1, steps=5,
        data="d" * 64, weights=weights, policy=policy.digest, engine="eager", precision="fp32", seed=0,
    )  # fmt: skip
    measured: dict[str, Any] = {
        "test_interval": (0.0, 1.0),
        "test_drop": 0.0,
        "drop_interval": (0.0, 0.0),
        "full_macs": 1,
    }
    write_policies(
        run,
        [
            ExitPolicy(
                policy=policy, engine="eager", precision="fp32", certificate=certificate, val_accuracy=0.5,
                test_accuracy=0.375, mean_macs=1.0, shares=(0.5, 0.5), **measured,
            )
        ],
    )  # fmt: skip
    return run


def test_early_exit_is_a_contender_as_its_policy_decides_on_validation_images(
    directory: Path, early: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = select([early.id], limits=Limits(seconds=1.0), serving=EAGER, directory=directory)
    [found] = [each for each in made.contenders if each.early]
    arrays = np.load(early.path / PREDICTIONS)
    assert found.early is not None
    answered = simulate(arrays["validation_logits"], found.early.policy)
    assert np.array_equal(found.right, answered.labels == arrays["validation_labels"])
    first, last = (exit["macs"] for exit in early.exits)
    assert first < found.macs < last
    assert found.seconds is not None
    assert found.seconds[1] < 1
    assert str(found) == f"{early.id} early exit (drop <= 1%)"
    assert found.uncertified is None

    def written(subject: Subject, out: Path, policy: Policy, certificate: Certificate) -> Any:
        assert found.early is not None
        assert (policy, certificate) == (found.early.policy, found.early.certificate)
        assert subject.form.cascade
        [line] = map(str, subject.latencies)
        assert "rounds, eager fp32, 1 thread(s), " in line
        assert line.endswith("), by compress select with early exit on validation images.")
        return SimpleNamespace(path=out, manifest={"early_exit": {"notice": "not certified for what serves"}})

    monkeypatch.setattr(exporting, "write_bundle", written)
    chosen = replace(made, contenders=[found])
    assert select_command._export(chosen, directory / "bundle", None).endswith("bundle")
    assert "not certified for what serves" in capsys.readouterr().err
    assert any("thresholds were chosen on the validation images" in line for line in cautions(chosen))

    def unmeasured(subject: Subject, out: Path, *_: object) -> Any:
        assert (subject.form.precision, list(subject.latencies)) == ("fp32", [])
        return SimpleNamespace(path=out, manifest={"early_exit": {"notice": None}})

    monkeypatch.setattr(exporting, "write_bundle", unmeasured)
    half = replace(chosen, serving=Serving(engine="openvino", precision="bf16"))
    select_command._export(half, directory / "bundle", None)
    assert "the bundle computes in fp32: its latency in bf16 is not stated" in capsys.readouterr().err


def test_a_policy_is_a_contender_for_the_engine_precision_and_device_that_it_was_chosen_for(
    directory: Path, early: Run
) -> None:
    [policy] = read_policies(early)
    for_bf16: dict[str, Any] = {"engine": "eager", "precision": "bf16"}
    assert policy.certificate
    write_policies(early, [replace(policy, certificate=replace(policy.certificate, **for_bf16), **for_bf16)])

    def found(**serving: Any) -> list[tuple[str, str]]:
        made = select([early.id], serving=Serving(device="cpu", **serving), directory=directory)
        return sorted((each.early.precision, each.left_out) for each in made.contenders if each.early)

    elsewhere = "its policy is for eager in {} on cpu; compress exits makes others"
    assert found(engine="eager") == [("bf16", elsewhere.format("bf16")), ("fp32", "")]
    assert found(engine="eager", precision="bf16") == [("bf16", ""), ("fp32", elsewhere.format("fp32"))]
    for serving in ({}, {"precision": "int8"}):
        assert found(**serving) == [(name, elsewhere.format(name)) for name in ("bf16", "fp32")]
    write_policies(early, [replace(policy, device="cuda")])
    assert found(engine="eager")[1:] == [("fp32", ""), ("fp32", elsewhere.format("fp32").replace("cpu", "cuda"))]


def test_in_another_precision_a_policys_accuracy_is_that_of_the_images_it_lets_leave(
    directory: Path, early: Run
) -> None:
    [policy] = read_policies(early)
    write_policies(early, [replace(policy, precision="bf16", certificate=None, budget_macs=1e6)])
    made = select([early.id], serving=replace(EAGER, precision="bf16", device="cpu"), directory=directory)
    [found] = [each for each in made.contenders if each.early and not each.left_out]
    images = split_by(Recipe.from_json(early.record.config["recipe"]), data_of(early)).validation
    [pixels] = images.batches([torch.arange(len(images))])
    served = EarlyExit(load(early), policy.policy, dtype=torch.bfloat16)(normalise(pixels, early.normalisation))
    assert np.array_equal(found.right, (served.labels == images.labels).numpy())
    assert found.val_accuracy == found.right.mean()
    macs = leaving_macs(load(early))
    assert found.macs == mean_macs(served.exits.numpy(), macs)
    assert macs[0] < found.macs < macs[1]
    assert found.uncertified == "nothing is guaranteed of its policy, which was chosen for a budget of MACs"
    alone = replace(made, contenders=[found])
    assert alone.chosen is found


def test_early_exit_is_timed_on_whole_batches_even_of_few_images(
    directory: Path, early: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, batches = [], ServedExits.batches

    def counted(served: ServedExits, images: torch.Tensor, size: int) -> list[Any]:
        sizes.append((size, len(images)))
        return batches(served, images, size)

    monkeypatch.setattr(ServedExits, "batches", counted)
    for size in (16, 64):
        select([early.id], limits=Limits(seconds=9.0), serving=replace(EAGER, batch_size=size), directory=directory)
    validation = early.record.data["split"]["validation"]
    assert 32 <= validation < 64
    assert {(16, validation // 16 * 16), (64, 64)} <= {*sizes}


def test_a_policy_for_other_weights_is_skipped(directory: Path, early: Run, reopened: list[Run]) -> None:
    shutil.copy(reopened[2].path / WEIGHTS, early.path / WEIGHTS)
    written = json.loads((early.path / "early_exit.json").read_text())
    written["policies"][0]["policy"]["weights"] = "0" * 64
    (early.path / "early_exit.json").write_text(json.dumps(written))
    made = select([early.id], directory=directory)
    assert len(made.contenders) == 2
    assert made.skipped == [f"run {early.id}: its early-exit policy is for other weights; compress exits {early.id}"]


def test_the_command_prints_one_document_and_its_status_says_whether_something_was_chosen(
    directory: Path, reopened: list[Run], compress: Callable[..., tuple[int, str, str]]
) -> None:
    macs = reopened[1].exits[0]["macs"]
    status, out, err = compress("select", "--runs", directory, "--max-macs", macs, "--json")
    assert status == 0, err
    document = json.loads(out)
    assert document["chosen"]["macs"] <= macs
    assert document["nearest"] is None
    assert len(document["contenders"]) == 4
    status, out, _ = compress("select", "--runs", directory, "--max-macs", f"{macs / 1e6}M")
    assert (status, out.count(" wins: ")) == (0, 1)
    assert "test accuracy of" in out
    status, out, _ = compress("select", directory, "--max-macs", "1k", "--json")
    document = json.loads(out)
    assert (status, document["chosen"]) == (1, None)
    assert document["nearest"]["misses"]["macs"] > 1
    assert "comes nearest" in document["reasons"][0]
    status, out, _ = compress("select", directory, "--max-macs", "1k")
    assert status == 1
    assert "nothing is within the limits; " in out


def test_bad_options_are_refused(refused: Callable[..., str], directory: Path) -> None:
    for options, message in (
        (["--max-latency", "5"], "--max-latency 5: a number with its unit, such as 5ms, 800us or 0.1s"),
        (["--max-latency", "0ms"], "must be above 0"),
        (["--max-macs", "30X"], "--max-macs 30X: a number with its unit, such as 30e6 or 30M"),
        (["--min-accuracy", "90"], "--min-accuracy 90: a share, such as 0.9 or 90%"),
        (["--max-drop", "-1"], "--max-drop -1: points of accuracy"),
        (["--engine", "onnx"], "--engine 'onnx': did you mean 'onnxruntime'?"),
        (["--max-latency", "1ms", "--precision", "bf16"], "engine onnxruntime has no bf16"),
        (["--threads", "0"], "--threads 0: 1 or more"),
        (["--export", directory], "is there and not empty"),
    ):
        assert message in refused("select", "--runs", directory, *options)


def test_the_chosen_network_is_exported_in_the_format_of_its_engine(
    directory: Path, reopened: list[Run], compress: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    name, bundle = f"{reopened[2].id}:1", tmp_path / "bundle"
    limits = ("--runs", directory, "--max-latency", "1s", "--rounds", "6")
    status, out, err = compress("select", name, *limits, "--export", bundle, "--json")
    assert status == 0, err
    document = json.loads(out)
    assert document["bundle"] == str(bundle)
    measured = f"{1e3 * document['chosen']['seconds'][1]:.2f} ms (median of 6 rounds, onnxruntime fp32, 1 thread(s), "
    [line] = [line for line in (bundle / "README.md").read_text().splitlines() if "Latency" in line]
    assert line.startswith(f"- Latency at batch 1: {measured}")
    assert line.endswith("), by compress select.")
    manifest = json.loads((bundle / "bundle.json").read_text())
    assert (manifest["format"], manifest["precision"]) == ("onnx", "fp32")
    assert (manifest["source"]["run"], manifest["source"]["exit"]) == (reopened[2].id, 1)
    status, _, _ = compress("select", name, "--runs", directory, "--max-macs", "1", "--export", tmp_path / "none")
    assert (status, (tmp_path / "none").exists()) == (1, False)
