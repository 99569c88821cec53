"""The survey of class folders: size, mode, content and problem of every image file, before any is used."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import PIL

from compress.data.catalogue import cache_directory
from compress.data.class_folders import ClassFolders
from compress.data.division import Division
from compress.data.duplicates import Duplicates
from compress.data.folder_split import divided
from compress.data.image_decoding import RULES, SIXTEEN_BITS, is_grey, opened, upright_size
from compress.errors import UsageError

WORTH_ANNOUNCING = 1 << 30  # bytes

_log = logging.getLogger("compress")


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What the files of class folders hold.

    Attributes:
        sizes: number of images of each size, such as "500x375" (width x height), and the first of them.
        modes: number of images of each PIL mode.
        problems: what is wrong with a file, by name.
        digests: SHA-256 of each other file's content, by name.
    """

    sizes: dict[str, tuple[int, str]]
    modes: dict[str, int]
    problems: dict[str, str]
    digests: dict[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of names and content of all files without problems."""
        sha = hashlib.sha256()
        for name, digest in self.digests.items():
            sha.update(f"{name}\0{digest}\n".encode("utf-8", "surrogateescape"))
        return sha.hexdigest()

    def of(self, folders: ClassFolders) -> "Survey":
        """Return the survey with the digests of these folders' files alone."""
        names = set(folders.names)
        return dataclasses.replace(self, digests={name: own for name, own in self.digests.items() if name in names})

    def usable(self, folders: ClassFolders, *, skip_unreadable: bool, division: Division) -> ClassFolders:
        """Return the folders without files that have problems, divided if flat; log what is used, unused and twice.

        Raises ``UsageError`` for a file with a problem, unless ``skip_unreadable``; then those left out are logged; and
        for a division that folders with parts do not need.
        """
        if not folders.flat and (division.options or division.recorded):
            raise UsageError(f"{folders.root} has train/ and test/ already: --split is for class folders without parts")
        if self.problems:
            if not skip_unreadable:
                raise UsageError(next(iter(self.problems.values())))
            named = ", ".join(self.problems)
            _log.warning("%s: %d unreadable images are left out: %s", folders.root, len(self.problems), named)
            folders = folders.without(self.problems)
        flat, folders = folders.flat, divided(folders, self.digests, division) if folders.flat else folders
        how = f"; split by what each file holds, {division}" if flat else ""
        _log.warning("%s: %s%s; %s", folders.root, folders.what_is_used(), how, folders.what_is_unused(self.problems))
        for line in Duplicates.of(folders, self.digests).warnings(folders.root):
            _log.warning("%s", line)
        return folders

    def shape(self, root: Path, image_size: int | None) -> tuple[int, int, int]:
        """Return ``(C, H, W)`` that all images are read in; log how many must be converted to it.

        Raises ``UsageError`` for images of several sizes without ``image_size``.
        """
        total = sum(self.modes.values())
        if image_size is not None:
            width = height = image_size
            resized = total - self.sizes.get(f"{width}x{height}", (0, ""))[0]
            if len(self.sizes) > 1:
                sizes = len(self.sizes)
                of = f"{resized} of {total} images"
                _log.warning("%s: %s are resized to %dx%d (there are %d sizes)", root, of, width, height, sizes)
        else:
            (size, (_, first)), *others = self.sizes.items()
            if others:
                other, (_, second) = others[0]
                smallest = min(int(side) for key in self.sizes for side in key.split("x"))
                raise UsageError(
                    f"{root}: images differ in size ({first} is {size}, {second} is {other}): "
                    f"give --image-size, such as {smallest}"
                )
            width, height = map(int, size.split("x"))
        mode = "L" if all(map(is_grey, self.modes)) else "RGB"
        odd = {other: count for other, count in self.modes.items() if other != mode}
        if len(self.modes) > 1 or odd.keys() & {*SIXTEEN_BITS, "I"}:
            each = ", ".join(f"{count} {other}" for other, count in odd.items())
            _log.warning("%s: %d of %d images are converted to %s (%s)", root, sum(odd.values()), total, mode, each)
        return 1 if mode == "L" else 3, height, width


def survey_files(folders: ClassFolders, *, decode: bool) -> Survey:
    """Return the survey of files, which are all read once; ``decode`` finds truncated images, too.

    It is cached until a name, size or modification time changes.
    """
    names = folders.names
    stamp, size = stamp_of(folders.root, names, decode=decode)
    remembered = cache_directory() / "surveys" / f"{stamp}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Survey(**json.loads(remembered.read_text()))
    if size > WORTH_ANNOUNCING:
        what = f"{len(names)} files ({size / (1 << 30):.1f} GiB)"
        _log.warning("%s: reading all %s once, to recognise them later", folders.root, what)
    survey = Survey(sizes={}, modes={}, problems={}, digests={})
    for name, look in zip(names, folders.map(partial(_look, decode=decode)), strict=True):
        if isinstance(look, str):
            survey.problems[name] = look
            continue
        mode, size_of_image, survey.digests[name] = look
        count, first = survey.sizes.get(size_of_image, (0, name))
        survey.sizes[size_of_image] = count + 1, first
        survey.modes[mode] = survey.modes.get(mode, 0) + 1
    with contextlib.suppress(OSError):  # it is only a cache
        remembered.parent.mkdir(parents=True, exist_ok=True)
        unfinished = remembered.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps(dataclasses.asdict(survey)))
        unfinished.replace(remembered)
    return survey


def _look(path: Path, *, decode: bool) -> tuple[str, str, str] | str:
    """Return an image's PIL mode, upright size and the digest of its file; what is wrong where it is none."""
    try:
        with opened(path) as image:
            if decode:
                image.load()
            width, height = upright_size(image)
            return image.mode, f"{width}x{height}", hashlib.sha256(path.read_bytes()).hexdigest()
    except UsageError as error:
        return str(error)


def stamp_of(root: Path, names: list[str], *, decode: bool) -> tuple[str, int]:
    """Return a digest of names, sizes and modification times, and the total size in bytes."""
    rules = f"{root.resolve()}\0{decode}\0{PIL.__version__}\0{RULES}\n"
    sha, total = hashlib.sha256(rules.encode("utf-8", "surrogateescape")), 0
    for name in names:
        try:
            status = os.stat(root / name)
            size, modified = status.st_size, status.st_mtime_ns
        except OSError:
            size, modified = 0, 0
        total += size
        sha.update(f"{name}\0{size}\0{modified}\n".encode("utf-8", "surrogateescape"))
    return sha.hexdigest(), total
