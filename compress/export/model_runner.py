"""Model runner: the model of a bundle as a function; needs numpy and the runtime of the model's format alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

if __package__:
    from .manifest import read_manifest
else:  # a script of a bundle
    from manifest import read_manifest  # type: ignore[import-not-found, no-redef]

HERE = Path(__file__).resolve().parent
Answer = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


def open_bundle(folder: Path = HERE, threads: int = 1) -> tuple[list[str], dict[str, Any], Answer]:
    """Open a bundle: its labels, the rules of its preprocessing, and its model.

    The model is a function from pixels, uint8 (N, C, H, W), to labels, probabilities (N, classes) and exits. Where a
    file is missing or was changed, or the runtime is not installed, one line says so, and the exit status is 2.
    """
    try:
        about = read_manifest(folder)
        labels, rules = (json.loads((folder / name).read_bytes()) for name in ("labels.json", "preprocess.json"))
        answer = _cascade(folder, threads) if about["kind"] == "cascade" else _one_exit(folder, about, threads)
    except ModuleNotFoundError as error:
        _stop(f"{error.name} is not installed: pip install {error.name}")
    except ValueError as error:  # of a file, or of a policy that does not fit the model
        _stop(str(error))
    except Exception as error:  # of the runtime: the errors of onnxruntime have no other base
        _stop(f"the runtime does not read the model; a newer one may: {str(error).strip().partition(chr(10))[0]}")
    if about["input"] == "uint8":
        return labels, rules, answer
    return labels, rules, lambda images: answer(images.astype(np.float32) / 255)


def _stop(why: str) -> NoReturn:
    print(why, file=sys.stderr)
    sys.exit(2)


def _cascade(folder: Path, threads: int) -> Answer:
    from early_exit import Cascade  # type: ignore[import-not-found]

    cascade = Cascade(folder, threads=threads)
    if cascade.notice:
        print(cascade.notice, file=sys.stderr)

    def answer(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        labels, exits, probabilities = cascade(images)
        return labels, probabilities, exits

    return answer


def _one_exit(folder: Path, about: dict[str, Any], threads: int) -> Answer:
    model = open_model(folder, threads)

    def answer(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        scores = model(images)
        if about["output"] == "logits":
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores = powers / powers.sum(axis=1, keepdims=True)
        return scores.argmax(axis=1), scores, np.full(len(images), about["source"]["exit"])

    return answer


def open_model(folder: Path, threads: int = 1) -> Callable[[np.ndarray], np.ndarray]:
    """Open the model of one exit as a function from images (N, C, H, W) to its output (N, classes)."""
    if (folder / "model.onnx").exists():
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        return lambda images: np.asarray(session.run(None, {"images": images})[0])
    if (folder / "model.xml").exists():
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it reports to its makers
        import openvino

        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        compiled = openvino.compile_model(folder / "model.xml", "CPU", settings)
        return lambda images: np.array(compiled(images)[0])
    import torch

    program = torch.export.load(folder / "model.pt2").module()
    return lambda images: np.asarray(program(torch.tensor(images)).detach())
