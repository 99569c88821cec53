"""Flat class folders: divided by a seed and by what each file holds, duplicates on one side, the same every time."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.data.class_folders import UNDIVIDED, ClassFolders
from compress.data.division import SHARES, Division
from compress.data.folder_split import divided
from compress.data.folder_survey import Look, Survey
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


def recorded(folders: ClassFolders, digests: dict[str, str]) -> dict[str, str]:
    return {digest: part for part, own in contents(folders, digests).items() for digest in own}


def test_shares_and_seed_are_as_asked() -> None:
    folders, digests = flat(a=distinct("a", 50), b=distinct("b", 20))
    sizes = {}
    for split in ("80/20", "60/10/30", "50/25/25"):
        parts = divided(folders, digests, Division.asked(split, 3))
        sizes[split] = {part: [len(names) for names in by_class.values()] for part, by_class in parts.files.items()}
    assert sizes == {
        "80/20": {"train": [40, 16], "test": [10, 4]},
        "60/10/30": {"train": [30, 12], "test": [15, 6], "val": [5, 2]},
        "50/25/25": {"train": [26, 10], "test": [12, 5], "val": [12, 5]},
    }
    seeds = [contents(divided(folders, digests, Division.asked(None, seed)), digests) for seed in (None, 0, 1)]
    assert seeds[0] == seeds[1] != seeds[2]


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 5))
def test_recorded_files_keep_their_part_whatever_comes_later(more: int, seed: int) -> None:
    before, digests = flat(a=distinct("a", 30), b=distinct("b", 12))
    division = Division.asked(None, seed)
    was = recorded(divided(before, digests, division), digests)
    after, digests = flat(b=distinct("b", 12 + more // 2)[::-1], a=distinct("a", 30 + more))  # new and renamed files
    found = divided(after, digests, Division(seed=seed, recorded=was))
    now = recorded(found, digests)
    assert was.items() <= now.items()
    assert len(now) == 42 + more + more // 2
    wanted = round(0.15 * (30 + more))
    assert len(found.files["test"]["a"]) == max(4, wanted)
    known = Survey(looks={name: Look("L", "3x2", digest) for name, digest in digests.items()}, problems={})
    closed = Division(seed=seed, recorded=was, classes=before.classes)
    assert recorded(divided(known.as_recorded(after, closed), digests, closed), digests) == was


def test_an_image_that_is_in_two_classes_since_keeps_its_part() -> None:
    before, digests = flat(a=distinct("a", 10), b=distinct("b", 10))
    was = recorded(divided(before, digests), digests)
    after, digests = flat(a=distinct("a", 10), b=[*distinct("b", 10), *distinct("a", 10)])
    assert recorded(divided(after, digests, Division(recorded=was)), digests) == was


def test_shares_that_leave_a_class_without_training_images_are_refused() -> None:
    folders, digests = flat(a=distinct("a", 4), b=distinct("b", 40))
    with pytest.raises(UsageError, match="a has no train images in this split; ask for another --split"):
        divided(folders, digests, Division.asked("10/45/45", None))


@pytest.mark.parametrize(
    "split", ["70/15", "70/15/15/0", "100/0", "80/0/20", "-10/60/50", "a/b", "", "70", "nan/1", "1e999/1"]
)
def test_other_shares_are_refused(split: str) -> None:
    with pytest.raises(UsageError, match=r"^--split "):
        Division.asked(split, None)


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "[",
        '{"seed": 0, "shares": {"train": 1.0}, "files": {}}',
        '{"seed": 0, "shares": {"train": 0.9, "test": 0.2}, "files": {}}',
        '{"seed": 0, "shares": {"train": 0.8, "test": 0.2}, "files": {"val": []}}',
    ],
)
def test_a_damaged_record_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "division.json").write_text(content)
    with pytest.raises(UsageError, match=r"division.json is no recorded split: "):
        Division.asked(str(tmp_path), None)
