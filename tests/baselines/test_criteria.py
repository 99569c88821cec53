"""Scores are those of torch-pruning; groups that it would skip in silence are refused."""

import copy
import dataclasses
import io

import pytest
import torch
import torch_pruning
from torch import Tensor, nn
from torch.nn import functional
from torch_pruning import importance as theirs

from baselines import criteria
from baselines.channels import remove_channels
from baselines.coupling import Coupling
from baselines.criteria import channel_scores, take_gradients
from baselines.scoring_data import ScoringData
from baselines.technique import CRITERIA
from compress.data import Labelled, measure, normalise
from compress.errors import UsageError
from compress.network_cost import cost
from compress.networks import Network, create
from compress.networks.foreign import zoo
from tests.baselines.networks import network_of, scoring_data_of

DIRECT = {
    "l1": lambda: theirs.GroupMagnitudeImportance(p=1),
    "l2": lambda: theirs.GroupMagnitudeImportance(p=2),
    "fpgm": lambda: theirs.FPGMImportance(p=2),
    "lamp": lambda: theirs.LAMPImportance(p=2),
    "bn-scale": lambda: theirs.BNScaleImportance(),
    "taylor": lambda: theirs.GroupTaylorImportance(),
    "group-norm": lambda: theirs.GroupMagnitudeImportance(p=2, normalizer="max"),
}
NETWORKS = [("resnet8v1", 3), ("mobilenetv2b1-2-1-1-1-1-1w8-8-8-16-16-24-24", 2)]


def classifiers(network: Network) -> list[nn.Module]:
    return [layer for layer in network.heads.modules() if isinstance(layer, nn.Linear)]


def with_gradients(network: Network, scoring: ScoringData) -> Network:
    """A copy with the gradients of all training images' loss, taken at once."""
    network = copy.deepcopy(network)
    logits = network(normalise(scoring.train.images, scoring.normalisation))
    losses = [functional.cross_entropy(exit, scoring.train.labels, label_smoothing=0.1) for exit in logits]
    (torch.stack(losses) * torch.tensor(scoring.objective.loss_weights)).sum().backward()
    return network


def groups_of(network: Network) -> list[torch_pruning.Group]:
    graph = torch_pruning.DependencyGraph().build_dependency(network, (torch.zeros(2, *network.spec.input_shape),))
    return list(graph.get_all_groups(ignored_layers=classifiers(network)))


def writers(group: torch_pruning.Group) -> set[str]:
    """The layers that write a group of torch-pruning's, by name."""
    return {dep.target.name.split()[0] for dep, _ in group if "out_channels" in dep.handler.__name__}


def in_our_order(network: Network, groups: list[torch_pruning.Group]) -> list[torch_pruning.Group]:
    """torch-pruning's groups in the order of the coupling's."""
    first = [group.writers[0][0].rpartition(".")[0] for group in Coupling(network).groups]
    assert len(first) == len(groups)
    return [next(group for group in groups if layer in writers(group)) for layer in first]


@pytest.mark.parametrize(("arch", "exits"), NETWORKS)
@pytest.mark.parametrize("method", DIRECT)
def test_scores_are_those_of_a_direct_call(method: str, arch: str, exits: int, images: Labelled) -> None:
    network = network_of(arch, exits)
    scoring = scoring_data_of(network, images)
    found = channel_scores(network, method, scoring)
    direct = with_gradients(network, scoring)
    expected = [DIRECT[method]()(group) for group in in_our_order(network, groups_of(direct))]
    # Images, or the layers of a group, in another order.
    rtol, atol = (1e-3, 1e-5) if method == "taylor" else (1e-5, 1e-6)
    for ours, score in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, score, rtol=rtol, atol=atol)


