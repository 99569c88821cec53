"""The data set of a run: found by its digest under any path, and refused if the images differ."""

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from compress import Place
from compress.data import open_dataset
from compress.data.division import DIVISION, Division
from compress.errors import UsageError
from compress.recipes import Recipe
from compress.runs import RECORD, Run, read_run
from compress.training import data_of, train
from compress.training.run_data import moved_since

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def trained(tiny_folder: Path, brief: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run beside its images, in a place of its own."""
    place = tmp_path_factory.mktemp("place")
    shutil.copytree(tiny_folder, place / "pictures")
    return train("resnet8", f"folder:{place / 'pictures'}", recipe=brief, place=Place(runs=place / "runs"))


@pytest.fixture
def place(trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that place, but for where the record says that the images are: nowhere; and a process elsewhere."""
    monkeypatch.delenv("COMPRESS_DATA", raising=False)
    shutil.copytree(trained.path.parent.parent, tmp_path / "place")
    named(tmp_path / "place", trained, "/gone/pictures")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "place"


def named(place: Path, run: Run, folder: str) -> Run:
    """The run in a place, its record with another path of its images."""
    path = place / "runs" / run.id
    record = json.loads((path / RECORD).read_text())
    record["data"]["name"] = f"folder:{folder}"
    (path / RECORD).write_text(json.dumps(record))
    return read_run(path)


def run_in(place: Path) -> Run:
    [path] = (place / "runs").iterdir()
    return read_run(path)


def test_records_and_commands_name_the_place_in_full(trained: Run) -> None:
    place = trained.path.parent.parent
    assert trained.record.data["name"] == f"folder:{place}/pictures"
    assert f"--dataset folder:{place}/pictures " in trained.record.command
    assert trained.record.data["preprocessing"]["orientation"] == "EXIF"
    assert trained.record.data["division"] is None
    assert data_of(trained).digest == trained.record.data["digest"]


@pytest.mark.parametrize("data_dir", [".", "pictures", "../place"])
def test_moved_images_are_found_by_their_digest(data_dir: str, place: Path) -> None:
    run = run_in(place)
    assert data_of(run, place / data_dir).name == f"folder:{place}/pictures"
    (place / "pictures").rename(place / "renamed")
    other = shutil.copytree(place / "renamed", place / "another")  # has the classes, but other images
    changed = next((other / "train").rglob("*.png"))
    Image.eval(Image.open(changed).copy(), lambda value: 255 - value).save(changed)
    assert data_of(run, place).name == f"folder:{place}/renamed"


def test_images_that_are_nowhere_or_others_are_refused(place: Path) -> None:
    run = run_in(place)
    with pytest.raises(UsageError, match=rf"^the images of run {run.id} are not found: folder:/gone/pictures is not a"):
        data_of(run)
    (place / "pictures" / "train").rename(place / "train")
    with pytest.raises(UsageError, match=r"not a folder, nor in .*; --data-dir says where to look for it$"):
        data_of(run, place / "runs")
    (place / "train").rename(place / "pictures" / "train")
    next((place / "pictures" / "train").rglob("*.png")).unlink()
    with pytest.raises(
        UsageError, match=rf"^run {run.id} was trained on other images than folder:.*digest .*, not .*-dir$"
    ):
        data_of(run, place)


def test_the_same_data_under_another_spelling_are_not_trained_on_again(
    place: Path, brief: Recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finished = run_in(place)
    monkeypatch.chdir(place / "pictures")
    for spelling in (".", "../pictures", "../pictures/"):
        assert train("resnet8", f"folder:{spelling}", recipe=brief, place=Place(runs=place / "runs")).id == finished.id
    shutil.copytree(place / "pictures", place / "copy")
    assert (
        train("resnet8", f"folder:{place / 'copy'}", recipe=brief, place=Place(runs=place / "runs")).id == finished.id
    )
    old = place / "runs" / finished.id.replace("_pictures_", "_folder-pictures_")  # as an earlier version called it
    finished.path.rename(old)
    assert train("resnet8", "folder:../pictures", recipe=brief, place=Place(runs=place / "runs")).id == old.name
    assert capsys.readouterr().err.count("finished before") == 5


def test_a_class_that_is_called_otherwise_now_is_told(place: Path, brief: Recipe) -> None:
    run = run_in(place)
    for part in ("train", "test"):
        first = min((place / "pictures" / part).iterdir())
        first.rename(first.with_name(f"{first.name}+"))
    with pytest.raises(
        UsageError, match=rf"run {run.id} was trained on the same images, with a class called 'Ankle boot', now"
    ):
        train("resnet8", f"folder:{place / 'pictures'}", recipe=brief, place=Place(runs=place / "runs"))


def test_other_data_are_another_run(place: Path, trained: Run) -> None:
    next((place / "pictures" / "train").rglob("*.png")).unlink()
    assert open_dataset(f"folder:{place / 'pictures'}").digest != trained.record.data["digest"]


def test_pruning_a_run_opens_its_images_where_they_are_now(place: Path, compress: Command) -> None:
    run = run_in(place)
    command = ["prune", "--from", run.path, "--speedup", "2", "--nearest", "--dry-run", "--epochs", "1"]
    status, _, err = compress(*command)
    assert (status, err.startswith(f"compress: the images of run {run.id} are not found: folder:/gone")) == (2, True)
    status, out, err = compress(*command, "--data-dir", place)
    assert status == 0, err
    assert "speedup 2" in out
    status, _, err = compress(*command, "--data-dir", place, "--image-size", "20")
    assert status == 2
    assert "--skip-unreadable, --split, --split-seed and --normalisation go with --dataset" in err


def test_a_recorded_command_goes_with_a_data_directory(place: Path, compress: Command) -> None:
    """From another directory, the images moved: it finds them, and the run."""
    run = run_in(place)
    words = run.record.command.replace(str(run.path), "").split()[1:]
    position = words.index("--dataset") + 1
    words[position] = "folder:/gone/pictures"
    status, _, err = compress(*words, "--data-dir", place, "--runs", place / "runs")
    assert status == 0, err
    assert "finished before" in err


SHARES = "60/10/30"


@pytest.fixture(scope="module", params=[False, True], ids=["memory", "streamed"])
def split(
    request: pytest.FixtureRequest, tiny_folder: Path, brief: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A run on flat class folders, in a place of its own."""
    place = tmp_path_factory.mktemp("place")
    shutil.copytree(tiny_folder / "train", place / "pictures")
    division = Division.asked(SHARES, 3)
    dataset = open_dataset(f"folder:{place / 'pictures'}", division=division, stream=request.param, workers=0)
    return train("resnet8", dataset, recipe=brief, place=Place(runs=place / "runs"))


@pytest.fixture
def flat(split: Run, tmp_path: Path) -> Path:
    """A copy of that place, but for where the record says that the images are: in the copy."""
    shutil.copytree(split.path.parent.parent, tmp_path / "flat")
    named(tmp_path / "flat", split, f"{tmp_path / 'flat' / 'pictures'}")
    return tmp_path / "flat"


def test_a_run_finds_its_images_again_after_others_came(
    flat: Path, tiny_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, runs, flat = run_in(flat), flat / "runs", flat / "pictures"
    stream, division = run.record.data["copy"].endswith("streamed"), Division.asked(SHARES, 3)
    dataset = open_dataset(f"folder:{flat}", division=division, stream=stream, workers=0)
    assert run.record.data["division"]["shares"] == {"train": 0.6, "test": 0.3, "val": 0.1}
    assert "--split 60/10/30 --split-seed 3" in run.record.command
    recorded = json.loads((run.path / DIVISION).read_text())["files"]
    assert {part: len(files) for part, files in recorded.items()} == {"train": 120, "test": 60, "val": 20}

    for image in (tiny_folder / "test").rglob("*.png"):
        shutil.copy(image, flat / image.parent.name / f"later-{image.name}")
    assert open_dataset(f"folder:{flat}", division=division).digest != dataset.digest
    with caplog.at_level(logging.WARNING, logger="compress"):
        assert data_of(run, workers=0).digest == dataset.digest
    assert "100 that came after the split was recorded" in caplog.text
    more = open_dataset(f"folder:{flat}", division=str(run.path))
    assert more.divided is not None
    assert {content: part for part, files in recorded.items() for content in files}.items() <= more.divided.items()
    assert len(more.divided) == 300
    assert more.options == ("--split", str(run.path / DIVISION))
    said = moved_since(open_dataset(f"folder:{flat}", division=division), runs) or ""
    found = re.fullmatch(
        rf"{dataset.name} is divided otherwise than for run {run.id}, as its files changed: (\d+) of 200 images are in "
        rf"another part now; --split {run.path} keeps them in theirs",
        said,
    )
    assert found is not None, said
    assert 0 < int(found[1]) < 100
    for same in (dataset, more, open_dataset(f"folder:{flat}"), open_dataset("fashion-mini")):  # as before, or as asked
        assert moved_since(same, runs) is None
    assert moved_since(dataset, flat / "none") is None


def first_of(pictures: Path) -> Path:
    return min(pictures.rglob("*.png"))


def broken(path: Path) -> None:
    path.write_text("no picture")


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


LATER: dict[str, Callable[[Path], object]] = {
    "a broken file": lambda root: broken(first_of(root).with_name("later.png")),
    "another size": lambda root: Image.new("L", (5, 9)).save(first_of(root).with_name("later.png")),
    "colours": lambda root: Image.new("RGB", (28, 28), "red").save(first_of(root).with_name("later.png")),
    "a class": lambda root: Image.new("L", (28, 28), 9).save(root / "later" / "later.png"),
    "a class of a broken file": lambda root: broken(root / "later" / "later.png"),
    "a class of copies": lambda root: shutil.copy(first_of(root), root / "later" / "later.png"),
}


@pytest.mark.parametrize("what", LATER)
def test_whatever_comes_later_is_left_out_and_counted(what: str, flat: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = run_in(flat)
    (flat / "pictures" / "later").mkdir()
    LATER[what](flat / "pictures")
    [name] = [path.relative_to(flat / "pictures") for path in flat.rglob("later.png")]
    with caplog.at_level(logging.WARNING, logger="compress"):
        dataset = data_of(run, workers=0)
    assert dataset.digest == run.record.data["digest"]
    assert list(dataset.classes) == run.record.data["classes"]
    assert (dataset.input_shape, dataset.skipped) == (run.spec.input_shape, "broken" in what)
    why = "unreadable" if "broken" in what else "that came after the split was recorded"
    [line] = [line for line in caplog.messages if "not used" in line]
    assert f" 1 {why} ({name})" in line
    assert caplog.messages == [line]
    (flat / "pictures").rename(flat / "moved")
    assert data_of(run, flat, workers=0).name == f"folder:{flat / 'moved'}"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (broken, r"; {file} cannot be read as an image \(of no format that Pillow reads\)$"),
        (cut_short, r"; {file} cannot be read as an image \([^;]*$"),
        (lambda path: Image.new("L", (28, 28), 9).save(path), r"; files that were not recorded: 1, such as {name}$"),
        (Path.unlink, r"$"),
    ],
    ids=["broken", "cut short", "another image", "missing"],
)
def test_a_recorded_file_that_is_damaged_or_missing_is_an_error(
    change: Callable[[Path], object], named: str, flat: Path
) -> None:
    run, file = run_in(flat), first_of(flat / "pictures")
    content = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    change(file)
    named = named.format(file=file, name=file.relative_to(flat / "pictures"))
    what = f"the images of run {run.id} are not found: {flat}/pictures lacks 1 of 200 images of the recorded split"
    with pytest.raises(UsageError, match=f"^{what}, such as the one of SHA-256 {content}{named}"):
        data_of(run, workers=0)


def test_a_damaged_file_is_no_reason_to_advise_what_only_trainings_can_do(place: Path) -> None:
    broken(file := first_of(place / "pictures"))
    with pytest.raises(UsageError, match=rf": {file} cannot be read as an image \(of no format that Pillow reads\)$"):
        data_of(run_in(place), place)
    with pytest.raises(UsageError, match=r"; --skip-unreadable leaves such files out$"):
        open_dataset(f"folder:{place / 'pictures'}")
