"""What is a command at the prompt and what is a text, and what a command that does not fit is told."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampling.controls import KNOBS, Controls
from terminal.commands import ARGUMENTS, WORDS, Command, commands, read_command, remark
from tests.support.texts import fewer

START = Controls(seed=9)


def read(line):
    return read_command(line, START)


def settings(**values):
    return Command("set", replace(START, **values))


@fewer
@given(st.text())
def test_a_line_with_a_space_before_it_is_never_a_command(text):
    assert read(" " + text) is None


@fewer
@given(st.text())
def test_a_line_is_a_text_or_a_command_or_told_why_not(text):
    for line in (text, f"/{text}", f"save {text}", f"keep {text}"):
        try:
            command = read(line)
        except ValueError as error:
            assert re.search("There is no command |takes ", str(error))
        else:
            assert command is None or command.name in {"set", *WORDS}


@fewer
@given(st.builds(Controls, st.floats(0, 9), st.integers(0, 9999), st.none() | st.floats(0.01, 1),
                 st.none() | st.floats(0, 0.99), st.integers(1, 10**6), st.none() | st.integers(0, 2**63 - 1),
                 st.integers(1, 64)))
def test_printed_settings_typed_again_give_the_same_settings(controls):
    for line in (str(controls), f"/{controls}", str(controls).replace(" ", ", "), str(controls).upper(),
                 str(controls).replace("=", " = ")):
        assert read(line) == Command("set", controls)


@fewer
@given(st.sampled_from(sorted(KNOBS)), st.text(st.characters(exclude_categories=("Z", "C"), exclude_characters=",;")))
def test_a_value_is_either_taken_or_answered_with_what_the_command_takes(name, value):
    try:
        controls = read(f"{KNOBS[name].command}={value}").value
        assert replace(controls, **{name: getattr(START, name)}) == START
    except ValueError as error:
        assert KNOBS[name].takes in str(error)


@pytest.mark.parametrize("line, values", [
    *((line, {"temperature": 0.5}) for line in (
        "temp=0.5", "temp = 0.5", "temp =.5", "TEMP=.5", "Temp=0.5 ", "temperature 0.5", "temp .5", "temp: 0.5",
        "temp : 0.5", "/temp 0.5", "/Temperature=0.5", "/temp: 0.5", "temp=1 temp=0.5")),
    *((line, {"top_k": 10, "num_samples": 4}) for line in (
        "top-k=10, n=4", "top_k=10; n=4", "TOP_K = 10,N = 4,", "/top-k=10 num-samples=4")),
    *((line, {"tokens": 7}) for line in (
        "max_tokens=7", "max-new-tokens 7", "length=7", "max_tokens 7", "/tokens 7", "/length 7")),
    *((line, {"top_k": None}) for line in ("top_k=0", "top-k=off", "top_k off", "TOP-K OFF")),
    ("top-k 10", {"top_k": 10}), ("min_p 0.1", {"min_p": 0.1}), ("top_p=Off", {"top_p": None}),
    ("seed 4", {"seed": 4}), ("seed off", {"seed": None}), ("/n 4", {"num_samples": 4}),
    ("num_samples 4", {"num_samples": 4})])
def test_settings_are_understood_as_people_type_them(line, values):
    assert read(line) == settings(**values)


@pytest.mark.parametrize("line, command", [
    ("help", "help"), ("?", "help"), ("/?", "help"), ("/help", "help"), ("Help", "help"), ("quit", "quit"),
    ("exit", "quit"), ("/quit", "quit"), ("/exit", "quit"), ("QUIT\n", "quit"), ("back", "back"), ("/back", "back"),
    ("again", "again"), ("/again", "again"), ("tree", "tree"), ("/tree ", "tree"), ("copy", "copy"), ("/copy", "copy")])
def test_a_command_of_one_word_has_the_line_to_itself(line, command):
    assert read(line) == Command(command, None)


@pytest.mark.parametrize("line, command", [
    ("keep 2", Command("keep", 2)), ("/keep 12", Command("keep", 12)), ("Keep  1", Command("keep", 1)),
    ("save x", Command("save", "x")), ("save tale.txt", Command("save", "tale.txt")),
    ("save 'my tale.txt'", Command("save", "my tale.txt")), ('/save "it\'s.txt"', Command("save", "it's.txt")),
    ("save ~/tales/1.txt", Command("save", "~/tales/1.txt")), ("/save end.", Command("save", "end."))])
def test_keep_takes_a_number_and_save_the_name_of_a_file(line, command):
    assert read(line) == command


@pytest.mark.parametrize("line", [
    "E=mc2 is his formula", "x = 5", "x=5", "x=5, y=6", "a=1 b=2", "help me", "n=3 geese", "temp=0.5 n=3 geese",
    "temp=0.5\nn=3", "help\nquit", "he wrote n=3", "", "\n", "n 4", "tokens 4", "length 40", "n: 4", "seed money",
    "seed 4 of them", "seed 4.", "temperature", "temperature 30 degrees", "top k 10", "keep going.", "keep 2.",
    "keep 2 of them", "save the queen", "save me.", "save it's", "save ''", "again and again", "Again.",
    "copy that", "quit it", "backs it.", "kept 2 of them", "sleep", "Baker", "?!",
    "/home/ada", "/ 2", "//", "/", "/?!"])
def test_a_text_is_not_taken_for_a_command(line):
    assert read(line) is None


@pytest.mark.parametrize("line", [
    "temp=-1", "temp=nan", "temp=inf", "temp=", "temp=0,5", "temp 0,5", "temp=0.5.", "top_k=-1", "top_k=1.5", "top_p=0",
    "top_p=1.1", "min_p=1", "min_p=-0.1", "tokens=0", "tokens=off", "seed=-1", "n=0", "n=65", "temp=1 n=x", "temp= n=3",
    "/temp", "/temp warm", "/temp 0.5 please", "/temp=0.5 please"])
def test_a_value_that_does_not_fit_is_refused_with_what_the_command_takes(line):
    with pytest.raises(ValueError, match="= takes a (whole )?number"):
        read(line)


@pytest.mark.parametrize("line, how", [
    *((line, "keep takes a whole number, 1 or above: keep 2") for line in (
        "keep", "/keep", "keep two", "keep 0", "keep -1", "keep 1.5", "/keep going", "/keep 1 2", "keep 9999999999")),
    *((line, "save takes the name of one file, in quotes if it has spaces: save tale.txt") for line in (
        "save", "/save", "save two words.jsonl", "/save the queen", "/save it's", "/save ''")),
    ("/back 2", "back takes nothing"), ("copy 3", "copy takes nothing"), ("again 3", "again takes nothing"),
    ("kep 2", "no command kep; did you mean keep"), ("qiut", "did you mean quit"), ("helpp", "did you mean help"),
    ("/help me", "help takes nothing"), ("/? me", "help takes nothing")])
def test_an_argument_that_does_not_fit_is_answered_with_what_does(line, how):
    with pytest.raises(ValueError, match=how):
        read(line)


@pytest.mark.parametrize("line, hint", [
    ("temprature=0.5", "temprature=; did you mean temperature=?"), ("topk=5", "topk=; did you mean top_k=?"),
    ("token=3", "token=; did you mean tokens=?"), ("temp=0.5 sede=3", "sede=; did you mean seed=?"),
    ("temp=0.5 y=3", "y=."), ("/tmp 0.5", "/tmp; did you mean temp=?"), ("/kep 2", "/kep; did you mean keep?"),
    ("/hlep", "/hlep; did you mean help?"), ("/x=5", "/x."), ("/he said", "/he."), ("/write", "/write.")])
def test_a_misspelt_command_is_told_the_right_name_and_those_there_are(line, hint):
    with pytest.raises(ValueError) as error:
        read(line)
    assert str(error.value) == (
        f"There is no command {hint} There are: temp=, top_k=, top_p=, min_p=, tokens=, seed=, n=, "
        "speed=, colour=, keep N, back, again, tree, save FILE, copy, help, quit. As a text, put a space before it.")


def test_every_command_of_a_word_is_understood_as_help_shows_it():
    for name, word in WORDS.items():
        assert f"{name} {word.takes}".strip() in commands()
        assert read(f"{name} {ARGUMENTS[word.takes].example}" if word.takes else name).name == name


@pytest.mark.parametrize("line", [f"temp{' ' * 10**6}x", f"temp=1{' ,' * 10**6}x", "a=" * 10**6, "a " * 10**6,
                                  f"save {'x ' * 10**5}", f"keep {'1' * 10**6}."])
def test_a_very_long_text_is_read_in_no_time(line):
    assert read(line) is None


@pytest.mark.parametrize("values, alike", [({"temperature": 0, "num_samples": 3}, True), ({"temperature": 0}, False),
                                           ({"num_samples": 3}, False)])
def test_samples_that_will_all_be_alike_are_remarked_on(values, alike):
    said = remark(replace(START, **values))
    assert ("All 3 samples will be alike" in said) if alike else said is None
