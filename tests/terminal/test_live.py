"""What is seen of a text while it grows: rows that fit, at the right margin, and stay where they are."""

import io
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.utils import get_cwidth
from rich.console import Console

from terminal import live
from terminal.live import MOST_ROWS, Growing, wrap_from_end
from tests.support.terminal import frames
from tests.support.texts import fewer

STATUS = "7 tokens, Ctrl-C stops"


def short_or_long(alphabet):
    return st.text(alphabet, min_size=1, max_size=12) | st.text(alphabet, min_size=40, max_size=120)


def drawn(stages, columns=40, height=24, **options):
    """What a terminal is sent while a text grows through stages, lists of pairs (string, was it given)."""
    out = io.StringIO()
    with patch.object(live, "OUT", Console(**{"file": out, "width": columns, "height": height, "force_terminal": True,
                                              **options})), Growing() as growing:
        for parts in stages:
            growing.next_time = 0
            growing.draw(lambda: parts, STATUS)
    return out.getvalue()


def backward(text, given="", step=7):
    """Stages in which text is written before what was given."""
    return [[(text[start:], False), (given, True)] for start in range(len(text) - 1, -1, -step)]


def forward(text, given="", step=7):
    """Stages in which text is written after what was given."""
    return [[(given, True), (text[:end], False)] for end in range(1, len(text) + 1, step)]


@fewer
@given(short_or_long("ab \n漢é"), st.integers(2, 12))
def test_rows_of_growing_text_fit_lose_nothing_and_stay_where_they_are(text, columns):
    rows = wrap_from_end(text, columns)
    assert all(get_cwidth(row) <= columns for row in rows)
    assert "".join(rows) == text.replace("\n", "")
    stay = wrap_from_end(text[1:], columns)[1:]  # all but the first row, whose leading space may go with a new word
    assert [row.strip() for row in rows[len(rows) - len(stay):]] == [row.strip() for row in stay]


@fewer
@given(short_or_long("ab \n漢é\t\x1b"), st.integers(11, 30), st.sampled_from([backward, forward]))
def test_every_row_that_is_drawn_ends_at_the_right_margin_and_the_last_row_tells_how_far_it_is(text, columns, way):
    for *rows, status in frames(drawn(way(text), columns)):
        assert status == STATUS[:columns - 1]
        assert all(get_cwidth(row) == columns - 1 for row in rows) and len(rows) <= MOST_ROWS
        assert all(row.isspace() or not row[-1].isspace() for row in rows)


@fewer
@given(short_or_long("abcd  漢"), st.integers(20, 30))
def test_what_was_drawn_of_a_text_written_backward_stays_and_the_new_stands_above_it(text, columns):
    found = [rows for *rows, _ in frames(drawn(backward(text, "the end."), columns))]
    for before, after in zip(found, found[1:]):
        old, new = ([row.strip() for row in rows] for rows in (before, after))
        if len(new) < MOST_ROWS:  # else the lowest rows are no longer shown
            assert new[len(new) - len(old) + 1:] == old[1:] and len(new) >= len(old)


def test_the_newest_rows_are_shown_where_there_are_too_many():
    words = [f"word{i:03d}" for i in range(200)]
    for stages, newest in ((backward(" ".join(words), " end."), 0), (forward(" ".join(words), "Begin "), -1)):
        *rows, _ = frames(drawn(stages))[-1]
        assert len(rows) == MOST_ROWS and words[newest][:4] in rows[newest]
        assert ("end." in "".join(rows), "Begin" in "".join(rows)) == (False, False)


@pytest.mark.parametrize("height, most", [(3, 1), (4, 1), (5, 2), (24, MOST_ROWS)])
def test_a_low_screen_is_not_overfull(height, most):
    found = frames(drawn(backward("all the words " * 40), height=height))
    assert max(map(len, found)) == most + 1


def test_of_a_long_text_given_the_nearest_part_is_drawn():
    given = "first " + "and " * 10_000 + "last"
    assert "first" in "".join(frames(drawn([[("new ", False), (given, True)]], columns=200))[-1])
    assert "last" in "".join(frames(drawn([[(given, True), (" new", False)]], columns=200))[-1])


@pytest.mark.parametrize("stages", [[], backward("a few words " * 20)])
def test_when_it_is_over_the_cursor_is_back_at_its_place_and_seen(stages):
    shown = drawn(stages)
    if stages:
        assert len(frames(shown)) > 2  # which checks that every row is erased
    assert shown.startswith("\x1b[?25l") and shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert shown.count("\n") == shown.count("\x1b[1A") and shown.endswith("\x1b[1A\x1b[2K")


def test_a_stop_in_the_middle_leaves_nothing_either():
    out = io.StringIO()
    with patch.object(live, "OUT", Console(file=out, width=40, height=24, force_terminal=True)):
        with pytest.raises(KeyboardInterrupt), Growing() as growing:
            growing.draw(lambda: [("a few words " * 20, False)], STATUS)
            raise KeyboardInterrupt
    assert len(frames(out.getvalue())) == 2 and "\x1b[?25h" in out.getvalue()


@pytest.mark.parametrize("options", [dict(force_terminal=False), dict(_environ={"TERM": "dumb"})])
def test_where_output_is_no_terminal_or_a_dumb_one_nothing_is_drawn(options):
    assert drawn(backward("a few words"), **options) == ""


def test_a_text_is_not_asked_for_more_often_than_it_can_be_seen():
    asked = []
    with patch.object(live, "OUT", Console(file=io.StringIO(), width=40, force_terminal=True)), Growing() as growing:
        for _ in range(1000):
            growing.draw(lambda: asked.append(1) or [("word", False)], STATUS)
    assert 1 <= len(asked) < 100


def test_no_command_in_a_growing_text_reaches_the_terminal():
    sent = drawn(backward("red \x1b]0;owned\x07\x1b[31m text"))
    assert "␛[31m text" in sent and "\x1b]0;owned" not in sent and "\x1b[31m" not in sent
