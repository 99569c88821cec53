"""Engines on a GPU: the logits of eager in fp32, in every precision there, at every batch size; times by events."""

from pathlib import Path

import pytest
import torch

from benchmarks.measuring.engines import Source, engine_named, engines_here
from benchmarks.measuring.rounds import conditions, interleaved, timed
from compress.export.agreement import check_logits
from compress.networks import Network, create

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.filterwarnings("default"),  # compilers and drivers warn of what is no fault of a test
]
CUDA = torch.device("cuda")
ENGINES = ("eager", "compile", "cudagraphs")


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return create("resnet8", exits=1).eval()


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        *((name, precision) for name in ("eager", "cudagraphs") for precision in ("fp32", "bf16", "fp16")),
        ("compile", "fp16"),  # alone, as each compilation takes seconds
    ],
)
def test_engines_agree_with_eager_on_the_cpu(name: str, precision: str, network: Network) -> None:
    engine = engine_named(name)
    if precision not in engine.precisions(CUDA):
        pytest.skip(f"this GPU has no {precision}")
    images = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network(images)[-1]
    for size in (8,) if name == "compile" else (1, 8):
        placed = engine.place(images[:size], CUDA)
        with conditions(threads=1):
            [infer] = engine.prepare([Source(network, Path())], placed, precision, 1)
            check_logits(
                lambda batch, infer=infer: infer(engine.place(batch, CUDA)).cpu(),  # type: ignore[misc]
                size,
                images[:8],
                expected[:8],
                precision=precision,
                what=name,
            )


def test_all_engines_are_found_in_all_precisions_of_the_gpu() -> None:
    found = {(engine.name, precision) for engine, precision in engines_here(CUDA)}
    assert {(name, "fp32") for name in ENGINES} <= found
    assert {name for name, _ in found} == set(ENGINES)


def test_times_are_the_gpus_and_not_those_of_a_call_that_returns_at_once() -> None:
    cycles = 20_000_000  # 7 ms at 3 GHz
    seconds, _ = interleaved(
        [lambda: torch.cuda._sleep(cycles), lambda: torch.cuda._sleep(3 * cycles)], rounds=3, device=CUDA
    )
    assert 2 < float((seconds[:, 1] / seconds[:, 0]).mean()) < 4
    assert timed(lambda: torch.cuda._sleep(cycles), device=CUDA) > 0.001
