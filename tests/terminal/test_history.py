"""What was typed is kept for the next session where that can be, and nowhere else; nothing fails where it cannot."""

import os
import stat
from pathlib import Path

import pytest

from program.files import user_folder
from terminal.history import open_history

TYPED = ["by the mill.", "two\nlines", " n=3", "Über dem Öl 船"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def type_all(name, typed=TYPED):
    history = open_history(name)
    for text in typed:
        history.append_string(text)


def kept(name):
    """What another session finds, oldest first."""
    return [*open_history(name).load_history_strings()][::-1]


def test_what_was_typed_is_there_in_the_next_session_under_the_same_name_alone():
    type_all("texts")
    type_all("texts", ["later"])
    assert kept("texts") == [*TYPED, "later"] and kept("responses") == []


def test_the_file_is_in_the_folder_of_state_and_nobody_else_may_read_it(home):
    type_all("texts")
    [path] = (home / "state").rglob("*.history")
    assert path == home / "state/backgpt/texts.history"
    assert [stat.S_IMODE(found.stat().st_mode) for found in (path.parent, path)] == [0o700, 0o600]


@pytest.mark.parametrize("named", ["", "relative/state", None])
def test_without_an_absolute_name_the_folder_of_state_is_the_usual_one(home, monkeypatch, named):
    monkeypatch.delenv("XDG_STATE_HOME") if named is None else monkeypatch.setenv("XDG_STATE_HOME", named)
    assert user_folder("state") == home / "home/.local/state/backgpt"


def test_without_a_name_nothing_is_written(home):
    type_all(None)
    assert not [*home.iterdir()]


def a_file_instead_of_the_folder(home):
    (home / "state").write_text("")


def a_folder_instead_of_the_file(home):
    (home / "state/backgpt/texts.history").mkdir(parents=True)


@pytest.mark.parametrize("spoil", [a_file_instead_of_the_folder, a_folder_instead_of_the_file])
def test_where_no_file_can_be_written_history_lasts_as_long_as_the_session(home, spoil):
    spoil(home)
    history = open_history("texts")
    history.append_string("by the mill.")
    assert history.get_strings() == ["by the mill."] and kept("texts") == []


def test_a_user_without_a_home_has_the_history_of_the_session(home, monkeypatch):
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", lambda: Path("~nobody-of-this-name").expanduser())
    type_all("texts")
    assert kept("texts") == [] and not [*home.iterdir()]


def test_a_file_that_goes_away_or_becomes_unreadable_while_it_is_used_stops_nothing(home):
    history = open_history("texts")
    path = Path(history.filename)
    path.unlink()
    path.mkdir()
    history.append_string("by the mill.")
    assert [*history.load_history_strings()] == []


def test_what_is_no_utf_8_stops_nothing():
    type_all("texts", ["before", os.fsdecode(b"\xff"), "after"])
    assert kept("texts") == ["before", "?", "after"]
