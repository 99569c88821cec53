"""The survey of class folders: size, mode, content and problem of every image file, before any is used."""

import contextlib
import hashlib
import json
import logging
import os
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import PIL

from compress.data.catalogue import cache_directory
from compress.data.class_folders import UNDIVIDED, UNREADABLE, ClassFolders
from compress.data.division import Division
from compress.data.duplicates import Duplicates
from compress.data.folder_split import divided
from compress.data.image_decoding import RULES, SIXTEEN_BITS, is_grey, opened, upright_size
from compress.errors import UsageError

WORTH_ANNOUNCING = 1 << 30  # bytes
LATER = "that came after the split was recorded"
ADVICE = "; --skip-unreadable leaves such files out"  # for whoever is about to train

_log = logging.getLogger("compress")


class Look(NamedTuple):
    """What an image file holds: PIL's mode, the upright size, such as "500x375" (width x height), and its SHA-256."""

    mode: str
    size: str
    digest: str


class Passing(str):
    """What is wrong with a file that may be read another time as it is: permissions, a mount, too little memory."""

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What the files of class folders hold: ``looks``, by name; of others, ``problems`` says what is wrong."""

    looks: dict[str, Look]
    problems: dict[str, str]

    @cached_property
    def sizes(self) -> dict[str, list[str]]:
        """The names of the images of each size."""
        names: dict[str, list[str]] = {}
        for name, look in self.looks.items():
            names.setdefault(look.size, []).append(name)
        return names

    @cached_property
    def modes(self) -> dict[str, int]:
        """The number of images of each PIL mode."""
        return Counter(look.mode for look in self.looks.values())

    @cached_property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of each image file's content, by name."""
        return {name: look.digest for name, look in self.looks.items()}

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of names and content of all files without problems."""
        sha = hashlib.sha256()
        for name, digest in self.digests.items():
            sha.update(f"{name}\0{digest}\n".encode("utf-8", "surrogateescape"))
        return sha.hexdigest()

    def of(self, folders: ClassFolders) -> "Survey":
        """Return the survey of these folders' files alone."""
        names = set(folders.names)
        looks = {name: look for name, look in self.looks.items() if name in names}
        return Survey(looks=looks, problems={name: what for name, what in self.problems.items() if name in names})

    def as_recorded(self, folders: ClassFolders, division: Division) -> ClassFolders:
        """Return flat folders with the classes and files of a finished run alone, whatever is wrong with others.

        Raises ``UsageError`` where a recorded file is missing or has changed.
        """
        [by_class] = folders.files.values()
        kept = {
            label: [name for name in by_class.get(label, ()) if self.digests.get(name) in division.recorded]
            for label in division.classes
        }
        names = {name for own in kept.values() for name in own}
        others = [name for name in folders.names if name not in names]
        if gone := division.recorded.keys() - {self.digests[name] for name in names}:
            what = f"lacks {len(gone)} of {len(division.recorded)} images of the recorded split"
            named = [f"{folders.root} {what}, such as the one of SHA-256 {min(gone)[:12]}"]
            if others and names:  # else it is another folder
                looks = (_look(folders.root / name, decode=True) for name in others)
                damaged = next((look for look in looks if isinstance(look, str)), None)
                named.append(damaged or f"files that were not recorded: {len(others)}, such as {others[0]}")
            raise UsageError("; ".join(named))
        reasons = {LATER: [name for name in others if name in self.looks]}
        reasons[UNREADABLE] = [name for name in others if name in self.problems]
        unused = folders.unused | {why: left for why, left in reasons.items() if left}
        return replace(folders, files={UNDIVIDED: kept}, unused=unused)

    def usable(self, folders: ClassFolders, *, skip_unreadable: bool, division: Division) -> ClassFolders:
        """Return the folders without files that have problems, divided if flat; log what is used, unused and twice.

        Raises ``UsageError`` for a file with a problem, unless ``skip_unreadable``; then those left out are logged; and
        for a division that folders with parts do not need.
        """
        if not folders.flat and (division.options or division.recorded):
            raise UsageError(f"{folders.root} has train/ and test/ already: --split is for class folders without parts")
        if self.problems:
            if not skip_unreadable:
                raise UsageError(next(iter(self.problems.values())) + advice_for(division))
            named = ", ".join(self.problems)
            _log.warning("%s: %d unreadable images are left out: %s", folders.root, len(self.problems), named)
            folders = folders.without(self.problems)
        flat, folders = folders.flat, divided(folders, self.digests, division) if folders.flat else folders
        how = f"; split by what each file holds, {division}" if flat else ""
        _log.warning("%s: %s%s; %s", folders.root, folders.what_is_used(), how, folders.what_is_unused())
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
            resized = total - len(self.sizes.get(f"{width}x{height}", ()))
            if len(self.sizes) > 1:
                sizes = len(self.sizes)
                of = f"{resized} of {total} images"
                _log.warning("%s: %s are resized to %dx%d (there are %d sizes)", root, of, width, height, sizes)
        else:
            (size, (first, *_)), *others = self.sizes.items()
            if others:
                other, (second, *_) = others[0]
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

    It is cached until a name, size or modification time changes; not where what was wrong may pass without that.
    """
    names = folders.names
    stamp, size = stamp_of(folders.root, names, decode=decode)
    remembered = cache_directory() / "surveys" / f"{stamp}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, LookupError):
        known = json.loads(remembered.read_text())
        return Survey(looks={name: Look(*look) for name, look in known["looks"].items()}, problems=known["problems"])
    if size > WORTH_ANNOUNCING:
        what = f"{len(names)} files ({size / (1 << 30):.1f} GiB)"
        _log.warning("%s: reading all %s once, to recognise them later", folders.root, what)
    looks: dict[str, Look] = {}
    problems: dict[str, str] = {}
    for name, look in zip(names, folders.map(partial(_look, decode=decode)), strict=True):
        if isinstance(look, str):
            problems[name] = look
        else:
            looks[name] = look
    if any(isinstance(problem, Passing) for problem in problems.values()):
        return Survey(looks=looks, problems=problems)
    with contextlib.suppress(OSError):  # it is only a cache
        remembered.parent.mkdir(parents=True, exist_ok=True)
        unfinished = remembered.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps({"looks": looks, "problems": problems}))
        unfinished.replace(remembered)
    return Survey(looks=looks, problems=problems)


def advice_for(division: Division) -> str:
    """Return what an error about an unreadable file ends with: nothing where a finished run's images are opened."""
    return "" if division.closed else ADVICE


def _look(path: Path, *, decode: bool) -> Look | str:
    """Return what an image file holds; what is wrong where it is none."""
    try:
        with opened(path) as image:
            if decode:
                image.load()
            width, height = upright_size(image)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            return Look(mode=image.mode, size=f"{width}x{height}", digest=digest)
    except UsageError as error:
        cause = error.__cause__  # Pillow's own errors have no errno
        passing = isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno is not None)
        return Passing(error) if passing else str(error)


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
