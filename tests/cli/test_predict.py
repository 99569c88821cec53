"""`compress predict` as a user types it: what it prints and where, in which order, and how it ends."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks.certifying.exits_file import ExitPolicy, write_policies
from compress import Dataset, Recipe, Run, inference, load, predictor, train
from compress.cli.predict_command import _listed
from compress.inference import Certificate, EarlyExit, Policy
from compress.networks import digest_of_weights
from compress.runs import EARLY_EXIT
from compress.training import Place

Command = Callable[..., tuple[int, str, str]]
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def run(tiny: Dataset, brief: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = Place(runs=tmp_path_factory.mktemp("runs"))
    return train("resnet8", tiny, method="mwbp", exits=2, recipe=brief, place=place)


@pytest.fixture
def photos(tiny: Dataset, tmp_path: Path) -> Path:
    """Three images, two of them in a folder."""
    for name, image in zip(("b/1.png", "a.png", "b/2.png"), tiny.test.images[::40], strict=True):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


@pytest.fixture
def predict(compress: Command, run: Run) -> Command:
    return lambda *arguments: compress("predict", run.path, *arguments)


def test_csv_json_lines_and_json_say_the_same(predict: Command, photos: Path, tiny: Dataset) -> None:
    status, table, said = predict(photos)
    assert (status, said) == (0, "")
    rows = list(csv.DictReader(io.StringIO(table)))
    assert table.startswith("path,label,probability,exit\n")
    assert [row["path"] for row in rows] == [str(photos / name) for name in ("a.png", "b/1.png", "b/2.png")]
    assert all(row["label"] in tiny.classes and row["exit"] == "2" for row in rows)
    assert all(0.1 <= float(row["probability"]) <= 1 for row in rows)
    objects = [json.loads(line) for line in predict(photos, "--format", "jsonl")[1].splitlines()]
    assert [{name: str(value) for name, value in each.items()} for each in objects] == rows
    assert json.loads(predict(photos, "--json")[1]) == {"predictions": objects, "unreadable": 0}


def test_paths_come_in_their_order_those_on_stdin_in_the_place_of_the_hyphen(
    predict: Command, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = f"{photos / 'b/2.png'}\r\n\n{photos / 'a.png'}\n".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed)))
    status, table, _ = predict(photos / "b", "-", photos / "a.png", "--batch-size", "1", "--workers", "2")
    found = [Path(row["path"]).relative_to(photos) for row in csv.DictReader(io.StringIO(table))]
    assert (status, list(map(str, found))) == (0, ["b/1.png", "b/2.png", "b/2.png", "a.png", "a.png"])


def test_unreadable_files_are_named_and_counted_and_the_rest_is_done(predict: Command, photos: Path) -> None:
    (photos / "a-broken.png").write_bytes((photos / "a.png").read_bytes()[:60])
    Image.new("L", (9, 14)).save(photos / "b" / "narrow.png")
    status, table, said = predict(photos, photos / "missing.png")
    assert (status, table.count("\n")) == (1, 4)
    broken, narrow, missing, summary = said.splitlines()
    assert broken.startswith(f"{photos / 'a-broken.png'} cannot be read as an image")
    assert "narrow.png has 9x14 pixels (width x height); the network takes images of 14x14 alone" in narrow
    assert missing == f"{photos / 'missing.png'} cannot be read as an image (No such file or directory)"
    assert summary == "3 images predicted, 3 files could not be read"
    assert json.loads(predict(photos, "--json")[1])["unreadable"] == 2


def test_names_of_files_keep_their_bytes(predict: Command, photos: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(b'\xff, "odd"\n.png')
    (photos / "a.png").rename(photos / odd)
    assert predict(photos / odd, "--out", tmp_path / "out.csv")[0] == 0
    with (tmp_path / "out.csv").open(errors="surrogateescape", newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == [str(photos / odd)]
    [line] = predict(photos / odd, "--format", "jsonl")[1].splitlines()
    assert json.loads(line)["path"] == str(photos / odd)


def test_a_file_is_written_whole_or_not_at_all(predict: Command, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    assert predict(photos, "--out", out)[1] == ""
    assert out.read_text() == predict(photos)[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt, match="3 images were predicted; nothing was written to"):
            predict(photos, "--out", out, "--format", "jsonl")
    assert out.read_text() == predict(photos)[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "photos"]


def test_a_device_is_written_to_and_a_link_stays_one(predict: Command, photos: Path, tmp_path: Path) -> None:
    """As /dev/null, which root would replace by a file."""
    pipe, link, read = tmp_path / "pipe", tmp_path / "link", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    assert predict(photos, "--out", pipe)[0] == 0
    reader.join()
    assert read == [predict(photos)[1]]
    assert pipe.is_fifo()
    link.symlink_to(tmp_path / "target.csv")
    assert predict(photos, "--out", link)[0] == 0
    assert link.is_symlink()
    assert (tmp_path / "target.csv").read_text() == read[0]


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_what_cannot_be_right_is_refused(refused: Refused, run: Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ([run.path, tmp_path / "empty"], f"no images in {tmp_path / 'empty'}"),
        ([f"{run.path}:3", photos], f"run {run.id} has exits 1 to 2"),
        ([tmp_path, photos], "is a folder, but neither a run nor a bundle"),
        ([run.path, photos, "--early-exit"], f"no certified policy of early exit: compress exits {run.id}"),
        ([f"{run.path}:1", photos, "--early-exit"], "--early-exit: exit 1 is named, where all images leave"),
        ([run.path, photos, "--fromat", "csv"], "--fromat: neither an option nor a file"),
        ([run.path, photos, "--json", "--out", "x"], "--json prints one document at the end"),
        ([run.path, photos, "--out", tmp_path / "no" / "x"], "name a file in a folder that is there"),
        ([run.path, photos, "--batch-size", "0"], "batch_size 0 must be 1 or more"),
    ):
        assert message in refused("predict", *arguments)


def certified(run: Run, *, engine: str) -> ExitPolicy:
    """A policy by which all images leave at the first exit."""
    policy = Policy(temperatures=(1.0, 1.0), thresholds=(0.0,), weights=digest_of_weights(load(run)))
    fields: dict[str, Any] = {"engine": engine, "precision": "fp32"}
    risk = {"risk": "drop", "epsilon": 0.01, "delta": 0.05, "n": 9, "observed": 0.0, "bound": 0.0, "margin": 0.0}
    path = {"step": 0, "steps": 1, "data": "", "weights": policy.weights, "policy": policy.digest, "seed": 0}
    measured = dict.fromkeys(("val_accuracy", "test_accuracy", "test_drop"), 0.0)
    intervals = dict.fromkeys(("test_interval", "drop_interval"), (0.0, 0.0))
    cost = {"mean_macs": 1.0, "full_macs": 2, "shares": (1.0, 0.0)}
    certificate = Certificate(**fields | risk | path)
    return ExitPolicy(policy=policy, certificate=certificate, **fields | measured | intervals | cost)


def test_images_leave_early_by_the_policy_that_is_certified_for_what_computes(
    predict: Command, run: Run, photos: Path
) -> None:
    for engines, notice in ((("onnxruntime",), "it holds for onnxruntime"), (("eager", "openvino"), "")):
        write_policies(run, [certified(run, engine=engine) for engine in engines])
        status, table, said = predict(photos, "--early-exit")
        assert (status, {row["exit"] for row in csv.DictReader(io.StringIO(table))}) == (0, {"1"})
        assert (notice in said) if notice else said == ""


def test_images_that_have_left_are_taken_out_of_batches_where_that_was_measured_to_pay(
    predict: Command, run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Spy(EarlyExit):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            asked.append(options["compact"])
            super().__init__(*arguments, **options)

    monkeypatch.setattr(inference, "EarlyExit", Spy)
    for measured in (32, False):
        policy = replace(certified(run, engine="eager"), compact_from=measured)
        write_policies(run, [policy, replace(certified(run, engine="onnxruntime"), compact_from=2)])
        assert predict(photos, "--early-exit")[0] == 0
        assert len(list(predictor(run, policy=policy.policy).predict(photos))) == 3
    assert asked == [32, 32, False, False]
    write_policies(run, [replace(policy, device="cuda"), replace(policy, compact_from=8)])
    list(predictor(run, policy=policy.policy, device="cpu").predict(photos))
    list(predictor(run, policy=replace(policy.policy, thresholds=(0.5,)), device="cpu").predict(photos))
    assert asked[4:] == [8, True]  # measured on the CPU; and a policy that nothing was measured of


def test_a_certificate_of_another_device_is_void(predict: Command, run: Run, photos: Path) -> None:
    elsewhere = certified(run, engine="eager")
    assert elsewhere.certificate
    (run.path / EARLY_EXIT).unlink(missing_ok=True)
    certificate = replace(elsewhere.certificate, device="cuda")
    write_policies(run, [replace(elsewhere, device="cuda", certificate=certificate)])
    status, _, said = predict(photos, "--early-exit", "--device", "cpu")
    assert status == 0
    assert "void: it holds for eager in fp32 on cuda, not for eager in fp32 on cpu" in " ".join(said.split())


def _interruptible() -> None:
    """Undo that SIGINT is ignored, as in what a shell runs in the background; children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def process(run: Run, photos: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command as a process that waits for more paths on stdin, after 100 images."""
    command = [
        sys.executable,
        "-m",
        "compress",
        "predict",
        str(run.path),
        *[str(photos)] * 34,
        "-",
        "--batch-size",
        "1",
    ]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, preexec_fn=_interruptible) as started:
        yield started
        started.kill()


def test_paths_on_a_pipe_are_answered_before_more_of_them_come(run: Run, photos: Path) -> None:
    """By default 32 images make a batch; here the next path is written when those before it have been answered."""
    command = [sys.executable, "-m", "compress", "predict", str(run.path), "-"]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1) as process:
        overdue = threading.Timer(60, process.kill)
        overdue.start()
        assert process.stdin
        assert process.stdout
        answered: list[str] = []
        for names in (["a.png"], ["b/1.png", "b/2.png"], ["a.png"]):
            process.stdin.write("".join(f"{photos / name}\n" for name in names).encode())
            process.stdin.flush()
            lines = [process.stdout.readline().decode() for _ in range(len(names) + (not answered))]
            answered += [line.split(",")[0] for line in lines]
        assert answered == ["path", *(str(photos / name) for name in ("a.png", "b/1.png", "b/2.png", "a.png"))]
        process.stdin.close()
        assert process.wait(30) == 0
        overdue.cancel()


def test_lines_are_taken_from_a_pipe_as_they_come() -> None:
    reads, writes = os.pipe()
    with open(reads, "rb") as stream, open(writes, "wb", buffering=0) as producer:
        lines = _listed(stream)
        assert next(lines) is None
        producer.write(b"one\r\n\ntwo\nthr")
        assert [next(lines) for _ in range(3)] == ["one", "two", None]
        producer.write(b"ee\nfour")
        producer.close()
        assert list(lines) == ["three", "four"]


def test_a_reader_that_has_enough_ends_it_quietly(process: subprocess.Popen[bytes], photos: Path) -> None:
    assert process.stdin
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline() == b"path,label,probability,exit\n"
    assert process.stdout.readline().startswith(str(photos / "a.png").encode())
    process.stdout.close()
    process.stdin.write(f"{photos / 'a.png'}\n".encode() * 20)
    process.stdin.close()
    assert (process.wait(30), process.stderr.read()) == (0, b"")


def test_interrupted_it_leaves_whole_lines(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin
    assert process.stdout
    assert process.stderr
    lines = [process.stdout.readline() for _ in range(20)]
    process.send_signal(signal.SIGINT)
    lines += process.stdout.read().splitlines(keepends=True)
    assert process.wait(30) == 128 + signal.SIGINT
    assert all(line.endswith(b"\n") and line.count(b",") == 3 for line in lines)
    count = len(lines) - 1
    said = process.stderr.read().decode()
    assert said == f"compress: interrupted; {count} images were predicted; the lines written are whole\n"
