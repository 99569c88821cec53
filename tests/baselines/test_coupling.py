"""Groups are what can only go together, and the size without some of it is that of the network really narrowed."""

import functools
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from baselines.channels import remove_channels
from baselines.coupling import Coupling
from baselines.removal_order import Size
from compress import Architecture
from compress.errors import UsageError
from compress.network_cost import cost
from compress.networks import Network, create, cut
from compress.networks.foreign import zoo
from tests.baselines.awkward import Net
from tests.baselines.awkward_nets import NETS


class Grouped(nn.Module):
    """A residual block with a convolution of three groups, as ResNeXt's."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.squeeze = nn.Sequential(nn.Conv2d(8, 12, 1), nn.BatchNorm2d(12), nn.ReLU())
        self.grouped = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1, groups=3), nn.BatchNorm2d(12), nn.ReLU())
        self.expand = nn.Conv2d(12, 8, 1)
        self.classifier = nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images).relu()
        features = features + self.expand(self.grouped(self.squeeze(features)))
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits


class Gated(nn.Module):
    """A depthwise convolution with squeeze-and-excitation, as MobileNetV3's."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(1, 12, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(12)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.down, self.up = nn.Conv2d(12, 4, 1), nn.Conv2d(4, 12, 1)
        self.project = nn.Conv2d(12, 6, 1)
        self.classifier = nn.Linear(6, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.depthwise(self.norm(self.expand(images)).relu())
        gate = self.up(self.down(features.mean((2, 3), keepdim=True)).relu()).sigmoid()
        logits: Tensor = self.classifier(self.project(features * gate).mean((2, 3)))
        return logits


class Dense(nn.Module):
    """Every layer sees all before it, as DenseNet's."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, padding=1)
        self.norm1, self.second = nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3, padding=1)
        self.norm2, self.third = nn.BatchNorm2d(10), nn.Conv2d(10, 5, 3, padding=1)
        self.classifier = nn.Linear(15, classes)

    def forward(self, images: Tensor) -> Tensor:
        first = self.first(images)
        second = torch.cat([first, self.second(self.norm1(first).relu())], 1)
        third = torch.cat([second, self.third(self.norm2(second).relu())], 1)
        logits: Tensor = self.classifier(third.relu().mean((2, 3)))
        return logits


# Networks of each kind; those of ours end in every kind of head, as cutting them at an exit leaves it.
SMALL: dict[str, tuple[str, int | str, str | None]] = {
    "pre-activation": ("resnet8", 1, None),
    "post-activation": ("resnet8v1", 3, None),
    "norm-last": ("resnet8nl", 2, None),
    "other-widths": ("resnet14b2-1-1w3-5-7", 2, None),
    "flatten": ("resnet8", "2,3", "bn-relu-flatten-fc"),
    "convolution": ("resnet8", "2,3", "bn-relu-conv-gap-fc"),
    "activated": ("resnet8v1", "2,3", "relu-gap-fc"),
    "layer-norm": ("resnet8nl", "2,3", "ln-mean-fc"),
    "pooled": ("resnet8", "2,3", "gap-fc"),
    "grouped": ("grouped", 1, None),
    "gated": ("gated", 1, None),
    "dense": ("dense", 1, None),
    "transposed": ("transposed", 1, None),
    "shared": ("shared", 1, None),
}


@pytest.fixture(autouse=True, scope="module")
def registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        awkward = {"transposed": "transposed-convolution", "shared": "siamese"}
        nets = {name: functools.partial(Net, NETS[kind]) for name, kind in awkward.items()}
        patch.setattr(zoo, "_registered", {"grouped": Grouped, "gated": Gated, "dense": Dense, **nets})
        yield


@functools.cache
def small(kind: str) -> tuple[Network, Coupling]:
    arch, exits, head = SMALL[kind]
    torch.manual_seed(0)
    network = create(Architecture(arch, head=head), exits=exits, input_shape=(1, 8, 8)).eval()
    network = cut(network, 1) if head else network
    return network, Coupling(network)


def draw_removed(data: st.DataObject, coupling: Coupling) -> list[list[int]]:
    """Draw some units of every group, never all."""
    return [
        data.draw(st.lists(st.integers(0, group.units - 1), unique=True, max_size=group.units - 1))
        for group in coupling.groups
    ]


def narrowed(network: Network, units: list[list[int]]) -> Network:
    return remove_channels(network, dict(enumerate(units)))


@pytest.mark.parametrize("kind", SMALL)
@given(data=st.data())
@settings(max_examples=2, deadline=None, derandomize=True)
def test_the_size_is_that_of_the_network_really_narrowed(kind: str, data: st.DataObject) -> None:
    network, coupling = small(kind)
    units = draw_removed(data, coupling)
    assert coupling.size(tuple(map(len, units))) == Size.of(narrowed(network, units))


@pytest.mark.parametrize("kind", SMALL)
def test_the_size_at_both_ends_is_that_of_the_network_really_narrowed(kind: str) -> None:
    """One unit of every group is where a grouped convolution looks like a depthwise one."""
    network, coupling = small(kind)
    least = [list(range(1, group.units)) for group in coupling.groups]
    assert coupling.size((0,) * len(least)) == Size.of(network)
    assert coupling.size(tuple(map(len, least))) == Size.of(narrowed(network, least))


def test_mobilenetv2_is_counted_to_the_last_parameter() -> None:
    torch.manual_seed(0)
    network = create("mobilenetv2w4-5-6-7-8-9-10", exits=2, input_shape=(1, 8, 8)).eval()
    coupling = Coupling(network)
    units = [list(range(0, group.units - 1, 3)) for group in coupling.groups]
    assert coupling.size(tuple(map(len, units))) == Size.of(narrowed(network, units))
    assert Size.of(network).params < cost(network).params  # the exit before is not counted
    joined = [group for group in coupling.groups if group.joined]
    assert sorted(group.units for group in joined) == [5, 6, 7, 8, 9]  # stages of several blocks
    assert all(group.ways == 1 for group in coupling.groups)


def test_a_net_with_concatenations_and_a_classifier_before_pooling_is_counted_to_the_last_parameter() -> None:
    """`test_zoo` has many more nets of torchvision and timm."""
    torch.manual_seed(0)
    arch = Architecture("torchvision:squeezenet1_1", image_size=32)
    network = create(arch, exits=2, input_shape=(1, 28, 28)).eval()
    coupling = Coupling(network)
    units = [list(range(0, group.units - 1, 3)) for group in coupling.groups]
    assert coupling.size(tuple(map(len, units))) == Size.of(narrowed(network, units))
    assert not any(group.joined for group in coupling.groups)


# (units, ways) of the groups that residual additions join, and of the inner ones.
GROUPS: dict[str, tuple[list[tuple[int, int]], list[tuple[int, int]]]] = {
    "pre-activation": ([(16, 1), (32, 1), (64, 1)], [(16, 1), (32, 1), (64, 1)]),
    "post-activation": ([(16, 1), (32, 1), (64, 1)], [(16, 1), (32, 1), (64, 1)]),
    "other-widths": ([(3, 1), (5, 1), (7, 1)], [(3, 1), (3, 1), (5, 1), (7, 1)]),
    "convolution": ([(16, 1), (32, 1)], [(16, 1), (32, 1)]),  # the head's own channels are left alone
    "grouped": ([(8, 1)], [(4, 3), (4, 3)]),
    "gated": ([], [(4, 1), (6, 1), (12, 1)]),
    "dense": ([], [(4, 1), (5, 1), (6, 1)]),
}


@pytest.mark.parametrize("kind", GROUPS)
def test_inner_groups_are_those_that_no_addition_joins(kind: str) -> None:
    _, coupling = small(kind)
    inner = coupling.within("inner")
    joined = [group for number, group in enumerate(coupling.groups) if number not in inner.numbers]
    assert all(group.joined for group in joined)
    assert not any(group.joined for group in inner.groups)
    assert tuple(sorted((group.units, group.ways) for group in part) for part in (joined, inner.groups)) == GROUPS[kind]


@pytest.mark.parametrize("kind", ["pre-activation", "grouped"])
def test_removing_inner_channels_leaves_the_residual_stream_alone(kind: str) -> None:
    network, coupling = small(kind)
    inner = coupling.within("inner")
    least = tuple(units - 1 for units in inner.units)
    units = [list(range(1, group.units)) if not group.joined else [] for group in coupling.groups]
    smaller = narrowed(network, units)
    assert inner.size(least) == Size.of(smaller)
    assert [block.out for block in smaller.spec.blocks] == [block.out for block in network.spec.blocks]
    assert coupling.within("all").units == tuple(group.units for group in coupling.groups)


@pytest.mark.parametrize(
    ("keep", "layers"),
    [("squeeze", {"squeeze.0"}), ("squeeze.0,expand", {"squeeze.0", "expand", "stem"}), ("squeezed", set())],
)
def test_what_layers_of_a_module_write_is_kept(keep: str, layers: set[str]) -> None:
    """With it goes what is added to it."""
    network, coupling = small("grouped")
    if not layers:
        with pytest.raises(UsageError, match=r"--keep squeezed: did you mean 'squeeze'"):
            coupling.within("all", [keep])
        return
    kept = coupling.within("all", keep.split(","))
    gone = set(range(len(coupling.groups))) - set(kept.numbers)
    written = {
        name.split(".", 2)[2].rpartition(".")[0] for number in gone for name, _ in coupling.groups[number].writers
    }
    assert written == layers
    everything = [
        list(range(1, group.units)) if number in kept.numbers else [] for number, group in enumerate(coupling.groups)
    ]
    smaller = narrowed(network, everything).state_dict()
    for name, weight in network.state_dict().items():
        if name.split(".", 2)[2].removesuffix(".weight") in layers:
            assert len(smaller[name]) == len(weight)


@pytest.mark.parametrize("arch", ["resnet8", "resnet8v1", "mobilenetv2b1-2-1-1-1-1-1w8-8-8-16-16-24-24"])
def test_groups_do_not_depend_on_the_order_of_a_networks_memory(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network in training has its channels last."""
    monkeypatch.setattr("baselines.coupling._known", {})
    network = create(arch, exits=2, input_shape=(3, 32, 32), classes=4)
    found = Coupling(network)
    monkeypatch.setattr("baselines.coupling._known", {})
    last = Coupling(network.to(memory_format=torch.channels_last))
    assert [group.writers for group in last.groups] == [group.writers for group in found.groups]
    assert [group.units for group in last.groups] == [group.units for group in found.groups]
