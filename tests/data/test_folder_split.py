"""Flat class folders: divided by a seed and by what each file holds, duplicates on one side, the same every time."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.data.class_folders import UNDIVIDED, ClassFolders
from compress.data.folder_split import SHARES, divided
from compress.errors import UsageError


def flat(**classes: list[str]) -> tuple[ClassFolders, dict[str, str]]:
    """Flat folders of files given by their contents, and the files' digests."""
    files = {label: [f"{label}/{number:03}" for number in range(len(held))] for label, held in classes.items()}
    digests = {
        name: hashlib.sha256(content.encode()).hexdigest()
        for label, held in classes.items()
        for name, content in zip(files[label], held, strict=True)
    }
    return ClassFolders(root=Path("photos"), files={UNDIVIDED: files}, places={UNDIVIDED: "."}), digests


def contents(folders: ClassFolders, digests: dict[str, str]) -> dict[str, set[str]]:
    return {
        part: {digests[name] for names in by_class.values() for name in names}
        for part, by_class in folders.files.items()
    }


def distinct(label: str, count: int) -> list[str]:
    return [f"{label} {number}" for number in range(count)]


@pytest.mark.parametrize(("count", "sizes"), [(60, [42, 9, 9]), (10, [6, 2, 2]), (3, [1, 1, 1]), (100, [70, 15, 15])])
def test_every_class_is_divided_in_proportion(count: int, sizes: list[int]) -> None:
    folders, digests = flat(a=distinct("a", count), b=distinct("b", 20))
    parts = divided(folders, digests)
    assert list(parts.files) == list(SHARES) == ["train", "test", "val"]
    assert [len(by_class["a"]) for by_class in parts.files.values()] == sizes
    assert [len(by_class["b"]) for by_class in parts.files.values()] == [14, 3, 3]
    assert sorted(parts.names) == sorted(folders.names)
    assert not parts.flat


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 40), min_size=12), min_size=2, max_size=3))
def test_no_content_is_ever_in_two_parts_and_no_file_is_lost(drawn: list[list[int]]) -> None:
    own = {f"c{label}": distinct(str(label), 3) + list(map(str, held)) for label, held in enumerate(drawn)}
    folders, digests = flat(**own)
    parts = divided(folders, digests)
    train, test, val = contents(parts, digests).values()
    assert not train & test
    assert not train & val
    assert not test & val
    assert sorted(parts.names) == sorted(folders.names)


def test_an_image_of_two_classes_is_trained_on() -> None:
    folders, digests = flat(a=[*distinct("a", 8), "both"], b=["both", *distinct("b", 8)])
    train = divided(folders, digests).files["train"]
    assert "a/008" in train["a"]
    assert "b/000" in train["b"]


def test_the_division_is_the_files_whatever_they_are_called() -> None:
    held = distinct("a", 30)
    for order in (held, held[::-1], held[7:] + held[:7]):
        found = contents(divided(*flat(a=order, b=distinct("b", 9))), flat(a=order, b=distinct("b", 9))[1])
        assert found == contents(divided(*flat(a=held, b=distinct("b", 9))), flat(a=held, b=distinct("b", 9))[1])
    content = hashlib.sha256(b"a 0").hexdigest()
    assert [part for part, files in found.items() if content in files] == ["val"]  # on every machine, in every year


def test_a_class_of_two_images_cannot_be_divided() -> None:
    folders, digests = flat(a=["x", "x", "y"], b=distinct("b", 9))
    with pytest.raises(
        UsageError, match=r"^photos/a holds 2 different images of its own; .* it needs at least 3; or give"
    ):
        divided(folders, digests)
