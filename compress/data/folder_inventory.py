"""The inventory of class folders: what is used, by part and class, and what is unused, unreadable, twice or uneven."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.data.class_folders import list_class_folders
from compress.data.division import Division
from compress.data.duplicates import Duplicates
from compress.data.folder_split import divided
from compress.data.folder_survey import ADVICE, survey_files
from compress.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What `compress data folder:PATH` says.

    ``images`` counts by part and class; ``division`` says how flat folders are divided; ``unused`` names files by why,
    ``unreadable`` says what is wrong with them; ``sizes`` (as "500x375") and ``modes`` (PIL's) count images.
    """

    root: Path
    images: dict[str, dict[str, int]]
    flat: bool
    division: str | None
    unused: dict[str, list[str]]
    unreadable: dict[str, str]
    duplicates: Duplicates
    sizes: dict[str, int]
    modes: dict[str, int]

    @property
    def imbalance(self) -> float:
        """Training images of the largest class, as a multiple of those of the smallest."""
        counts = self.images["train"].values()
        return max(counts) / min(counts)

    def rows(self) -> list[dict[str, Any]]:
        """Return the number of images in each part: a row per class, then their sum."""
        rows = [
            {"class": label} | {part: by_class[label] for part, by_class in self.images.items()}
            for label in self.images["train"]
        ]
        return [*rows, {"class": "(all)"} | {part: sum(by_class.values()) for part, by_class in self.images.items()}]

    def lines(self) -> list[str]:
        """Return everything that is not in ``rows``, as lines."""
        unused = [f"unused: {len(names)} {why}, such as {names[0]}" for why, names in self.unused.items()]
        unreadable = [f"unreadable: {problem}{ADVICE}" for problem in self.unreadable.values()]
        sizes = f"sizes: {len(self.sizes)}, " + _counted(self.sizes)
        return [
            *([f"no train/ and test/: split by what each file holds: {self.division}"] if self.flat else []),
            f"{sizes}; modes: {_counted(self.modes)}",
            "balance: every class has as many training images"
            if self.imbalance == 1
            else f"imbalance: the largest class has {self.imbalance:.3g} times the training images of the smallest",
            f"duplicates: {self.duplicates.copies} files hold what another one does",
            *self.duplicates.warnings(self.root),
            *unused,
            *unreadable,
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the inventory as JSON-ready data."""
        return vars(self) | {
            "root": str(self.root),
            "duplicates": vars(self.duplicates),
            "imbalance": self.imbalance,
        }


def take_inventory(root: Path, division: Division | None = None) -> Inventory:
    """Return what lies in the class folders under ``root``, divided so if flat; all files are read, the first time.

    Raises ``UsageError`` for folders that cannot be trained on, and for a division of folders that have parts.
    """
    folders, division = list_class_folders(root), Division() if division is None else division
    if not folders.flat and (division.options or division.recorded):
        raise UsageError(f"{root} has train/ and test/ already: --split is for class folders without parts")
    survey = survey_files(folders, decode=True)
    used = folders.without(survey.problems)
    used = divided(used, survey.digests, division) if used.flat else used
    return Inventory(
        root=folders.root,
        images={part: {label: len(names) for label, names in files.items()} for part, files in used.files.items()},
        flat=folders.flat,
        division=str(division) if folders.flat else None,
        unused=folders.unused,
        unreadable=survey.problems,
        duplicates=Duplicates.of(used, survey.digests),
        sizes={size: len(names) for size, names in survey.sizes.items()},
        modes=survey.modes,
    )


def _counted(counts: dict[str, int], most: int = 4) -> str:
    """Return the most frequent keys with their counts, such as "12 of 500x375, 3 of 96x96, ..."."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join([f"{count} of {what}" for what, count in ordered[:most]] + ["..."] * (len(ordered) > most))
