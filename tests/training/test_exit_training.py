"""The exits' ensemble as a teacher and annealed auxiliary losses, against gradients worked out by hand in float64."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from compress import Architecture, Dataset
from compress.data import split
from compress.errors import UsageError
from compress.networks import Network, create, initialised, spec_of
from compress.recipes import recipe_named
from compress.training import Method, objectives
from compress.training.hooks import Options
from compress.training.loop import Training, fit
from compress.training.objectives import RAMP, Objective, mwbp
from compress.training.updates import Simultaneous

SPEC = spec_of(Architecture("resnet8", widths="4,4,4"), exits=3, input_shape=(1, 8, 8), classes=3)


def method(**options: object) -> Objective:
    return Method(**options).objective(SPEC)  # type: ignore[arg-type]


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    arch = Architecture("resnet8", widths="4,4,4")
    return create(arch, exits=3, input_shape=(1, 8, 8), classes=3).double()


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(1)
    return torch.randn(6, 1, 8, 8, generator=drawn, dtype=torch.float64), torch.arange(6) % 3


def test_the_ensemble_teaches_every_exit_by_hand() -> None:
    """Two classes, two exits, logits (0, 0) and (0, 2): the teacher is (0, 1); T = 2 and share 1/2, ramped in half."""
    objective = method(ensemble_teacher=0.5, temperature=2.0)
    shallow, deep = (torch.tensor([[0.0, last]], dtype=torch.float64, requires_grad=True) for last in (0.0, 2.0))
    losses = objective.losses([shallow, deep], torch.tensor([1]), progress=torch.tensor(RAMP / 2))
    taught = 1 / (1 + math.exp(-0.5))  # of class 1: softmax of (0, 1) / 2
    for logits, loss, value in ((shallow, losses[0], 0.0), (deep, losses[1], 2.0)):
        own, soft = 1 / (1 + math.exp(-value)), 1 / (1 + math.exp(-value / 2))
        divergence = taught * math.log(taught / soft) + (1 - taught) * math.log((1 - taught) / (1 - soft))
        assert loss.item() == pytest.approx(0.75 * -math.log(own) + 0.25 * 4 * divergence, rel=1e-6)
        [gradient] = torch.autograd.grad(loss, logits, retain_graph=True)
        # The teacher is detached: each exit's gradient is that of its own softmax alone.
        assert gradient[0, 1].item() == pytest.approx(0.75 * (own - 1) + 0.25 * 2 * (soft - taught), rel=1e-6)


def test_before_any_step_the_ensemble_is_not_heard(network: Network, batch: tuple[Tensor, Tensor]) -> None:
    logits = network(batch[0])
    unheard = method(ensemble_teacher=0.5).losses(logits, batch[1], progress=torch.tensor(0.0))
    assert torch.equal(unheard, method().losses(logits, batch[1]))


def test_an_only_exit_has_no_ensemble_to_learn_from(network: Network, batch: tuple[Tensor, Tensor]) -> None:
    """As where a cut leaves one: its loss is the whole cross-entropy."""
    last = network(batch[0])[-1:]
    assert torch.equal(method(ensemble_teacher=0.5).losses(last, batch[1]), method().losses(last, batch[1]))


@pytest.mark.parametrize(
    ("annealing", "shares"),
    [
        ("last-third", {0.0: 1.0, 0.5: 1.0, 2 / 3: 1.0, 5 / 6: 0.5, 1.0: 0.0}),
        ("first-third", {0.0: 0.0, 1 / 6: 0.5, 1 / 3: 1.0, 0.5: 1.0, 1.0: 1.0}),
    ],
)
def test_shares_of_the_trunk_over_the_training(annealing: str, shares: dict[float, float]) -> None:
    objective = method(annealing=annealing)
    for progress, share in shares.items():
        found = objective.trunk_share(torch.tensor(progress))
        assert found is not None
        assert found.item() == pytest.approx(share, abs=1e-6)
    assert method().trunk_share(torch.tensor(0.9)) is None


def test_annealed_gradients(network: Network, batch: tuple[Tensor, Tensor]) -> None:
    """The trunk gets the last exit's gradient and a share of the others'; every head gets all of its own."""
    images, labels = batch
    names = [name for name, _ in network.named_parameters()]

    def gradients(weights: list[float], share: Tensor | None = None) -> dict[str, Tensor]:
        logits = network(images, share)
        loss = torch.stack([functional.cross_entropy(each, labels) for each in logits]) @ torch.tensor(weights).double()
        found = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
        return {name: each for name, each in zip(names, found, strict=True) if each is not None}

    annealed = gradients([0.3, 0.6, 1.0], torch.tensor(0.25, dtype=torch.float64))
    scaled, whole = gradients([0.3 / 4, 0.6 / 4, 1.0]), gradients([0.3, 0.6, 1.0])
    for name in names:
        expected = whole if name.startswith("heads.") else scaled
        torch.testing.assert_close(annealed[name], expected[name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("annealing", ["last-third", "first-third"])
def test_no_value_is_asked_of_the_device(annealing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step is recorded as a CUDA graph, and a fake tensor has no value to ask for."""
    monkeypatch.setattr(objectives, "_constants", objectives._constants.__wrapped__)  # which keeps no fake ones
    objective = method(annealing=annealing, ensemble_teacher=0.3)
    with FakeTensorMode():
        progress, logits = torch.rand(()), [torch.randn(6, 3, requires_grad=True) for _ in range(3)]
        share = objective.trunk_share(progress)
        assert share is not None
        losses = objective.losses(logits, torch.zeros(6, dtype=torch.int64), progress=progress)
        (losses.sum() * share).backward()
        with pytest.raises(DataDependentOutputException):
            progress.item()


