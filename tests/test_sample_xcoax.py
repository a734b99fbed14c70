"""The sampler as a person meets it: typed at in a terminal, fed by a pipe, called once, given wrong things."""

import os
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings as hypothesis_settings
from hypothesis import strategies as st
from prompt_toolkit.utils import get_cwidth

import checkpoint
import sample_xcoax
import settings
from repl import COMMANDS, Controls, read_command, visible, wrap, wrap_from_end
from terminal import ENV, Terminal
from tiny import ROOT, tiny_model
from tokenizer import FIRST_BYTE_ID, Tokenizer, train_tokenizer

TEXTS = ["The miller's daughter kept three geese and a grey cat behind the mill.",
         "Every morning she carried two pails of water up the hill, and the cat followed her.",
         "One day a stranger asked for bread; she gave him half a loaf and told him the way to the town.",
         "In the evening the wheel stood still, the geese slept, and the moon came over the water."]
TOKENIZERS = {direction: Tokenizer(train_tokenizer(TEXTS, 330, direction)) for direction in ("reverse", "forward")}
RESET = "temp=2.0 top_k=20 top_p=off min_p=off tokens=20 seed=7 n=1"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Paths of two untrained models, which write learned pieces only and never stop, if top_k is 20."""
    paths = {}
    for direction, tokenizer in TOKENIZERS.items():
        model = tiny_model(vocab_size=tokenizer.vocab_size)
        with torch.no_grad():
            model.norm.weight.mul_(10)
            model.wte.weight[: FIRST_BYTE_ID + 256] = 0  # never among the 20 likeliest
        paths[direction] = tmp_path_factory.mktemp("out") / f"{direction}.pt"
        checkpoint.save(paths[direction], model, tokenizer, {}, {})
    return paths


def run(*args, stdin=b""):
    """Run the sampler with pipes; return (status, standard output, standard error)."""
    done = subprocess.run([sys.executable, "sample_xcoax.py", *map(str, args)], input=stdin, capture_output=True, cwd=ROOT,
                          env=ENV, timeout=180)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture(scope="module")
def shared_terminal(checkpoints):
    terminal = Terminal("sample_xcoax.py", "--model-path", checkpoints["reverse"])
    terminal.wait("Ending:")
    yield terminal
    terminal.close()


@pytest.fixture
def terminal(shared_terminal):
    shared_terminal.command(RESET)
    shared_terminal.wait("Ending:")
    return shared_terminal


LONG = "the cat followed her " * 2500  # 10,000 words
PIPED = ["over the water.", "  two spaces before", "", "he said <|im_end|>", "bell \a and escape \x1b[31m", LONG.strip(),
         "n=100", "temprature=0.5", "n=3", "three texts"]


@pytest.fixture(scope="module")
def piped(checkpoints):
    """What comes of PIPED and one line that is not UTF-8: (status, list of texts, standard error)."""
    stdin = "\n".join(PIPED).encode() + b"\n\xff\xfe\nthe last line\nquit\nnever read"
    status, out, err = run("--model-path", checkpoints["reverse"], "--tokens", 20, "--top-k", 20, "--temperature", 2, "--seed", 7,
                           stdin=stdin)
    return status, out.removesuffix("\n").split("\n---\n"), err


unhurried = hypothesis_settings(deadline=None)  # a busy machine is no failure


# Commands

@unhurried
@given(st.text())
def test_a_line_with_a_space_before_it_is_never_a_command(text):
    assert read_command(" " + text, Controls()) is None


@unhurried
@given(st.builds(Controls, st.floats(0, 9), st.integers(0, 9999), st.none() | st.floats(0.01, 1), st.none() | st.floats(0, 0.99),
                 st.integers(1, 10**6), st.none() | st.integers(0, 2**63 - 1), st.integers(1, 64)))
def test_printed_settings_typed_again_give_the_same_settings(controls):
    assert read_command(str(controls), Controls()) == controls


@unhurried
@given(st.sampled_from(sorted(COMMANDS)), st.text(st.characters(blacklist_categories=("Z", "C"))))
def test_a_value_is_either_taken_or_answered_with_what_the_command_takes(name, value):
    try:
        controls = read_command(f"{name}={value}", Controls())
        assert replace(controls, **{name: getattr(Controls(), name)}) == Controls()
    except ValueError as error:
        assert COMMANDS[name][2] in str(error)


@pytest.mark.parametrize("line", ["temp=-1", "temp=nan", "temp=inf", "temp=", "top_k=-1", "top_k=1.5", "top_p=0", "top_p=1.1",
                                  "min_p=1", "min_p=-0.1", "tokens=0", "tokens=off", "seed=-1", "n=0", "n=65", "temp=1 n=x"])
def test_a_value_out_of_range_is_refused(line):
    with pytest.raises(ValueError, match="takes"):
        read_command(line, Controls())


@pytest.mark.parametrize("line", ["E=mc2 is his formula", "x = 5", "x=5", "a=1 b=2", "temp = 0.5", "help me", "Quit", "n=3 geese",
                                  "temp=0.5\nn=3", "he wrote n=3", ""])
def test_a_text_is_not_taken_for_a_command(line):
    assert read_command(line, Controls()) is None


@pytest.mark.parametrize("line", ["temprature=0.5", "topk=5", "Temp=1", "token=3", "temp=0.5 sede=3"])
def test_a_misspelt_command_is_told_the_names_there_are(line):
    with pytest.raises(ValueError, match="temp= top_k= top_p= min_p= tokens= seed= n= help quit"):
        read_command(line, Controls())


def test_zero_and_off_both_switch_top_k_off():
    assert read_command("top_k=0", Controls()).top_k is read_command("top-k=off", Controls()).top_k is None


# What is shown

@unhurried
@given(st.text(st.characters(), max_size=200))
def test_no_control_character_reaches_the_terminal(text):
    shown = visible(text)
    assert not re.search("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)
    assert re.findall("[\n\t]", shown) == re.findall("[\n\t]", text)


@unhurried
@given(st.text(st.sampled_from("ab \n漢é"), max_size=80), st.integers(2, 12))
def test_rows_of_growing_text_fit_lose_nothing_and_stay_where_they_are(text, columns):
    rows = wrap_from_end(text, columns)
    assert all(get_cwidth(row) <= columns for row in rows)
    assert "".join(rows) == text.replace("\n", "")
    stay = wrap_from_end(text[1:], columns)[1:]  # all but the first row, whose leading space may go with a new word
    assert [row.strip() for row in rows[len(rows) - len(stay):]] == [row.strip() for row in stay]


@pytest.mark.parametrize("direction", TOKENIZERS)
@unhurried
@given(text=st.text(min_size=1), new=st.lists(st.integers(0, 329)))
def test_the_given_words_stand_unchanged_at_their_side_of_the_text(direction, text, new):
    tokenizer = TOKENIZERS[direction]
    whole = tokenizer.to_text(tokenizer.encode_ending(text) + new)
    parts = sample_xcoax.parts_of(whole, text, direction)
    assert "".join(s for s, _ in parts) == whole
    assert parts[-1 if direction == "reverse" else 0] == (text, True)


# Pipes

def test_every_line_of_a_pipe_up_to_quit_gets_texts_that_end_with_the_line(piped):
    endings = [line for line in PIPED[:-1] if line and "=" not in line] + ["three texts"] * 3 + ["the last line"] * 3
    assert len(piped[1]) == len(endings)
    assert all(text.endswith(ending) and len(text) > len(ending) + 5 for text, ending in zip(piped[1], endings))


def test_a_line_that_fails_is_named_and_the_rest_goes_on(piped):
    status, _, err = piped
    assert status == 1 and "Traceback" not in err
    for start in ("line 3 is blank: skipped", "line 7: n=100 does not fit: n= takes a whole number from 1 to 64",
                  "line 8: There is no command temprature=", "line 11: 'utf-8'"):
        assert start in err
    assert err.count("line ") == 4


def test_a_blank_line_is_no_failure(checkpoints):
    status, out, err = run("--model-path", checkpoints["reverse"], "--tokens", 5, stdin=b"\nover the water.\n\n")
    assert status == 0 and out.endswith("over the water.\n") and err.count("is blank: skipped") == 2


def test_a_very_long_ending_is_kept_whole_and_the_part_read_is_named(piped):
    assert re.search(r"This text has [\d,]{6,} tokens; the model reads the 64 nearest", piped[2])


def test_several_samples_of_one_ending_differ(piped):
    assert len(set(piped[1][-3:])) == 3


def test_the_same_seed_gives_the_same_text_called_once_and_typed(checkpoints, terminal):
    args = "--model-path", checkpoints["reverse"], "--tokens", 20, "--top-k", 20, "--temperature", 2, "--seed", 7
    status, out, err = run(*args, "--prompt", "by the mill.")
    assert status == 0 and out.endswith("by the mill.\n") and "seed=7" in err
    shown = re.sub(r"\x1b\[[\d;?]*\w|\r", "", terminal.ask("by the mill."))
    assert out in shown


# The terminal

def test_the_terminal_shows_the_text_and_the_ending_in_bold(terminal):
    shown = terminal.ask("the geese slept.")
    assert re.search(r"\w \x1b\[1mthe geese slept\.\x1b\[0m\r\n", shown)
    assert "seed=7, cut at tokens=20" in shown


def test_three_samples_get_three_headings(terminal):
    terminal.command("n=3")
    shown = terminal.ask("the geese slept.")
    assert [shown.count(f"{i} of 3\x1b[0m\r\n") for i in (1, 2, 3)] == [1, 1, 1]
    assert shown.count("\x1b[1mthe geese slept.") == 3


def test_ctrl_c_stops_a_text_keeps_it_and_leaves_the_settings(terminal):
    terminal.command("tokens=100000")
    terminal.type("without end\r")
    terminal.wait("tokens, Ctrl-C stops")
    terminal.wait("tokens, Ctrl-C stops")
    terminal.type("\x03")
    shown = terminal.wait("stopped by Ctrl-C")
    assert re.search(r"\w\s+\x1b\[1mwithout\s+end\x1b\[0m\r\n", shown)  # a row may end at either space
    assert "tokens=100000" in terminal.command("n=1")


def test_pasted_lines_are_one_ending(terminal):
    terminal.type("\x1b[200~one line,\nanother line\x1b[201~")
    shown = terminal.ask("")
    assert "\x1b[1mone line,\r\nanother line\x1b[0m\r\n" in shown and shown.count("tokens/s") == 1


def test_pasted_control_characters_are_shown_as_pictures(terminal):
    terminal.type("\x1b[200~a bell \x07 and \x1b]0;title\x1b[201~")
    assert "\x1b[1ma bell ␇ and ␛]0;title\x1b[0m" in terminal.ask("")


def test_a_bad_command_or_an_empty_line_is_answered_and_changes_nothing(terminal):
    for line, answer in [("temp=cold", "temp= takes a number, 0 or above"), ("sede=3", "There is no command sede="),
                         ("n=2 tokens=0", "tokens= takes"), ("", "There is no text here"), ("help", "the likeliest token")]:
        terminal.type(line + "\r")
        terminal.wait(answer)
        terminal.wait("Ending:")
    assert RESET in terminal.command("temp=2.0")


def test_ctrl_c_at_the_prompt_clears_the_line_only(terminal):
    terminal.type("n=5")
    terminal.wait("n=5")
    terminal.type("\x03")
    terminal.wait("Ending:")
    assert RESET in terminal.command("temp=2.0")


def test_in_a_narrow_terminal_no_row_of_the_growing_text_is_too_wide(terminal):
    terminal.command("tokens=200 temp=2 top_k=off seed=3")  # so hot that the text is long
    terminal.resize(40)
    shown = terminal.ask("the moon came.")
    terminal.resize(80)
    terminal.command("temp=0.8 top_k=200 seed=off")
    drawn = shown[shown.index("\n", shown.rindex("Ending:")): shown.rindex("\x1b[J")]
    rows = [re.sub(r"\x1b\[[\d;?]*\w|\n", "", row) for row in drawn.split("\r")]
    assert len(rows) >= 3 and 30 < max(map(get_cwidth, rows)) < 40


def test_a_forward_model_asks_for_a_beginning_and_ctrl_d_leaves(checkpoints):
    terminal = Terminal("sample_xcoax.py", "--model-path", checkpoints["forward"])
    try:
        terminal.wait("Beginning:")
        assert re.search(r"\x1b\[1mOne\s+day\x1b\[0m.+\r\n", terminal.ask("One day"), re.DOTALL)
        terminal.wait("Beginning:")
        terminal.type("\x04")
        assert terminal.status() == 0
    finally:
        terminal.close()


# Wrong things

class Stranger:
    def __reduce__(self):
        return os.mkdir, ("owned",)


def complaint(monkeypatch, *args):
    """What the program says when it refuses to start."""
    monkeypatch.setattr(sys, "argv", ["sample_xcoax.py", *map(str, args)])
    with pytest.raises(SystemExit) as left:
        settings.run(sample_xcoax.main)
    assert isinstance(left.value.code, str)  # printed to standard error, with status 1
    return left.value.code


@pytest.fixture
def quiet(monkeypatch):
    monkeypatch.setattr(sample_xcoax, "prepare_streams", lambda: None)  # it would change those of the tests


def test_a_missing_checkpoint_is_answered_with_the_next_command():
    status, out, err = run("--model-path", "nowhere/best_checkpoint.pt")
    assert status == 1 and out == "" and "Traceback" not in err
    assert "No checkpoint at nowhere/best_checkpoint.pt" in err and "python train_xcoax.py" in err


@pytest.mark.parametrize("keep", [0, 1, 1000, 0.5, 0.99])
def test_a_checkpoint_cut_short_is_named(checkpoints, tmp_path, monkeypatch, quiet, keep):
    data = checkpoints["reverse"].read_bytes()
    path = tmp_path / "short.pt"
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    assert str(path) in complaint(monkeypatch, "--model-path", path, "--prompt", "x")


@pytest.mark.parametrize("write", [lambda thing, path: torch.save(thing, path),
                                   lambda thing, path: path.write_bytes(pickle.dumps(thing, protocol=2))])
def test_pickled_code_is_refused_and_not_run(tmp_path, monkeypatch, quiet, write):
    monkeypatch.chdir(tmp_path)
    write({"model": Stranger()}, tmp_path / "evil.pt")
    assert "code" in complaint(monkeypatch, "--model-path", "evil.pt", "--prompt", "x")
    assert not Path("owned").exists()


@pytest.mark.parametrize("args, answer", [(["--prompt", " "], "--prompt is empty"), (["--num-samples", 0], "from 1 to 64"),
                                          (["--top-p", 3], "top_p= takes"), (["--device", "abacus"], "not available")])
def test_a_flag_that_does_not_fit_is_answered(checkpoints, monkeypatch, quiet, args, answer):
    assert answer in complaint(monkeypatch, "--model-path", checkpoints["reverse"], *args)


@given(text=st.text(alphabet="ab 語\n", max_size=60), columns=st.integers(4, 20))
def test_a_text_is_wrapped_between_words_and_nothing_else_changes(text, columns):
    wrapped = wrap(text, columns)
    assert len(wrapped) == len(text) and all(a == b or (a, b) == (" ", "\n") for a, b in zip(text, wrapped))
    for row in wrapped.split("\n"):
        assert get_cwidth(row.rstrip()) <= columns or " " not in row.strip() or row.startswith(" ")
