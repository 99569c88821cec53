"""Data sets opened by name: the bundled one, small files in the published layouts, and data that are missing."""

import gzip
import hashlib
import logging
import pickle
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torchvision import datasets

from compress.data import available, catalogue, open_dataset, readers, sets
from compress.data.readers import read_fashion_mnist
from compress.data.sets import CIFAR10_CLASSES
from compress.errors import UsageError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
needs_debian = pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")


@pytest.fixture(autouse=True)
def empty_computer(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hide all data sets and the network, so that every download fails at once; return the cache."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.delenv("COMPRESS_DATA", raising=False)
    for module in (catalogue, sets):
        monkeypatch.setattr(module, "DEBIAN", cache / "nowhere")

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    return cache / "multiway-compress"


def complaint(name: str, **options: Any) -> str:
    with pytest.raises(UsageError) as error:
        open_dataset(name, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_fashion_mnist(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Small idx files, and no digest to compare them with."""
    folder.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    arrays = {
        "train-images-idx3-ubyte": images,
        "train-labels-idx1-ubyte": np.arange(20, dtype=np.uint8) % 10,
        "t10k-images-idx3-ubyte": images[:10] // 2,
        "t10k-labels-idx1-ubyte": np.arange(10, dtype=np.uint8),
    }
    for name, array in arrays.items():
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
        (folder / f"{name}.gz").write_bytes(gzip.compress(header + array.tobytes()))
    monkeypatch.delitem(sets._DIGESTS, "fashion-mnist")
    return arrays


def write_cifar(folder: Path, monkeypatch: pytest.MonkeyPatch, *, classes: int) -> dict[str, np.ndarray]:
    """Small batch files, with the published md5 sums replaced by theirs; returns the pixels by file name."""
    published = readers.CIFAR[classes]
    folder = folder / published.folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = {}

    def written(names: Iterable[str]) -> dict[str, str]:
        for name in names:
            pixels[name] = rng.integers(0, 256, (classes, 3072), dtype=np.uint8)
            (folder / name).write_bytes(pickle.dumps({"data": pixels[name], published.labels: list(range(classes))}))
        return {name: md5(folder / name) for name in names}

    train, test = written(published.train), written(published.test)
    names = CIFAR10_CLASSES if classes == 10 else tuple(f"class {i}" for i in range(classes))
    meta, _, key = published.names
    (folder / meta).write_bytes(pickle.dumps({key: list(names)}))
    small = replace(published, train=train, test=test, names=(meta, md5(folder / meta), key))
    monkeypatch.setitem(readers.CIFAR, classes, small)
    return pixels


@pytest.mark.parametrize("classes", [10, 100])
def test_the_md5_sums_are_those_that_torchvision_knows(classes: int) -> None:
    theirs, ours = {10: datasets.CIFAR10, 100: datasets.CIFAR100}[classes], readers.CIFAR[classes]
    assert ours.folder == theirs.base_folder
    assert list(ours.train.items()) == list(map(tuple, theirs.train_list))
    assert list(ours.test.items()) == list(map(tuple, theirs.test_list))
    assert ours.names == (theirs.meta["filename"], theirs.meta["md5"], theirs.meta["key"])


def write_svhn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Two small .mat files (labels 1 to 10, where 10 is the digit 0); returns the training pixels (32, 32, 3, N)."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    pixels = {part: rng.integers(0, 256, (32, 32, 3, 10), dtype=np.uint8) for part in ("train", "test")}
    table = dict(datasets.SVHN.split_list)
    for part, array in pixels.items():
        path = folder / f"{part}_32x32.mat"
        scipy.io.savemat(path, {"X": array, "y": np.arange(1, 11)[:, None]})
        table[part] = [*table[part][:2], md5(path)]
    monkeypatch.setattr(datasets.SVHN, "split_list", table)
    return pixels["train"]


def write_class_folders(folder: Path, classes: tuple[str, ...] = CIFAR10_CLASSES, size: int = 32) -> None:
    for part in ("train", "test"):
        for value, name in enumerate(classes):
            (folder / part / name).mkdir(parents=True)
            Image.new("RGB", (size, size), (value, 0, 0)).save(folder / part / name / "0000.png")


# ---- the bundled set ----


def test_the_bundled_set_is_balanced_and_needs_nothing() -> None:
    data = open_dataset("fashion-mini", download=False)
    assert (data.name, data.copy, data.input_shape) == ("fashion-mini", "bundled", (1, 28, 28))
    assert data.classes[0] == "T-shirt/top"
    assert data.train.labels.bincount().tolist() == [600] * 10
    assert data.test.labels.bincount().tolist() == [200] * 10
    assert data.augmentable
    assert data.normalisation is None
    assert data.digest == sets._DIGESTS["fashion-mini"]


@needs_debian
def test_the_bundled_set_is_made_from_the_official_files() -> None:
    bundled = np.load(Path(sets.__file__).with_name("fashion_mini.npz"), allow_pickle=False)
    whole = read_fashion_mnist(DEBIAN)
    for part, labelled, count in (("train", whole.train, 600), ("test", whole.test, 200)):
        first = [(labelled.labels == label).nonzero()[:count, 0] for label in range(10)]
        chosen = labelled.subset(torch.cat(first).sort().values)
        np.testing.assert_array_equal(bundled[f"{part}_images"], chosen.images[:, 0].numpy())
        np.testing.assert_array_equal(bundled[f"{part}_labels"], chosen.labels.byte().numpy())


# ---- whole copies ----


@needs_debian
def test_debians_fashion_mnist_is_the_official_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (catalogue, sets):
        monkeypatch.setattr(module, "DEBIAN", DEBIAN)
    data = open_dataset("fashion-mnist")  # its digest is compared
    assert data.copy == "Debian dataset-fashion-mnist"
    assert (len(data.train), len(data.test)) == (60_000, 10_000)


@pytest.mark.parametrize("folder", [".", "fashion-mnist", "FashionMNIST/raw"])
def test_fashion_mnist_from_idx_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    arrays = write_fashion_mnist(tmp_path / folder, monkeypatch)
    data = open_dataset("fashion-mnist", data_dir=tmp_path)
    assert data.copy == "idx files"
    np.testing.assert_array_equal(data.train.images[:, 0].numpy(), arrays["train-images-idx3-ubyte"])
    np.testing.assert_array_equal(data.test.images[:, 0].numpy(), arrays["t10k-images-idx3-ubyte"])
    assert data.test.labels.tolist() == list(range(10))


@pytest.mark.parametrize("classes", [10, 100])
def test_cifar_from_batch_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: int) -> None:
    pixels = write_cifar(tmp_path, monkeypatch, classes=classes)
    data = open_dataset(f"cifar{classes}", data_dir=tmp_path)
    assert (data.copy, len(data.classes), data.input_shape) == ("torchvision files", classes, (3, 32, 32))
    first = pixels["data_batch_1" if classes == 10 else "train"]
    np.testing.assert_array_equal(data.train.images[:classes].reshape(classes, -1).numpy(), first)
    assert data.train.images.is_contiguous()
    assert data.train.labels[:classes].tolist() == list(range(classes))
    assert data.augmentable
    assert data.normalisation is not None
    assert data.normalisation.mean == {10: (0.4914, 0.4822, 0.4465), 100: (0.5071, 0.4867, 0.4408)}[classes]


def test_svhn_from_mat_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = write_svhn(tmp_path / "svhn", monkeypatch)
    data = open_dataset("svhn", data_dir=tmp_path)
    np.testing.assert_array_equal(data.train.images.numpy(), pixels.transpose(3, 2, 0, 1))
    assert data.train.labels.tolist() == [*range(1, 10), 0]
    assert data.classes[0] == "0"
    assert not data.augmentable
    assert data.normalisation is not None
    assert (data.normalisation.mean, data.normalisation.std) == ((0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize("folder", [".", "cifar10-images"])
def test_cifar10_from_class_folders(tmp_path: Path, folder: str, caplog: pytest.LogCaptureFixture) -> None:
    write_class_folders(tmp_path / folder)
    with caplog.at_level(logging.WARNING, logger="compress"):
        data = open_dataset("cifar10", data_dir=tmp_path)
    assert (data.copy, data.classes) == ("class folders", CIFAR10_CLASSES)
    assert data.train.images[:, 0, 0, 0].tolist() == data.train.labels.tolist() == list(range(10))
    assert "only a part of CIFAR-10: 10 training and 10 test images" in caplog.text


# ---- where they are looked for ----


def test_places_are_searched_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_computer: Path
) -> None:
    given, environment = tmp_path / "given", tmp_path / "environment"
    for place in (given, environment, empty_computer):
        write_class_folders(place / "cifar10")
    monkeypatch.setenv("COMPRESS_DATA", str(environment))

    def found(data_dir: Path | None) -> str:
        return next(row.where for row in available(data_dir) if row.name == "cifar10")

    assert found(given) == str(given / "cifar10")
    assert found(None) == str(environment / "cifar10")
    monkeypatch.delenv("COMPRESS_DATA")
    assert found(None) == str(empty_computer / "cifar10")


def test_a_download_ends_up_in_the_cache_or_leaves_no_trace_of_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_computer: Path
) -> None:
    assert "no network" in complaint("svhn")
    whole = write_svhn(tmp_path, monkeypatch)

    def fetch(url: str, root: Path, filename: str, md5: str) -> None:
        assert Path(root) != empty_computer / "svhn"
        Path(root).mkdir(exist_ok=True)
        (Path(root) / filename).write_bytes((tmp_path / filename).read_bytes())

    monkeypatch.setattr("torchvision.datasets.svhn.download_url", fetch)
    data = open_dataset("svhn")
    np.testing.assert_array_equal(data.train.images.numpy(), whole.transpose(3, 2, 0, 1))
    assert (empty_computer / "svhn" / "test_32x32.mat").exists()


def test_available_says_where_and_how_without_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train" / "airplane").mkdir(parents=True)  # nothing in it: reading would fail
    rows = {row.name: row for row in available(tmp_path)}
    assert list(rows) == [*catalogue.NAMES, "folder:PATH"]
    assert (rows["fashion-mini"].where, rows["fashion-mini"].how) == ("bundled", "")
    assert (rows["cifar10"].where, rows["cifar10"].how) == (str(tmp_path), "")
    for name in ("fashion-mnist", "cifar100", "svhn"):
        assert rows[name].where == "not here"
        assert "DIR" in rows[name].how
        assert "\n" not in rows[name].how


def test_averaged_images_are_the_rounded_means_of_their_squares(tmp_path: Path) -> None:
    write_class_folders(tmp_path, CIFAR10_CLASSES, 32)
    pixels = np.random.default_rng(0).integers(256, size=(32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "train" / CIFAR10_CLASSES[0] / "0000.png")
    whole, small = (open_dataset(name, data_dir=tmp_path) for name in ("cifar10", "cifar10-16x16"))
    means = np.rint(pixels.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3)))
    np.testing.assert_array_equal(small.train.images[0].permute(1, 2, 0).numpy(), means)
    assert torch.equal(small.test.labels, whole.test.labels)
    assert (small.input_shape, small.name, small.normalisation) == ((3, 16, 16), "cifar10-16x16", None)
    assert small.digest != whole.digest


# ---- errors ----


def test_unknown_names_get_a_suggestion(tmp_path: Path) -> None:
    assert complaint("CIFAR-10").startswith("unknown data set 'CIFAR-10': did you mean 'cifar10'?")
    assert complaint(str(tmp_path)).endswith(f"to read it as class folders, say folder:{tmp_path}")


def test_folders_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = tmp_path / "nowhere"
    assert complaint(f"folder:{nowhere}").startswith(f"folder:{nowhere} is not a folder")
    assert complaint("folder:").startswith("folder: is not a folder")
    assert complaint("cifar10", data_dir=nowhere).startswith(f"--data-dir {nowhere} is not a folder")
    monkeypatch.setenv("COMPRESS_DATA", str(nowhere))
    assert complaint("cifar10").startswith(f"$COMPRESS_DATA {nowhere} is not a folder")


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10", "cifar100", "svhn"])
def test_data_that_cannot_be_had_come_with_instructions(name: str, empty_computer: Path) -> None:
    assert complaint(name, download=False).startswith(f"{name} is not in {empty_computer}; to get it: ")
    failed = complaint(name)
    assert failed.startswith(f"{name} is not here and cannot be downloaded (")
    assert "no network" in failed
    assert "by hand: " in failed


def test_truncated_fashion_mnist_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fashion_mnist(tmp_path, monkeypatch)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])
    message = complaint("fashion-mnist", data_dir=tmp_path)
    assert message.startswith(f"{path} is missing, cut short or damaged")
    assert "apt-get install dataset-fashion-mnist" in message
    path.unlink()
    assert complaint("fashion-mnist", data_dir=tmp_path).startswith(f"{path} is missing")


def test_other_data_in_the_same_layout_are_not_fashion_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fashion_mnist(tmp_path, monkeypatch)
    monkeypatch.setitem(sets._DIGESTS, "fashion-mnist", "0" * 64)  # as for MNIST: its files have the same names
    assert complaint("fashion-mnist", data_dir=tmp_path).startswith("fashion-mnist (idx files) is not what was")


@pytest.mark.parametrize("classes", [10, 100])
def test_damaged_cifar_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: int) -> None:
    write_cifar(tmp_path, monkeypatch, classes=classes)
    folder = tmp_path / {10: "cifar-10-batches-py", 100: "cifar-100-python"}[classes]
    with (folder / {10: "data_batch_3", 100: "train"}[classes]).open("ab") as file:
        file.write(b"x")
    message = complaint(f"cifar{classes}", data_dir=tmp_path)
    assert message.startswith(f"files in {folder} are missing or damaged")
    assert f"cifar-{classes}-python.tar.gz" in message


@pytest.mark.parametrize(("classes", "size"), [(("airplane", "boat"), 32), (CIFAR10_CLASSES, 16)])
def test_other_class_folders_are_not_cifar10(tmp_path: Path, classes: tuple[str, ...], size: int) -> None:
    write_class_folders(tmp_path, classes, size)
    assert complaint("cifar10", data_dir=tmp_path).startswith(f"{tmp_path} has class folders, but not CIFAR-10's")


def test_damaged_svhn_is_named_and_nothing_is_downloaded_over_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_svhn(tmp_path, monkeypatch)
    (tmp_path / "train_32x32.mat").write_bytes(b"cut short")
    monkeypatch.setattr(datasets.SVHN, "download", lambda _: pytest.fail("must not download"))
    message = complaint("svhn", data_dir=tmp_path)
    assert message.startswith(f"files in {tmp_path} are missing or damaged")
    assert "http://ufldl.stanford.edu/housenumbers" in message