def test_annealing_changes_no_logit(network: Network, batch: tuple[Tensor, Tensor]) -> None:
    network.eval()
    for plain, gated in zip(network(batch[0]), network(batch[0], torch.tensor(0.3)), strict=True):
        assert torch.equal(plain, gated)


def test_default_objectives_are_written_as_before() -> None:
    options = {"ensemble_teacher": 0.5, "annealing": "last-third", "auxiliary_weight": 0.3}
    assert not options.keys() & mwbp(SPEC).to_json().keys()
    changed = method(**options)
    assert changed.to_json() | options == changed.to_json()
    assert Objective.from_json(changed.to_json()) == changed


def test_fine_tuning_has_no_teacher_that_would_have_to_be_heard_slowly_again() -> None:
    tuned = method(ensemble_teacher=0.5, annealing="last-third", auxiliary_weight=0.3).fine_tuning()
    assert (tuned.ensemble_teacher, tuned.annealing, tuned.auxiliary_weight) == (0.0, "none", 0.3)


@pytest.mark.parametrize("name", ["mwbp", "mwbp-uniform-decay", "deep-supervision"])
def test_weaker_auxiliary_losses_move_the_trunk_less_and_their_heads_as_much(
    name: str, network: Network, batch: tuple[Tensor, Tensor]
) -> None:
    """A step of SGD by hand, in float64: the trunk's gradient is w gamma / lambda of each auxiliary loss's."""
    recipe, whole = replace(recipe_named("quick"), nesterov=False), method(name=name)
    before = {key: value.detach().clone() for key, value in network.named_parameters()}
    weights = [0.25 * weight for weight in whole.loss_weights[:-1]] + [1.0]
    losses = [functional.cross_entropy(logits, batch[1]) for logits in network(batch[0])]
    gradients = [
        torch.autograd.grad(loss, list(network.parameters()), retain_graph=True, allow_unused=True) for loss in losses
    ]
    Simultaneous(method(name=name, auxiliary_weight=0.25), network, recipe).step(torch.stack(losses))
    decays = {
        f"{part}.": recipe.weight_decay * factor
        for segment, factor in zip(network.segments(whole.segments), whole.decay_factors, strict=True)
        for part in [key for key, module in network.named_modules() if module in list(segment)]
    }
    for number, (key, weight) in enumerate(network.named_parameters()):
        own = [grads[number] for grads in gradients]
        heard = [1.0] * 3 if key.startswith("heads.") else weights
        step = sum(share * grad for share, grad in zip(heard, own, strict=True) if grad is not None)
        decay = next((value for part, value in decays.items() if key.startswith(part)), recipe.weight_decay)
        moved = before[key] - recipe.learning_rate * (step + decay * before[key])
        torch.testing.assert_close(weight.detach(), moved, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"annealing": "last"}, "did you mean"),
        ({"annealing": "last-third", "update": "sequential"}, "simultaneous"),
        ({"annealing": "last-third", "gradient_equilibrium": True}, "gradient-equilibrium"),
        ({"annealing": "last-third", "name": "frozen-trunk"}, "frozen-trunk"),
        ({"auxiliary_weight": 0.3, "update": "sequential"}, "auxiliary-weight: .* use simultaneous"),
        ({"auxiliary_weight": 0.3, "gradient_equilibrium": True}, "auxiliary-weight: gradient-equilibrium"),
        ({"auxiliary_weight": 0.3, "name": "frozen-trunk"}, "auxiliary-weight: with frozen-trunk"),
        ({"auxiliary_weight": 0}, "auxiliary-weight 0: a factor above 0, 1 at most"),
        ({"auxiliary_weight": 1.5}, "auxiliary-weight 1.5: a factor above 0, 1 at most"),
        ({"ensemble_teacher": 1.5}, "a share of the loss"),
        ({"ensemble_teacher": 0.6, "self_distillation": 0.6}, "above 1"),
        ({"ensemble": 4}, "the last 2 or more"),
        ({"ensemble": 1}, "the last 2 or more"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        method(**options)


VARIANTS: dict[str, dict[str, Any]] = {
    "ensemble teacher": {"ensemble_teacher": 0.3},
    "to nothing": {"annealing": "last-third"},
    "from nothing": {"annealing": "first-third"},
    "teacher, to nothing": {"annealing": "last-third", "ensemble_teacher": 0.3},
    "weaker": {"auxiliary_weight": 0.3},
    "stage cost": {"head": "shared"},
    "stage cost, to nothing": {"head": "shared", "annealing": "last-third"},
}


def training_of(
    tiny: Dataset, device: str = "cpu", *, capture: bool = True, head: str | None = None, **options: Any
) -> Training:
    """A training whose trunk and last head begin alike whatever the auxiliary heads are, which draw numbers, too."""
    spec, alone = (spec_of(Architecture("resnet8", head=head), exits=n, input_shape=tiny.input_shape) for n in (3, 1))
    recipe, network = replace(recipe_named("quick"), epochs=3, batch_size=40), initialised(spec, 0)
    network.load_state_dict(initialised(alone, 0).state_dict(), strict=False)
    return Training(
        network.to(device),
        split(tiny, validation=recipe.validation, calibration=recipe.calibration, seed=0).to(device),
        recipe,
        Method(**options).objective(spec),
        augment=True,
        seed=0,
        precision="fp32",
        options=Options(capture=capture),
    )


def outcome(training: Training) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in training.network.state_dict().items()}


