"""Engine: prepares networks to run on a device in an explicit precision; the base class of all engines."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from benchmarks.measuring.engines.onnx_files import Source
from compress.errors import UsageError
from compress.hardware import resolve_device
from compress.machine import installed

PRECISIONS = ("fp32", "bf16", "fp16", "int8")
Infer = Callable[[Tensor], Tensor]  # placed fp32 images (N, C, H, W) to fp32 logits (N, classes)


class Engine(ABC):
    """One way to run a network.

    Attributes:
        name: its name on the command line.
        devices: types of device that it runs on.
        packages: packages that it needs, by the name they are imported and distributed under.
        layout: memory format of the images that it takes.
    """

    name: ClassVar[str]
    devices: ClassVar[tuple[str, ...]]
    packages: ClassVar[tuple[str, ...]] = ()
    layout: ClassVar[torch.memory_format] = torch.contiguous_format

    @abstractmethod
    def precisions(self, device: torch.device) -> tuple[str, ...]:
        """The precisions that both the engine and this hardware have; none is emulated."""

    @abstractmethod
    def prepare(self, sources: Sequence[Source], images: Tensor, precision: str, threads: int) -> list[Infer]:
        """A function from images to logits for every network, for placed images of the shape of `images`.

        Functions that were prepared before may stop working.

        Raises:
            UsageError: the engine cannot run a network, or lacks something that it needs.
        """

    def place(self, images: Tensor, device: torch.device) -> Tensor:
        """The images on the device in the engine's layout, so that no conversion is timed."""
        return images.to(device).clone(memory_format=self.layout)

    @property
    def missing(self) -> list[str]:
        """The packages that are not installed."""
        return [package for package in self.packages if importlib.util.find_spec(package) is None]

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the installed packages."""
        return installed(self.packages)

    def device(self, asked: str) -> torch.device:
        """The device that is asked for; for ``auto`` a CPU where the engine does not run on what there is."""
        found = resolve_device(asked)
        return found if asked != "auto" or found.type in self.devices else torch.device("cpu")

    def check(self, precision: str, device: torch.device) -> None:
        """Check that the engine is installed, runs on the device and has the precision there.

        Raises:
            UsageError: it does not.
        """
        if missing := self.missing:
            raise UsageError(
                f"engine {self.name} needs {' and '.join(missing)}, which is not installed: "
                "pip install 'multiway-compress[deploy]'"
            )
        if device.type not in self.devices:
            raise UsageError(f"engine {self.name} runs on {' and '.join(self.devices)}, not on {device.type}: --device")
        if precision not in self.precisions(device):
            has = ", ".join(self.precisions(device))
            raise UsageError(f"engine {self.name} has no {precision} on this {device.type}; it has {has}")
