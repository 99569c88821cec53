"""Sources of foreign networks: torchvision, timm, a Python module, or a registered factory."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

from torch import nn

from compress.errors import UsageError, checked, first_line, nearest
from compress.networks.architecture_names import parse

Factory = Callable[[int], nn.Module]

EXAMPLES = "torchvision:resnet18, timm:resnet10t, python:my_module:make_net"
# These have auxiliary classifiers in train mode, which MW-BP's exits replace.
PLAIN = {name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")}

_registered: dict[str, Factory] = {}


@checked
def register(name: str, factory: Factory) -> None:
    """Register a network for `create`, `train` and `load`; `factory(classes)` makes it.

    The network maps images `(N, C, H, W)` to logits `(N, classes)`. Registering a name again replaces the factory.

    Raises:
        UsageError: the name is an architecture of this package, or contains colons, slashes or spaces.
    """
    try:
        parse(name)
    except UsageError:
        if name and not set(name) & set(": /\\\n\t"):
            _registered[name] = factory
            return
    raise UsageError(f"register {name!r}: a name of your own, without colons, slashes and spaces, as in 'my-net'")


def is_foreign(arch: str) -> bool:
    """Whether the name is that of a foreign network."""
    return ":" in arch or arch in _registered


def is_zoo(arch: str) -> bool:
    """Whether the network is made for large colour photographs, as those of torchvision and timm are."""
    return arch.startswith(("torchvision:", "timm:"))


def source_of(arch: str) -> tuple[str, str]:
    """The source of a network and its name there; registered networks have an empty source."""
    source, colon, name = arch.partition(":")
    return (source, name) if colon else ("", arch)


def build(arch: str, classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """Make the network of that name, initialised by its own rules, for images `(C, H, W)`.

    Raises:
        UsageError: no such network, its source is not installed, or it cannot be made.
    """
    source, _, name = arch.partition(":")
    if source == "torchvision" and name:
        return _from_torchvision(arch, name, classes, input_shape)
    if source == "timm" and name:
        return _from_timm(arch, name, classes, input_shape)
    if source == "python" and name:
        return _made(arch, _imported(arch, name), classes)
    if arch in _registered:
        return _made(arch, _registered[arch], classes)
    if ":" in arch:
        raise UsageError(
            f"architecture {arch!r}: {nearest(source, ['torchvision', 'timm', 'python'])}; as in {EXAMPLES}"
        )
    raise UsageError(
        f"architecture {arch!r} is not registered in this process: call compress.register({arch!r}, factory) first"
    )


def _from_torchvision(arch: str, name: str, classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    import torchvision  # here, as importing it takes seconds

    known = torchvision.models.list_models(module=torchvision.models)
    if name.lower() not in known:
        raise UsageError(f"architecture {arch!r}: {_nearest_of_many(name, known)}")
    options: dict[str, Any] = dict(PLAIN.get(name.lower(), {}))
    if name.lower().startswith("vit_"):
        options["image_size"] = input_shape[1]
    return _checked(arch, lambda: torchvision.models.get_model(name, weights=None, num_classes=classes, **options))


def _from_timm(arch: str, name: str, classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise UsageError(f"architecture {arch!r} needs timm: pip install 'multiway-compress[zoo]'") from error
    if not timm.is_model(name):
        raise UsageError(f"architecture {arch!r}: {_nearest_of_many(name, timm.list_models())}")
    return _checked(arch, lambda: timm_model(name, classes, input_shape))


def timm_model(name: str, classes: int, input_shape: tuple[int, int, int], *, pretrained: bool = False) -> Any:
    """Make a network of timm, for images `(C, H, W)`."""
    timm = importlib.import_module("timm")
    settings = timm.get_pretrained_cfg(name)
    sized = {"img_size": input_shape[1:]} if settings and settings.fixed_input_size else {}
    return timm.create_model(name, num_classes=classes, pretrained=pretrained, **sized)


def _imported(arch: str, name: str) -> Factory:
    """Import `module:factory`; searches the working directory, too, as `python -m` does."""
    module_name, _, attribute = name.partition(":")
    sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise UsageError(f"architecture {arch!r}: cannot import {module_name!r}: {first_line(error)}") from error
    finally:
        sys.path.remove("")
    factory = getattr(module, attribute, None)
    if not callable(factory):
        functions = [name for name, value in vars(module).items() if inspect.isfunction(value)]
        raise UsageError(f"architecture {arch!r}: {module_name} has no {attribute!r}; {nearest(attribute, functions)}")
    made: Factory = factory
    return made


def _made(arch: str, factory: Factory, classes: int) -> nn.Module:
    model = _checked(arch, lambda: factory(classes))
    if not isinstance(model, nn.Module):
        raise UsageError(f"architecture {arch!r}: its factory made a {type(model).__name__}, not a torch.nn.Module")
    return model


def _checked(arch: str, make: Callable[[], nn.Module]) -> nn.Module:
    try:
        return make()
    except Exception as error:
        raise UsageError(
            f"architecture {arch!r} cannot be made: {type(error).__name__}: {first_line(error)}"
        ) from error


def _nearest_of_many(name: str, known: list[str]) -> str:
    """`nearest` without a list of all names, which are hundreds."""
    return nearest(name, known).partition(" (known")[0] if "did you mean" in nearest(name, known) else "no such net"
