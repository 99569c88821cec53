"""Run directories: finding, reading, locking and atomic writing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from compress import Place
from compress.data import Dataset
from compress.errors import UsageError
from compress.networks import Network, create
from compress.networks.foreign import zoo
from compress.recipes import Recipe
from compress.run_ids import directory_of, identify
from compress.runs import (
    LOCK,
    RECORD,
    WEIGHTS,
    Run,
    claimed,
    find_run,
    finished_runs,
    load,
    read_run,
    write_atomically,
)
from compress.training import train


@pytest.fixture(scope="module")
def trained(tiny: Dataset, brief: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train("resnet8", tiny, recipe=brief, place=Place(runs=tmp_path_factory.mktemp("trained")))


@pytest.fixture
def run(trained: Run, tmp_path: Path) -> Run:
    """A finished run of the test's own, which it may spoil."""
    return read_run(shutil.copytree(trained.path, tmp_path / trained.id))


def rewrite(run: Run, **fields: object) -> None:
    path = run.path / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_run_is_found_by_path_by_id_and_by_an_unambiguous_beginning(run: Run, tmp_path: Path) -> None:
    for name in (run.path, str(run.path), run.id, "resnet8_"):
        assert find_run(name, tmp_path).record == run.record


def test_what_is_not_a_run_is_refused_with_the_nearest_one(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"did you mean '{run.id}'"):
        find_run(run.id[:-1] + "x", tmp_path)
    with pytest.raises(UsageError, match="there are none yet"):
        find_run("resnet8", tmp_path / "elsewhere")


def test_an_ambiguous_beginning_is_refused(run: Run, tiny: Dataset, brief: Recipe, tmp_path: Path) -> None:
    train("resnet8", tiny, recipe=brief, seed=1, place=Place(runs=tmp_path))
    with pytest.raises(UsageError, match="several begin so"):
        find_run("resnet8", tmp_path)


@pytest.mark.parametrize(("schema", "mend"), [(1, "run it again"), (3, "upgrade")])
def test_another_schema_is_refused(schema: int, mend: str, run: Run, tmp_path: Path) -> None:
    rewrite(run, schema_version=schema, invented="then")
    with pytest.raises(UsageError, match=f"has schema {schema}, this version reads 2: {mend}"):
        find_run(run.id, tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '"text"', "{}", '{"schema_version": 2}', '{"schema_version": "x"}'])
def test_a_corrupt_record_is_refused_in_one_line(content: str, run: Run, tmp_path: Path) -> None:
    (run.path / "run.json").write_text(content)
    with pytest.raises(UsageError, match=r"run\.json is corrupt") as refused:
        find_run(run.id, tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "fields", [{"results": {}}, {"results": {"exits": []}}, {"spec": {}}, {"cost": {}}, {"data": {}}]
)
def test_a_finished_run_with_gaps_is_corrupt(fields: dict[str, object], run: Run, tmp_path: Path) -> None:
    rewrite(run, **fields)
    with pytest.raises(UsageError, match=r"run\.json is corrupt"):
        find_run(run.id, tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", r"is missing in .* \(a report's records have no weights\): .* run it again: compress train "),
        ("truncated", "is corrupt or does not fit"),
        ("another network's", "is corrupt or does not fit"),
    ],
)
def test_weights_that_do_not_fit_are_refused(damage: str, message: str, run: Run, tmp_path: Path) -> None:
    weights = run.path / "model.safetensors"
    if damage == "missing":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:2000])
    else:
        run.write_weights(create("resnet14", classes=10, input_shape=run.spec.input_shape))
    with pytest.raises(UsageError, match=message) as refused:
        load(run.id, runs=tmp_path)
    assert "\n" not in str(refused.value)


def test_a_run_that_is_not_finished_or_failed_is_refused_and_skipped_in_listings(run: Run, tmp_path: Path) -> None:
    rewrite(run, status="running")
    with pytest.raises(
        UsageError, match=r"running, not finished; to go on \(with --runs .*\): compress train --arch resnet8"
    ):
        load(run.id, runs=tmp_path)
    rewrite(run, status="failed", failure="the loss is not finite")
    with pytest.raises(UsageError, match="failed: the loss is not finite"):
        load(run.id, runs=tmp_path)
    (tmp_path / "foreign").mkdir()
    found, skipped = finished_runs(tmp_path)
    assert found == []
    assert len(skipped) == 2


