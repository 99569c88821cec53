"""Exit budgets: exits placed at equal shares of the trunk's MACs, where blocks of one network cost differently."""

from __future__ import annotations

from itertools import accumulate

from compress.errors import UsageError
from compress.network_cost import part_costs
from compress.networks import Spec, initialised

BY_MACS = "macs:"  # before the number of exits


def is_by_macs(exits: object) -> bool:
    """Whether exits are asked for as in ``macs:5``."""
    return isinstance(exits, str) and exits.startswith(BY_MACS)


def placed_by_macs(exits: str, spec: Spec) -> list[int]:
    """The blocks that K exits follow, for ``macs:K``: those nearest to 1/K, 2/K, ... of the trunk's MACs.

    Args:
        spec: of the network with its last exit alone.

    Raises:
        UsageError: K is no number from 1 to the number of blocks, or the network is not one of this package.
    """
    count, blocks = exits.removeprefix(BY_MACS).strip(), len(spec.blocks)
    if spec.foreign:
        raise UsageError(f"exits {exits}: of {spec.arch} name the modules that exits follow, as in layer1,layer2,end")
    if not count.isascii() or not count.isdigit() or not 1 <= int(count) <= blocks:
        raise UsageError(f"exits {exits}: a number of exits from 1 to {blocks} stands behind {BY_MACS!r}")
    parts, wanted = part_costs(initialised(spec, 0)), int(count)
    spent = list(accumulate((parts[f"blocks.{index}"].macs for index in range(blocks)), initial=parts["stem"].macs))
    placed = [0]
    for number in range(1, wanted):
        possible = range(placed[-1] + 1, blocks - (wanted - number) + 1)  # with a block left for each exit to come
        placed.append(min(possible, key=lambda block: abs(spent[block] - spent[-1] * number / wanted)))
    return [*placed[1:], blocks]
