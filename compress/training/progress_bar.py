"""Progress of a training: a bar on a terminal, plain lines elsewhere, the expected time in both."""

import time
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from compress.console import console, duration
from compress.training.watchdog import PATIENCE, Watchdog

SECONDS_BETWEEN_UPDATES = 0.5
WORTH_ANNOUNCING = 10.0
STEPS_TO_TIME = 3


class TrainingProgress:
    """Shows the progress of a training of `epochs` epochs with `steps` steps each, `done` epochs of which are finished.

    Prints a warning if no step has finished for `patience` seconds and unusually long.
    """

    def __init__(self, title: str, *, epochs: int, steps: int, done: int = 0, patience: float = PATIENCE) -> None:
        self.title, self.epochs, self.steps = title, epochs, steps
        self.seen = done * steps
        self.started = self.updated = time.monotonic()
        self.fresh_steps = 0
        self.announced = False
        self.watchdog = Watchdog(lambda words: console.print(f"{title}: {words}"), patience=patience)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
        )
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self.task = self.bar.add_task(title, total=epochs * steps, completed=self.seen, state="")

    def __enter__(self) -> "TrainingProgress":
        self.bar.start()
        self.watchdog.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.watchdog.stop()
        self.bar.stop()

    def step(self) -> bool:
        """Count a step; returns whether it is time to call `show`."""
        self.seen += 1
        self.fresh_steps += 1
        self.watchdog.step(last=self.seen % self.steps == 0)
        now = time.monotonic()
        if self.fresh_steps == 1:  # the first step includes warm-up
            self.started = now
        if not self.announced and self.fresh_steps > STEPS_TO_TIME:
            self._announce((now - self.started) / (self.fresh_steps - 1))
        if now - self.updated < SECONDS_BETWEEN_UPDATES:
            return False
        self.updated = now
        return True

    def show(self, loss: float, accuracy: float, images_per_second: float) -> None:
        """Move the bar; loss and accuracy (a fraction) are means of the last exit over this epoch so far."""
        state = f"loss {loss:.3f}  accuracy {accuracy:.1%}  {images_per_second:.0f} images/s"
        self.bar.update(self.task, completed=self.seen, state=state)

    def epoch(self, line: dict[str, Any]) -> None:
        """Print the result of an epoch, given its line of `metrics.jsonl`."""
        exits = " ".join(f"{value:.1%}" for value in line["val_accuracy"] or line["train_accuracy"])
        what = "validation" if line["val_accuracy"] else "training"
        console.print(
            f"{self.title}: epoch {line['epoch']}/{self.epochs}  loss {line['train_loss'][-1]:.3f}  "
            f"{what} accuracy {exits}  {line['images_per_second']:.0f} images/s"
        )
        self.watchdog.expect()

    def _announce(self, seconds_a_step: float) -> None:
        self.announced = True
        remaining = seconds_a_step * (self.epochs * self.steps - self.seen)
        if remaining > WORTH_ANNOUNCING:
            console.print(f"{self.title}: about {duration(remaining)} of training ahead")
