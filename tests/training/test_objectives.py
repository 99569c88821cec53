"""MW-BP in one backward pass against the authors' many optimisers, in float64; and the published numbers."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from compress import Architecture
from compress.networks import Network, Spec, create, spec_of
from compress.networks.blocks import BlockSpec
from compress.networks.spec import ExitSpec, StemSpec
from compress.training.objectives import Objective, bp, mwbp
from tests.training.naive_mwbp import NaiveMwbp, gammas, lambdas
from tests.training.parity import batches, disagreement

RATE, MOMENTUM, DECAY = 0.05, 0.9, 5e-3
STEPS, DROP_AT, DROP = 10, 5, 0.1

Groups = list[dict[str, Any]]
Mutation = Callable[[Objective, Network], Groups]


def groups_of(objective: Objective, network: Network) -> Groups:
    return objective.parameter_groups(network, learning_rate=RATE, weight_decay=DECAY)


def double(arch: str, exits: int | str | Sequence[int | str]) -> Network:
    """A float64 network whose batch norms are not at their neutral start, so that decaying them matters."""
    torch.manual_seed(1)
    return randomise(create(Architecture(arch, widths="4,8,16"), exits=exits, input_shape=(1, 8, 8), classes=10))


def randomise(network: Network) -> Network:
    network = network.double()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.1)
    return network


def train(network: Network, objective: Objective, groups: Groups, *, nesterov: bool = True) -> list[list[float]]:
    """The toolkit's way: one backward pass and one SGD a step; the losses of every exit at every step."""
    optimiser = torch.optim.SGD(groups, lr=RATE, momentum=MOMENTUM, nesterov=nesterov)
    history = []
    for step, (images, labels) in enumerate(batches(STEPS)):
        if step == DROP_AT:
            for group in optimiser.param_groups:
                group["lr"] *= DROP
        losses = objective.losses(network(images), labels)
        optimiser.zero_grad()
        objective.total(losses).backward()
        optimiser.step()
        history.append(losses.tolist())
    return history


def train_naively(network: Network, *, nesterov: bool = True) -> list[list[float]]:
    """The authors' way, all gradients at the same weights."""
    naive = NaiveMwbp(network, rate=RATE, momentum=MOMENTUM, nesterov=nesterov, weight_decay=DECAY)
    history = []
    for step, (images, labels) in enumerate(batches(STEPS)):
        if step == DROP_AT:
            naive.scale_rate(DROP)
        history.append(naive.step(images, labels))
    return history


@pytest.mark.parametrize(
    ("arch", "exits"),
    [
        pytest.param("resnet20", 4, id="four exits"),
        pytest.param("resnet20", [1, 2, 7, "end"], id="uneven exits"),
        pytest.param("resnet14", "4,end", id="one auxiliary exit"),
        pytest.param("resnet14", 1, id="no auxiliary exit"),
        pytest.param("resnet14v1", 3, id="post-activation"),
        pytest.param("resnet8", "1,2,3", id="an exit after every block"),
    ],
)
def test_one_backward_pass_takes_the_same_steps_as_all_the_optimisers(
    arch: str, exits: int | str | Sequence[int | str]
) -> None:
    assert_parity(double(arch, exits))


def test_the_agreement_holds_for_plain_momentum_too() -> None:
    assert_parity(double("resnet14", 4), nesterov=False)


def test_the_agreement_holds_where_gamma_is_at_its_floor() -> None:
    block = BlockSpec(kind="pre-activation", width=4, out=4)
    exits = tuple(ExitSpec(block=block, head="bn-relu-gap-fc") for block in (1, 16, 17))
    spec = Spec(
        arch="narrow",
        input_shape=(1, 8, 8),
        classes=10,
        stem=StemSpec(kind="conv", out=4),
        blocks=(block,) * 17,
        exits=exits,
    )
    assert gammas([3, 33])[0] == 0.01
    assert_parity(randomise(Network(spec)))


def assert_parity(network: Network, *, nesterov: bool = True) -> None:
    start, naive = copy.deepcopy(network), copy.deepcopy(network)
    objective = mwbp(network.spec)
    losses = train(network, objective, groups_of(objective, network), nesterov=nesterov)
    naive_losses = train_naively(naive, nesterov=nesterov)
    assert disagreement(network, naive) < 1e-12
    torch.testing.assert_close(torch.tensor(losses), torch.tensor(naive_losses), rtol=0, atol=1e-6)
    moved = [(a - b).abs().max().item() for a, b in zip(network.parameters(), start.parameters(), strict=True)]
    assert min(moved) > 1e-4, "every parameter is trained, those of heads and batch norms too"


