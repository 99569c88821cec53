"""Hooks: what a training does at a step besides descending, as sparse training and gradual pruning need it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from compress.errors import UsageError
from compress.networks import Network
from compress.recipes import Recipe
from compress.training.objectives import Objective

if TYPE_CHECKING:
    from compress.training.loop import Training

Narrow = Callable[[Network], Network]


@dataclass(frozen=True, kw_only=True)
class Hook:
    """What else happens at every step; nothing where a field is None.

    Attributes:
        regularise: adds to the gradients of the network that is trained, after the backward pass.
        before_step: is called with the training and the number of steps behind it, and may `reshape` its network.
    """

    regularise: Callable[[Network], None] | None = None
    before_step: Callable[[Training, int], None] | None = None

    def check(self, objective: Objective, recipe: Recipe, *, compile: bool, processes: int) -> None:
        """Raise UsageError where a training cannot do so much besides."""
        if (self.regularise or self.before_step) and objective.update == "sequential":
            raise UsageError(
                "update sequential steps exit by exit, between which nothing else fits: sparse training and gradual "
                "pruning need a network trained with --update simultaneous"
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


def sliced(tensors: Mapping[str, Tensor], network: Network, narrow: Narrow) -> dict[str, Tensor]:
    """Tensors shaped like a network's parameters, by their names, without what `narrow` takes off these.

    They ride in a copy of the network, in the parameters' place: so nobody has to know which indices go.
    """
    carrier = copy.deepcopy(network)
    with torch.no_grad():
        for name, parameter in carrier.named_parameters():
            parameter.copy_(tensors[name] if name in tensors else torch.zeros_like(parameter))
    narrowed = narrow(carrier).to(memory_format=torch.channels_last)  # as the parameters that they belong to
    return {name: parameter.detach() for name, parameter in narrowed.named_parameters() if name in tensors}
