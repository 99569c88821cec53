"""What a check wants: device, data and study, which its stages share, and what stands in where data are missing."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from benchmarks.study.setting import Setting
from benchmarks.study.study import Study, read_study
from compress.data import available, open_dataset
from compress.hardware import resolve_device
from compress.recipes import recipe_named
from compress.training import Place

HEADLINE, TRYOUT = "headline", Path(__file__).with_name("tryout.toml")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a check was asked for.

    Attributes:
        study_name: a bundled study or a file; None: `headline`, where there is a GPU and its data, else the try-out.
        first_seed: is added to the study's seeds, so that several machines make different ones.
    """

    device_name: str
    study_name: str | None
    data_dir: str | None
    out: Path
    first_seed: int = 0

    def to_json(self) -> str:
        """What `of_json` reads."""
        return json.dumps(dataclasses.asdict(self) | {"out": str(self.out)})

    @classmethod
    def of_json(cls, text: str) -> Wanted:
        """What was asked for, in another process."""
        values = json.loads(text)
        return cls(**values | {"out": Path(values["out"])})

    @cached_property
    def device(self) -> torch.device:
        """The device; raises UsageError where it is not there."""
        return resolve_device(self.device_name)

    @cached_property
    def note(self) -> str | None:
        """Why the try-out stands in for the study; None where it does not."""
        if self.study_name is not None:
            return None
        instead = "the try-out on the bundled images runs instead, which decides nothing"
        if self.device.type == "cpu":
            return f"{HEADLINE} takes days on a CPU: {instead} (--study names a study)"
        name = read_study(HEADLINE).dataset
        [found] = [row for row in available() if row.name == name]
        if found.where == "not here" and self.data_dir is None:
            return f"{name} is not here (--data-dir says where it is): {instead}"
        return None

    @cached_property
    def study(self) -> Study:
        """The study."""
        study = read_study(str(TRYOUT) if self.note else self.study_name or HEADLINE)
        return dataclasses.replace(study, seeds=tuple(seed + self.first_seed for seed in study.seeds))

    @property
    def runs(self) -> Path:
        """The directory of the study's runs."""
        return self.out / "runs"

    @property
    def timed(self) -> Path:
        """The directory of networks that are timed before any is trained."""
        return self.out / "untrained"

    def setting(self) -> Setting:
        """The study with its data, which are never downloaded.

        Raises:
            UsageError: they are not here, or damaged.
        """
        study, data_dir = self.study, Path(self.data_dir) if self.data_dir else None
        dataset = open_dataset(study.dataset, data_dir=data_dir, download=False)
        place = Place(runs=self.runs, device=str(self.device), precision=study.precision)
        recipe = recipe_named(study.recipe).changed(epochs=study.epochs)
        return Setting(study=study, dataset=dataset, recipe=recipe, place=place)
