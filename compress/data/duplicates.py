"""Duplicates: files that hold the same bytes, in two parts or in two classes, which makes accuracies wrong."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compress.data.class_folders import ClassFolders


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Pairs of files of the same content: one pair for each content in two ``parts``, and in two ``classes``.

    ``copies`` counts all files whose content another file has.
    """

    parts: list[tuple[str, str]]
    classes: list[tuple[str, str]]
    copies: int

    @classmethod
    def of(cls, folders: ClassFolders, digests: Mapping[str, str]) -> "Duplicates":
        """Return the duplicates among the files, given the digest of what each holds."""
        by_content: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
        for part, by_class in folders.files.items():
            for label, names in by_class.items():
                for name in names:
                    by_content[digests[name]].append((part, label, name))
        parts, classes, copies = [], [], 0
        for (part, label, first), *others in (files for files in by_content.values() if len(files) > 1):
            copies += len(others)
            parts += [(first, name) for there, _, name in others if there != part][:1]
            classes += [(first, name) for _, other, name in others if other != label][:1]
        return cls(parts=parts, classes=classes, copies=copies)

    def warnings(self, root: Path) -> list[str]:
        """Return a line on images in two parts, and one on images in two classes, where there are any."""
        lines = []
        for what, pairs, therefore in (
            ("part", self.parts, "what the network has trained on is no test of it"),
            ("class", self.classes, "no network can be right about both"),
        ):
            if pairs:
                first, second = pairs[0]
                many = f"{len(pairs)} images are" if len(pairs) > 1 else "1 image is"
                lines.append(f"{root}: {many} in more than one {what}, such as {first} and {second}: {therefore}")
        return lines
