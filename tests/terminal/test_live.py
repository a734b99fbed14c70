"""Rows that are painted over and over, read from the screen of a terminal at every painting."""

import contextlib
import io
from unittest.mock import patch

import pyte
import pytest
from rich.console import Console
from rich.text import Text

from terminal import live
from terminal import screen as terminal_screen
from terminal.live import Region


@contextlib.contextmanager
def on(console):
    """Let this be the terminal."""
    with patch.object(live, "OUT", console), patch.object(terminal_screen, "OUT", console):
        yield


def painted(paintings, columns=40, height=10, before="Ending: x\r\n", **options):
    """The screens of a terminal after what stood there before, after each of paintings (lists of strings), and at the
    end; each a list of rows without trailing spaces. A painting may be a number: the columns from then on."""
    out, screen = io.StringIO(), pyte.Screen(columns, height)
    stream, screens = pyte.Stream(screen), []

    def look():
        stream.feed(out.getvalue().replace("\r\n", "\n").replace("\n", "\r\n"))
        out.seek(0), out.truncate()
        screens.append([row.rstrip() for row in screen.display])

    out.write(before)
    look()
    console = Console(**{"file": out, "width": columns, "height": height, "force_terminal": True, **options})
    with on(console), Region() as region:
        for rows in paintings:
            if isinstance(rows, int):
                console.width = rows
                screen.resize(height, rows)
                continue
            region.paint([Text(row) for row in rows])
            look()
            assert screen.cursor.hidden
    look()
    assert not screen.cursor.hidden
    return screens


def test_a_painting_takes_the_place_of_the_one_before_and_of_no_other_row():
    _, *shown, end = painted([["one"], ["two", "one"], ["three", "two", "one"], ["four"]])
    assert [screen[:5] for screen in shown] == [
        ["Ending: x", "one", "", "", ""], ["Ending: x", "two", "one", "", ""], ["Ending: x", "three", "two", "one", ""],
        ["Ending: x", "four", "", "", ""]]
    assert end == ["Ending: x"] + [""] * 9  # and the cursor is where it was:


def test_afterwards_the_cursor_is_where_it_was():
    out = io.StringIO()
    with on(Console(file=out, width=40, height=10, force_terminal=True)), Region() as region:
        for n in (1, 5, 3):
            region.paint([Text("row")] * n)
    screen = pyte.Screen(40, 10)
    pyte.Stream(screen).feed("a\r\n" + out.getvalue().replace("\n", "\r\n") + "b")
    assert [row.rstrip() for row in screen.display][:3] == ["a", "b", ""]


def test_at_the_bottom_of_the_screen_the_rows_above_move_up_and_those_painted_before_stay():
    before = "".join(f"line {i}\r\n" for i in range(9))
    _, *shown, _ = painted([["a"], ["b", "a"], ["c", "b", "a"]], before=before)
    assert [screen[-3:] for screen in shown] == [["line 7", "line 8", "a"], ["line 8", "b", "a"], ["c", "b", "a"]]


def test_more_rows_than_the_screen_has_are_not_painted():
    _, shown, end = painted([[f"row {i}" for i in range(30)]])
    assert shown == ["Ending: x", *[f"row {i}" for i in range(9)]]
    assert end == ["Ending: x"] + [""] * 9


@pytest.mark.parametrize("after", [25, 60])
def test_after_another_size_no_orphan_is_left(after):
    *_, shown, end = painted([["long " * 7] * 3, after, ["short", "rows"]])
    assert shown == ["short", "rows"] + [""] * 8 and end == [""] * 10


def test_a_row_too_wide_is_cut_and_wraps_nothing():
    _, shown, _ = painted([["x" * 100, "last"]])
    assert shown[1:3] == ["x" * 40, "last"]


def test_every_painting_is_shown_at_once_where_the_terminal_can():
    out = io.StringIO()
    with on(Console(file=out, width=40, height=10, force_terminal=True)), Region() as region:
        region.paint([Text("a")])
        region.paint([Text("b")])
    assert out.getvalue().count("\x1b[?2026h") == out.getvalue().count("\x1b[?2026l") == 2


@pytest.mark.parametrize("options", [dict(force_terminal=False), dict(_environ={"TERM": "dumb"}),
                                     dict(_environ={"NO_COLOR": "1", "TERM": "xterm"})])
def test_where_output_is_no_terminal_or_a_dumb_one_nothing_is_painted(options):
    out = io.StringIO()
    with on(Console(**{"file": out, "width": 40, "force_terminal": True, **options})):
        with Region() as region:
            assert not region.on and not region.due
    assert out.getvalue() == ""


def test_a_stop_in_the_middle_leaves_nothing_either():
    out = io.StringIO()
    with on(Console(file=out, width=40, height=10, force_terminal=True)):
        with pytest.raises(KeyboardInterrupt), Region() as region:
            region.paint([Text("a")] * 3)
            raise KeyboardInterrupt
    screen = pyte.Screen(40, 10)
    pyte.Stream(screen).feed(out.getvalue().replace("\n", "\r\n"))
    assert not any(row.strip() for row in screen.display) and not screen.cursor.hidden


def test_paintings_are_not_asked_for_more_often_than_thirty_times_a_second():
    with on(Console(file=io.StringIO(), width=40, force_terminal=True)), Region() as region:
        assert region.due
        region.paint([Text("a")])
        assert not region.due and region.next_time >= live.SECONDS_BETWEEN