def test_random_scores_follow_from_the_seed_and_the_callers_random_state_stays(images: Labelled) -> None:
    network = network_of()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (
        channel_scores(network, "random", scoring_data_of(network, images, seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.rand(1), expected)
    assert all(map(torch.equal, first, again))
    assert not any(map(torch.equal, first, other))


def test_gradients_are_taken_on_a_copy_and_charged(images: Labelled) -> None:
    network = network_of(exits=3)
    network.blocks[1].train()
    modes = [module.training for module in network.modules()]
    before, after = io.BytesIO(), io.BytesIO()
    torch.save(network.state_dict(), before)
    scoring = scoring_data_of(network, images)
    channel_scores(network, "l1", scoring)
    assert scoring.macs == 0
    channel_scores(network, "taylor", scoring)
    assert scoring.macs == 3 * cost(network).macs * len(images)
    torch.save(network.state_dict(), after)
    assert before.getvalue() == after.getvalue()
    assert all(parameter.grad is None for parameter in network.parameters())
    assert [module.training for module in network.modules()] == modes


def test_gradients_are_means_over_a_fixed_number_of_images_however_they_are_batched(
    images: Labelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(criteria, "IMAGES", 50)

    def gradients(seed: int, batch: int) -> Tensor:
        monkeypatch.setattr(criteria, "BATCH", batch)
        network = network_of(exits=2)
        assert take_gradients(network, scoring_data_of(network, images, seed)) == 3 * cost(network).macs * 50
        return torch.cat([parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None])

    torch.testing.assert_close(gradients(0, 50), gradients(0, 16), rtol=1e-3, atol=1e-5)
    assert not torch.allclose(gradients(0, 50), gradients(1, 50), rtol=0.1)


def test_a_teachers_share_is_left_out(images: Labelled) -> None:
    network = network_of()
    plain = scoring_data_of(network, images)
    taught = dataclasses.replace(plain, objective=dataclasses.replace(plain.objective, teacher=0.5))
    assert all(map(torch.equal, channel_scores(network, "taylor", plain), channel_scores(network, "taylor", taught)))


def test_equal_scores_are_no_error(images: Labelled) -> None:
    network = create("resnet8", input_shape=(1, 8, 8))
    assert all(scores.eq(1).all() for scores in channel_scores(network, "bn-scale", scoring_data_of(network, images)))


@pytest.mark.parametrize("method", CRITERIA)
def test_a_groups_only_channel_is_no_error(method: str, images: Labelled) -> None:
    """An earlier pruning may leave a group with one channel."""
    network = network_of()
    number = next(number for number, group in enumerate(Coupling(network).groups) if group.units == 64)
    network = remove_channels(network, {number: range(1, 64)})
    found = channel_scores(network, method, scoring_data_of(network, images))
    assert len(found[number]) == 1
    assert all(scores.isfinite().all() for scores in found)


def test_groups_without_a_score_are_refused_where_torch_pruning_would_leave_them_whole(images: Labelled) -> None:
    network = create("torchvision:squeezenet1_1", input_shape=(1, 28, 28)).eval()
    with pytest.raises(
        UsageError, match=r"bn-scale cannot score the 64 channels of the group of blocks\.\S+: it has no"
    ):
        channel_scores(network, "bn-scale", scoring_data_of(network, images))


class Grouped(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        first, second = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 12, 3, groups=2)
        self.features = nn.Sequential(first, nn.BatchNorm2d(8), nn.ReLU(), second, nn.BatchNorm2d(12), nn.ReLU())
        self.classifier = nn.Linear(12, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(images).mean((2, 3)))
        return logits


def test_grouped_convolutions_are_scored_and_what_torch_pruning_cannot_do_is_said_in_one_line(
    images: Labelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo, "_registered", {"grouped": Grouped})
    network = create("grouped", input_shape=(1, 8, 8)).eval()
    scoring = scoring_data_of(network, images)
    for method in CRITERIA.keys() - {"fpgm"}:
        assert sorted(len(scores) for scores in channel_scores(network, method, scoring)) == [8, 12]
    with pytest.raises(UsageError, match=r"fpgm cannot score the .*torch-pruning fails .*; l1 can: --method l1$"):
        channel_scores(network, "fpgm", scoring)


@pytest.mark.parametrize("method", ["l1", "fpgm", "lamp", "taylor"])
@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_refused(method: str, value: float, images: Labelled) -> None:
    network = network_of()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(value)
    with pytest.raises(UsageError, match=f"{method} cannot score .* not all scores are finite"):
        channel_scores(network, method, scoring_data_of(network, images))


def test_torch_prunings_taylor_leaves_batch_norm_out(images: Labelled) -> None:
    """The card of ``taylor`` says so; when torch-pruning mends it, the card is wrong."""
    network = network_of()
    scoring = scoring_data_of(network, images)
    direct = with_gradients(network, scoring)
    for module in direct.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.grad = torch.full_like(module.weight, 1e3)
    changed = [theirs.GroupTaylorImportance()(group) for group in groups_of(direct)]
    same = [theirs.GroupTaylorImportance()(group) for group in groups_of(with_gradients(network, scoring))]
    assert "batch norm's left out" in CRITERIA["taylor"].card
    assert all(map(torch.equal, changed, same))


def test_torch_prunings_hessian_keeps_the_last_sample_alone(images: Labelled) -> None:
    """The trap that keeps ``hessian`` out; when torch-pruning mends it, it can come in."""
    network = network_of()
    samples = normalise(images.images[:2], measure(images.sample()))

    def scored(numbers: list[int]) -> list[Tensor]:
        hessian = theirs.GroupHessianImportance()
        for number in numbers:
            network.zero_grad()
            logits = network(samples[number : number + 1])[-1]
            functional.cross_entropy(logits, images.labels[number : number + 1]).backward()
            hessian.accumulate_grad(network)
        return [hessian(group) for group in groups_of(network)]

    assert all(map(torch.equal, scored([0, 1]), scored([1])))
    assert not any(map(torch.equal, scored([0, 1]), scored([0])))


def test_torch_prunings_growing_regularisation_never_reaches_batch_norm() -> None:
    """The trap that keeps ``greg`` out; when torch-pruning mends it, it can come in."""
    network = network_of()
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    pruner = torch_pruning.pruner.GrowingRegPruner(
        network,
        (torch.zeros(1, *network.spec.input_shape),),
        importance=theirs.GroupMagnitudeImportance(p=2),
        reg=1.0,
        ignored_layers=classifiers(network),
    )
    pruner.update_regularizer()
    pruner.regularize(network)
    convolutions = [layer.weight.grad for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    norms = [layer.weight.grad for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert any(isinstance(dep.layer, nn.BatchNorm2d) for group in pruner._groups for dep, _ in group)
    assert all(gradient is not None and gradient.any() for gradient in convolutions)
    assert not any(gradient is None or gradient.any() for gradient in norms)
