"""A traced network computes what the network itself does, in both modes, wherever it is split."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from compress.errors import UsageError
from compress.networks.foreign.segments import Divisible
from tests.networks.conftest import narrow_transformer


def torchvision_net(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = torchvision.models.get_model(name, num_classes=5, **options)
    return model.eval()


# Architecture, its natural blocks (the last included), the first of them, the depth that the field gives it if it does.
ZOO = [
    ("resnet18", 8, "layer1.0", 18),
    ("mobilenet_v2", 18, "features.1", 53),
    ("regnet_y_400mf", 16, "trunk_output.block1", None),
    ("densenet121", 4, "features.denseblock1", 121),
    ("convnext_tiny", 18, "features.1.0", None),
    ("efficientnet_b0", 17, "features.1", None),
    ("vit_b_16", 12, "encoder.layers.encoder_layer_0", None),
    ("swin_t", 12, "features.1.0", None),
    ("squeezenet1_1", 9, "features.3", None),
]


@pytest.mark.parametrize(("name", "blocks", "first", "depth"), ZOO, ids=[name for name, *_ in ZOO])
def test_the_segments_compute_what_the_net_does_and_hold_all_its_weights_once(
    name: str, blocks: int, first: str, depth: int | None
) -> None:
    model = narrow_transformer(5).eval() if name == "vit_b_16" else torchvision_net(name)
    net = Divisible(model, (3, 32, 32))
    assert len(net.blocks) == blocks
    assert (net.blocks[0], net.blocks[-1]) == (first, "end")
    if depth:
        assert net.features("end").depth + 1 == depth
    segments, head = net.split(net.blocks)
    images = torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        features = images
        for block, segment in zip(net.blocks, segments, strict=True):
            features = segment(features)
            described = net.features(block)
            assert described.channels in features.shape[1:]
            assert features[0].numel() == math.prod(described.shape)
        assert torch.equal(head(features), model(images))
    names = [name for part in (*segments, head) for name in part.state_dict()]
    assert sorted(names) == sorted(model.state_dict())


def test_random_depth_follows_the_mode() -> None:
    model = torchvision_net("efficientnet_b0", stochastic_depth_prob=0.9)
    segments, _ = Divisible(model.train(), (3, 32, 32)).split(("features.7", "end"))
    assert all(module.training for module in model.modules())
    first = segments[0]
    images = torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        assert not torch.equal(first(images), first(images))
        first.eval()
        assert torch.equal(first(images), first(images))
        first.train()
        assert not torch.equal(first(images), first(images))


class Small(nn.Module):
    """conv1, conv2, pooled, classified; what the tests vary is handed in."""

    def __init__(self, middle: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.middle = middle or nn.Identity()
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(6, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.conv2(self.middle(self.relu(self.conv1(images)))))

    def head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.pool(features).flatten(1))
        return logits


def both(model: nn.Module, exits: tuple[str, ...], *, training: bool, shape: tuple[int, int, int] = (3, 8, 8)) -> None:
    """Check that the net and its segments compute the same from the same random numbers, gradients included."""
    images = torch.randn(4, *shape)
    results: list[Tensor] = []
    gradients: list[list[Tensor | None]] = []
    segments, head = Divisible(copy.deepcopy(model), shape).split(exits)
    for run in (model.train(training), nn.Sequential(*segments, head).train(training)):
        torch.manual_seed(3)
        logits = run(images)
        logits.square().sum().backward()
        results.append(logits)
        gradients.append([parameter.grad for parameter in run.parameters()])
    assert torch.equal(*results)
    for first, second in zip(*gradients, strict=True):
        assert first is not None
        assert second is not None
        assert torch.equal(first, second)


class Constants(Small):
    """Its forward makes tensors, as one that normalises its images does; every pass makes them anew."""

    def forward(self, images: Tensor) -> Tensor:
        features = self.relu(self.conv1((images - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) * torch.tensor(2.0)))
        return self.head(self.conv2(self.middle(features)))


@pytest.mark.parametrize("training", [True, False])
def test_tensors_that_a_forward_makes_are_followed(training: bool) -> None:
    both(Constants(), ("relu", "end"), training=training)


class FunctionalDropout(Small):
    """As the nets of many tutorials are written."""

    def forward(self, images: Tensor) -> Tensor:
        features = functional.dropout(functional.relu(self.conv1(images)), 0.5, training=self.training)
        return self.head(functional.dropout2d(self.conv2(self.middle(features)), 0.5, self.training))


class NoiseInTraining(nn.Module):
    """Another graph in train mode, as timm's DropPath has, and a count that tracing must not touch."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, features: Tensor) -> Tensor:
        if self.training:
            self.get_buffer("calls").add_(1)
            return features + torch.randn_like(features)
        return features


class Branching(nn.Module):
    """A path that depends on a value."""

    def forward(self, features: Tensor) -> Tensor:
        return features if features.sum() > 0 else -features


