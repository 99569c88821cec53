"""Initial weights from a file or as published, loaded strictly and without unpickling code."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from compress.errors import UsageError, checked, first_line
from compress.networks.foreign.zoo import source_of, timm_model
from compress.networks.network import Network
from compress.networks.plain_network import plain_names

State = Mapping[str, Tensor]


@checked
def load_weights(network: Network, path: str | Path) -> str:
    """Load a state dict into a network, in place, and return a digest of it.

    Names are those of the network, or of what `plain` makes of it: those of the foreign network that it is made of, as
    ``layer1.0.conv1.weight`` for `torchvision:resnet18`. Auxiliary heads keep their weights where the file has none for
    them. The file is safetensors, or readable by
    `torch.load` with `weights_only`. The state dict may be in ``state_dict`` or ``model``, or have DDP's ``module.``.

    Raises:
        UsageError: no such file, it holds no state dict, or the state dict does not fit.
    """
    state = _read(Path(path))
    _load(network, state, f"weights {path}")
    return _digest(state)


@checked
def load_pretrained(network: Network, *, whole: bool = False) -> str:
    """Load the weights that torchvision or timm publishes for a network, in place, and return a digest of them.

    They are downloaded once. The classifier keeps its weights if the number of classes differs.

    Args:
        whole: refuse weights for another number of classes: the network is to be used as published.

    Raises:
        UsageError: no weights are published, they cannot be downloaded, or they do not fit.
    """
    arch = network.spec.arch
    source, name = source_of(arch)
    if source not in ("torchvision", "timm"):
        raise UsageError(f"pretrained: {arch} is neither torchvision's nor timm's, so nobody publishes weights for it")
    try:
        state = _torchvision_weights(name) if source == "torchvision" else _timm_weights(network, name)
    except OSError as error:  # urllib's and the hub's are
        raise UsageError(
            f"pretrained {arch}: needs a network, or the file in torch's cache ({first_line(error)})"
        ) from error
    _load(network, state, f"pretrained {arch}", published=True, whole=whole)
    return _digest(state)


def _torchvision_weights(name: str) -> State:
    import torchvision  # here, as importing it takes seconds

    weights = list(torchvision.models.get_model_weights(name))
    if not weights:
        raise UsageError(f"pretrained torchvision:{name}: torchvision publishes no weights for it")
    state: State = torchvision.models.get_model_weights(name).DEFAULT.get_state_dict(progress=False, check_hash=True)
    return state


def _timm_weights(network: Network, name: str) -> State:
    shape, classes = network.spec.stem.shape_after(network.spec.input_shape), network.spec.classes
    with torch.random.fork_rng(devices=[]):
        try:
            model = timm_model(name, classes, shape, pretrained=True)
        except RuntimeError as error:
            raise UsageError(f"pretrained timm:{name}: {first_line(error)}") from error
    # A classifier that timm has newly initialised is not part of the published weights.
    replaced = model.pretrained_cfg.get("num_classes", classes) != classes
    classifier = model.get_classifier() if replaced else None
    left_out = {id(tensor) for tensor in classifier.parameters()} if classifier is not None else set()
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {key: value for key, value in model.state_dict().items() if id(tensors[key]) not in left_out}


def _read(path: Path) -> State:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, ValueError) as error:  # no file can have the name, or it is not there
        raise UsageError(f"weights {path}: no such file") from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, safetensors.SafetensorError) as error:
        raise UsageError(
            f"weights {path}: neither safetensors (named so) nor what torch.load reads with weights_only; save the "
            "model's state_dict()"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise UsageError(f"weights {path}: not a state dict, a name and a tensor for every weight")
    wrapped = all(name.startswith("module.") for name in content)
    return {name.removeprefix("module.") if wrapped else name: value for name, value in content.items()}


def _load(network: Network, state: State, what: str, *, published: bool = False, whole: bool = False) -> None:
    """Load a state that fits exactly; published weights may differ in the classifier and in parts that never run."""
    own, classes = network.state_dict(), network.spec.classes
    names = _names(network, state)
    reshaped = [name for name, ours in names.items() if name in state and state[name].shape != own[ours].shape]
    classifier = [name for name in reshaped if _differ_by_classes(state[name], own[names[name]], classes)]
    if published:
        kept = {name for name, ours in names.items() if name not in state and ours.startswith("heads.")}
        if whole and (classifier or kept):
            raise UsageError(
                f"{what}: published for other classes than this network's {classes}: train it on them first, "
                "compress train --pretrained, and name that run"
            )
        names = {name: ours for name, ours in names.items() if name not in {*classifier, *kept}}
    elif reshaped and reshaped == classifier:
        raise UsageError(f"{what}: for {len(state[classifier[0]])} classes, this network has {classes}")
    for complaint, listed in (
        ("is without", [name for name in names if name not in state]),
        ("has besides", [] if published else [name for name in state if name not in names]),
        ("has another shape of", [name for name in reshaped if name in names]),
    ):
        if listed:
            more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
            raise UsageError(f"{what}: does not fit {network.spec.arch}: it {complaint} {', '.join(listed[:3])}{more}")
    network.load_state_dict(own | {ours: state[name] for name, ours in names.items()}, strict=True)


def _names(network: Network, state: State) -> dict[str, str]:
    """The names of weights in a state, and in the network: all, or all but those of auxiliary heads, or a plain one's.

    Where no names are those of the state, they are the ones that a message should speak of.
    """
    own, original = {name: name for name in network.state_dict()}, plain_names(network)
    trunk = {name: name for name in original.values()}
    like = next((names for names in (own, trunk, original) if names.keys() == state.keys()), None)
    return like or (original if network.spec.foreign else own)


def _differ_by_classes(theirs: Tensor, ours: Tensor, classes: int) -> bool:
    """Whether two tensors differ in shape by the number of classes alone."""
    return theirs.dim() == ours.dim() > 0 and theirs.shape[1:] == ours.shape[1:] and len(ours) == classes


def _digest(state: State) -> str:
    """A digest of names, types, shapes and values, independent of the file format."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
