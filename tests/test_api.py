"""Every public function refuses arguments that do not fit, whatever they are, with an error of its own."""

import inspect
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import baselines
import benchmarks
import compress
from compress import Architecture, Dataset, Network, UsageError, create, normalise
from compress.data import Normalisation

BAD = {
    "None": None,
    "-1": -1,
    "nan": math.nan,
    "inf": math.inf,
    "huge": 10**30,
    "a fraction": 1.5,
    "numpy's int": np.int64(3),
    "no word": "",
    "a word": "nothing",
    "a long word": "x" * 300,
    "no file's name": "\x00",
    "bytes": b"x",
    "nothing in a list": [],
    "None in a list": [None],
    "a dict": {},
    "an object": object(),
    "no numbers": torch.zeros(0),
    "a float map": torch.zeros(2, 3, 8, 8),
    "a grey map": torch.zeros(2, 1, 8, 8, dtype=torch.uint8),
    "a path": Path("missing"),
}


# What functions return, and no caller makes.
MADE = (compress.Run, compress.Bundle, compress.Prediction, compress.Predictor)


class StoppedError(Exception):
    """Raised in place of a training or measurement, whose arguments have been accepted."""


@pytest.fixture(scope="module")
def good(tiny: Dataset) -> dict[str, Any]:
    """Return an argument that fits, by name, for those that have no default."""
    network = create("resnet8", exits=2)
    spec = network.spec
    return {
        **{
            "arch": "resnet8",
            "arch_or_run": "resnet8",
            "name": "mine",
            "factory": torch.nn.Identity,
            "path": Path("missing.pt"),
        },
        **{"network": network, "reference": network, "exit": 1, "spec": spec, "run": "nothing", "runs": []},
        **{"source": "nothing"},
        **{"images": torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "record": None, "copy": "", "dataset": tiny},
        **{"normalisation": Normalisation(mean=(0.0,) * 3, std=(1.0,) * 3), "mean": (0.0,), "std": (1.0,)},
        **{"classes": tiny.classes, "train": tiny.train, "test": tiny.test, "epochs": 1, "fine_tune_epochs": 1},
        **{"input_shape": spec.input_shape, "stem": spec.stem, "blocks": spec.blocks, "exits": spec.exits},
        **{"macs": 1, "params": 1, "bytes": 1, "activations": 1, "out": Path("report"), "directory": Path("runs")},
        **{"budget": baselines.Budget(speedup=2), "data_dir": None, "comparison": benchmarks.Comparison(runs=[])},
    }


def public() -> Iterator[tuple[Callable[..., Any], str]]:
    """Every argument of every public function and class that is checked."""
    chosen = [getattr(compress, name) for name in compress.__all__]
    chosen += [baselines.prune, baselines.Budget, baselines.FineTuning, baselines.Technique, Normalisation]
    chosen += [benchmarks.bench, benchmarks.bench_all, benchmarks.latency_ratio, benchmarks.main_table]
    chosen += [benchmarks.Comparison, benchmarks.Limits, benchmarks.Serving, benchmarks.select]
    chosen += [benchmarks.probe, benchmarks.read_comparison, benchmarks.read_study, benchmarks.write_report]
    for function in chosen:
        if callable(function) and function not in (UsageError, *MADE):
            for name, parameter in inspect.signature(function).parameters.items():
                if parameter.kind is not parameter.VAR_KEYWORD:
                    yield function, name


@pytest.mark.parametrize(("function", "argument"), list(public()), ids=lambda value: getattr(value, "__name__", value))
def test_a_bad_argument_is_named(
    function: Callable[..., Any],
    argument: str,
    good: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise StoppedError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("compress.networks.foreign.zoo._registered", {})
    for accepted in ("compress.training.planning.execute", "baselines.pruning.carry_out"):
        monkeypatch.setattr(accepted, stop)
    required = {
        name: good[name]
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    }
    if function is create:
        required |= {"exits": 2}
    if getattr(function, "__name__", "") == "Spec":
        required |= {"classes": 10}
    outcomes = {}
    for kind, bad in BAD.items():
        try:
            function(**required | {argument: bad})
            outcomes[kind] = "accepted"
        except StoppedError:
            outcomes[kind] = "accepted"
        except UsageError as error:
            outcomes[kind] = "refused" if str(error) else "refused without a word"
        except Exception as error:
            outcomes[kind] = f"{type(error).__name__}: {error}"
    assert not {kind: what for kind, what in outcomes.items() if what not in ("accepted", "refused")}
    assert outcomes["an object"] == "refused"
    assert capfd.readouterr().err.count("Traceback") == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: create(Architecture("resnet8", width="2")), "Architecture: width '2' is not int"),  # type: ignore[arg-type]
        (lambda: create("resnet8", exits=[1, None]), r"create: exits \[1, None\] is not int | str"),  # type: ignore[list-item]
        (lambda: create("resnet8", input_shape=(3, 32)), r"input_shape \(3, 32\) is not tuple\[int, int, int\]"),  # type: ignore[arg-type]
        (
            lambda: create(Architecture("resnet8", width=9999)),
            "weights: too large to build, 1,000,000,000 are the most",
        ),
        (lambda: create("resnet8", input_shape=(3, 10**6, 10**6)), "values in the features of one image"),
        (lambda: compress.train("resnet8", 3), "train: dataset 3 is not Dataset | str"),  # type: ignore[arg-type]
        (lambda: compress.find_run(""), "an id, its beginning, or the path"),
        (lambda: compress.open_dataset("x" * 300), "unknown data set"),
        (lambda: compress.Recipe(name="x", epochs=1, fine_tune_epochs=1, momentum=math.nan), "momentum nan"),
        (lambda: _normalised(torch.zeros(1, 3, 4, 4)), r"uint8 \(N, C, H, W\) with 1 channels C"),
        (lambda: _normalised(torch.zeros(1, 3, 4, 4, dtype=torch.uint8)), "with 1 channels C"),
    ],
)
def test_what_is_allowed_is_said(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


def test_a_network_of_any_usual_size_is_made() -> None:
    assert isinstance(create("wrn-28-10", classes=100), Network)
    assert isinstance(create(Architecture("mobilenetv2", width=4), classes=1000), Network)


def _normalised(images: torch.Tensor) -> torch.Tensor:
    return normalise(images, Normalisation(mean=(0.5,), std=(0.5,)))