MIDDLES: dict[str, Callable[[], nn.Module]] = {
    "plain": Small,
    "functional dropout": FunctionalDropout,
    "noise": lambda: Small(NoiseInTraining()),
    "untraceable part": lambda: Small(Branching()),
    "dropout": lambda: Small(nn.Dropout(0.5)),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", MIDDLES)
def test_both_modes_are_those_of_the_net(kind: str, training: bool) -> None:
    both(MIDDLES[kind](), ("middle", "end"), training=training)


@pytest.mark.parametrize("training", [True, False])
def test_features_at_an_exit_are_not_changed_in_place_by_the_next_segment(training: bool) -> None:
    model = Small()
    both(model, ("conv1", "end"), training=training)
    segments, _ = Divisible(model, (3, 8, 8)).split(("conv1", "end"))
    features = segments[0](torch.randn(2, 3, 8, 8))
    before = features.clone()
    segments[1](features)
    assert torch.equal(features, before)
    assert before.min() < 0


def test_a_net_without_passages_has_a_block_for_every_layer() -> None:
    net = Divisible(Small(nn.Conv2d(4, 4, 3)), (3, 8, 8))
    assert net.blocks == ("relu", "middle", "end")
    assert [net.features(block).depth for block in net.blocks] == [1, 2, 3]


def test_tracing_leaves_modes_weights_and_random_state_alone() -> None:
    model = Small(NoiseInTraining())
    model.train().conv1.eval()
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    Divisible(model, (3, 8, 8))
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [model.training, model.conv1.training, model.middle.training] == [True, False, True]


class Skipping(Small):
    def forward(self, images: Tensor) -> Tensor:
        early = self.relu(self.conv1(images))
        return self.head(self.conv2(early + self.middle(early)))


class Tied(Small):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(4, 4, 3, padding=1))
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        assert isinstance(self.middle, nn.Conv2d)
        self.again.weight = self.middle.weight

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.conv2(self.again(self.relu(self.middle(self.relu(self.conv1(images)))))))


class TwoPaths(Small):
    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.conv2(self.conv1(images) * (2 if self.training else 1)))


class Unpooled(Small):
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.conv2(self.relu(self.conv1(images))).mean((2, 3)))
        return logits


class Unclassified(Small):
    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.conv2(self.conv1(images))
        return features


class Sure(Small):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) if images.mean() < 5 else images


class Flat(Small):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :5]


@pytest.mark.parametrize(
    ("model", "exits", "says"),
    [
        (Small, "layer1,end", "'layer1' is not a module of the net; known: conv1"),
        (Small, "conv3,end", "did you mean 'conv"),
        (Small, "conv2,end", "write 'end'"),
        (Small, "classifier,end", "is where the net's own head begins, or after it; write 'end'"),
        (Small, "conv1", "the last one must be the net's own, write 'end'"),
        (Small, "", "write 'end'"),
        (Small, "middle,conv1,end", "write conv1,middle,end"),
        (Small, "conv1,conv1,end", "each can have one exit"),
        (Small, "end,end", "'end' is the last exit"),
        (Skipping, "middle,end", "'middle' is passed by another path; the nearest place is 'end'"),
        (Tied, "middle,end", "'middle' is passed by another path; the nearest place is 'again'"),
        (Unpooled, "pool,end", "'pool' is not run by itself, or several times, or returns no single tensor; it can be"),
    ],
)
def test_an_exit_that_cannot_be_there_is_refused_with_the_nearest_place(
    model: Callable[[], nn.Module], exits: str, says: str
) -> None:
    net = Divisible(model(), (3, 8, 8))
    with pytest.raises(UsageError) as refused:
        net.place([name for name in exits.split(",") if name])
    assert says in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_an_exit_inside_a_residual_block_is_refused_by_the_name_of_the_block() -> None:
    net = Divisible(torchvision_net("resnet18"), (3, 32, 32))
    with pytest.raises(
        UsageError, match=r"'layer2.0.conv1' is passed by another path; the nearest place is 'layer2.0'"
    ):
        net.place(("layer2.0.conv1", "end"))
    with pytest.raises(UsageError, match=r"'layer2.0.relu' is not run by itself, or several times"):
        net.place(("layer2.0.relu", "end"))
    assert net.place(("layer1.1", "layer2", "end")) == ("layer1", "layer2", "end")
    with pytest.raises(UsageError, match="two are the same place"):
        net.place(("layer1.1", "layer1", "end"))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (TwoPaths, "TwoPaths cannot be split: its own forward takes another path in train mode"),
        (Unclassified, "Unclassified is no classifier: it returns shape (2, 6, 8, 8), not logits (N, classes)"),
        (Sure, "torch.fx cannot trace Sure: symbolically traced variables"),
        (Flat, "Flat cannot be split: it has no place where features"),
        (lambda: torchvision_net("squeezenet1_1"), "SqueezeNet does not take images of 3x8x8: "),
    ],
)
def test_a_net_that_cannot_be_split_says_why(model: Callable[[], nn.Module], says: str) -> None:
    with pytest.raises(UsageError) as refused:
        Divisible(model(), (3, 8, 8))
    assert says in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_no_exit_comes_before_any_layer() -> None:
    """Its depth would be 0, by which weights of losses are divided."""
    model = nn.Sequential(nn.MaxPool2d(2), nn.BatchNorm2d(3), Small())
    assert not {"0", "1"} & Divisible(model, (3, 16, 16)).points.keys()
