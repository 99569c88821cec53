"""The command `python -m benchmarks.probing.gradient_conflict`: do the gradients of exits conflict in MW-BP?

Where two losses' gradients point apart (a negative cosine), gradient surgery (PCGrad, Yu et al. 2020, arXiv 2001.06782)
takes from each what works against the other. What it would change is measured in a training as `compress train-mwbp`
does it, which takes the same steps, bit for bit, as without. Segment j of the trunk hears exits j and later.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from cyclopts import App, Parameter, validators
from torch import Tensor

from compress.data import open_dataset
from compress.errors import UsageError, one_line
from compress.hardware import check_bf16, describe, repeatable
from compress.networks import Architecture, initialised
from compress.recipes import recipe_named
from compress.runs import write_json
from compress.training import Method, Place, Plan, plan_of
from compress.training.capture import restored
from compress.training.loop import Training, fit
from compress.training.plan import split_by

THIRDS = ("first", "second", "last")
Count = Annotated[int, Parameter(validator=validators.Number(gte=1))]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ConflictSetup:
    """What is trained, and where it is measured.

    Attributes:
        arch: Network that is trained.
        widths: Channels per stage, such as 8,16,32, instead of the architecture's.
        exits: Number of exits with the last one, equally spaced; or as train-mwbp takes them, such as macs:5.
        dataset: Data set.
        recipe: Training protocol.
        epochs: Passes over the training images, instead of the recipe's.
        seed: Random seed of the training, and of the order in which surgery projects.
        precision: auto (bf16 if the hardware has it), fp32 or bf16.
        every: Steps from one measurement to the next.
        data_dir: Directory in which data are looked for first.
    """

    arch: str = "resnet44"
    widths: str = ""
    exits: str = "5"
    dataset: str = "fashion-mini"
    recipe: str = "quick"
    epochs: Count | None = None
    seed: int = 0
    precision: str = "auto"
    every: Count = 50
    data_dir: Path | None = None

    def plan(self) -> Plan:
        """The plan that `compress train-mwbp` would carry out."""
        return plan_of(
            Architecture(self.arch, widths=self.widths),
            open_dataset(self.dataset, data_dir=self.data_dir),
            method=Method(name="mwbp"),
            exits=self.exits,
            recipe=recipe_named(self.recipe, epochs=self.epochs),
            seed=self.seed,
            place=Place(precision=self.precision),
        )


class MeasuredTraining(Training):
    """The training of a plan by MW-BP in its default form, measured at every so many steps.

    Attributes:
        measured: of every measurement the step and, for every segment and for the trunk as one, the exits that it hears
            and the `conflicts` of their weighted losses' gradients.

    Raises:
        UsageError: the network has one exit, or the plan's recipe and network do not fit.
    """

    def __init__(self, plan: Plan, every: int) -> None:
        if len(plan.spec.exits) == 1:
            raise UsageError("exits 1: there is no other exit whose gradient could conflict")
        network = initialised(plan.spec, plan.seed, zero_scale=plan.recipe.zero_scale)
        if plan.precision == "bf16":
            check_bf16(network, plan.device)
        super().__init__(
            network.to(plan.device),
            split_by(plan.recipe, plan.dataset).to(plan.device),
            plan.recipe,
            plan.objective,
            augment=plan.dataset.augmentable,
            seed=plan.seed,
            precision=plan.precision,
        )
        self.every, self.order = every, np.random.default_rng(plan.seed)
        self.measured: list[dict[str, Any]] = []

    def step(self, images: Tensor, labels: Tensor, *, done: int) -> Tensor:
        """Measure, if it is time, on the step's images at the weights before it; then take the step."""
        if done % self.every == 0:
            grams = self._grams(images, labels)
            exits = range(1, len(grams) + 1)
            whole = np.sum([np.pad(gram, (len(exits) - len(gram), 0)) for gram in grams], axis=0)
            named = [(f"segment {first}", exits[first - 1 :], gram) for first, gram in enumerate(grams, start=1)]
            named.append(("trunk", exits, whole))
            places = {name: {"exits": [*heard]} | conflicts(gram, self.order) for name, heard, gram in named}
            self.measured.append({"step": done, "places": places})
        return super().step(images, labels, done=done)

    def _grams(self, images: Tensor, labels: Tensor) -> list[np.ndarray]:
        """For every segment the products `(exits, exits)` of the gradients of the exits' weighted losses that it hears.

        Weights, batch norm's statistics and the random state stay as they are; layers drop what the step will drop.
        """
        segments = [[*segment.parameters()] for segment in self.network.segments(self.objective.segments)]
        sizes = [sum(parameter.numel() for parameter in segment) for segment in segments]
        heard: list[list[Tensor]] = [[] for _ in segments]
        cuda = [self.device] if self.device.type == "cuda" else []
        with restored(self.stepping.step), torch.random.fork_rng(devices=cuda), repeatable(self.device):
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
                logits = self.network(images)
            smoothing = self.recipe.label_smoothing
            losses = self.objective.losses(logits, labels, smoothing, class_weights=self.class_weights)
            for exit, weight in enumerate(self.objective.loss_weights, start=1):
                trunk = list(itertools.chain(*segments[:exit]))
                gradients = torch.autograd.grad(
                    weight * losses[exit - 1], trunk, retain_graph=True, materialize_grads=True
                )
                flat = torch.cat([gradient.flatten() for gradient in gradients])
                for segment, part in zip(heard, flat.split(sizes[:exit]), strict=False):
                    segment.append(part.double())
        stacked = [torch.stack(gradients) for gradients in heard]
        return [(each @ each.T).cpu().numpy() for each in stacked]


