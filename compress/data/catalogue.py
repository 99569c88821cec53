"""The catalogue of data sets: their names, the places where their files are looked for, and how to get them.

Nothing here reads an image or imports torch, so that a command can refuse a wrong name at once.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from compress.data.division import Division
from compress.errors import UsageError, checked, nearest
from compress.home import homeless, own_place

FOLDER = "folder:"  # begins the name of a data set of the user's own: class folders
BUNDLED = "fashion-mini"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
EXPECTED = (
    "expected train/CLASS/*, test/CLASS/* and, optionally, val/CLASS/*; or CLASS/* alone, of at least two classes, "
    "which are then split"
)
LARGEST_SIZE = 8192  # pixels that images are resized to
WORKERS_PER_CORE = 4  # at most: each is a process that imports torch

_log = logging.getLogger("compress")


@dataclass(frozen=True, kw_only=True)
class Availability:
    """One line of `compress data`: ``where`` a data set is (a path, "bundled" or "not here") and ``how`` to get it."""

    name: str
    what: str
    where: str
    how: str


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published data set.

    Attributes:
        what: number, size and kind of its images.
        folders: where its files may lie, relative to a place such as the data directory.
        layouts: the path, in its folder, that identifies each layout of its files, and what that is called.
        torchvision: the class of torchvision.datasets that downloads it.
        by_hand: how to get it without a download.
        augmentable: whether padding, cropping and mirroring keep the labels.
        mean, std: published constants for normalising each channel; empty: none.
    """

    what: str
    folders: tuple[str, ...]
    layouts: dict[str, str]
    torchvision: str
    by_hand: str
    augmentable: bool = True
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


TORCHVISION_FILES, CLASS_FOLDERS, IDX_FILES = "torchvision files", "class folders", "idx files"
_THEN = "and name DIR with --data-dir or $COMPRESS_DATA"
PUBLISHED = {
    "fashion-mnist": Published(
        what="60,000 + 10,000 images, 28x28 grey, 10 classes",
        folders=("fashion-mnist", "FashionMNIST/raw", "fashion-mnist/FashionMNIST/raw", "."),
        layouts={"train-images-idx3-ubyte": IDX_FILES, "train-images-idx3-ubyte.gz": IDX_FILES},
        torchvision="FashionMNIST",
        by_hand="apt-get install dataset-fashion-mnist, or put the four files of "
        f"https://github.com/zalandoresearch/fashion-mnist into DIR/fashion-mnist {_THEN}",
    ),
    "cifar10": Published(
        what="50,000 + 10,000 images, 32x32 colour, 10 classes",
        folders=(".", "cifar10", "cifar10-images"),
        layouts={"cifar-10-batches-py": TORCHVISION_FILES, "train/airplane": CLASS_FOLDERS},
        torchvision="CIFAR10",
        by_hand="unpack https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz in DIR (or put class folders "
        f"train/airplane/*, ... into DIR/cifar10) {_THEN}",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    ),
    "cifar100": Published(
        what="50,000 + 10,000 images, 32x32 colour, 100 classes",
        folders=(".", "cifar100"),
        layouts={"cifar-100-python": TORCHVISION_FILES},
        torchvision="CIFAR100",
        by_hand=f"unpack https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz in DIR {_THEN}",
        mean=(0.5071, 0.4867, 0.4408),
        std=(0.2675, 0.2557, 0.2761),
    ),
    "svhn": Published(
        what="73,257 + 26,032 images (without `extra`), 32x32 colour, 10 digits",
        folders=(".", "svhn"),
        layouts={"train_32x32.mat": TORCHVISION_FILES},
        torchvision="SVHN",
        by_hand=f"put train_32x32.mat and test_32x32.mat of http://ufldl.stanford.edu/housenumbers into DIR {_THEN}",
        augmentable=False,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    ),
}
# Data sets made from a published one: its name, and the side of the square of pixels that becomes one, their average.
AVERAGED = {"cifar10-16x16": ("cifar10", 2)}
NAMES = (BUNDLED, *PUBLISHED, *AVERAGED)


@checked
def available(data_dir: Path | None = None) -> list[Availability]:
    """Return a line for every data set, having looked for its files without reading them."""
    mini = "6,000 + 2,000 images of Fashion-MNIST, class-balanced"
    own = (
        "class folders of your own: train/CLASS/*, test/CLASS/*, optionally val/CLASS/*; or CLASS/* alone, to be split"
    )
    rows = [Availability(name=BUNDLED, what=mini, where="bundled", how="")]
    places = search_places(data_dir)
    for name, published in PUBLISHED.items():
        found = find_copy(published, places)
        where, how = (str(found[0]), "") if found else ("not here", f"downloaded on first use, or {published.by_hand}")
        rows.append(Availability(name=name, what=published.what, where=where, how=how))
    for name, (source, side) in AVERAGED.items():
        whole = next(row for row in rows if row.name == source)
        rows.append(replace(whole, name=name, what=f"{source}, each {side}x{side} pixels averaged to one"))
    return [*rows, Availability(name=f"{FOLDER}PATH", what=own, where="PATH", how="")]


