"""Training in several processes, started by torchrun on the CPU, takes the same steps as in a single process."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from compress.cli.app import main
from compress.errors import UsageError
from compress.networks import Network, spec_of
from compress.runs import read_run
from compress.training.batchnorm import synchronise
from compress.training.distributed import World, current_world, joined
from tests.training.torchrun_worker import steps

WORKER = Path(__file__).with_name("torchrun_worker.py")
ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


def torchrun(*program: str | Path) -> subprocess.Popen[str]:
    """Two processes of a program, under torchrun; --standalone looks for a free port."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [*launcher, *map(str, program)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def everything(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What two processes leave behind and say on stderr, having done everything that the worker knows."""
    out = tmp_path_factory.mktemp("two")
    process = torchrun(WORKER, "everything", tiny_folder, out)
    _, errors = process.communicate()
    assert process.returncode != 0
    return out, errors


def test_two_processes_take_the_same_steps_as_one(
    everything: tuple[Path, str], tiny_folder: Path, tmp_path: Path
) -> None:
    out, errors = everything
    steps(tiny_folder, tmp_path)
    for dtype, tolerance, of_statistics in (("float64", 1e-12, 1e-12), ("float32", 1e-5, 1e-4)):
        alone = torch.load(tmp_path / f"rank0-{dtype}.pt")
        first, second = (torch.load(out / f"rank{rank}-{dtype}.pt") for rank in (0, 1))
        assert first["network"].keys() == alone["network"].keys()
        for name, value in alone["network"].items():
            tolerated = of_statistics if "running" in name else tolerance
            torch.testing.assert_close(first["network"][name], value, rtol=tolerated, atol=tolerated, msg=name)
        torch.testing.assert_close(first["line"], alone["line"], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert errors.count("five steps: epoch 1/1") == 2  # a training each; rank 0 alone speaks
    assert "Warning" not in errors


def test_a_killed_process_ends_the_job_and_the_same_command_goes_on(tiny_folder: Path, tmp_path: Path) -> None:
    process = torchrun(WORKER, "whole_and_again", tiny_folder, tmp_path)
    while not list(tmp_path.glob("again/*/checkpoint/last.pt")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)
    os.kill(int((tmp_path / "pid1").read_text()), signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode != 0
    assert "Signal 9 (SIGKILL)" in errors
    # Where torchrun has not ended the other process first, that says what it found.
    said = [line for line in errors.splitlines() if line.startswith("worker: ")]
    assert all(line.startswith("worker: another process of this job ended early") for line in said)
    assert len(said) <= 1
    assert "Traceback" not in errors.partition("Sending process")[0].partition("failed (exitcode")[0]  # torchrun's own
    [path] = (tmp_path / "again").iterdir()
    assert read_run(path).record.status == "running"

    options = ["--arch", "resnet8", "--exits", "2", "--epochs", "3", "--precision", "fp32", "--json"]
    place = ["--dataset", f"folder:{tiny_folder}", "--runs", str(tmp_path / "again")]
    command = torchrun("-m", "compress", "train-mwbp", *options, *place)
    out, errors = command.communicate()
    assert command.returncode == 0, errors
    assert errors.count("going on with") == 1
    assert len(json.loads(out)["runs"]) == 1
    assert read_run(path).record.environment["world_size"] == 2
    for name in ("model.safetensors", "predictions.npz"):
        assert (path / name).read_bytes() == (tmp_path / "whole" / path.name / name).read_bytes()
    assert [json.loads(line)["epoch"] for line in (path / "metrics.jsonl").read_text().splitlines()] == [1, 2, 3]


def test_all_processes_fail_alike_and_one_of_them_says_why(everything: tuple[Path, str]) -> None:
    out, errors = everything
    assert errors.count("worker: ") == errors.count("worker: everything was tried") == 1
    first, second = ((out / f"rank{rank}.txt").read_text().splitlines() for rank in (0, 1))
    assert first == second
    unlike, diverged, again = first
    assert "rank 1 is to do run mwresnet8-2" in unlike
    assert "is not finite" in diverged
    assert "failed before: the loss is not finite" in again
    [path] = (out / "runs").iterdir()
    assert read_run(path).record.status == "failed"


@pytest.mark.parametrize(
    ("batch", "size", "hint"),
    [
        (48, 5, "use 4 or 6 processes, or a recipe with a batch of 45 or 50"),
        (4, 6, "use 4 processes, or a recipe with a batch of 6"),
    ],
)
def test_a_batch_that_does_not_split_evenly_is_refused(batch: int, size: int, hint: str) -> None:
    with pytest.raises(UsageError, match=f"batch of {batch} images .* {size} processes: {hint}"):
        World(size=size).check_batch(batch)
    World(size=batch).check_batch(batch)


def test_the_sequential_update_is_refused_in_several_processes() -> None:
    World().check_update("sequential")
    World(size=2).check_update("simultaneous")
    with pytest.raises(UsageError, match="several backward passes of one forward pass"):
        World(size=2).check_update("sequential")


def test_a_named_gpu_is_refused_in_several_processes() -> None:
    World().check_device(torch.device("cuda:1"))
    World(size=2).check_device(CPU)
    with pytest.raises(UsageError, match="use --device cuda"):
        World(size=2).check_device(torch.device("cuda:1"))


def test_a_command_that_does_not_train_is_refused_in_several_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr("compress.training.distributed.joined", lambda: contextlib.nullcontext(World(size=2)))
    assert main(["bench", "some-run"]) == 2
    assert capsys.readouterr().err == "compress: bench runs in one process; under torchrun: train, train-mwbp, prune\n"


def test_without_torchrun_there_is_a_world_of_one_that_changes_nothing() -> None:
    network = Network(spec_of("resnet8"))
    with joined() as world:
        assert world == current_world() == World()
        assert world.parallel(network, CPU) is network
    batch = torch.arange(6)
    assert world.share(batch) is batch or torch.equal(world.share(batch), batch)
    assert world.on_leader(lambda: 7) == 7


def test_shares_are_a_batch() -> None:
    batch = torch.arange(6)
    assert torch.equal(torch.cat([World(rank=rank, size=3).share(batch) for rank in range(3)]), batch)


def test_a_batch_norm_of_another_kind_is_refused() -> None:
    class Activated(torch.nn.BatchNorm2d):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input).relu()

    with pytest.raises(UsageError, match=r"0 \(Activated\) is no batch norm of torch's"):
        synchronise(torch.nn.Sequential(Activated(3)), CPU)
