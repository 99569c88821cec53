"""The bundle: a directory with a model that runs without this package, its labels, preprocessing and model card."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from numpy import ndarray

from compress.documents import fitted, read_file, read_json
from compress.errors import UsageError, checked
from compress.export.early_exit_runner import Cascade
from compress.export.manifest import MANIFEST as MANIFEST
from compress.export.manifest import check_files
from compress.export.manifest import digest_of as digest_of
from compress.export.model_runner import open_model
from compress.schema import Struct

VERSION = 1
LABELS, PREPROCESS, CARD = "labels.json", "preprocess.json", "README.md"
LARGEST = 2**33  # bytes of a file; more than any format takes
Infer = Callable[[ndarray], ndarray]  # images (N, C, H, W), as the bundle's input has it, to output (N, classes)


class Manifest(Struct, frozen=True, kw_only=True):
    """The fields of `bundle.json` that are read again.

    Attributes:
        files: SHA-256 (hex) of every other file of the bundle, by name.
        source: the run, its exit (1-based) and the digest of its weights.
    """

    bundle_version: int
    kind: Literal["model", "cascade"]
    format: Literal["onnx", "openvino", "pt2"]
    precision: str
    input: Literal["uint8", "float"]
    output: Literal["probabilities", "logits"]
    files: dict[str, str]
    source: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle that was read, its files being those that were written.

    Attributes:
        labels: the name of every class.
        preprocess: how a file becomes pixels, with `channels`, `height` and `width` of the images.
        manifest: the content of `bundle.json`.
    """

    path: Path
    labels: tuple[str, ...]
    preprocess: dict[str, Any]
    manifest: dict[str, Any]

    def infer(self, threads: int = 1) -> Infer:
        """Open the model: a function from images `(N, C, H, W)` to probabilities or logits `(N, classes)`, fp32.

        Images are uint8, or fp32 from 0 to 1, as the manifest's `input` says. Threads are those of the runtime;
        PyTorch's number, for pt2, is its own.

        Raises:
            ImportError: the runtime is not installed.
        """
        if self.manifest["kind"] == "cascade":
            cascade = self.cascade(threads=threads)
            return lambda images: cascade(images).probabilities
        return open_model(self.path, threads)

    def cascade(self, *, engine: str | None = None, threads: int = 1) -> Cascade:
        """Open a cascade: a function from images to labels, exits and probabilities.

        Raises:
            UsageError: it is no cascade, or the engine is not installed or does not read its stages.
        """
        try:
            return Cascade(self.path, engine=engine, threads=threads)
        except ValueError as error:
            raise UsageError(str(error)) from error


@checked
def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read a bundle; files must be there and have the digests that the manifest says.

    Raises:
        UsageError: it is no bundle, of another version, or a file is missing or was changed.
    """
    folder = Path(path)
    try:
        manifest, checked = read_json(folder / MANIFEST, Manifest)
        if checked.bundle_version != VERSION:
            raise UsageError(f"bundle_version: {checked.bundle_version}, this version reads {VERSION}")
        check_files(folder, checked.files)
        labels = fitted(json.loads(read_file(folder / LABELS)), tuple[str, ...], LABELS)
        preprocess, _ = read_json(folder / PREPROCESS, dict[str, Any])
    except FileNotFoundError as error:
        raise UsageError(f"bundle {folder}: {Path(error.filename).name} is missing there") from error
    except (UsageError, ValueError) as error:
        raise UsageError(f"bundle {folder}: {error}") from error
    return Bundle(path=folder, labels=labels, preprocess=preprocess, manifest=manifest)
