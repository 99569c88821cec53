"""Names of this package's architectures: parsing, canonical form and display form."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass

from compress.errors import UsageError, nearest

FORMS = {"": "pre-activation", "v1": "post-activation", "nl": "norm-last"}  # suffix of a ResNet's name -> block kind
NAMED = (
    *("resnet20", "resnet26", "resnet32", "resnet44", "resnet56", "resnet110", "resnet20v1", "resnet56v1"),
    *("resnet56nl", "wrn-28-10", "mobilenetv2", "MwResNet-44-5", "MwMobileNetV2-5"),
)
STAGES = {"resnet": 3, "mobilenetv2": 7}

# Published exits of the MW-BP paper's ResNets, by depth and number of exits; block b ends at depth 2b+1.
PUBLISHED: dict[int, dict[int, tuple[int, ...]]] = {
    56: {5: (7, 12, 17, 22, 27), 3: (17, 22, 27), 2: (22, 27)},
    44: {2: (19, 21)},
    26: {2: (9, 12)},
}


@dataclass(frozen=True, kw_only=True)
class Name:
    """The parts of an architecture's name.

    Attributes:
        family: resnet or mobilenetv2.
        depth: depth of a ResNet, 6n+2 unless blocks are listed; 0 for other families.
        form: a key of `FORMS`; for ResNets only.
        width: factor on the channels of all stages.
        blocks, widths: blocks and channels of every stage, if not the family's.
        exits: number of exits in the name ("MwResNet-56-5"), or None.
    """

    family: str
    depth: int = 0
    form: str = ""
    width: int = 1
    blocks: tuple[int, ...] = ()
    widths: tuple[int, ...] = ()
    exits: int | None = None

    @property
    def canonical(self) -> str:
        """The canonical name, without exits, which `parse` reads: ``resnet26x10``, ``resnet20w25-50-100``."""
        parts = [self.family, str(self.depth or ""), self.form, f"x{self.width}" if self.width > 1 else ""]
        parts += [f"b{_dashed(self.blocks)}" if self.blocks else "", f"w{_dashed(self.widths)}" if self.widths else ""]
        return "".join(parts)

    def display(self, exits: int) -> str:
        """The name in tables and figures: ``ResNet-110``, ``MwResNet-26-2x10``, ``MwMobileNetV2-5``."""
        family = {"resnet": "ResNet", "mobilenetv2": "MobileNetV2"}[self.family]
        depth = f"-{self.depth}{self.form}" if self.depth else self.form
        placed = f"-{exits}" if exits > 1 else ""
        stages = [f" blocks {_dashed(self.blocks)}"] if self.blocks else []
        stages += [f" widths {_dashed(self.widths)}"] if self.widths else []
        factor = f"x{self.width}" if self.width > 1 else ""
        return f"{'Mw' if placed else ''}{family}{depth}{placed}{factor}{''.join(stages)}"


def parse(
    arch: str, *, width: int = 1, blocks: Sequence[int] | str = (), widths: Sequence[int] | str = (), form: str = ""
) -> Name:
    """Parse the name of an architecture of this package, and add options that the name leaves open.

    Raises:
        UsageError: an unknown name, a depth that is not 6n+2, or options that do not fit it.
    """
    name = _read(arch)
    if type(width) is not int or width < 1 or name.width < 1 or (width != 1 and name.width not in (1, width)):
        raise UsageError(f"width {width} of {arch}: a factor on the channels, 1 or more, said once")
    if form not in ("", *FORMS.values()):
        raise UsageError(f"block form {form!r}: {nearest(form, FORMS.values())}")
    if form and (name.family != "resnet" or name.form not in ("", _suffix(form))):
        raise UsageError(f"block form {form} is not one of {arch}")
    stages = STAGES[name.family]
    name = dataclasses.replace(
        name,
        width=max(width, name.width),
        blocks=_numbers("blocks", blocks, stages) or name.blocks,
        widths=_numbers("widths", widths, stages) or name.widths,
        form=_suffix(form) if form else name.form,
    )
    if name.widths and name.width > 1:
        raise UsageError(f"{arch}: width {name.width} or widths {_dashed(name.widths)}, not both")
    if name.family == "resnet" and name.blocks:
        usual = len(set(name.blocks)) == 1  # these follow from the depth
        name = dataclasses.replace(name, depth=2 * sum(name.blocks) + 2, blocks=() if usual else name.blocks)
    return name


def published_exits(name: Name, exits: int | None) -> tuple[int, ...] | None:
    """The blocks of that number of published exits (None: the largest number); None if none are published."""
    placements = {} if name.blocks or name.family != "resnet" else PUBLISHED.get(name.depth, {})
    return placements.get(max(placements, default=0) if exits is None else exits)


_STAGES = r"(?:b(?P<blocks>[\d-]+))?(?:w(?P<widths>[\d-]+))?"
_WIDTH = r"(?:x(?P<width>\d{1,4}))?"
_PATTERNS = (
    rf"(?P<family>resnet)(?P<depth>\d{{1,4}})(?P<form>v1|nl)?{_WIDTH}{_STAGES}",
    r"mw(?P<family>resnet)-?(?P<depth>\d{1,4})(?:-(?P<exits>\d{1,3}))?(?:[x/](?P<width>\d{1,4}))?",
    r"wrn-?(?P<wide_depth>\d{1,4})-(?P<width>\d{1,4})",
    rf"(?P<family>mobilenetv2){_WIDTH}{_STAGES}",
    rf"mw(?P<family>mobilenetv2)(?:-(?P<exits>\d{{1,3}}))?{_WIDTH}{_STAGES}",
)


def _read(arch: str) -> Name:
    """The parts that a name says, before they are checked against options."""
    match = next((match for pattern in _PATTERNS if (match := re.fullmatch(pattern, arch.lower()))), None)
    if match is None:
        raise UsageError(
            f"architecture {arch!r}: {nearest(arch, NAMED)}; any resnetN, resnetNv1 or resnetNnl with N = 6n+2, wrn-N-K"
        )
    said = {"family": "resnet", **match.groupdict()}
    depth, wide = int(said.get("depth") or 0), said.get("wide_depth")
    if wide is not None:
        depth = int(wide) - 2
        if depth < 8 or (depth - 2) % 6:
            raise UsageError(f"architecture {arch!r}: depth {int(wide)} is not 6n+4, as in wrn-28-10")
    if said["family"] == "resnet" and not said.get("blocks") and (depth < 8 or (depth - 2) % 6):
        lower = max(8, depth - (depth - 2) % 6)
        raise UsageError(f"architecture {arch!r}: depth {depth} is not 6n+2; the nearest are {lower} and {lower + 6}")
    stages, exits = STAGES[said["family"]], said.get("exits")
    return Name(
        family=said["family"],
        depth=depth,
        form=said.get("form") or "",
        width=int(said.get("width") or 1),
        blocks=_numbers("blocks", said.get("blocks") or (), stages),
        widths=_numbers("widths", said.get("widths") or (), stages),
        exits=int(exits) if exits else None,
    )


def _numbers(option: str, value: Sequence[int] | str, stages: int) -> tuple[int, ...]:
    words = value.replace("-", ",").split(",") if isinstance(value, str) else list(map(str, value))
    if words in ([], [""]):
        return ()
    if len(words) != stages or not all(re.fullmatch(r"\s*[0-9]{1,4}\s*", word) and int(word) for word in words):
        raise UsageError(f"{option} {','.join(words)}: {stages} whole numbers from 1 to 9999, one a stage, as in 3,3,3")
    return tuple(int(word) for word in words)


def _suffix(form: str) -> str:
    return next(suffix for suffix, kind in FORMS.items() if kind == form)


def _dashed(numbers: Sequence[int]) -> str:
    return "-".join(map(str, numbers))
