"""A pruned network equals its masked whole to rounding, or is refused."""

import functools
import re

import pytest
import torch

from baselines.channels import Channels, remove_channels
from baselines.coupling import Coupling
from baselines.masked_equivalence import BOUND, StatisticsOfKept, check_equivalence, take
from baselines.removal_order import Size
from compress.errors import UsageError
from compress.networks import Network, create
from compress.networks.foreign import zoo
from tests.baselines.awkward import Net
from tests.baselines.awkward_nets import NETS

# Nets that must not be refused.
PRUNED = {
    *("pyramid", "depthwise-residual", "grouped-residual", "reused", "siamese", "learned-scale"),
    *("transposed-convolution", "group-norm", "group-norm-without-weights", "group-norm-of-a-concatenation"),
    *("layer-norm", "batch-norm-without-weights", "dropout", "gate", "gate-of-one-channel", "gate-of-one-number"),
    *("attention-over-channels", "attention-over-positions", "non-local", "with-negatives", "channels-from-slices"),
    *("flattened", "pooled-twice", "skipped-to-the-end", "classifier-before-pooling", "two-classifiers"),
    *("norm-behind-the-classifier", "early-logits"),
}


def whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> Network:
    """A net of a kind in float64, no two of its weights alike."""
    monkeypatch.setattr(zoo, "_registered", {kind: functools.partial(Net, NETS[kind])})
    torch.manual_seed(0)
    network = create(kind, input_shape=(3, 16, 16), classes=5).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) / 10)
    return network


def all_entries(network: Network) -> dict[str, torch.Tensor]:
    """The indices of every weight's entries, as of a pruning that removes none."""
    weights = {name: tensor for name, tensor in network.state_dict().items() if tensor.is_floating_point()}
    return {name: torch.arange(tensor.numel()).view(tensor.shape) for name, tensor in weights.items()}


def drawn(network: Network, share: float, seed: int = 0) -> Channels:
    """This share of every group's units, drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    return {
        number: torch.randperm(group.units, generator=generator)[: int(group.units * share)].tolist()
        for number, group in enumerate(Coupling(network).groups)
    }


@pytest.mark.parametrize("kind", NETS)
def test_every_net_is_pruned_rightly_or_refused_by_the_name_of_a_module(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is removed is found here by value, not by place."""
    network, refused = whole(kind, monkeypatch), ""
    try:
        coupling, channels = Coupling(network), drawn(network, 0.5)
        pruned = remove_channels(network, channels)
    except UsageError as error:
        refused = str(error)
    if refused:
        assert kind not in PRUNED
        assert re.fullmatch(rf"{kind} cannot be pruned: .*\b[a-z]+[1-9]\b.*", refused)
        return
    removed = [len(units) for units in channels.values()]
    assert coupling.size(tuple(removed)) == Size.of(pruned) < Size.of(network)
    units = zip(coupling.groups, removed, strict=True)
    # A grouped convolution left with one input and one output a group is depthwise: then its groups can go.
    assert kind == "one-output-a-group" or [group.units for group in Coupling(pruned).groups] == [
        group.units - gone for group, gone in units
    ]
    kept = pruned.state_dict()
    for name, parameter in network.named_parameters():
        parameter.data.mul_(torch.isin(parameter, kept[name]))
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad(), StatisticsOfKept():
        expected, logits = network(images)[-1], pruned(images)[-1]
    varied = float(expected.std(0).min() / expected.abs().max())
    assert varied > 1e-3  # or nothing would be compared
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))


def test_shared_weights_stay_shared_and_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network = whole("siamese", monkeypatch)
    pruned = remove_channels(network, drawn(network, 0.5))
    weights = dict(pruned.named_parameters(remove_duplicate=False))
    shared = [weight for name, weight in weights.items() if name.endswith(("conv2.weight", "conv3.weight"))]
    assert shared[0] is shared[1]
    assert Size.of(pruned).params == sum(parameter.numel() for parameter in pruned.parameters())


@pytest.mark.parametrize("exits", [1, 3])
def test_channels_that_change_places_are_found(exits: int) -> None:
    torch.manual_seed(0)
    network = create("resnet8", exits=exits, input_shape=(1, 8, 8)).eval()
    kept = all_entries(network)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in take(network, kept).items())
    assert check_equivalence(network, network, kept) < 1e-13 < BOUND
    kept["blocks.1.conv1.weight"] = kept["blocks.1.conv1.weight"].flip(1)
    with pytest.raises(UsageError, match=r"resnet8 cannot be pruned: module blocks\.1\.conv1 is given other channels"):
        check_equivalence(network, network, kept)


def test_weights_that_are_zero_or_not_finite_hide_nothing() -> None:
    """A branch may start from zeros, and a diverged training has NaN."""
    torch.manual_seed(0)
    network = create("resnet8", input_shape=(1, 8, 8)).eval()
    kept = all_entries(network)
    with torch.no_grad():
        network.get_parameter("blocks.1.conv2.weight").zero_()
        network.get_parameter("stem.0.weight")[0] = torch.nan
    assert check_equivalence(network, network, kept) < 1e-13
    kept["blocks.1.conv2.weight"] = kept["blocks.1.conv2.weight"].flip(1)
    with pytest.raises(UsageError, match=r"module blocks\.1\.conv2"):
        check_equivalence(network, network, kept)


def test_logits_that_are_no_numbers_are_not_taken_for_right() -> None:
    network = create("resnet8", input_shape=(1, 8, 8)).eval()
    network.heads["3"].register_forward_hook(lambda module, inputs, logits: logits * torch.nan)
    with pytest.raises(UsageError, match=r"resnet8 cannot be pruned: .*off by nan"):
        check_equivalence(network, network, all_entries(network))
