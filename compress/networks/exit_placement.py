"""Exit placement: block numbers (1-based, ascending, up to the last block) from what a user writes."""

import re
from collections.abc import Sequence

from compress.errors import UsageError


def place_exits(exits: int | str | Sequence[int | str], blocks: int) -> tuple[int, ...]:
    """The numbers of the blocks that exits follow, in a trunk of `blocks` blocks.

    A number K is the number of exits, placed at steps of floor(blocks / K) from the end. A list (or comma-separated
    text) gives block numbers and ends with ``end`` or the last block's number.

    Raises:
        UsageError: an exit out of range, repeated, not ascending, or the last block missing.

    >>> place_exits(5, 21)
    (5, 9, 13, 17, 21)
    >>> place_exits("19,end", 21)
    (19, 21)
    """
    if isinstance(exits, str):
        exits = int(exits) if is_number(exits) else [word.strip() for word in exits.split(",")]
    if isinstance(exits, int):
        if not 1 <= exits <= blocks:
            raise UsageError(
                f"exits {exits}: this network has {blocks} blocks, so the number of exits is 1 to {blocks}"
            )
        return tuple(blocks - (exits - 1 - i) * (blocks // exits) for i in range(exits))
    return _check_list([_block_number(word, blocks) for word in exits], blocks)


def is_number(word: str) -> bool:
    """Whether a word is the number of a block or exit."""
    return re.fullmatch(r"\s*[0-9]{1,9}\s*", word) is not None


def _block_number(word: int | str, blocks: int) -> int:
    if word == "end":
        return blocks
    if isinstance(word, int) or is_number(word):
        return int(word)
    raise UsageError(f"exits: {word!r} is not a block number from 1 to {blocks}, nor 'end'")


def _check_list(numbers: list[int], blocks: int) -> tuple[int, ...]:
    listed = ",".join(map(str, numbers))
    for number in numbers:
        if not 1 <= number <= blocks:
            raise UsageError(f"exits {listed}: block {number} is out of range, this network has blocks 1 to {blocks}")
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"exits {listed}: a block is repeated, each can have one exit")
    if numbers != sorted(numbers):
        raise UsageError(f"exits {listed}: not ascending, write {','.join(map(str, sorted(numbers)))}")
    if not numbers or numbers[-1] != blocks:
        raise UsageError(
            f"exits {listed or 'empty'}: the last one must be the last block, write 'end' (block {blocks})"
        )
    return tuple(numbers)
