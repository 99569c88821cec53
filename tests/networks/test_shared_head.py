"""Shared heads (stage cost): outputs of intermediate features through the later shortcuts and the last head."""

import copy
import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from compress import Architecture, UsageError, cost, create, cut, exit_costs
from compress.inference import EarlyExit, Policy
from compress.network_cost import cross_check, part_costs
from compress.networks import Ensemble, Network, digest_of_weights, spec_of
from compress.networks.blocks import Block
from compress.training.objectives import mwbp

SHAPE = (1, 8, 8)


def network(form: str = "pre-activation", exits: int | str = "1,2,end") -> Network:
    torch.manual_seed(0)
    made = create(Architecture("resnet8", widths="4,6,8", form=form, head="shared"), exits=exits, input_shape=SHAPE)
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
    return made.double()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("form", ["pre-activation", "post-activation", "norm-last"])
def test_the_logits_are_those_of_later_shortcuts_and_the_last_head(form: str, images: Tensor) -> None:
    whole = network(form).eval()
    for logits, exit in zip(whole(images), whole.spec.exits, strict=True):
        features = whole.stem(images)
        for number, block in enumerate(whole.blocks, start=1):
            assert isinstance(block, Block)
            features = block(features) if number <= exit.block else block.skip(features)
        torch.testing.assert_close(logits, whole.heads[str(len(whole.blocks))](features), rtol=1e-12, atol=1e-12)


def test_gradients_reach_everything_that_is_shared(images: Tensor) -> None:
    """The auxiliary loss moves the first block, the later shortcuts and the last head."""
    whole, labels = network(), torch.arange(5) % 10
    names = dict(whole.named_parameters())
    loss = functional.cross_entropy(whole(images)[0], labels)
    found = torch.autograd.grad(loss, list(names.values()), allow_unused=True)
    gradients = {name: each for name, each in zip(names, found, strict=True) if each is not None}
    expected = {"stem.0.weight", *(name for name in names if name.startswith(("blocks.0.", "heads.3.")))}
    expected |= {f"blocks.{n}.{part}" for n in (1, 2) for part in ("norm1.weight", "norm1.bias", "shortcut.weight")}
    assert gradients.keys() == {name for name in names if name in expected}


def test_every_exit_moves_the_last_head_by_its_weight(images: Tensor) -> None:
    """The gradient of the total is sum_i w_i g_i, with g_i of exit i cut out: its head is a copy of its own."""
    whole, labels = network().eval(), torch.arange(5) % 10
    objective, last = mwbp(whole.spec), whole.heads["3"]
    assert isinstance(last, nn.Sequential)
    assert len(set(objective.loss_weights)) > 1
    found = torch.autograd.grad(objective.total(objective.losses(whole(images), labels)), list(last.parameters()))
    parts = [cut(whole, exit) for exit in (1, 2, 3)]
    each = []
    for part in parts:
        [head] = part.heads.values()
        assert isinstance(head, nn.Sequential)
        loss = functional.cross_entropy(part(images)[0], labels)
        each.append(torch.autograd.grad(loss, list(head[-len(last) :].parameters())))
    for gradient, *alone in zip(found, *each, strict=True):
        expected = sum(weight * one for weight, one in zip(objective.loss_weights, alone, strict=True))
        torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("training", [False, True])
def test_gradients_are_the_slopes_of_the_loss(training: bool, images: Tensor) -> None:
    """In training the trunk's pass moves the statistics first, which to the auxiliary passes are constants."""
    whole, labels, step = network().train(training), torch.arange(5) % 10, 1e-6
    objective = mwbp(whole.spec)

    def loss() -> Tensor:
        return objective.total(objective.losses(whole(images), labels))

    weights = [whole.get_parameter(name) for name in ("blocks.2.shortcut.weight", "heads.3.4.weight", "stem.0.weight")]
    gradients = torch.autograd.grad(loss(), weights)
    for norm in [module for module in whole.modules() if isinstance(module, nn.BatchNorm2d)]:
        norm.momentum = 0.0  # every loss below has the statistics of the pass above
    for weight, gradient in zip(weights, gradients, strict=True):
        place = (0,) * weight.dim()
        with torch.no_grad():
            weight[place] += step
            above = loss()
            weight[place] -= 2 * step
            slope = (above - loss()) / (2 * step)
            weight[place] += step
        assert gradient[place].item() == pytest.approx(slope.item(), rel=1e-5, abs=1e-9)


def test_training_leaves_the_statistics_to_the_trunks_pass(images: Tensor) -> None:
    with_exits, plain = network(), network(exits="end")
    plain.load_state_dict(with_exits.state_dict())
    assert torch.equal(with_exits(images)[-1], plain(images)[-1])
    for own, other in zip(with_exits.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(own, other)


def test_it_has_no_weights(images: Tensor) -> None:
    whole, plain = network(), network(exits="end")
    assert whole.state_dict().keys() == plain.state_dict().keys()
    assert cost(whole).params == cost(plain).params


@pytest.mark.parametrize("exit", [1, 2, 3])
def test_an_exit_can_be_cut_out(exit: int, images: Tensor) -> None:
    whole = network().eval()
    part = cut(whole, exit)
    assert torch.equal(part(images)[0], whole(images)[exit - 1])
    cross_check(whole)
    cross_check(part)
    assert cost(part) == exit_costs(whole)[exit - 1]
    assert part_costs(whole)["heads.1"].params == 0
    moved = copy.deepcopy(part).float()
    assert moved(images.float())[0].dtype == torch.float32


def test_early_exit_and_the_ensemble_use_it(images: Tensor) -> None:
    whole = network().eval()
    [mean] = Ensemble(whole, (0.5, 0.5))(images)
    torch.testing.assert_close(mean, (whole(images)[1] + whole(images)[2]) / 2)
    policy = Policy(temperatures=(1.0,) * 3, thresholds=(0.0, 0.0), weights=digest_of_weights(whole))
    left = EarlyExit(whole, policy, dtype=torch.float64)(images)
    assert left.exits.tolist() == [1] * 5
    assert torch.equal(left.labels, whole(images)[0].argmax(dim=1))


def test_annealing_scales_all_of_the_auxiliary_gradient(images: Tensor) -> None:
    whole, share = network().eval(), torch.tensor(0.25, dtype=torch.float64)
    weight = whole.get_parameter("heads.3.0.weight")
    scaled, full = (torch.autograd.grad(whole(images, given)[0].sum(), weight)[0] for given in (share, None))
    torch.testing.assert_close(scaled, full / 4)


def test_networks_without_shortcuts_are_refused() -> None:
    with pytest.raises(UsageError, match="shared needs later blocks with shortcuts"):
        spec_of(Architecture("mobilenetv2", head="shared"), exits=3)
    with pytest.raises(UsageError, match="was cut there"):
        Network(dataclasses.replace(cut(network(), 1).spec))