def surgery(gram: np.ndarray, order: np.random.Generator) -> np.ndarray:
    """PCGrad: what the gradients become, as sums of the given ones, `(gradients, gradients)`.

    In a random order, each gradient loses its component along every other one that it has a negative product with.

    Args:
        gram: products of the gradients, `(gradients, gradients)`.
    """
    factors = np.eye(len(gram))
    for gradient, row in enumerate(factors):
        for other in order.permutation(len(gram)):
            if other != gradient and (product := row @ gram[:, other]) < 0:
                row[other] -= product / gram[other, other]
    return factors


def conflicts(gram: np.ndarray, order: np.random.Generator) -> dict[str, Any]:
    """Norms, cosines and `change`: the norm of PCGrad's sum less the plain sum, divided by that of the plain sum.

    The cosines are those of the first gradient with the second, the third, and so on; then of the second with the
    third, and so on. That of a gradient of zero is 0.
    """
    norms = np.sqrt(gram.diagonal())
    size = np.outer(norms, norms)
    cosines = np.divide(gram, size, out=np.zeros_like(gram), where=size > 0)
    moved = (surgery(gram, order) - np.eye(len(gram))).sum(axis=0)
    before, difference = gram.sum(), max(0.0, moved @ gram @ moved)  # squared norms
    return {
        "norms": norms.tolist(),
        "cosines": [float(cosines[pair]) for pair in itertools.combinations(range(len(gram)), 2)],
        "change": float(np.sqrt(difference / before)) if before > 0 else 0.0,
    }


def thirds(measured: Sequence[dict[str, Any]], steps: int) -> list[dict[str, Any]]:
    """By third of the training's `steps` and place with several exits: means, and the share of pairs in conflict."""
    rows = []
    for third, place in itertools.product(range(3), measured[0]["places"]):
        found = [each["places"][place] for each in measured if 3 * each["step"] // steps == third]
        if found and len(found[0]["exits"]) > 1:
            cosines = np.array([each["cosines"] for each in found])
            rows.append(
                {
                    "third": THIRDS[third],
                    "place": place,
                    "measurements": len(found),
                    "mean_cosine": float(cosines.mean()),
                    "share_in_conflict": float((cosines < 0).mean()),
                    "mean_change": float(np.mean([each["change"] for each in found])),
                }
            )
    return rows


def measure(setup: ConflictSetup) -> dict[str, Any]:
    """Train, and return every measurement, their summary by `thirds`, the epochs, and `environment`."""
    plan = setup.plan()
    training = MeasuredTraining(plan, setup.every)
    fit(training, title=plan.title)
    steps = plan.recipe.epochs * training.steps
    resolved = {"data_dir": None, "precision": plan.precision, "epochs": plan.recipe.epochs, "steps": steps}
    return {
        "setup": dataclasses.asdict(setup) | resolved | {"blocks_with_exits": list(plan.objective.segments)},
        "loss_weights": list(plan.objective.loss_weights),
        "thirds": thirds(training.measured, steps),
        "measured": training.measured,
        "epochs": training.history,
        "environment": describe(plan.device),
    }


app = App(name="python -m benchmarks.probing.gradient_conflict", help_format="plaintext", version_flags=[])


@app.default
def main(*, setup: ConflictSetup | None = None, out: Path = Path("gradient-conflict.json")) -> None:
    """Measure, in a training by MW-BP, how far the gradients of exits conflict, and what surgery would change.

    Args:
        out: JSON file of all measurements.
    """
    if not out.absolute().parent.is_dir():
        raise UsageError(f"out {out}: there is no directory {out.parent}")
    document = measure(setup or ConflictSetup())
    write_json(out, document)
    print(f"{'third':<8}{'place':<12}{'cosine':>8}{'in conflict':>13}{'change':>9}")
    for row in document["thirds"]:
        values = f"{row['mean_cosine']:>8.3f}{row['share_in_conflict']:>13.1%}{row['mean_change']:>9.2%}"
        print(f"{row['third']:<8}{row['place']:<12}{values}")
    print(out)


if __name__ == "__main__":
    try:
        app()
    except UsageError as error:
        print(f"gradient_conflict: {one_line(str(error))}", file=sys.stderr)
        sys.exit(2)
