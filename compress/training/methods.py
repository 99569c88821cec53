"""Training methods by name: MW-BP and its variants, BP, and controls for the parts of MW-BP."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from compress.errors import UsageError, checked, nearest

if TYPE_CHECKING:  # a method is plain data: what computes with it is imported where it is needed, as it imports torch
    from compress.networks import Spec
    from compress.training.objectives import Objective

# A comparison with MW-BP must include the controls: by the algebra of `objectives`, MW-BP is deep supervision with
# certain loss weights plus more weight decay on shallow segments.
METHODS = {
    "bp": "plain backpropagation from one exit at the end",
    "mwbp": "multi-way backpropagation (arXiv 1611.01773, v6)",
    "auxnet": "its first form (v4): gap-fc heads, a rate by the ratio of losses, sequential",
    "bp-extra-decay": "control: plain backpropagation with the weight decay that MW-BP's exits would bring",
    "deep-supervision": "control: every loss with weight one, plain weight decay",
    "mwbp-uniform-decay": "control: MW-BP's losses with the plain weight decay everywhere",
    "frozen-trunk": "control: exits trained on the frozen trunk of a network trained by plain backpropagation",
}
CONTROLS = tuple(name for name, card in METHODS.items() if card.startswith("control"))
SINGLE_EXIT = ("bp", "bp-extra-decay")
FROZEN = "frozen-trunk"
UPDATES = ("simultaneous", "sequential")
GAMMAS = ("depth-squared", "uniform")
WITH_GAMMAS = ("mwbp", "auxnet", "mwbp-uniform-decay", "bp-extra-decay")
ANNEALING = ("none", "last-third", "first-third")
TEMPERATURE = 4.0
AUXNET_HEAD = "gap-fc"


@checked
@dataclass(frozen=True, kw_only=True)
class Method:
    """A training method with its options; `objective` gives the numbers for a network.

    Attributes:
        name: a key of `METHODS`.
        update: simultaneous, or sequential (the authors' order); None: as the method's name implies.
        gamma: weights of auxiliary losses in the trunk: depth-squared (the authors'), uniform, or numbers.
        decay_exits: for bp-extra-decay, the exits that MW-BP would have, as `create` takes them.
        self_distillation: share of every auxiliary loss that distils the last exit (Zhang et al. 2019).
        teacher: share of every loss that distils another network (Hinton et al. 2015); None: no teacher, or the default
            share of `train`.
        temperature: temperature of both distillations.
        gradient_equilibrium: update every trunk segment by the mean, not the sum, of its exits' gradients (Li et al.
            2019, "Improved techniques for training adaptive deep networks").
        ensemble: number of last exits whose averaged logits are one more prediction, see `ensembles`; 0: none.
        ensemble_teacher: share of every loss that distils the mean of all exits (Lee & Lee 2021, arXiv 2104.00299).
        annealing: when the trunk hears less of auxiliary losses: none, last-third or first-third.
        auxiliary_weight: factor on auxiliary losses in the trunk, above 0 to 1.
    """

    name: str = "mwbp"
    update: Literal["simultaneous", "sequential"] | None = None
    gamma: str | tuple[float, ...] = "depth-squared"
    decay_exits: int | str | None = None
    self_distillation: float = 0.0
    teacher: float | None = None
    temperature: float = TEMPERATURE
    gradient_equilibrium: bool = False
    ensemble: int = 0
    ensemble_teacher: float = 0.0
    annealing: Literal["none", "last-third", "first-third"] = "none"
    auxiliary_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in METHODS:
            raise UsageError(f"method {self.name!r}: {nearest(self.name, METHODS)}")
        if self.update not in (None, *UPDATES):
            raise UsageError(f"update {self.update!r}: {nearest(str(self.update), UPDATES)}")
        if self.gamma not in GAMMAS:
            object.__setattr__(self, "gamma", _numbers(self.gamma))
        if self.gamma != "depth-squared" and self.name not in WITH_GAMMAS:
            raise UsageError(f"gamma {self.gamma}: {self.name} has no such weights")
        if self.annealing not in ANNEALING:
            raise UsageError(f"annealing {self.annealing!r}: {nearest(str(self.annealing), ANNEALING)}")
        shares = {"self-distillation": self.self_distillation, "teacher-weight": self.teacher or 0.0}
        shares |= {"ensemble-teacher": self.ensemble_teacher}
        for option, share in shares.items():
            if not 0 <= share <= 1:
                raise UsageError(f"{option} {share:g}: a share of the loss, from 0 to 1")
        if sum(shares.values()) > 1:
            heard = " and ".join(option for option, share in shares.items() if share)
            raise UsageError(f"{heard} are {sum(shares.values()):g} together, above 1")
        if not 0 < self.temperature < math.inf:
            raise UsageError(f"temperature {self.temperature:g}: must be above 0")
        if self.teacher == 0:
            raise UsageError("teacher-weight 0: a teacher that is not heard; leave out --teacher")
        if (self.decay_exits is None) == (self.name == "bp-extra-decay"):
            raise UsageError("extra-decay, the exits whose weight decay is borrowed, goes with bp-extra-decay alone")
        if not 0 < self.auxiliary_weight <= 1:
            raise UsageError(f"auxiliary-weight {self.auxiliary_weight:g}: a factor above 0, 1 at most")
        self._check_sequential()
        self._check_weakened()

    @property
    def sequential(self) -> bool:
        """Whether the update is sequential."""
        return self.update == "sequential" or (self.update is None and self.name == "auxnet")

    @property
    def head(self) -> str | None:
        """The head of auxiliary exits that the method requires, if any."""
        return AUXNET_HEAD if self.name == "auxnet" else None

    def objective(self, spec: Spec) -> Objective:
        """The objective for a network.

        Raises:
            UsageError: the network has too many or too few exits, or not as many as there are gammas.
        """
        from compress.training.objectives import bp, mwbp, weighted

        self._check_exits(spec)
        if self.name == "bp-extra-decay":
            assert self.decay_exits is not None
            objective = self._with_extra_decay(spec, self.decay_exits)
        elif self.name == "mwbp-uniform-decay":
            # MW-BP's weights are gamma / lambda; with no decay to divide, they are the gammas.
            objective = weighted(spec, mwbp(spec, self._gammas(spec)).loss_weights, uniform_decay=True)
        elif self.name in ("mwbp", "auxnet"):
            objective = mwbp(spec, self._gammas(spec))
        else:
            objective = bp(spec)
        if self.gradient_equilibrium:
            objective = objective.in_equilibrium()
        return dataclasses.replace(
            objective,
            update="sequential" if self.sequential else "simultaneous",
            loss_ratio_rate=self.name == "auxnet",
            frozen_trunk=self.name == FROZEN,
            self_distillation=self.self_distillation,
            teacher=self.teacher or 0.0,
            temperature=self.temperature,
            ensemble_teacher=self.ensemble_teacher,
            annealing=self.annealing,
            auxiliary_weight=self.auxiliary_weight,
        )

    def options(self) -> list[str]:
        """The command-line options for this method, without `--teacher RUN`."""
        defaults = Method(name=self.name, decay_exits=self.decay_exits)
        words = ["--extra-decay", str(self.decay_exits)] if self.decay_exits is not None else []
        words += ["--method", self.name] if self.name not in ("bp", "mwbp", "bp-extra-decay") else []
        for option, field in (
            ("--update", "update"),
            ("--gamma", "gamma"),
            ("--self-distillation", "self_distillation"),
            ("--teacher-weight", "teacher"),
            ("--temperature", "temperature"),
            ("--ensemble", "ensemble"),
            ("--ensemble-teacher", "ensemble_teacher"),
            ("--annealing", "annealing"),
            ("--auxiliary-weight", "auxiliary_weight"),
        ):
            value: Any = getattr(self, field)
            if value != getattr(defaults, field):
                words += [option, ",".join(map(repr, value)) if isinstance(value, tuple) else str(value)]
        return [*words, *(["--gradient-equilibrium"] if self.gradient_equilibrium else [])]

    def _check_sequential(self) -> None:
        if self.name == "auxnet" and not self.sequential:
            raise UsageError("update simultaneous: AuxNet's rate depends on the losses, so it is sequential only")
        if self.sequential and self.name not in ("mwbp", "auxnet"):
            raise UsageError(f"update sequential: it is MW-BP's own, with MW-BP's decay; not for {self.name}")
        if self.sequential and self.gradient_equilibrium:
            raise UsageError("update sequential: gradient-equilibrium needs all gradients at once; use simultaneous")

    def _check_weakened(self) -> None:
        """Refuse weaker auxiliary losses where they mean nothing."""
        weakened = {"annealing": self.annealing != "none", "auxiliary-weight": self.auxiliary_weight != 1}
        for option in (name for name, given in weakened.items() if given):
            if self.sequential:
                raise UsageError(
                    f"{option}: every exit has a step of its own in the sequential update; use simultaneous"
                )
            if self.gradient_equilibrium:
                raise UsageError(f"{option}: gradient-equilibrium takes the mean over exits that always count alike")
            if self.name in (*SINGLE_EXIT, FROZEN):
                raise UsageError(f"{option}: with {self.name} no auxiliary loss reaches the trunk")

    def _check_exits(self, spec: Spec) -> None:
        from compress.networks import SHARED

        exits = len(spec.exits)
        if self.ensemble and not 2 <= self.ensemble <= exits:
            raise UsageError(f"ensemble {self.ensemble}: of the network's exits, {exits}, the last 2 or more")
        for option in ("annealing", "auxiliary_weight", "ensemble_teacher"):
            if exits == 1 and getattr(self, option) != getattr(Method, option):
                raise UsageError(f"{option.replace('_', '-')}: there is one exit, and no other")
        if self.gradient_equilibrium and self.name in (*SINGLE_EXIT, FROZEN):
            raise UsageError(f"gradient-equilibrium: with {self.name} no trunk segment has gradients of several exits")
        if any(exit.head == SHARED for exit in spec.exits):
            for why, given in (
                ("the sequential update moves every head alone", self.sequential),
                (f"{FROZEN} trains heads alone", self.name == FROZEN),
                (
                    "gradient-equilibrium counts the exits behind a segment, and exits before it use its shortcuts",
                    self.gradient_equilibrium,
                ),
            ):
                if given:
                    raise UsageError(f"head {SHARED}: {why}; shared heads have no weights of their own")
        if self.name in SINGLE_EXIT and exits > 1:
            raise UsageError(f"{spec.arch} has {exits} exits, plain BP trains one: use train-mwbp, or cut it first")
        if self.self_distillation and exits == 1:
            raise UsageError("self-distillation: there is one exit, and no other to teach it")
        if self.name == FROZEN and exits == 1:
            raise UsageError("frozen-trunk trains auxiliary exits, and there are none: give --exits 2 or more")

    def _with_extra_decay(self, spec: Spec, exits: int | str) -> Objective:
        """Plain BP with the weight decay that MW-BP would apply to a network with these exits."""
        from compress.networks import spec_of
        from compress.training.objectives import bp, mwbp

        shape, classes = spec.input_shape, spec.classes
        whole = spec_of(spec.arch, exits=exits, input_shape=shape, classes=classes)
        if len(whole.blocks) != len(spec.blocks):
            raise UsageError(
                f"extra-decay {exits}: an exit within a block of {spec.arch}; name blocks of the network itself"
            )
        if len(whole.exits) == 1:
            raise UsageError(
                f"extra-decay {exits}: one exit brings no more weight decay than plain BP has: give 2 or more"
            )
        borrowed = mwbp(whole, self._gammas(whole))
        return dataclasses.replace(
            bp(spec),
            segments=borrowed.segments,
            decay_factors=borrowed.decay_factors,
            gradient_factors=borrowed.gradient_factors,
        )

    def _gammas(self, spec: Spec) -> Sequence[float]:
        from compress.training.objectives import depth_squared

        auxiliary = len(spec.exits) - 1
        if self.gamma == "depth-squared":
            return depth_squared(spec)
        if self.gamma == "uniform":
            return [1.0] * auxiliary
        if len(self.gamma) != auxiliary:
            given = ",".join(f"{float(value):g}" for value in self.gamma)
            raise UsageError(f"gamma {given}: one number an auxiliary exit, here {auxiliary}, not {len(self.gamma)}")
        return [float(value) for value in self.gamma]


def _numbers(given: str | tuple[float, ...]) -> tuple[float, ...]:
    try:
        numbers = tuple(float(word) for word in (given.split(",") if isinstance(given, str) else given))
    except ValueError as error:
        raise UsageError(
            f"gamma {given!r}: {nearest(str(given), GAMMAS)}; or numbers above 0, as in 0.1,0.5,1"
        ) from error
    if not all(0 < number < math.inf for number in numbers):
        raise UsageError(f"gamma {given}: every weight must be above 0")
    return numbers
