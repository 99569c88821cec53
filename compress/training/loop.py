"""The training loop: any network, any objective; resuming after an epoch gives the same weights bit for bit.

Data order, crops and flips of an epoch depend on the seed and the epoch's number alone, so a checkpoint holds no random
state.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compress import machine, signals
from compress.console import console
from compress.data import Split, normalise
from compress.errors import UsageError
from compress.hardware import Precision, finish_on, keep_freed_memory
from compress.networks import Network, Spec
from compress.recipes import Recipe
from compress.training.averaging import Averaging
from compress.training.batchnorm import reestimate, steps_to_settle
from compress.training.capture import Steps, why_eager
from compress.training.checkpoints import Checkpoints
from compress.training.class_weights import class_weights
from compress.training.compiled import compiled, pays
from compress.training.deadline import check_deadline
from compress.training.distributed import current_world
from compress.training.evaluation import accuracies, cross_entropies, evaluated_at_once, predict
from compress.training.hooks import PLAIN, Narrow, Options, Spent, sliced
from compress.training.objectives import Objective
from compress.training.plan import augmentation_by
from compress.training.progress_bar import TrainingProgress
from compress.training.step import Step, Tally
from compress.training.updates import Simultaneous, update_of
from compress.training.watchdog import PATIENCE

_LAYERS = 4  # random stream of dropout and stochastic depth, of torch's generator; augmentation draws from numpy's


class DivergedError(UsageError):
    """The loss is NaN or infinite."""


class Training:
    """The state of a training between two epochs: the network (trained in place), its update, averaged weights.

    Args:
        split: images on the network's device.
        augment: apply the recipe's crops and flips; false for data that they do not suit.
        seed: random seed for data order, crops and flips, dropout and stochastic depth.

    Raises:
        UsageError: the objective, recipe, network, options and number of processes do not fit one another.
    """

    def __init__(
        self,
        network: Network,
        split: Split,
        recipe: Recipe,
        objective: Objective,
        *,
        augment: bool,
        seed: int,
        precision: Precision,
        options: Options = PLAIN,
    ) -> None:
        self.world = current_world()
        self.network = network
        self.split, self.recipe, self.objective, self.precision = split, recipe, objective, precision
        self.seed, self.options, self.teacher, self.hook = seed, options, options.teacher, options.hook
        self.device = split.train.labels.device
        options.check(objective, recipe, processes=self.world.size)
        self._eager = why_eager(objective, options, self.device, self.world.size, recipe.optimizer)
        if objective.frozen_trunk:
            self._freeze_trunk()
        if self.device.type == "cpu":
            keep_freed_memory()
        self.augmentation = augmentation_by(recipe, seed, augmentable=augment)
        self.batch_size = recipe.batch(len(split.train))
        self.steps = len(split.train) // self.batch_size  # the smaller last batch of an epoch is dropped
        many = evaluated_at_once(self.device, split.train.shape) if self.device.type == "cuda" else 1
        self.at_once = max(1, many // self.batch_size)  # batches that are augmented together, with fewer launches
        self.class_weights = class_weights(recipe.class_weights, split.train.labels, network.spec.classes)
        self.tally = Tally(len(network.spec.exits), self.device)
        self._adopt(network)
        self.best: dict[str, Tensor] | None = None
        self.history: list[dict[str, Any]] = []
        self.spent = Spent()

    @property
    def epochs_done(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    @property
    def training_macs(self) -> int:
        """MACs of all steps so far, counted for the network that each step trained."""
        return self.spent.macs + self.spent.settling_macs + self._macs_until(self.epochs_done * self.steps)

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and plain values."""
        return {
            "network": self.network.state_dict(),
            "update": self.update.state_dict(),
            "averaged": averaged.state_dict() if (averaged := self.averaging.averaged) else None,
            "best": self.best,
            "history": self.history,
            "spec": self.network.spec.to_json() if self.hook.before_step else None,
            "spent": dict(vars(self.spent)),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved state of the same training."""
        if spec := state.get("spec"):
            self._adopt(self._unlike(Spec.from_json(spec)))
        self.spent = Spent(**state["spent"])
        self.network.load_state_dict(state["network"])
        self.update.load_state_dict(state["update"])
        if self.averaging.averaged:
            self.averaging.averaged.load_state_dict(state["averaged"])
        self.best, self.history = state["best"], state["history"]
        self.stepping.forget()  # the update has new tensors

    def epoch(self, progress: TrainingProgress) -> None:
        """Train for one epoch, validate, and append a line to `history`.

        Raises:
            DivergedError: the loss became NaN or infinite.
        """
        self._train_mode()
        self.tally.reset()
        started = time.monotonic()
        stream = np.random.default_rng((_LAYERS, self.epochs_done, self.seed, self.world.rank))
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(int(stream.integers(2**63)))
            for step, (images, labels) in enumerate(self._batches(), start=1):
                self.step(images, labels, done=self.epochs_done * self.steps + step - 1)
                signals.check()
                if not progress.announced:
                    finish_on(self.device)  # the first steps are timed
                if progress.step():  # a GPU is waited for twice a second at most
                    if self.world.size == 1:  # several processes would not come here at the same step
                        self._check_finite(self.tally.losses)
                    loss, accuracy = self.tally.of_last_exit(step, step * len(labels))
                    progress.show(loss, accuracy, step * self.batch_size / (time.monotonic() - started))
        self.averaging.end_epoch(self.network)
        losses, correct = self.world.total(torch.stack([self.tally.losses / self.world.size, self.tally.correct]))
        self._check_finite(losses)
        seconds = time.monotonic() - started
        needed = steps_to_settle(self.network)
        if (self.epochs_done + 1) * self.steps < needed:
            self._settle()
            self.spent.settled_epochs, self.spent.steps_to_settle = self.epochs_done + 1, needed
        self._finish_epoch(losses / self.steps, correct / (self.steps * self.batch_size), seconds)

    def reshape(self, narrow: Narrow, *, done: int) -> None:
        """Replace the network after `done` steps by `narrow(network)`, a smaller network with copied weights.

        Momentum of the remaining weights is kept bit for bit; schedule and costs continue. Earlier epochs can no longer
        be selected as the best.
        """
        update = self.update
        assert isinstance(update, Simultaneous)
        momentum = sliced(update.momentum(), self.network, narrow)
        self.spent.macs += self._macs_until(done)
        self.spent.steps = done
        self._adopt(narrow(self.network))
        assert isinstance(self.update, Simultaneous)
        self.update.set_momentum(momentum)
        self._train_mode()

    def finish(self) -> None:
        """Load the weights to report into the network: the last, the averaged, or the best on validation images."""
        if self.best is not None:
            self.network.load_state_dict(self.best)
        if self.averaging.averaged and self.averaging.begun:
            self.network.load_state_dict(self.averaging.averaged.module.state_dict())
            self._train_mode()
            self._settle()
        self.network.eval()

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the augmented, normalised images `(N, C, H, W)` and labels `(N,)` of every batch of this epoch."""
        train, epoch = self.split.train, self.epochs_done
        order = self.augmentation.order(epoch, len(train)).to(self.device)
        augmented = self.augmentation.draw(epoch, len(train), self.device)
        shares = [self.world.share(batch) for batch in order[: self.steps * self.batch_size].split(self.batch_size)]
        chosen = torch.cat(shares).split(len(shares[0]) * self.at_once)
        for indices, images in zip(chosen, train.batches(chosen, augmented.crop), strict=True):
            images = normalise(augmented(images, indices), self.split.normalisation)
            images = images.contiguous(memory_format=torch.channels_last)
            size = len(shares[0])
            yield from zip(images.split(size), train.labels[indices].split(size), strict=True)

    def step(self, images: Tensor, labels: Tensor, *, done: int) -> Tensor:
        """Take one step after `done` others; returns its losses `(exits,)`, which the next step may overwrite."""
        if self.hook.before_step:
            self.hook.before_step(self, done)
        # The schedule is read at the middle of the step, so no step of a one-cycle schedule has rate 0.
        self.stepping.step.prepare((done + 0.5) / (self.recipe.epochs * self.steps))
        losses = self.stepping.take(images, labels, average=self.averaging.moving)
        self.averaging.after(self.network, done)
        return losses

    @property
    def model(self) -> nn.Module:
        """What runs the network in a step: the network itself, compiled, or parallel."""
        return self.stepping.step.model

    def _adopt(self, network: Network) -> None:
        """Make this the network to train, with a new update."""
        self.network = network.to(memory_format=torch.channels_last)
        network.drop_blocks(self.recipe.stochastic_depth)
        self.update = update_of(self.objective, network, self.recipe, self.hook.regularise)
        self.averaging = Averaging(network, self.recipe, self.steps)
        parallel = self.world.parallel(network, self.device)  # only now: batch norm of the averaged copy stays as it is
        compiles = self.options.compile or (not self._eager and pays(network))
        step = Step(
            network=network,
            model=compiled(network) if compiles else parallel,
            update=self.update,
            objective=self.objective,
            recipe=self.recipe,
            precision=self.precision,
            averaging=self.averaging,
            tally=self.tally,
            teacher=self.teacher,
            class_weights=self.class_weights,
        )
        self.stepping = Steps(step, eager=self._eager, plain=step.model if self.options.compile else network)

    def _unlike(self, spec: Spec) -> Network:
        """A network with another spec, on the device and in the precision of the current one."""
        like = next(self.network.parameters())
        with torch.random.fork_rng(devices=[]):  # its weights are replaced
            return Network(spec).to(like.device, like.dtype)

    def _macs_until(self, done: int) -> int:
        """MACs of the steps from the last change of the network's shape up to step `done`."""
        an_image = self.objective.macs_an_image(self.network, self.teacher)
        return (done - self.spent.steps) * self.batch_size * an_image

    def _freeze_trunk(self) -> None:
        """Freeze everything but the heads of auxiliary exits."""
        self.network.requires_grad_(False)
        for head in list(self.network.heads.values())[:-1]:
            head.requires_grad_(True)

    def _train_mode(self) -> None:
        """Set train mode, but eval mode for a frozen trunk, whose batch norm statistics must not move."""
        self.network.train()
        if self.objective.frozen_trunk:
            for part in (self.network.stem, self.network.blocks, list(self.network.heads.values())[-1]):
                part.eval()

    def _settle(self) -> None:
        """Recompute batch norm's running statistics from all training images; in training shared heads alone read them.

        The images are augmented as those that the weights were trained on, by this epoch's draw.
        """
        started, parts = time.monotonic(), self.split
        drawn = self.augmentation.draw(self.epochs_done, len(parts.train), self.device)
        macs = reestimate(self.network, parts.train, parts.normalisation, images=None, trained=True, augmented=drawn)
        self.spent.settling_macs += macs
        self.spent.settling_seconds += time.monotonic() - started

    def _check_finite(self, values: Tensor) -> None:
        """Raise DivergedError if a loss, or after an epoch a weight or logit, is NaN or infinite."""
        if not all(math.isfinite(value) for value in values.tolist()):
            kept = "; the last good checkpoint is kept" if self.epochs_done else ""
            raise DivergedError(
                f"the loss is not finite in epoch {self.epochs_done + 1} (learning rate "
                f"{self.update.learning_rate:.3g}){kept}; a lower --learning-rate may help"
            )

    def _finish_epoch(self, losses: Tensor, accuracy: Tensor, seconds: float) -> None:
        validation = self.split.validation
        logits = predict(self.network, validation, self.split.normalisation)
        norms = (module for module in self.network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
        statistics = [buffer for norm in norms for buffer in norm.buffers(recurse=False)]  # a mask's may be infinite
        left = [*self.network.parameters(), *statistics, logits]
        self._check_finite(torch.stack([values.sum().float() for values in left]))
        val_accuracy = accuracies(logits, validation.labels)
        self.history.append(
            {
                "epoch": self.epochs_done + 1,
                "train_loss": losses.tolist(),
                "train_accuracy": accuracy.tolist(),
                "val_loss": cross_entropies(logits, validation.labels),
                "val_accuracy": val_accuracy,
                "learning_rate": self.update.learning_rate,
                "images_per_second": self.steps * self.batch_size / seconds,
                "seconds": seconds,
                "load": machine.load(),
            }
        )
        if self.recipe.select == "best-validation" and val_accuracy:
            before = [line["val_accuracy"][-1] for line in self.history[self.spent.steps // self.steps : -1]]
            if val_accuracy[-1] > max(before, default=-1.0):
                self.best = copy.deepcopy(self.network.state_dict())


def fit(
    training: Training,
    *,
    title: str,
    checkpoint: Path | None = None,
    on_epoch: Callable[[Training], None] | None = None,
    patience: float = PATIENCE,
) -> None:
    """Train to the recipe's last epoch, then call `finish`; continues from a checkpoint if there is one.

    After every epoch, rank 0 calls `on_epoch` and then replaces the checkpoint; on a GPU every ten
    seconds. The first checkpoint is written before the first epoch.

    Args:
        title: name of the training in progress lines.
        checkpoint: directory of the checkpoint; None to keep none.
        patience: seconds without a step after which a warning is printed.

    Raises:
        DivergedError: the loss became NaN or infinite; the last good checkpoint is kept.
        UsageError: the checkpoint is corrupt or cannot be written, or the deadline came (OutOfTimeError).
    """
    world, checkpoints = training.world, Checkpoints(checkpoint, training.world, training.device)
    if not checkpoints.restore(training.restore):
        checkpoints.keep(training.state, last=True)
    epochs, steps, done = training.recipe.epochs, training.steps, training.epochs_done
    if training.device.type == "cuda" and done < epochs:
        console.print(f"{title}: {training.stepping.way}")
    with TrainingProgress(title, epochs=epochs, steps=steps, done=done, patience=patience) as progress:
        while training.epochs_done < epochs:
            training.epoch(progress)
            progress.epoch(training.history[-1])
            if on_epoch:
                world.on_leader(lambda: on_epoch(training))
            checkpoints.keep(training.state, last=training.epochs_done == epochs)
            if training.epochs_done < epochs:
                world.on_leader(lambda: check_deadline(training.epochs_done, epochs))
    training.finish()
