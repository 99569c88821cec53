"""Exit placement: numbers of exits, lists of blocks, and one helpful line for every mistake."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.errors import UsageError
from compress.networks import place_exits


@pytest.mark.parametrize(
    ("exits", "blocks", "placed"),
    [
        (5, 21, (5, 9, 13, 17, 21)),  # MwResNet-44-5, ours
        (5, 27, (7, 12, 17, 22, 27)),  # MwResNet-56-5, as published
        (3, 27, (9, 18, 27)),
        (1, 21, (21,)),
        (2, 3, (2, 3)),
        (3, 3, (1, 2, 3)),
        ("5", 21, (5, 9, 13, 17, 21)),
        (" 5 ", 21, (5, 9, 13, 17, 21)),
        ("19,end", 21, (19, 21)),
        ("19,21", 21, (19, 21)),
        (" 19 , end ", 21, (19, 21)),
        ("end", 21, (21,)),
        (["end"], 21, (21,)),
        ([5, "9", "end"], 21, (5, 9, 21)),
        ((5, 9, 21), 21, (5, 9, 21)),
        ("1,2,3", 3, (1, 2, 3)),
    ],
)
def test_exits_sit_where_the_definition_says(
    exits: int | str | list[int | str], blocks: int, placed: tuple[int, ...]
) -> None:
    assert place_exits(exits, blocks) == placed


@given(data=st.data(), blocks=st.integers(1, 300))
def test_a_number_places_that_many_exits_at_equal_steps_from_the_end(data: st.DataObject, blocks: int) -> None:
    number = data.draw(st.integers(1, blocks))
    placed = place_exits(number, blocks)
    assert len(placed) == number
    assert placed[-1] == blocks
    assert placed[0] >= 1
    steps = {later - earlier for earlier, later in pairwise(placed)}
    assert steps <= {blocks // number}
    assert place_exits(str(number), blocks) == placed


@given(data=st.data(), blocks=st.integers(1, 60))
def test_any_ascending_list_that_ends_at_the_last_block_is_taken_as_it_is(data: st.DataObject, blocks: int) -> None:
    chosen = sorted(data.draw(st.sets(st.integers(1, blocks))) | {blocks})
    assert place_exits(chosen, blocks) == tuple(chosen)
    assert place_exits([*chosen[:-1], "end"], blocks) == tuple(chosen)
    if len(chosen) > 1:
        assert place_exits(",".join(map(str, chosen)), blocks) == tuple(chosen)


@pytest.mark.parametrize(
    ("exits", "helps"),
    [
        (0, "1 to 21"),
        (-3, "1 to 21"),
        (22, "1 to 21"),
        ("22", "1 to 21"),
        ("0", "1 to 21"),
        ("0,end", "block 0 is out of range"),
        ([-1, "end"], "block -1 is out of range"),
        ("5,22", "block 22 is out of range"),
        ("5,5,end", "repeated"),
        ("5,21,end", "repeated"),
        ("9,5,end", "write 5,9,21"),
        ("end,5", "write 5,21"),
        ("5,9", "write 'end'"),
        ([5], "write 'end'"),
        ([], "write 'end'"),
        ("", "''"),
        ("5,,end", "''"),
        ("5,end,", "''"),
        ("-5,end", "'-5'"),
        ("5.0,end", "'5.0'"),
        ("five", "'five'"),
        ("5 9 end", "'5 9 end'"),
        ("½,end", "'½'"),
        ("²,end", "'²'"),
        ("²", "'²'"),
    ],
)
def test_a_mistake_is_one_line_that_helps(exits: int | str | list[int | str], helps: str) -> None:
    with pytest.raises(UsageError) as refused:
        place_exits(exits, 21)
    message = str(refused.value)
    assert message.startswith("exits")
    assert helps in message
    assert "\n" not in message
    assert "21" in message


@given(text=st.text(alphabet="0123456789,-+. endx\n٣", max_size=12), blocks=st.integers(1, 30))
def test_any_text_is_placed_or_refused_in_one_line(text: str, blocks: int) -> None:
    try:
        placed = place_exits(text, blocks)
    except UsageError as refused:
        lines = str(refused).splitlines()
    else:
        assert list(placed) == sorted(set(placed))
        assert placed[0] >= 1
        assert placed[-1] == blocks
        return
    assert len(lines) == 1
