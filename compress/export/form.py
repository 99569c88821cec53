"""The form of a bundle: file format, precision, and what the model takes and returns; checked without torch."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from compress.errors import UsageError, checked, nearest

# The formats, and for each: its files, the packages that it is written and checked with, and its precisions.
MODEL = "model"
FILES = {
    "onnx": (f"{MODEL}.onnx",),
    "openvino": (f"{MODEL}.xml", f"{MODEL}.bin"),
    "pt2": (f"{MODEL}.pt2",),
}
PACKAGES = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "pt2": (),
}
PRECISIONS = {"onnx": ("fp32", "int8"), "openvino": ("fp32", "int8"), "pt2": ("fp32",)}
INPUTS, OUTPUTS = ("uint8", "float"), ("probabilities", "logits")
QUANTISER = "onnxruntime"


@checked
@dataclass(frozen=True, kw_only=True)
class Form:
    """The form of a bundle.

    Attributes:
        format: onnx, openvino or pt2.
        precision: fp32, or int8 where the format has it.
        input: uint8, or float: fp32 from 0 to 1; both are pixels `(N, C, H, W)` that the model normalises itself.
        output: probabilities or logits.
        cascade: whether it is one graph a stage, to leave early, instead of one graph.
        calibration: "folder:PATH", images that int8 is calibrated on in place of those that the run held out.

    Raises:
        UsageError: a word is unknown, the format does not have the precision, or fp32 is to be calibrated.
    """

    format: str = "onnx"
    precision: str = "fp32"
    input: str = "uint8"
    output: str = "probabilities"
    cascade: bool = False
    calibration: str | None = None

    def __post_init__(self) -> None:
        for name, known in (("format", PRECISIONS), ("input", INPUTS), ("output", OUTPUTS)):
            if (value := getattr(self, name)) not in known:
                raise UsageError(f"{name} {value!r}: {nearest(value, known)}")
        if self.precision not in PRECISIONS[self.format]:
            has = ", ".join(PRECISIONS[self.format])
            raise UsageError(f"precision {self.precision!r}: bundles in {self.format} have {has}")
        for name, value in (("format", "pt2"), ("precision", "int8"), ("output", "logits")) if self.cascade else ():
            if getattr(self, name) == value:
                raise UsageError(f"{name} {value!r}: a cascade is in onnx or openvino, fp32, and returns probabilities")

        if self.calibration is not None and self.precision != "int8":
            raise UsageError(f"calibration {self.calibration}: it is for precision int8")

    def check_installed(self) -> None:
        """Check that the packages that write and check the bundle are installed.

        Raises:
            UsageError: one is not.
        """
        needed = dict.fromkeys((*PACKAGES[self.format], *([QUANTISER] if self.precision == "int8" else [])))
        if missing := [package for package in needed if importlib.util.find_spec(package) is None]:
            raise UsageError(
                f"format {self.format} in {self.precision} needs {' and '.join(missing)}, which is not installed: "
                "pip install 'multiway-compress[deploy]'"
            )


def check_place(out: Path) -> None:
    """Check that a bundle can be written to a directory: it is new or empty.

    Raises:
        UsageError: it is not.
    """
    if os.path.lexists(out) and not (os.path.isdir(out) and not os.listdir(out)):
        what = "is not empty" if os.path.isdir(out) else "is a file"
        raise UsageError(f"--out {out} {what}: name a directory that is new or empty")