@pytest.fixture(scope="module")
def naively_trained() -> Network:
    """A network with four exits, trained the authors' way."""
    network = double("resnet14", 4)
    train_naively(network)
    return network


def uniform_decay(objective: Objective, network: Network) -> Groups:
    return groups_of(replace(objective, decay_factors=(1.0,) * len(objective.decay_factors)), network)


def heads_at_the_plain_rate(objective: Objective, network: Network) -> Groups:
    groups = groups_of(objective, network)
    for group in groups[len(network.heads) :]:
        group["lr"] = RATE
    return groups


def heads_at_the_plain_decay(objective: Objective, network: Network) -> Groups:
    groups = groups_of(objective, network)
    for group in groups[len(network.heads) :]:
        group["weight_decay"] = DECAY
    return groups


def decay_factors_one_segment_late(objective: Objective, network: Network) -> Groups:
    return groups_of(replace(objective, decay_factors=(*objective.decay_factors[1:], 1.0)), network)


def lambda_over_the_final_exit_too(objective: Objective, network: Network) -> Groups:
    gamma = gammas([2 * exit.block + 1 for exit in network.spec.exits[:-1]])
    divisors = [sum(gamma[i:]) for i in range(len(gamma))]
    factors = tuple(sum(1 / divisor for divisor in divisors[i:]) for i in range(len(gamma)))
    return groups_of(replace(objective, decay_factors=factors), network)


@pytest.mark.parametrize(
    "mutation",
    [
        uniform_decay,
        heads_at_the_plain_rate,
        heads_at_the_plain_decay,
        decay_factors_one_segment_late,
        lambda_over_the_final_exit_too,
    ],
)
def test_the_agreement_is_lost_by_any_plausible_mistake_in_the_groups(
    mutation: Mutation, naively_trained: Network
) -> None:
    network = double("resnet14", 4)
    objective = mwbp(network.spec)
    train(network, objective, mutation(objective, network))
    assert disagreement(network, naively_trained) > 1e-4


@pytest.mark.parametrize("weights", ["all one", "gamma alone", "relative to the final exit"])
def test_the_agreement_is_lost_by_any_plausible_mistake_in_the_loss_weights(
    weights: str, naively_trained: Network
) -> None:
    network = double("resnet14", 4)
    objective = mwbp(network.spec)
    depths = [2 * exit.block + 1 for exit in network.spec.exits]
    gamma = gammas(depths[:-1])
    to_final = [(depth / 14) ** 2 for depth in depths[:-1]]
    mistaken = {
        "all one": [1.0] * 4,
        "gamma alone": gamma,
        "relative to the final exit": [g / sum(to_final[i:]) for i, g in enumerate(to_final)] + [1.0],
    }[weights]
    if weights == "relative to the final exit":
        # gamma/lambda is a quotient: what gamma is relative to cancels in the loss and stays in the decay alone.
        assert mistaken == pytest.approx(objective.loss_weights)
        divisors = [sum(to_final[i:]) for i in range(3)] + [1.0]
        objective = replace(objective, decay_factors=tuple(sum(1 / d for d in divisors[j:]) for j in range(4)))
    else:
        objective = replace(objective, gammas=tuple(mistaken), lambdas=(1.0,) * 4)
    train(network, objective, groups_of(objective, network))
    assert disagreement(network, naively_trained) > 1e-4


@pytest.mark.parametrize("build", [bp, mwbp])
def test_without_auxiliary_exits_it_is_plain_backpropagation_bit_for_bit(
    build: Callable[[Any], Objective],
) -> None:
    network = double("resnet8", 1)
    plain = copy.deepcopy(network)
    objective = build(network.spec)
    train(network, objective, groups_of(objective, network))
    optimiser = torch.optim.SGD(plain.parameters(), lr=RATE, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY)
    for step, (images, labels) in enumerate(batches(STEPS)):
        if step == DROP_AT:
            optimiser.param_groups[0]["lr"] *= DROP
        optimiser.zero_grad()
        functional.cross_entropy(plain(images)[-1], labels).backward()
        optimiser.step()
    assert disagreement(network, plain) == 0


