"""What reaches a terminal: every word whole, no row too wide, nothing that does harm; a pipe gets it all as it is."""

import io
import re
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.utils import get_cwidth
from rich.console import Console

from program.streams import visible
from terminal import screen
from terminal.screen import note, show
from tests.support.terminal import plain
from tests.support.texts import fewer

CONTROLS = "[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
BOLD = re.compile(r"\x1b\[1m(.*?)\x1b\[0m", re.DOTALL)


def short_or_long(alphabet):
    return st.text(alphabet, max_size=12) | st.text(alphabet, min_size=40, max_size=120)


def shown(parts, columns):
    """What show() prints to a terminal of so many columns."""
    out = io.StringIO()
    with patch.object(screen, "OUT", Console(file=out, width=columns, force_terminal=True)):
        show(parts)
    return out.getvalue()


@fewer
@given(st.text(st.characters(), max_size=200))
def test_no_control_character_reaches_the_terminal(text):
    seen = visible(text)
    assert not re.search(CONTROLS, seen)
    assert re.findall("[\n\t]", seen) == re.findall("[\n\t]", text)


@fewer
@given(st.text(st.characters(), max_size=200), st.integers(0, 200))
def test_what_is_printed_to_a_terminal_has_no_control_characters_but_those_for_bold(text, cut):
    printed = shown([(text[:cut], False), (text[cut:], True)], 20)
    assert not re.search(CONTROLS, re.sub(r"\x1b\[[01]m", "", printed))


@fewer
@given(text=short_or_long("ab  語é\n\t"), cut=st.integers(0, 60), columns=st.integers(4, 20))
def test_a_text_is_wrapped_between_words_and_nothing_else_changes(text, cut, columns):
    rows = plain(shown([(text[:cut], False), (text[cut:], True)], columns)).removesuffix("\n").split("\n")
    assert all(get_cwidth(row) <= columns for row in rows)
    words = iter(" ".join(rows).split())
    for indentation, word in re.findall(r"((?:^[ \t]+)?)(\S+)", text, re.MULTILINE):
        seen = next(words)
        while seen != word and get_cwidth(indentation.expandtabs() + word) >= columns:  # only then a word is broken
            seen += next(words)
        assert seen == word
    assert next(words, None) is None
    assert rows == [row for line in text.split("\n")
                    for row in plain(shown([(line, False)], columns)).removesuffix("\n").split("\n")]


@fewer
@given(text=short_or_long("ab  語é\n"), cut=st.integers(0, 60), columns=st.integers(4, 20))
def test_what_was_given_is_bold_and_nothing_else(text, cut, columns):
    for parts in ([(text[:cut], False), (text[cut:], True)], [(text[:cut], True), (text[cut:], False)]):
        bold = "".join(BOLD.findall(shown(parts, columns)))
        assert "".join(bold.split()) == "".join("".join(s for s, given in parts if given).split())


@pytest.mark.parametrize("text", [":smile: [bold]no markup[/bold] 1 2.5 'x' True https://a.example", "\x1b[31mred", ""])
def test_nothing_in_a_text_is_taken_for_an_order_to_the_screen(text):
    assert shown([(text, False)], 100) == visible(text) + "\n"


def test_a_pipe_gets_a_text_as_it_is(capsys):
    text = "a \x1b[31mword " * 40 + "\n\n\tand the end"
    show([(text, False), (", given", True)])
    assert capsys.readouterr() == (f"{text}, given\n", "")


def test_a_note_goes_to_standard_error_dim_in_a_terminal_and_plain_on_a_pipe(capsys, monkeypatch):
    note("line 3: \a")
    assert capsys.readouterr() == ("", "line 3: ␇\n")
    printed = io.StringIO()
    monkeypatch.setattr(screen, "ERR", Console(file=printed, width=40, force_terminal=True))
    note("[1 of 3] \a")
    assert printed.getvalue() == "\x1b[2m[1 of 3] ␇\x1b[0m\n"
