"""Training time per image on this machine, measured over a few steps."""

from __future__ import annotations

import time

import torch

from compress.data import Normalisation, Split
from compress.data.dataset import Labelled
from compress.hardware import Precision, finish_on
from compress.networks import Spec, initialised
from compress.recipes import Recipe
from compress.training.loop import Training
from compress.training.objectives import Objective

TIMED, TIMED_ON_GPU = 2, 20  # steps, of which a GPU takes hundreds a second
MOST_MACS = 4e10  # of a step timed on a CPU: seconds, within some hundred MB
LEAST = 16  # images of such a step


def image_seconds(
    spec: Spec, objective: Objective, recipe: Recipe, *, device: torch.device, precision: Precision
) -> float:
    """Seconds of training per image, measured now over a few steps with blank images.

    Includes the update, but not reading and augmenting images. Steps have the recipe's batch size, since small networks
    take longer for an image in small batches; a large network has smaller ones on a CPU.
    """
    network = initialised(spec, 0).to(device).train()
    count = recipe.batch_size
    if device.type == "cpu":
        count = min(count, max(LEAST, int(MOST_MACS / objective.macs_an_image(network))))
    blank = Labelled(images=torch.zeros(count, *spec.input_shape, dtype=torch.uint8), labels=torch.arange(count) % 2)
    plain = Normalisation(mean=(0.5,) * spec.input_shape[0], std=(0.5,) * spec.input_shape[0])
    parts = Split(train=blank, validation=blank, calibration=blank, test=blank, normalisation=plain).to(device)
    training = Training(network, parts, recipe, objective, augment=False, seed=0, precision=precision)
    images = torch.zeros(count, *spec.input_shape, device=device).contiguous(memory_format=torch.channels_last)
    timed, started = (TIMED if device.type == "cpu" else TIMED_ON_GPU), 0.0
    for step in range(1 + timed):
        if step == 1:  # the first step is warm-up, and capture on a GPU
            finish_on(device)
            started = time.monotonic()
        training.step(images, parts.train.labels, done=0)
    finish_on(device)
    return (time.monotonic() - started) / timed / count
