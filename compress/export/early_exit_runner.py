"""Early exit without PyTorch: a cascade of stages, run by ONNX Runtime or OpenVINO until an image leaves.

It needs numpy, one of the two runtimes, and of this package, or of a bundle, `manifest.py` alone.

    cascade = Cascade("bundle")
    labels, exits, probabilities = cascade(images)  # (N, C, H, W): uint8, or float32 from 0 to 1, as it was exported
"""

from __future__ import annotations

import functools
import importlib.util
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if __package__:
    from .manifest import read_manifest
else:  # a script of a bundle
    from manifest import read_manifest  # type: ignore[import-not-found, no-redef]

NEVER = 1.0  # threshold that no confidence exceeds
CLOSE = 1e-6  # to a threshold: far more than two ways to compute a confidence in float64 differ by
READERS = {"onnx": ("onnxruntime", "openvino"), "openvino": ("openvino",)}  # engines by the format that they read
TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}  # of images, as ONNX Runtime calls them


class Answers(NamedTuple):
    """What N images are answered.

    Attributes:
        labels: the most probable class, int64 `(N,)`.
        exits: the exit (1-based) that each image left at, int64 `(N,)`.
        probabilities: `softmax(logits / temperature)` of that exit, fp32 `(N, classes)`.
    """

    labels: NDArray[np.int64]
    exits: NDArray[np.int64]
    probabilities: NDArray[np.float32]


