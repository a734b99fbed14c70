"""Rows of text: they fit, lose nothing, and stay where they are while text grows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.utils import get_cwidth
from rich.text import Text

from terminal.layout import SURPRISE, at_right, beside, rows_of, shaded, wrap
from tests.support.texts import fewer

both_ways = st.booleans()


def short_or_long(alphabet):
    return st.text(alphabet, min_size=1, max_size=12) | st.text(alphabet, min_size=40, max_size=120)


@fewer
@given(short_or_long("ab \n漢é"), st.integers(2, 12), both_ways)
def test_rows_of_growing_text_fit_lose_nothing_and_stay_where_they_are(text, columns, backward):
    rows = wrap(text, columns, backward)
    assert all(get_cwidth(row.rstrip()) <= columns for row in rows)
    assert "".join(rows) == text.replace("\n", "")
    # All but the newest row, whose outer space may go with a new word.
    stay = wrap(text[1:], columns, True)[1:] if backward else wrap(text[:-1], columns, False)[:-1]
    same = rows[len(rows) - len(stay):] if backward else rows[:len(stay)]
    assert [row.strip() for row in same] == [row.strip() for row in stay]


@fewer
@given(st.lists(st.tuples(short_or_long("ab \n\t漢é\x1b"), st.sampled_from(["", "bold", "red"])),
                min_size=1, max_size=4), st.integers(2, 30), both_ways)
def test_every_character_keeps_its_style(parts, columns, backward):
    rows = rows_of(parts, columns, backward)
    found = [(c, {str(span.style) for span in row.spans if span.start <= i < span.end})
             for row in rows for i, c in enumerate(row.plain) if not c.isspace()]
    expected = [(c, {style} if style else set()) for text, style in parts
                for c in text.replace("\x1b", "␛") if not c.isspace()]
    assert [(c, styles - {""}) for c, styles in found] == expected
    assert all(get_cwidth(row.plain) <= columns for row in rows)


@pytest.mark.parametrize("text, columns, rows", [
    ("The cat sat on the mat.", 10, ["The cat", "sat on the", "mat."]), ("one\n\ntwo", 10, ["one", "", "two"]),
    ("\nx", 5, ["", "x"]), ("x\n", 5, ["x", ""]), ("abcdefgh", 3, ["abc", "def", "gh"])])
def test_forward_rows_are_filled_from_the_beginning(text, columns, rows):
    assert [row.plain for row in rows_of([(text, "")], columns, backward=False)] == rows


@pytest.mark.parametrize("text, columns, rows", [
    ("The cat sat on the mat.", 10, ["The", "cat sat on", "the mat."]), ("one\n\ntwo", 10, ["one", "", "two"]),
    ("abcdefgh", 3, ["ab", "cde", "fgh"])])
def test_backward_rows_are_filled_from_the_end(text, columns, rows):
    assert [row.plain for row in rows_of([(text, "")], columns, backward=True)] == rows


def test_a_row_at_the_right_ends_there_whatever_its_characters_take():
    assert at_right(Text("漢字"), 6).plain == "  漢字"


def test_texts_side_by_side_are_level_where_they_began():
    panels = [[Text("a"), Text("漢")], [Text("b")]]
    assert [row.plain.rstrip() for row in beside(panels, 4, 2, backward=True)] == ["a", "漢    b"]
    assert [row.plain.rstrip() for row in beside(panels, 4, 2, backward=False)] == ["a     b", "漢"]


def test_each_word_is_shaded_by_all_of_its_ids():
    """Three ids have written "ham", " old " and "the"; the surprises of a word add up."""
    grey, plain, red = SURPRISE[0][1], SURPRISE[1][1], SURPRISE[-1][1]
    backward = shaded("the old ham", [3, 8, 11], [0.5, 20.0, 2.0], backward=True)
    assert backward == [("the ", plain), ("old ", red), ("ham", grey)]
    forward = shaded("ham old the", [2, 3, 8, 11], [0.25, 0.5, 20.0, 2.0], backward=False)
    assert forward == [("ham ", grey), ("old ", red), ("the", plain)]
