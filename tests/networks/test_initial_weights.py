"""Initial weights from a file, under the network's names or those of the original network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from compress import Architecture
from compress.errors import UsageError
from compress.networks import Network, create, load_pretrained, load_weights

SHAPE = (1, 28, 28)


def small(classes: int = 5, exits: str = "features.4,end") -> Network:
    return create(
        Architecture("torchvision:mobilenet_v3_small", image_size=32), exits=exits, input_shape=SHAPE, classes=classes
    )


def original(classes: int = 5) -> nn.Module:
    torch.manual_seed(7)
    model: nn.Module = torchvision.models.mobilenet_v3_small(num_classes=classes)
    return model.eval()


FORMS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "as it is": lambda state: state,
    "a checkpoint": lambda state: {"state_dict": state, "epoch": 3},
    "of DDP": lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
}


def test_the_original_nets_weights_fit_in_whatever_form_and_the_auxiliary_head_keeps_its_own(tmp_path: Path) -> None:
    model, network = original(), small().eval()
    auxiliary = network.heads[str(network.spec.exits[0].block)]
    before = [value.clone() for value in auxiliary.state_dict().values()]
    digests = set()
    for number, form in enumerate(FORMS.values()):
        torch.save(form(model.state_dict()), tmp_path / f"{number}.pt")
        digests.add(load_weights(network, tmp_path / f"{number}.pt"))
    safetensors.torch.save_file(model.state_dict(), tmp_path / "weights.safetensors")
    digests.add(load_weights(network, tmp_path / "weights.safetensors"))
    assert len(digests) == 1
    images = torch.randn(2, *SHAPE)
    with torch.inference_mode():
        assert torch.equal(network(images)[-1], model(network.stem(images)))
    assert all(map(torch.equal, before, auxiliary.state_dict().values()))


@pytest.mark.parametrize("arch", ["resnet8", "torchvision:squeezenet1_1"])
def test_a_networks_own_weights_fit_all_of_it(arch: str, tmp_path: Path) -> None:
    network, other = (create(arch, exits=2, input_shape=(3, 64, 64)) for _ in range(2))
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    first = load_weights(other, tmp_path / "weights.pt")
    assert all(map(torch.equal, network.state_dict().values(), other.state_dict().values()))
    torch.save(create(arch, exits=2, input_shape=(3, 64, 64)).state_dict(), tmp_path / "weights.pt")
    assert load_weights(other, tmp_path / "weights.pt") != first


def without(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key != name}


LAYER = "features.0.0.weight"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda: original(7).state_dict(), "for 7 classes, this network has 5"),
        (lambda: without(original().state_dict(), LAYER), f"it is without {LAYER}"),
        (lambda: original().state_dict() | {"more": torch.zeros(1)}, "it has besides more"),
        (lambda: original().state_dict() | {LAYER: torch.zeros(1)}, f"it has another shape of {LAYER}"),
        (lambda: {"conv.weight": torch.zeros(1)}, "it is without features.0.0.weight, "),
        (lambda: [1, 2], "not a state dict"),
        (lambda: {"state_dict": 3}, "not a state dict"),
        (original, "weights_only"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_the_network_stays(
    content: Callable[[], Any], says: str, tmp_path: Path
) -> None:
    torch.save(content(), tmp_path / "weights.pt")
    network = small()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(UsageError) as refused:
        load_weights(network, tmp_path / "weights.pt")
    assert says in str(refused.value)
    assert str(tmp_path / "weights.pt") in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_a_file_that_is_missing_or_something_else_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        load_weights(small(), tmp_path / name)
    (tmp_path / name).write_text("weights")
    with pytest.raises(UsageError, match="neither safetensors"):
        load_weights(small(), tmp_path / name)


@pytest.mark.parametrize(("classes", "replaced"), [(5, True), (1000, False)])
def test_published_weights_leave_a_classifier_of_other_classes(
    classes: int, replaced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file stands in torch's cache, where a download would put it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = torchvision.models.get_model_weights("mobilenet_v3_small").DEFAULT.url
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    model = original(1000)
    torch.save(model.state_dict(), tmp_path / "hub/checkpoints" / url.rpartition("/")[2])
    network = small(classes)
    head = {name: value.clone() for name, value in network.heads[str(len(network.blocks))].state_dict().items()}
    assert len(load_pretrained(network)) == 16
    assert torch.equal(network.state_dict()[f"blocks.0.{LAYER}"], model.state_dict()[LAYER])
    after = network.heads[str(len(network.blocks))].state_dict()
    assert torch.equal(after["classifier.0.weight"], model.state_dict()["classifier.0.weight"])
    assert torch.equal(after["classifier.3.weight"], head["classifier.3.weight"]) == replaced


def test_without_a_network_published_weights_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(UsageError) as refused:
        load_pretrained(small())
    assert str(refused.value).startswith("pretrained torchvision:mobilenet_v3_small: needs a network, or the file in")
    assert len(str(refused.value).splitlines()) == 1


def test_nobody_publishes_weights_for_our_own_networks() -> None:
    with pytest.raises(UsageError, match="resnet8 is neither torchvision's nor timm's"):
        load_pretrained(create("resnet8"))