class Cascade:
    """A multi-exit network in stages: what lies behind the exit that an image leaves at is not computed for it.

    An image leaves at the first exit whose confidence, the largest probability of `softmax(logits / temperature)` in
    float64, exceeds its threshold, and at the last exit otherwise. Images that have left are taken out of the batch.

    Args:
        folder: the directory of the bundle.
        engine: onnxruntime or openvino; None: the one that the cascade was exported for, if it is installed.
        threads: number of threads that a stage computes with.

    Attributes:
        engine: the engine that runs the stages.
        notice: why the policy guarantees nothing for this engine; None where its certificate holds.

    Raises:
        ValueError: files are missing or changed, the policy is for another number of exits, or the engine is not
            installed or does not read the stages.
    """

    def __init__(self, folder: str | Path = ".", *, engine: str | None = None, threads: int = 1) -> None:
        manifest, policy = _read(Path(folder))
        self.engine = _engine(manifest["format"], engine or policy.get("engine"), required=engine is not None)
        form = {name: manifest[name] for name in ("precision", "input")}
        self.notice = not_certified(policy, engine=self.engine, **form)
        self._temperatures: list[float] = policy["temperatures"]
        self._thresholds: list[float] = policy["thresholds"]
        make: Any = _OnnxRuntimeStage if self.engine == "onnxruntime" else _OpenVinoStage
        self._stages = [make(Path(folder) / name, threads) for name in _stages(manifest)]

    def __call__(self, images: NDArray[Any]) -> Answers:
        """Answer images `(N, C, H, W)`.

        Raises:
            ValueError: there are none, or they are of another shape or type than the network takes.
        """
        features = self._checked(images)
        return self._one(features) if len(features) == 1 else self._batch(features)

    def logits(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """The logits `(exits, N, classes)` of images `(N, C, H, W)` at every exit: what a policy is certified on.

        Raises:
            ValueError: as when it is called.
        """
        features, every = self._checked(images), []
        for stage in self._stages:
            features, found = stage(features)
            every.append(np.array(found))
        return np.stack(every)

    def _one(self, features: NDArray[Any]) -> Answers:
        """Answer one image `(1, C, H, W)`, with as little as possible between one stage and the next."""
        for exit, (stage, temperature, threshold) in enumerate(self._rules, start=1):
            features, logits = stage(features)
            if _leaves(logits, temperature, threshold):
                return _answer(logits, temperature, exit)
        return _answer(self._stages[-1](features)[1], self._temperatures[-1], len(self._stages))

    def _batch(self, features: NDArray[Any]) -> Answers:
        """Answer images `(N, C, H, W)`."""
        count, rows = len(features), np.arange(len(features))
        exits = np.full(count, len(self._stages), dtype=np.int64)
        logits = np.empty((count, self._stages[-1].classes), dtype=np.float32)
        for number, (stage, temperature, threshold) in enumerate(self._rules, start=1):
            features, found = stage(features)
            leaves = _confidences(found, temperature) > threshold
            if not leaves.any():
                continue
            logits[rows[leaves]], exits[rows[leaves]] = found[leaves], number
            features, rows = features[~leaves], rows[~leaves]
            if not len(rows):
                break
        else:
            logits[rows] = self._stages[-1](features)[1]
        scaled = logits.astype(np.float64) / np.array(self._temperatures)[exits - 1, None]
        powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
        probabilities = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
        return Answers(logits.argmax(axis=-1), exits, probabilities)

    @property
    def _rules(self) -> Iterator[tuple[Any, float, float]]:
        """Stage, temperature and threshold of every exit but the last, which has no threshold."""
        return zip(self._stages, self._temperatures, self._thresholds, strict=False)

    def _checked(self, images: NDArray[Any]) -> NDArray[Any]:
        type_, *shape = self._stages[0].takes
        if (
            not isinstance(images, np.ndarray)
            or images.dtype != type_
            or [*images.shape[1:]] != shape
            or not len(images)
        ):
            given = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
            raise ValueError(
                f"images are {given}; the network takes {type_} (N, {', '.join(map(str, shape))}), N above 0"
            )
        return np.require(images, requirements=["C", "W"])  # OpenVINO shares no memory that is read-only


class _OnnxRuntimeStage:
    """A stage in ONNX Runtime: features to the next stage's features (None from the last stage) and logits."""

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        [given], outputs = session.get_inputs(), session.get_outputs()
        self.takes = [TYPES[given.type], *given.shape[1:]]
        self.classes = outputs[-1].shape[1]
        self._run, self._input, self._outputs = session.run, given.name, [output.name for output in outputs]

    def __call__(self, features: NDArray[Any]) -> tuple[Any, NDArray[np.float32]]:
        *passed, logits = self._run(self._outputs, {self._input: features})
        return (passed[0] if passed else None), logits


class _OpenVinoStage:
    """A stage in OpenVINO: features to the next stage's features (None from the last stage) and logits.

    What it returns lies in the memory that its next call computes in.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self._model, self._threads, self._requests = _openvino().Core().read_model(path), threads, dict[int, Any]()
        given, logits = self._model.input(0), self._model.output(len(self._model.outputs) - 1)
        self._shape = [size.get_length() for size in [*given.partial_shape][1:]]
        self.takes = [given.element_type.to_dtype().name, *self._shape]
        self.classes = logits.partial_shape[1].get_length()

    def __call__(self, features: NDArray[Any]) -> tuple[Any, NDArray[np.float32]]:
        request = self._request(1 if len(features) == 1 else -1)
        request.set_input_tensor(_openvino().Tensor(features, shared_memory=True))
        request.infer(share_outputs=True)
        *passed, logits = (request.get_output_tensor(index).data for index in range(len(self._model.outputs)))
        return (passed[0] if passed else None), logits

    def _request(self, count: int) -> Any:
        """What computes one image, or (-1) any number of them, which takes longer for one."""
        if count not in self._requests:
            settings = {
                "INFERENCE_PRECISION_HINT": "f32",  # it would use bf16 by itself where the CPU has it
                "INFERENCE_NUM_THREADS": self._threads,
                "NUM_STREAMS": 1,
                "PERFORMANCE_HINT": "LATENCY",
            }
            model = self._model.clone()
            model.reshape([count, *self._shape])
            self._requests[count] = _openvino().compile_model(model, "CPU", settings).create_infer_request()
        return self._requests[count]


@functools.cache
def _openvino() -> Any:
    # On import the package sends usage data to its makers, unless this module is missing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _confidences(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """The confidence `(N,)` of an exit from its logits `(N, classes)`, exactly as `compress.inference` computes it."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - np.maximum.reduce(scaled, axis=-1, keepdims=True))
    return np.asarray(1 / np.add.reduce(powers, axis=-1))


def _leaves(logits: NDArray[np.float32], temperature: float, threshold: float) -> bool:
    """Whether the confidence of one image, from its logits `(1, classes)`, is above a threshold; as `_confidences`.

    It is decided in Python's own floats unless it is close: NumPy's functions, called between two stages, have left the
    CPU's caches and take as long as a small layer.
    """
    confidence = 1 / sum(_powers(logits, temperature))
    if abs(confidence - threshold) > CLOSE:
        return confidence > threshold
    return bool(_confidences(logits, temperature)[0] > threshold)


def _answer(logits: NDArray[np.float32], temperature: float, exit: int) -> Answers:
    """What one image with these logits `(1, classes)` is answered."""
    powers = _powers(logits, temperature)
    total = sum(powers)
    probabilities = np.array([[power / total for power in powers]], dtype=np.float32)
    return Answers(logits.argmax(axis=-1), np.array([exit], dtype=np.int64), probabilities)


def _powers(logits: NDArray[np.float32], temperature: float) -> list[float]:
    """`exp((logits - the largest) / temperature)` of one image's logits `(1, classes)`."""
    values = logits[0].tolist()
    largest = max(values)
    return [math.exp((value - largest) / temperature) for value in values]


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest and the policy of a bundle whose files are as they were written; raises ValueError if not."""
    manifest = read_manifest(folder)
    try:
        if manifest["kind"] != "cascade":
            raise ValueError(f"{folder} is a bundle of one {manifest['kind']}, not a cascade")
        policy = json.loads((folder / "policy.json").read_bytes())
        exits, stages = len(policy["temperatures"]), len(_stages(manifest))
        if exits != stages or len(policy["thresholds"]) != stages - 1:
            raise ValueError(f"{folder}: the policy is for {exits} exits, and there are {stages} stages")
    except (OSError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} is not a whole bundle: {type(error).__name__}: {error}") from error
    return manifest, policy


def _stages(manifest: dict[str, Any]) -> list[str]:
    """The files of the stages, in order."""
    suffix = ".onnx" if manifest["format"] == "onnx" else ".xml"
    count = sum(name.startswith("stage") and name.endswith(suffix) for name in manifest["files"])
    return [f"stage{number}{suffix}" for number in range(1, count + 1)]


def _engine(format: str, wanted: str | None, *, required: bool) -> str:
    """The engine to use: the wanted one, or another that is installed unless it is required."""
    readers = READERS[format]
    if required and wanted not in readers:
        raise ValueError(f"engine {wanted!r} does not read {format}; {' and '.join(readers)} do")
    order = [wanted] if required else sorted(readers, key=lambda name: name != wanted)
    for name in order:
        if name and importlib.util.find_spec(name):
            return name
    raise ValueError(f"none of {', '.join(map(str, order))} is installed: pip install {order[0]}")


def not_certified(policy: dict[str, Any], *, engine: str, precision: str, input: str) -> str | None:
    """Why nothing is guaranteed of what an engine answers by a policy; None where its certificate holds."""
    certificate = policy.get("certificate")
    if not certificate:
        return f"not certified: run compress exits --engine {engine}, and export again"
    if (certificate["engine"], certificate["precision"]) != (engine, precision):
        return f"not certified for this engine: run compress exits --engine {engine}, and export again"
    return None if input == "uint8" else f"not certified for {input} images: export with --input uint8"
