"""The page of help at the prompt, and what Tab completes."""

import pytest
from prompt_toolkit.document import Document

from terminal import prompt
from terminal.commands import commands
from terminal.prompt import Commands, help_text


def page(monkeypatch, columns):
    monkeypatch.setattr(prompt.ERR, "_width", columns)
    return help_text("Ending: ", "takes a text.")


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_rows_of_help_are_indented_behind_their_command(monkeypatch, columns):
    [table] = [part for part in page(monkeypatch, columns).split("\n\n") if "temp=    " in part]
    rows = table.split("\n")
    assert [row[2:13].rstrip() for row in rows if not row.startswith(" " * 13)] == [*commands()]


@pytest.mark.parametrize("columns", [20, 30, 39, 40, 80, 200])
def test_help_fits_the_screen_and_no_word_of_it_is_broken(monkeypatch, columns):
    shown = page(monkeypatch, columns)
    assert max(map(len, shown.split("\n"))) <= columns
    assert shown.split() == page(monkeypatch, 200).split()


@pytest.mark.parametrize("typed, completed", [
    ("te", ["temp="]), ("/te", ["/temp="]), ("TO", ["top_k=", "top_p=", "tokens="]), ("h", ["help"]),
    ("ke", ["keep "]), ("/s", ["/seed=", "/speed=", "/save "]), ("the ", []),
    ("temp=1 to", []), (" te", []), ("one\nte", [])])
def test_tab_completes_a_command_at_the_beginning_of_a_line(typed, completed):
    found = Commands().get_completions(Document(typed), None)
    assert [typed[:len(typed) + c.start_position] + c.text for c in found] == completed


def test_tab_offers_every_command_where_nothing_is_typed():
    assert [c.text.strip() for c in Commands().get_completions(Document(""), None)] == [
        command.split(" ")[0] for command in commands()]