class KilledError(Exception):
    """Stands for the end of the process."""


Undisturbed = Callable[[dict[str, Any]], dict[str, bytes]]


@pytest.fixture(scope="module")
def undisturbed(tiny: Dataset) -> Undisturbed:
    """The outcome of a training with these options that nothing happens to."""
    outcomes: dict[str, dict[str, bytes]] = {}

    def trained(options: dict[str, Any]) -> dict[str, bytes]:
        key = str(sorted(options.items()))
        if key not in outcomes:
            whole = training_of(tiny, **options)
            fit(whole, title="whole")
            outcomes[key] = outcome(whole)
        return outcomes[key]

    return trained


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_resumed_training_ends_with_the_same_weights_bit_for_bit(
    variant: str, undisturbed: Undisturbed, tiny: Dataset, tmp_path: Path
) -> None:
    options = VARIANTS[variant]

    def die_in_the_second_epoch(training: Training) -> None:
        if training.epochs_done == 2:
            raise KilledError  # before this epoch's checkpoint, so it is trained again

    with pytest.raises(KilledError):
        fit(training_of(tiny, **options), title="part", checkpoint=tmp_path, on_epoch=die_in_the_second_epoch)
    resumed = training_of(tiny, **options)
    fit(resumed, title="resumed", checkpoint=tmp_path)
    assert outcome(resumed) == undisturbed(options)
    for left_out in options:  # each of them moves the first layer of the trunk, which all nets have
        without = {name: value for name, value in options.items() if name != left_out}
        assert outcome(resumed)["stem.0.weight"] != undisturbed(without)["stem.0.weight"], left_out


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_costs_next_to_nothing_more(variant: str) -> None:
    """FLOPs of a step, forward and backward, by torch's counter, against a step of MW-BP: at most 1.05.

    The counter sees convolutions and products of matrices: a pass more would fail here. What softmax and the like take
    is timed by `benchmarks.speed`.
    """

    def flops(*, head: str | None = None, **options: Any) -> int:
        spec = spec_of(Architecture("resnet44", widths="8,16,32", head=head), exits=5, input_shape=(3, 16, 16))
        network, objective, progress = initialised(spec, 0), Method(**options).objective(spec), torch.tensor(0.5)
        with FlopCounterMode(display=False) as counter:
            logits = network(torch.zeros(2, 3, 16, 16), objective.trunk_share(progress))
            objective.total(objective.losses(logits, torch.tensor([0, 1]), progress=progress)).backward()
        return int(counter.get_total_flops())

    assert flops() <= flops(**VARIANTS[variant]) <= 1.05 * flops()
