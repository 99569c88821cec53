"""Class folders as people have them: parts in usual spellings, or none; images in subfolders; what is not used."""

import os
from pathlib import Path

import pytest
from PIL import Image

from compress.data.class_folders import AGAIN, EMPTY, IMAGE_SUFFIXES, UNDIVIDED, list_class_folders
from compress.data.image_decoding import decode, opened
from compress.errors import UsageError


def write(root: Path, *names: str) -> Path:
    """Write image files, or empty ones where the suffix is no image's."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".png", ".jpg"):
            Image.new("L", (3, 2), len(name)).save(path)
        else:
            path.touch()
    return root


def complaint(root: Path) -> str:
    with pytest.raises(UsageError) as error:
        list_class_folders(root)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("train", "test", "val"),
    [("train", "test", "val"), ("Train", "TEST", "Valid"), ("training", "testing", "validation")],
)
def test_parts_have_their_usual_names_in_any_case(train: str, test: str, val: str, tmp_path: Path) -> None:
    write(tmp_path, *(f"{part}/{label}/1.png" for part in (train, test, val) for label in ("a", "b")))
    folders = list_class_folders(tmp_path)
    assert list(folders.files) == ["train", "test", "val"]
    assert folders.files["val"] == {"a": [f"{val}/a/1.png"], "b": [f"{val}/b/1.png"]}
    assert folders.classes == ("a", "b")
    assert (folders.flat, folders.unused, folders.what_is_unused()) == (False, {}, "all files are used")


def test_two_folders_for_one_part_are_one_too_many(tmp_path: Path) -> None:
    write(tmp_path, *(f"{part}/a/1.png" for part in ("train", "test", "val", "validation")))
    assert complaint(tmp_path) == f"{tmp_path}: both val/ and validation/ would be val images; leave one of them"


def test_images_in_subfolders_belong_to_their_class(tmp_path: Path) -> None:
    write(tmp_path, "train/a/2.png", "train/a/day/1.png", "train/a/day/dark/1.png", "test/a/x/1.png")
    (tmp_path / "train/a/day/round").symlink_to(tmp_path / "train/a")  # a circle
    (tmp_path / "train/a/more").symlink_to(write(tmp_path / "elsewhere", "3.png"))
    assert list_class_folders(tmp_path).files["train"]["a"] == [
        "train/a/2.png",
        "train/a/day/1.png",
        "train/a/day/dark/1.png",
        "train/a/more/3.png",
    ]


def test_what_is_not_used_is_counted_and_named(tmp_path: Path) -> None:
    write(tmp_path, "train/a/1.png", "test/a/1.png")
    write(tmp_path, "train/a/notes.txt", "train/a/sub/more.txt", "test/a/README", "test/a/.hidden.png", ".DS_Store")
    write(tmp_path, "extra/a/1.png", "extra/2.png", "extra/3.png", "labels.csv", "train/4.png")
    folders = list_class_folders(tmp_path)
    assert folders.names == ["train/a/1.png", "test/a/1.png"]
    assert folders.unused == {
        "with suffix .txt": ["train/a/notes.txt", "train/a/sub/more.txt"],
        "outside the class folders": ["labels.csv", "train/4.png"],
        "without a suffix": ["test/a/README"],
        "hidden": [".DS_Store", "test/a/.hidden.png"],
        "in extra/, which is no part": ["extra/2.png", "extra/3.png", "extra/a/1.png"],
    }
    write(tmp_path, "extra/4.png")
    line = list_class_folders(tmp_path).what_is_unused()
    assert line.startswith("not used: 4 in extra/, which is no part (extra/2.png, extra/3.png, extra/4.png, ...), 2 ")
    assert "2 hidden (.DS_Store, test/a/.hidden.png), " in line
    assert "\n" not in line


def test_class_folders_alone_are_not_divided_yet(tmp_path: Path) -> None:
    write(tmp_path, "mug/1.png", "leaf/1.png", "leaf/deep/2.png", "docs/how.txt", "notes.txt")
    folders = list_class_folders(tmp_path)
    assert folders.flat
    assert folders.classes == ("leaf", "mug")
    assert folders.names == ["leaf/1.png", "leaf/deep/2.png", "mug/1.png"]
    assert folders.unused == {
        "with suffix .txt": ["docs/how.txt"],
        "outside the class folders": ["notes.txt"],
        EMPTY: ["docs"],
    }


def test_a_flat_folder_without_images_is_named_one_of_a_part_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "flat", "leaf/1.png", "mug/1.png", "mug/2.gif", "mug/notes.txt", "mug/more.txt")
    (tmp_path / "flat" / "pot" / "deep").mkdir(parents=True)
    folders = list_class_folders(tmp_path / "flat")
    assert folders.classes == ("leaf", "mug")
    assert folders.what_is_unused().endswith(", 1 folder(s) without images (pot)")
    for part in ("train", "test"):
        write(tmp_path / "parted", f"{part}/leaf/1.png")
        (tmp_path / "parted" / part / "pot").mkdir()
    assert complaint(tmp_path / "parted").startswith(f"{tmp_path}/parted/train/pot holds no images; known suffixes:")


def test_a_link_to_another_class_does_not_bring_its_images(tmp_path: Path) -> None:
    write(tmp_path, "x/1.png", "x/2.png", "y/3.png", "y/sub/4.png")
    (tmp_path / "x" / "to_y").symlink_to("../y")
    (tmp_path / "y" / "to_x").symlink_to("../x")
    (tmp_path / "x" / "to_sub").symlink_to("../y/sub")  # met before the folder itself
    folders = list_class_folders(tmp_path)
    assert folders.files[UNDIVIDED] == {"x": ["x/1.png", "x/2.png"], "y": ["y/3.png", "y/sub/4.png"]}
    assert folders.unused == {AGAIN: ["x/to_sub", "x/to_y", "y/to_x"]}
    assert folders.what_is_unused() == f"not used: 3 {AGAIN} (x/to_sub, x/to_y, y/to_x)"


def test_a_link_from_a_part_to_another_brings_no_test_images_to_training(tmp_path: Path) -> None:
    write(tmp_path, "pool/a/1.png", "pool/more/2.png", "test/a/3.png")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a").symlink_to("../pool/a")  # a class is what its link leads to
    (tmp_path / "pool" / "a" / "more").symlink_to("../more")  # read nowhere else
    (tmp_path / "pool" / "a" / "tested").symlink_to(tmp_path / "test" / "a")
    (tmp_path / "pool" / "a" / "up").symlink_to(tmp_path)
    folders = list_class_folders(tmp_path)
    assert folders.files["train"] == {"a": ["train/a/1.png", "train/a/more/2.png"]}
    assert folders.unused[AGAIN] == ["train/a/tested", "train/a/up"]


def test_folders_elsewhere_that_link_to_one_another_are_read_once(tmp_path: Path) -> None:
    write(tmp_path / "far", "one/1.png", "one/sub/2.png", "two/3.png")
    (tmp_path / "far" / "one" / "on").symlink_to("../two")
    (tmp_path / "far" / "two" / "back").symlink_to("../one")
    write(tmp_path / "set", "x/0.png", "y/0.png")
    (tmp_path / "set" / "x" / "far").symlink_to(tmp_path / "far" / "one")
    (tmp_path / "set" / "y" / "far").symlink_to(tmp_path / "far" / "two")
    folders = list_class_folders(tmp_path / "set")
    assert [os.path.basename(name) for name in folders.names] == ["0.png", "1.png", "2.png", "0.png", "3.png"]
    assert folders.unused == {AGAIN: ["x/far/on", "y/far/back"]}


def test_a_train_may_be_a_class(tmp_path: Path) -> None:
    write(tmp_path, "bus/1.png", "train/1.png", "tram/1.png")
    assert list_class_folders(tmp_path).classes == ("bus", "train", "tram")


def test_images_without_classes_are_no_classes(tmp_path: Path) -> None:
    write(tmp_path, "train/1.png", "test/1.png")
    assert complaint(tmp_path) == f"{tmp_path}/train has no class folders; expected train/CLASS/*"


@pytest.mark.parametrize(
    "names", [("photos/train/a/1.png", "photos/test/a/1.png"), ("photos/a/1.png", "photos/b/1.png")]
)
def test_a_folder_around_the_folders_is_pointed_into(names: tuple[str, str], tmp_path: Path) -> None:
    write(tmp_path, *names)
    assert complaint(tmp_path).startswith(f"{tmp_path} has 1 class folders; expected train/CLASS/*, test/CLASS/* and")
    assert complaint(tmp_path).endswith(f"did you mean folder:{tmp_path}/photos?")


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png")
    walked, closed = os.scandir, str(tmp_path / "train" / "b")

    def scandir(path: str) -> object:
        if str(path) == closed:
            raise PermissionError(13, "Permission denied", closed)
        return walked(path)

    monkeypatch.setattr("os.scandir", scandir)
    assert complaint(tmp_path) == f"{closed} cannot be listed (Permission denied)"


@pytest.mark.filterwarnings("ignore:.* image format is deprecated:DeprecationWarning")
def test_every_extension_that_pillow_reads_is_read_or_named(tmp_path: Path) -> None:
    Image.init()
    known = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    assert len(known) > 60
    saved = set()
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        Image.new("L", (16, 16)).save(tmp_path / label / "0.png")
    for suffix in sorted(known):
        path = tmp_path / "a" / f"1{suffix.upper()}"
        for mode in ("RGB", "RGBA", "1"):
            try:
                Image.new(mode, (16, 16)).save(path)
                break
            except (OSError, KeyError, ValueError):  # not written by Pillow, or in another mode
                path.write_bytes(b"")
        else:
            continue
        if suffix in IMAGE_SUFFIXES:
            with opened(path) as image:
                assert decode(image, grey=False).mode == "RGB", suffix
            saved.add(suffix)
    assert len(saved) > 25
    folders = list_class_folders(tmp_path)
    read = {Path(name).suffix.lower() for name in folders.files[UNDIVIDED]["a"]}
    assert read == (known & IMAGE_SUFFIXES) | {".png"}
    assert {f"with suffix {suffix}" for suffix in known - IMAGE_SUFFIXES} == folders.unused.keys()
    assert all(suffix in folders.what_is_unused() for suffix in known - read)