def test_loading_gives_eval_mode_and_the_same_logits(run: Run, tmp_path: Path) -> None:
    network, again = load(run), load(run.id, runs=tmp_path)
    images = torch.randn(3, *run.spec.input_shape)
    assert not network.training
    assert torch.equal(network(images)[-1], again(images)[-1])


class Tied(nn.Module):
    """Two convolutions of one weight."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 8, 3), nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3))
        self.second[1].weight = self.second[0].weight
        self.classifier = nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.second(self.first(images)).mean((2, 3)))
        return logits


def test_weights_that_layers_share_are_written_and_read_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "_registered", {"tied": Tied})
    network = create("tied", input_shape=(1, 8, 8)).eval()
    run.write_weights(network)
    images = torch.randn(3, 1, 8, 8)
    again = Network(network.spec).eval()
    again.load_state_dict(safetensors.torch.load_file(run.path / WEIGHTS), strict=True)
    assert torch.equal(again(images)[-1], network(images)[-1])


# Holds what `claimed` does until its input ends; without the library, whose import takes seconds.
HOLD = "import filelock, sys\nwith filelock.FileLock(sys.argv[1]): print('held', flush=True), sys.stdin.read()"


def test_a_run_in_use_by_another_process_is_refused(run: Run, tiny: Dataset, brief: Recipe, tmp_path: Path) -> None:
    rewrite(run, status="running")
    command = [sys.executable, "-c", HOLD, str(run.path / LOCK)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="in use by another process"):
            train("resnet8", tiny, recipe=brief, place=Place(runs=tmp_path))
        process.communicate()
    assert train("resnet8", tiny, recipe=brief, place=Place(runs=tmp_path)).record.status == "finished"


def test_a_claimed_directory_without_content_goes_again(tmp_path: Path) -> None:
    with claimed(tmp_path / "runs" / "empty"):
        pass
    assert list((tmp_path / "runs").iterdir()) == []


def test_where_nothing_can_be_written_is_refused(tiny: Dataset, brief: Recipe, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(UsageError, match=r"cannot write to .*--runs"):
        train("resnet8", tiny, recipe=brief, place=Place(runs=tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "not a directory"


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "there"
    write_atomically(target, b"old")
    (tmp_path / "directory").mkdir()
    with pytest.raises(UsageError, match="untouched"):
        write_atomically(tmp_path / "directory", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["directory", "there"]


def test_the_id_depends_on_every_part_of_the_configuration() -> None:
    config = {"recipe": {"epochs": 5}, "seed": 0}
    first = identify("mwresnet44-5", "cifar10", 0, config)
    assert first == identify("mwresnet44-5", "cifar10", 0, dict(reversed(config.items())))
    assert first != identify("mwresnet44-5", "cifar10", 0, {"recipe": {"epochs": 6}, "seed": 0})
    assert first.startswith("mwresnet44-5_cifar10_s0_")
    assert len(first.rpartition("_")[2]) == 8


def test_a_run_keeps_its_directory_whatever_its_data_are_called(tmp_path: Path) -> None:
    config = {"data": "a digest"}
    new = directory_of(tmp_path, "resnet[8]", "photos", 0, config)
    assert new == tmp_path / identify("resnet[8]", "photos", 0, config)
    old = tmp_path / identify("resnet[8]", "folder-photos", 0, config)
    old.mkdir()
    assert directory_of(tmp_path, "resnet[8]", "photos", 0, config) == new  # nothing is recorded there
    (old / RECORD).touch()
    assert directory_of(tmp_path, "resnet[8]", "photos", 0, config) == old
    for other in (
        directory_of(tmp_path, "resnet8", "photos", 0, config),
        directory_of(tmp_path, "resnet[8]", "photos", 1, config),
        directory_of(tmp_path, "resnet[8]", "photos", 0, {"data": "another"}),
    ):
        assert other != old
    new.mkdir()
    (new / RECORD).touch()
    assert directory_of(tmp_path, "resnet[8]", "photos", 0, config) == new


def test_a_record_that_cannot_be_read_now_is_not_called_corrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is told to delete it would lose a colleague's run, or one on a disk that is slow to come back."""
    (tmp_path / RECORD).write_text("{}")
    refusal = OSError(5, "Input/output error")
    monkeypatch.setattr(Path, "read_bytes", Mock(side_effect=refusal))
    with pytest.raises(UsageError, match=f"^run {tmp_path}: cannot be read: Input/output error$"):
        read_run(tmp_path)
