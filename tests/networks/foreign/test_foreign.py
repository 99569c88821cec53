"""Foreign networks: equal logits, cutting, training, and rebuilding from plain data."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compress import Architecture
from compress.errors import UsageError
from compress.network_cost import exit_costs
from compress.networks import Network, Spec, create, cut, display_name, exits_in_name, register, spec_of
from compress.networks.foreign import zoo
from compress.training.objectives import mwbp
from tests.networks.conftest import narrow_transformer

SHAPE, CLASSES = (1, 28, 28), 5

NETS: dict[str, int | str | list[int | str]] = {
    "torchvision:resnet18": "layer1,layer2,layer3,end",
    "torchvision:mobilenet_v2": 3,
    "torchvision:regnet_y_400mf": "trunk_output.block2,end",
    "torchvision:densenet121": ["features.denseblock1", "features.transition2", "end"],
    "torchvision:convnext_tiny": "3,9,end",
    "torchvision:efficientnet_b0": 4,
    "vit": "encoder.layers.encoder_layer_1,end",
    "timm:resnet10t": 2,
    "timm:mobilenetv3_small_050": 3,
}
SMALL = ("torchvision:convnext_tiny", "torchvision:resnet18", "vit")  # images suffice
LARGE = (
    "torchvision:mobilenet_v2",
    "torchvision:regnet_y_400mf",
    "torchvision:densenet121",
    "torchvision:convnext_tiny",
    "torchvision:efficientnet_b0",
    "timm:mobilenetv3_small_050",
)


@pytest.mark.parametrize("arch", [pytest.param(arch, marks=[pytest.mark.slow] * (arch in LARGE)) for arch in NETS])
def test_a_net_of_the_zoos_is_a_network_like_any_other(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "_registered", {"vit": narrow_transformer})
    if arch.startswith("timm:"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    size = 32 if arch in SMALL else 64
    network = create(Architecture(arch, image_size=size), exits=NETS[arch], input_shape=SHAPE, classes=CLASSES)
    train_two_steps(network)
    network.eval()
    images = torch.randn(2, *SHAPE)
    with torch.inference_mode():
        logits = network(images)
        expected = original(network)(network.stem(images))  # its strided 1x1 convolutions go by another kernel
        torch.testing.assert_close(logits[-1], expected, rtol=1e-5, atol=1e-5)
        for number, expected_logits in enumerate(logits, start=1):
            part = cut(network, number)
            assert torch.equal(part(images)[0], expected_logits)
    assert len({macs.macs for macs in exit_costs(network)}) == len(network.spec.exits)

    first = cut(network, 1)
    rebuilt = Network(Spec.from_json(json.loads(json.dumps(first.spec.to_json())))).eval()
    rebuilt.load_state_dict(first.state_dict(), strict=True)
    with torch.inference_mode():
        assert torch.equal(rebuilt(images)[0], logits[0])


def train_two_steps(network: Network) -> None:
    """Two steps of MW-BP, which reach every parameter."""
    objective = mwbp(network.spec)
    optimizer = torch.optim.SGD(objective.parameter_groups(network, learning_rate=1e-4, weight_decay=1e-4), lr=1e-4)
    network.train()
    for _ in range(2):
        losses = objective.losses(network(torch.randn(4, *SHAPE)), torch.tensor([0, 3, 2, 2]))
        assert losses.isfinite().all()
        optimizer.zero_grad()
        objective.total(losses).backward()
        optimizer.step()
    assert all(parameter.grad is not None for parameter in network.parameters())
    for part in (
        *network.segments(objective.segments),
        *network.heads.values(),
    ):  # a head that starts at zero passes nothing on at first
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in part.parameters())


def original(network: Network) -> nn.Module:
    """The net itself with the network's weights."""
    spec = network.spec
    model = zoo.build(spec.arch, spec.classes, spec.stem.shape_after(spec.input_shape))
    last = f"heads.{len(spec.blocks)}."
    state = {
        name.split(".", maxsplit=2)[2]: value
        for name, value in network.state_dict().items()
        if name.startswith(("blocks.", last))
    }
    model.load_state_dict(state, strict=True)
    return model.eval()


