"""The watchdog warns once about a training that makes no progress, and does not stop it."""

import time
from dataclasses import replace

import pytest
import torch

from compress.data import Dataset, split
from compress.networks import Network, spec_of
from compress.recipes import Recipe
from compress.training import Hook, Method
from compress.training.hooks import Options, ReshapableTraining
from compress.training.loop import Training, fit
from compress.training.watchdog import Watchdog

PATIENCE = 0.1  # seconds, as long as nothing else is known


def test_a_step_that_does_not_finish_is_said_once_and_the_training_goes_on(
    tiny: Dataset, brief: Recipe, capfd: pytest.CaptureFixture[str]
) -> None:
    def stand_still(training: ReshapableTraining, done: int) -> None:
        if done == 0:
            time.sleep(5 * PATIENCE)

    recipe = replace(brief, validation=0.0, calibration=0.0)
    parts = split(tiny, validation=0.0, calibration=0.0, seed=0)
    spec = spec_of("resnet8", input_shape=tiny.input_shape)
    objective, hook = Method(name="bp").objective(spec), Hook(before_step=stand_still)
    training = Training(
        Network(spec), parts, recipe, objective, augment=False, seed=0, precision="fp32", options=Options(hook=hook)
    )
    fit(training, title="slow", patience=PATIENCE)
    err = capfd.readouterr().err
    assert training.epochs_done == 1
    assert err.count("slow: no step has finished for 0 s (not even the first; ") == 1
    assert f"{torch.get_num_threads()} threads); if it stays so" in err
    assert "OMP_NUM_THREADS=1, or with --debug" in err


def test_what_is_usual_and_what_follows_an_epochs_last_step_is_no_standstill() -> None:
    now, said = [0.0], list[str]()
    watchdog = Watchdog(said.append, patience=120, clock=lambda: now[0])

    def silence(seconds: float) -> int:
        """How much was said after so many more seconds."""
        now[0] += seconds
        watchdog.look()
        return len(said)

    watchdog.expect()
    assert (silence(120), silence(1), silence(1000)) == (0, 1, 1)  # once
    for _ in range(2):
        now[0] += 10
        watchdog.step(last=False)  # they took 1141 / 2 seconds on average
    assert (silence(20 * 1141 / 2 - 10), silence(20)) == (1, 2)
    watchdog.step(last=True)
    assert silence(1e6) == 2
    watchdog.expect()
    assert silence(1e6) == 3
    assert "one took" in said[1]
    assert "not even the first" in said[0]
