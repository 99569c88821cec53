"""Where nets that are not ours come from: torchvision, timm, a module of the user's, or a registered factory."""

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
# Auxiliary classifiers of their own, only in train mode: MW-BP's are to take their place.
PLAIN = {name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")}

_registered: dict[str, Factory] = {}


@checked
def register(name: str, factory: Factory) -> None:
    """Make `create(name, ...)`, `train(name, ...)` and `load` know a net: `factory(classes)` makes it.

    It is a classifier of images `(N, C, H, W)` that returns logits `(N, classes)`. Registering a name anew replaces it.

    Raises:
        UsageError: the name is one of our own, or has a colon or a space in it.
    """
    try:
        parse(name)
    except UsageError:
        if name and not set(name) & set(": /\\\n\t"):
            _registered[name] = factory
            return
    raise UsageError(f"register {name!r}: a name of your own, without colons, slashes and spaces, as in 'my-net'")


def is_foreign(arch: str) -> bool:
    """Whether the name is one of a net that is not ours."""
    return ":" in arch or arch in _registered


def is_zoo(arch: str) -> bool:
    """Whether the net is made for large colour photographs, as torchvision's and timm's are."""
    return arch.startswith(("torchvision:", "timm:"))


def source_of(arch: str) -> tuple[str, str]:
    """The source of a net and its name there; a registered one has no source."""
    source, colon, name = arch.partition(":")
    return (source, name) if colon else ("", arch)


def build(arch: str, classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """The net of that name, freshly initialised by its own rules, for images `(C, H, W)`.

    Raises:
        UsageError: no such net, or its source is not installed, or it cannot be made.
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
    timm = timm_or_error(arch)
    if not timm.is_model(name):
        raise UsageError(f"architecture {arch!r}: {_nearest_of_many(name, timm.list_models())}")
    settings = timm.get_pretrained_cfg(name)
    sized = {"img_size": input_shape[1:]} if settings and settings.fixed_input_size else {}
    return _checked(arch, lambda: timm.create_model(name, num_classes=classes, **sized))


def timm_or_error(arch: str) -> Any:
    """The library timm, an optional one."""
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise UsageError(f"architecture {arch!r} needs timm: pip install 'multiway-compress[zoo]'") from error


def _imported(arch: str, name: str) -> Factory:
    """`module:factory`, imported; the working directory is searched too, as it is by `python -m`."""
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
    """As `nearest`, without listing hundreds of names."""
    return nearest(name, known).partition(" (known")[0] if "did you mean" in nearest(name, known) else "no such net"