def test_depth_macs_and_names_are_those_of_the_field() -> None:
    network = create(
        Architecture("torchvision:resnet18", image_size=224), exits="layer1,layer2,layer3,end", classes=1000
    )
    assert network.spec.depths == (5, 9, 13, 18)
    assert network.spec.exit_names == ("layer1", "layer2", "layer3", "end")
    assert exit_costs(network)[-1].params == 11_689_512  # torchvision's own figures
    assert round(exit_costs(network)[-1].macs / 1e9, 3) == 1.814
    assert display_name(network.spec) == "Mw-torchvision.resnet18-4"
    assert display_name(cut(network, 1).spec) == "torchvision.resnet18"
    assert exits_in_name("torchvision:resnet18") is None
    assert network.spec.with_exits(range(1, 9)).depths == (3, 5, 7, 9, 11, 13, 15, 18)


class Own(nn.Module):
    """A user's net for grey images."""

    def __init__(self, classes: int, channels: int = 1) -> None:
        super().__init__()
        self.start = nn.Sequential(nn.Conv2d(channels, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.middle = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU())
        self.last = nn.Conv2d(6, 8, 3, padding=1)
        self.classifier = nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.last(self.middle(self.start(images))).mean((2, 3)))
        return logits


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a registered net."""
    monkeypatch.setattr(zoo, "_registered", {})
    register("own-net", Own)
    return "own-net"


class Transformer(nn.Module):
    """Patches of 7 pixels; tokens `(N, 16, 8)`, or a grid of them `(N, 4, 4, 8)`, channels last."""

    def __init__(self, classes: int, grid: bool = False) -> None:
        super().__init__()
        self.grid = grid
        self.patches = nn.Conv2d(1, 8, 7, stride=7)
        layer: nn.Module = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.first = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8)) if grid else layer
        self.last = nn.LayerNorm(8)
        self.classifier = nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).movedim(1, -1)
        tokens = self.last(self.first(tokens if self.grid else tokens.flatten(1, 2)))
        logits: Tensor = self.classifier(tokens.flatten(1, -2).mean(1))
        return logits


@pytest.mark.parametrize("grid", [True, False])
def test_features_whose_channels_come_last_have_a_head_of_their_own(own: str, grid: bool) -> None:
    register(own, lambda classes: Transformer(classes, grid))
    network = create(own, exits="first,end", input_shape=SHAPE, classes=CLASSES)
    assert network.spec.shapes[1:] == ((16, 8), (16, 8))
    assert [exit.head for exit in network.spec.exits] == ["ln-mean-fc", "own"]
    train_two_steps(network)
    images = torch.randn(2, *SHAPE)
    with torch.inference_mode():
        assert torch.equal(cut(network.eval(), 1)(images)[0], network(images)[0])
    with pytest.raises(UsageError, match=r"takes \(C, H, W\); channels come last there, so only ln-mean-fc fits"):
        create(Architecture(own, head="gap-fc"), exits="first,end", input_shape=SHAPE)


def test_attention_counts_its_projections(own: str) -> None:
    register(own, Transformer)
    first, whole = exit_costs(create(own, exits="first,end", input_shape=SHAPE, classes=CLASSES))
    patches, layer, tokens = 16 * 8 * 49, 8 * (3 * 8 + 8 + 16 + 16), 16
    assert first.macs == whole.macs == patches + tokens * layer + 8 * CLASSES


def test_images_are_enlarged_and_grey_ones_repeated() -> None:
    network = create("torchvision:squeezenet1_1", input_shape=(1, 28, 56))
    images = torch.randn(2, 1, 28, 56)
    assert network.stem(images).shape == (2, 3, 64, 128)
    assert network.spec.stem.size == 64
    colours = torch.randn(2, 3, 80, 80)
    network = create("torchvision:squeezenet1_1", input_shape=(3, 80, 80))
    assert network.spec.stem.size == 0
    assert torch.equal(network.stem(colours), colours)


def test_a_registered_net_is_rebuilt_where_it_is_registered_and_else_refused(
    own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = create(own, exits=["middle", "end"], input_shape=SHAPE, classes=CLASSES)
    assert network.spec.stem.size == 0
    assert network.spec.depths == (2, 4)
    assert spec_of(own, exits=3, input_shape=SHAPE).exit_names == ("start", "middle", "end")
    data = network.spec.to_json()
    Network(Spec.from_json(data)).load_state_dict(network.state_dict(), strict=True)
    monkeypatch.setattr(zoo, "_registered", {})
    with pytest.raises(UsageError, match=r"not registered in this process: call compress.register\('own-net'"):
        Network(Spec.from_json(data))


def test_a_net_for_colours_takes_grey_images_repeated(own: str) -> None:
    register(own, lambda classes: Own(classes, channels=3))
    assert create(own, input_shape=SHAPE).stem(torch.zeros(2, *SHAPE)).shape == (2, 3, 28, 28)


def test_a_net_that_has_changed_since_is_refused(own: str) -> None:
    spec = spec_of(own, exits=["middle", "end"], input_shape=SHAPE)
    register(own, lambda classes: nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3), nn.Flatten(), nn.LazyLinear(5)))
    with pytest.raises(UsageError, match="no module 'start' to be split at: it is another net than it was"):
        Network(spec)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module in the working directory, where `python -m` would find it."""
    (tmp_path / "users_nets.py").write_text(
        "from torch import nn\n\n\ndef make_net(classes):\n"
        "    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.AdaptiveAvgPool2d(1),\n"
        "                         nn.Flatten(), nn.Linear(6, classes))\n\n\n"
        "def broken(classes):\n    raise ValueError('no such\\nluck')\n\n\ndef number(classes):\n    return classes\n"
    )
    monkeypatch.chdir(tmp_path)
    yield "users_nets"
    sys.modules.pop("users_nets", None)


