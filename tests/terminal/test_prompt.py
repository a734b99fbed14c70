"""What is a command at the prompt and what is a text, and what a command that does not fit is told."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampling.controls import KNOBS, Controls
from terminal import prompt
from terminal.prompt import help_text, read_command
from tests.support.texts import fewer


@fewer
@given(st.text())
def test_a_line_with_a_space_before_it_is_never_a_command(text):
    assert read_command(" " + text, Controls()) is None


@fewer
@given(st.builds(Controls, st.floats(0, 9), st.integers(0, 9999), st.none() | st.floats(0.01, 1),
                 st.none() | st.floats(0, 0.99), st.integers(1, 10**6), st.none() | st.integers(0, 2**63 - 1),
                 st.integers(1, 64)))
def test_printed_settings_typed_again_give_the_same_settings(controls):
    assert read_command(str(controls), Controls()) == controls


@fewer
@given(st.sampled_from(sorted(KNOBS)), st.text(st.characters(blacklist_categories=("Z", "C"))))
def test_a_value_is_either_taken_or_answered_with_what_the_command_takes(name, value):
    try:
        controls = read_command(f"{KNOBS[name].command}={value}", Controls())
        assert replace(controls, **{name: getattr(Controls(), name)}) == Controls()
    except ValueError as error:
        assert KNOBS[name].takes in str(error)


@pytest.mark.parametrize("line", [
    "temp=-1", "temp=nan", "temp=inf", "temp=", "top_k=-1", "top_k=1.5", "top_p=0", "top_p=1.1", "min_p=1",
    "min_p=-0.1", "tokens=0", "tokens=off", "seed=-1", "n=0", "n=65", "temp=1 n=x"])
def test_a_value_out_of_range_is_refused(line):
    with pytest.raises(ValueError, match="takes"):
        read_command(line, Controls())


@pytest.mark.parametrize("line", [
    "E=mc2 is his formula", "x = 5", "x=5", "a=1 b=2", "temp = 0.5", "help me", "Quit", "n=3 geese", "temp=0.5\nn=3",
    "he wrote n=3", ""])
def test_a_text_is_not_taken_for_a_command(line):
    assert read_command(line, Controls()) is None


@pytest.mark.parametrize("line", ["temprature=0.5", "topk=5", "Temp=1", "token=3", "temp=0.5 sede=3"])
def test_a_misspelt_command_is_told_the_names_there_are(line):
    with pytest.raises(ValueError, match="temp= top_k= top_p= min_p= tokens= seed= n= help quit"):
        read_command(line, Controls())


def test_zero_and_off_both_switch_top_k_off():
    assert read_command("top_k=0", Controls()).top_k is read_command("top-k=off", Controls()).top_k is None


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_rows_of_help_fit_the_screen_and_are_indented_behind_their_command(monkeypatch, columns):
    monkeypatch.setattr(prompt.ERR, "_width", columns)
    [table] = [part for part in help_text("Ending: ", "takes a text.").split("\n\n") if "temp=    " in part]
    rows = table.split("\n")
    assert max(map(len, rows)) <= columns
    assert [row[2:11].rstrip() for row in rows if not row.startswith(" " * 11)] == [
        *(f"{k.command}=" for k in KNOBS.values()), "help", "quit"]