def test_every_parameter_is_in_exactly_one_group() -> None:
    network = create("resnet26", exits=4)
    groups = groups_of(mwbp(network.spec), network)
    assert len(groups) == 8
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in network.parameters())


# ------------------------------------------------------------------------------------------------- published numbers


def test_the_weights_of_mwresnet_56_5_are_the_published_ones() -> None:
    objective = mwbp(spec_of("resnet56", exits=5))
    assert gammas([15, 25, 35, 45]) == pytest.approx([0.111, 0.309, 0.605, 1, 1], abs=5e-4)
    assert objective.decay_factors == pytest.approx([3.64, 3.15, 2.62, 2, 1], abs=5e-3)
    assert sum(objective.loss_weights) == pytest.approx(2.59, abs=5e-3)
    # By hand, from gamma = 1/9, 25/81, 49/81, 1 and lambda their sums from the end.
    gamma = [9 / 81, 25 / 81, 49 / 81, 1]
    divisors = [164 / 81, 155 / 81, 130 / 81, 1]
    assert objective.loss_weights == pytest.approx([*(g / d for g, d in zip(gamma, divisors, strict=True)), 1])


@settings(max_examples=100, deadline=None)
@given(data=st.data(), stage_blocks=st.integers(1, 30))
def test_weights_follow_the_formulas_for_any_placement(data: st.DataObject, stage_blocks: int) -> None:
    blocks = 3 * stage_blocks
    chosen = data.draw(st.sets(st.integers(1, blocks - 1), max_size=8))
    exits = [*sorted(chosen), blocks]
    objective = mwbp(spec_of(f"resnet{2 * blocks + 2}", exits=exits))
    gamma = gammas([2 * block + 1 for block in exits[:-1]])
    divisors = lambdas(gamma)
    assert objective.loss_weights == pytest.approx([g / d for g, d in zip(gamma, divisors, strict=True)], rel=1e-12)
    assert objective.decay_factors == pytest.approx(
        [sum(1 / divisor for divisor in divisors[j:]) for j in range(len(exits))], rel=1e-12
    )
    assert objective.loss_weights[-2:] == (1.0,) * min(2, len(exits))
    assert all(0 < weight <= 1 for weight in objective.loss_weights)
    assert list(objective.decay_factors) == sorted(objective.decay_factors, reverse=True)


def test_a_very_shallow_exit_keeps_a_hundredth() -> None:
    shallow = mwbp(spec_of("resnet110", exits="1,53,end"))  # depths 3 and 107: (3/107)^2 would be 0.0008
    assert shallow.loss_weights == pytest.approx((0.01 / 1.01, 1, 1))


# ------------------------------------------------------------------------------------------------------------ losses


def test_losses_are_the_unweighted_cross_entropies_shallow_to_deep() -> None:
    objective = mwbp(spec_of("resnet56", exits=5))
    logits = [torch.randn(6, 10, generator=torch.Generator().manual_seed(i)) for i in range(5)]
    labels = torch.arange(6)
    for smoothing in (0.0, 0.2):
        losses = objective.losses(logits, labels, smoothing)
        for loss, exit in zip(losses, logits, strict=True):
            logs = exit.log_softmax(dim=1)
            by_hand = (1 - smoothing) * -logs[torch.arange(6), labels] + smoothing * -logs.mean(dim=1)
            assert loss.item() == pytest.approx(by_hand.mean().item(), rel=1e-5)


def test_total_is_the_weighted_sum_in_the_losses_own_precision() -> None:
    objective = mwbp(spec_of("resnet56", exits=5))
    losses = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64, requires_grad=True)
    total = objective.total(losses)
    assert total.shape == ()
    assert total.dtype == torch.float64
    total.backward()
    assert losses.grad is not None
    assert losses.grad.tolist() == list(objective.loss_weights)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [*((dtype, torch.float32) for dtype in (torch.bfloat16, torch.float16, torch.float32)), (torch.float64,) * 2],
)
def test_losses_are_computed_in_single_precision_at_least(dtype: torch.dtype, expected: torch.dtype) -> None:
    logits = torch.tensor([[5.03125, 5.0, -3.0]], dtype=dtype)
    loss = mwbp(spec_of("resnet20")).losses([logits], torch.tensor([1]))
    assert loss.dtype == expected
    exact = functional.cross_entropy(logits.double(), torch.tensor([1])).item()
    assert loss.item() == pytest.approx(exact, rel=1e-6)
