"""Hooks into the steps of a training, for sparse training and gradual pruning."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from compress.errors import UsageError
from compress.networks import Network
from compress.recipes import Recipe
from compress.training.objectives import Objective
from compress.training.updates import Update

Narrow = Callable[[Network], Network]


@dataclass(kw_only=True)
class Spent:
    """What a training has spent that does not follow from its present network and number of steps.

    Attributes:
        steps: steps before the network last became smaller.
        macs: training MACs of these steps.
        choosing_macs, choosing_seconds: spent on choosing what to prune.
        settling_macs, settling_seconds: spent on recomputing batch norm's statistics.
        settled_epochs: number of first epochs after which they were recomputed, as they need `steps_to_settle`.
    """

    steps: int = 0
    macs: int = 0
    choosing_macs: int = 0
    choosing_seconds: float = 0.0
    settling_macs: int = 0
    settling_seconds: float = 0.0
    settled_epochs: int = 0
    steps_to_settle: float = 0.0


class ReshapableTraining(Protocol):
    """What a hook may use of a `Training`."""

    network: Network
    recipe: Recipe
    steps: int
    spent: Spent
    update: Update

    def reshape(self, narrow: Narrow, *, done: int) -> None:
        """Replace the network after `done` steps by `narrow(network)`."""


@dataclass(frozen=True, kw_only=True)
class Hook:
    """Functions that are called at every step of a training; None for nothing.

    Attributes:
        regularise: called after the backward pass with the network, adds to its gradients.
        before_step: called before a step with the training and the number of finished steps; may `reshape` the network.
    """

    regularise: Callable[[Network], None] | None = None
    before_step: Callable[[ReshapableTraining, int], None] | None = None

    def check(self, objective: Objective, recipe: Recipe, *, compile: bool, processes: int) -> None:
        """Raise UsageError if the hook does not go with the objective, the recipe, compilation or several processes."""
        if (self.regularise or self.before_step) and objective.update == "sequential":
            raise UsageError(
                "update sequential moves the weights once for every exit: sparse training and gradual pruning need a "
                "network trained with --update simultaneous"
            )
        if not self.before_step:
            return
        misfits = {
            "--compile": compile,
            f"{processes} processes": processes > 1,
            f"weight averaging ({recipe.averaging})": recipe.averaging != "none",
            "a frozen trunk": objective.frozen_trunk,
        }
        for name in (name for name, given in misfits.items() if given):
            raise UsageError(
                f"gradual pruning changes the network while it is trained, and {name} needs one that stays"
            )


NO_HOOK = Hook()


@dataclass(frozen=True, kw_only=True)
class Options:
    """What only some trainings need.

    Attributes:
        teacher: network whose last exit's logits the objective distils, on the training's device.
        compile: compile the blocks (see `compiled`). The first minute is slower; the last bits of results differ.
        capture: on a GPU, capture the steps (see `capture`) and compile the blocks where that `pays`.
        hook: what else happens at every step.
    """

    teacher: Network | None = None
    compile: bool = False
    capture: bool = True
    hook: Hook = NO_HOOK

    def check(self, objective: Objective, recipe: Recipe, *, processes: int) -> None:
        """Raise UsageError if they do not go with the objective, the recipe or several processes."""
        if self.compile and objective.update == "sequential":
            raise UsageError("compiled blocks allow one backward pass a step, update sequential needs one an exit")
        if objective.frozen_trunk and (recipe.averaging != "none" or recipe.stochastic_depth):
            raise UsageError("frozen-trunk: a frozen trunk is neither averaged nor trained with stochastic depth")
        if objective.frozen_trunk and recipe.select == "best-validation":
            raise UsageError("frozen-trunk: the last exit never changes, so that no epoch is the best by it")
        if recipe.nesterov and not recipe.momentum:
            raise UsageError(f"recipe {recipe.name}: nesterov needs a momentum above 0")
        if recipe.optimizer == "muon":
            for what, there in (
                ("update sequential", objective.update == "sequential"),
                ("gradient-equilibrium", any(factor != 1 for factor in objective.gradient_factors)),
                ("pruning while training", self.hook != NO_HOOK),
                ("momentum 1", recipe.momentum == 1),
            ):
                if there:
                    raise UsageError(f"optimizer muon: {what} needs sgd")
        if self.compile and processes > 1:
            raise UsageError("compiled blocks and several processes were never tried together: leave out --compile")
        self.hook.check(objective, recipe, compile=self.compile, processes=processes)


PLAIN = Options()


def sliced(tensors: Mapping[str, Tensor], network: Network, narrow: Narrow) -> dict[str, Tensor]:
    """Slice tensors, keyed by parameter name and shaped like the parameters, as `narrow` slices the parameters.

    They are put into a copy of the network in place of the parameters, so the removed indices need not be known.
    """
    carrier = copy.deepcopy(network)
    with torch.no_grad():
        for name, parameter in carrier.named_parameters():
            parameter.copy_(tensors[name] if name in tensors else torch.zeros_like(parameter))
    narrowed = narrow(carrier).to(memory_format=torch.channels_last)  # as the parameters themselves
    return {name: parameter.detach() for name, parameter in narrowed.named_parameters() if name in tensors}