def check_request(
    name: str,
    *,
    data_dir: Path | None = None,
    image_size: int | None = None,
    stream: bool | None = None,
    skip_unreadable: bool = False,
    workers: int | None = None,
    division: Division | None = None,
) -> None:
    """Refuse arguments of ``open_dataset`` that cannot be right, without reading any image.

    Raises:
        UsageError: an unknown name, options that do not fit it, a number out of range, or a folder that is not there.
    """
    search_places(data_dir)
    if name.startswith(FOLDER):
        for option, value, least, most in (
            ("--image-size", image_size, 1, LARGEST_SIZE),
            ("--workers", workers, 0, WORKERS_PER_CORE * (os.cpu_count() or 1)),
        ):
            if value is not None and not least <= value <= most:
                raise UsageError(f"{option} must be {least} or more, here {most} at most, not {value}")
        find_folder(name, data_dir, announce=False)
        return
    if name not in NAMES:
        if os.path.isdir(os.path.expanduser(name)):
            raise UsageError(f"unknown data set {name!r}: to read it as class folders, say folder:{name}")
        raise UsageError(f"unknown data set {name!r}: {nearest(name, [*NAMES, f'{FOLDER}PATH'])}")
    if image_size is not None:
        raise UsageError(f"--image-size is for folder:PATH; the images of {name} come in one size")
    if division and division != Division():
        raise UsageError(f"--split and --split-seed are for folder:PATH without parts; {name} has its own")
    if stream or skip_unreadable:
        option = "--stream" if stream else "--skip-unreadable"
        raise UsageError(f"{option} is for folder:PATH; {name} is read into memory, whole")


def cache_directory() -> Path:
    """Return the user's cache directory, which may not exist yet; all that is kept there can be had again."""
    home = own_place() if homeless() else Path.home()
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "multiway-compress"


def search_places(data_dir: Path | None) -> list[Path]:
    """Return the directories where data sets are looked for, first to last.

    Raises:
        UsageError: ``data_dir`` or ``$COMPRESS_DATA`` is not a directory.
    """
    places = []
    for place, source in ((data_dir, "--data-dir"), (os.environ.get("COMPRESS_DATA"), "$COMPRESS_DATA")):
        if place:
            places.append(Path(os.path.expanduser(place)))
            if not os.path.isdir(places[-1]):
                raise UsageError(f"{source} {place} is not a folder; name one that is there, or leave it out")
    return [*places, cache_directory()]


def find_copy(published: Published, places: Sequence[Path]) -> tuple[Path, str] | None:
    """Return the folder and the layout of the first copy that is there: by place, then by layout; None without any."""
    debian = [DEBIAN] if published.torchvision == "FashionMNIST" else []
    for place in [*places, *debian]:
        for sign, layout in published.layouts.items():
            for folder in published.folders:
                if (place / folder / sign).exists():
                    return place / folder, layout
    return None


def find_folder(name: str, data_dir: Path | None = None, *, announce: bool = True) -> Path:
    """Return the resolved path of "folder:PATH", the same for every spelling.

    A relative path is looked for in ``data_dir``, then in the working directory, then in ``$COMPRESS_DATA``. An
    absolute path that is not there any more is looked for by its last part in the same places. ``announce`` logs a
    path that differs from the one given.

    Raises:
        UsageError: there is no such folder.
    """
    given = Path(os.path.expanduser(name.removeprefix(FOLDER)))
    if given.parts[:1] and given.parts[0].startswith("~") and not given.is_dir():
        raise UsageError(f"{name}: there is no such home directory; give the path itself")
    elsewhere = os.environ.get("COMPRESS_DATA")
    candidates = [
        *([given] if given.is_absolute() else []),
        *(_in_place(given, Path(os.path.expanduser(data_dir))) if data_dir else []),
        given,
        *(_in_place(given, Path(os.path.expanduser(elsewhere))) if elsewhere else []),
    ]
    found = next((path for path in candidates if path.is_dir()), None) if name != FOLDER else None
    if found is None:
        also = f", nor in {data_dir}" if data_dir else ""
        raise UsageError(f"{name} is not a folder{also}; {EXPECTED}; --data-dir says where to look for it")
    if announce and found.resolve() != given.resolve():
        _log.warning("%s: reading %s", name, found.resolve())
    return found.resolve()


def check_own_images(name: str, data_dir: Path | None = None) -> None:
    """Refuse what ``--calibration`` cannot take, without reading an image.

    Raises:
        UsageError: it is not "folder:PATH", or there is no such folder.
    """
    if not name.startswith(FOLDER):
        raise UsageError(f"--calibration {name}: a folder of images, as in {FOLDER}PATH")
    try:
        find_folder(name, data_dir, announce=False)
    except UsageError as error:
        raise UsageError(f"--calibration {error}") from error


def _in_place(given: Path, place: Path) -> list[Path]:
    """Return what a path may be in another place: below it, in full or by its last part, or that place itself."""
    return [place / given, place / given.name, *([place] if place.resolve().name == given.name else [])]