def test_a_net_of_a_users_module_is_found_by_its_name(module: str) -> None:
    network = create(f"python:{module}:make_net", exits="1,end", input_shape=SHAPE, classes=CLASSES)
    assert network.spec.exit_names == ("1", "end")
    assert [logits.shape for logits in network(torch.zeros(2, *SHAPE))] == [(2, CLASSES)] * 2
    again = Network(Spec.from_json(network.spec.to_json()))
    again.load_state_dict(network.state_dict(), strict=True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"arch": "torchvision:resnet19"}, "did you mean 'resnet1"),
        ({"arch": "torchvision:"}, "as in torchvision:resnet18"),
        ({"arch": "torchvison:resnet18"}, "did you mean 'torchvision'"),
        ({"arch": "python:no_such_module:make"}, "cannot import 'no_such_module'"),
        ({"arch": "python:users_nets:make"}, "users_nets has no 'make'; did you mean 'make_net'"),
        ({"arch": "python:users_nets:broken"}, "cannot be made: ValueError: no such"),
        ({"arch": "python:users_nets:number"}, "made a int, not a torch.nn.Module"),
        ({"exits": "layer1,layer9,end"}, "'layer9' is not a module of the net; did you mean"),
        ({"exits": "9,end"}, "'9' is not a module of the net"),
        ({"exits": 9}, "this network has 8 blocks"),
        ({"exits": "paper"}, "none are published"),
        ({"exits": "layer4,end"}, "write 'end'"),
        ({"arch": Architecture("torchvision:resnet18", width=2)}, "are for our own networks"),
        ({"arch": Architecture("torchvision:resnet18", head="bn-relu-gap")}, "did you mean 'bn-relu-gap-fc'"),
        ({"arch": Architecture("torchvision:resnet18", image_size=16)}, "are only enlarged; give 28 or more"),
        ({"input_shape": (4, 28, 28)}, "takes images of 1 or 3 channels, not of 4"),
        ({"arch": Architecture("torchvision:inception_v3", image_size=32)}, "does not take images of 3x32x32"),
        ({"arch": Architecture("resnet20", image_size=64)}, "takes images as they are"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(arguments: dict[str, Any], says: str, module: str) -> None:
    with pytest.raises(UsageError) as refused:
        create(**{"arch": "torchvision:resnet18", "input_shape": SHAPE, **arguments})
    assert says in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_timm_is_named_where_it_is_missing_or_has_no_such_net(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    with pytest.raises(UsageError, match=r"did you mean 'resnet10t'\?$"):
        create("timm:resnet10tt")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match=r"needs timm: pip install 'multiway-compress\[zoo\]'"):
        create("timm:resnet10t")


@pytest.mark.parametrize("name", ["resnet20", "a:b", "two words", "", "mwresnet-44-5"])
def test_a_name_that_is_ours_or_no_name_is_not_registered(name: str) -> None:
    with pytest.raises(UsageError, match="a name of your own"):
        register(name, Own)


def edited(spec: Spec, edit: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    data = spec.to_json()
    edit(data)
    return data


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda data: data["blocks"][0].update(module="end"), "each another module"),
        (lambda data: data["blocks"][0].update(out=9), "channels of shape"),
        (lambda data: data["blocks"][0].update(shape=[4, "14", 14]), "blocks[0].shape[1]"),
        (lambda data: data["blocks"][0].update(shape=[4]), "neither (C, H, W) nor (positions, C)"),
        (lambda data: data["blocks"][0].update(kind="pre-activation"), "blocks[0]: unknown key 'module'"),
        (lambda data: data["blocks"][0].pop("module"), "module"),
        (lambda data: data["exits"][1].update(head="gap-fc"), "the net's own is at 'end'"),
        (lambda data: data["exits"][0].update(head="own"), "the net's own is at 'end'"),
        (lambda data: data["stem"].update(kind="conv"), "no such part 'conv'"),
        (lambda data: data["stem"].update(size=-1), "size -1"),
        (lambda data: data["stem"].update(size=20), "larger than 20 pixels"),
        (lambda data: data.update(resized=[["blocks.0.start.0.weight", [0, 1, 3, 3]]]), "resized"),
        (lambda data: data.update(resized=[3]), "not a network spec"),
    ],
)
def test_a_spec_that_does_not_fit_itself_is_refused(edit: Callable[[dict[str, Any]], Any], says: str, own: str) -> None:
    data = edited(spec_of(own, exits=["middle", "end"], input_shape=SHAPE), edit)
    with pytest.raises(UsageError) as refused:
        Spec.from_json(data)
    assert says in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_resizing_what_is_not_there_is_refused(own: str) -> None:
    data = spec_of(own, input_shape=SHAPE).to_json() | {"resized": [["blocks.0.nothing.weight", [1]]]}
    with pytest.raises(UsageError, match=r"'blocks.0.nothing.weight': the network has no such parameter"):
        Network(Spec.from_json(data))


class OfAnyLayout(nn.Module):
    """Features of as many channels as rows or columns, which come second or last."""

    def __init__(self, classes: int, last: bool) -> None:
        super().__init__()
        self.last = last
        self.a = nn.Conv2d(3, 8, 1)
        self.b, self.fc = nn.Linear(8, 8) if last else nn.Conv2d(8, 8, 1), nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.a(images)
        features = self.b(features.permute(0, 2, 3, 1) if self.last else features).relu()
        logits: Tensor = self.fc(features.mean((1, 2) if self.last else (2, 3)))
        return logits


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("size", [(6, 10), (8, 8), (8, 5), (5, 8)])
def test_where_channels_are_is_told_by_the_layers_not_by_sizes(
    size: tuple[int, int], last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo, "_registered", {"net": lambda classes: OfAnyLayout(classes, last)})
    spec = spec_of("net", exits="b,end" if last else "a,end", input_shape=(3, *size))
    assert spec.shapes[spec.exits[0].block - 1] == ((size[0] * size[1], 8) if last else (8, *size))
    assert spec.exits[0].head == ("ln-mean-fc" if last else "bn-relu-gap-fc")
