"""The sampler as a person meets it: typed at in a terminal, fed by a pipe, called once, given wrong things."""

import base64
import json
import os
import pickle
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sample_xcoax
from tests.support.endless import TOKENIZERS, save_endless
from tests.support.runs import call
from tests.support.terminal import (
    ENV,
    Terminal,
    complaint,
    plain,
    run_on_pipes,
    screens,
    start_on_pipes,
    unfolded,
)
from tests.support.texts import fewer

SCRIPT = "sample_xcoax.py"
RESET = "temp=2.0 top_k=20 top_p=off min_p=off tokens=20 seed=7 n=1 speed=off colour=off"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return save_endless(tmp_path_factory.mktemp("out"))


def run(*args, **options):
    return run_on_pipes(SCRIPT, *args, **options)


def called_once(capsys, *args):
    """What the script prints in this process, called with --prompt: (standard output, standard error)."""
    with pytest.raises(SystemExit) as left:
        call(sample_xcoax, *args)
    assert left.value.code == 0
    return capsys.readouterr()


@pytest.fixture(scope="module")
def shared_terminal(checkpoints):
    terminal = Terminal(SCRIPT, "--model-path", checkpoints["reverse"])
    terminal.wait("Ending:")
    yield terminal
    terminal.close()


@pytest.fixture
def terminal(shared_terminal):
    shared_terminal.command(RESET)
    shared_terminal.wait("Ending:")
    return shared_terminal


LONG = "the cat followed her " * 2500  # 10,000 words
PIPED = ["over the water.", "  two spaces before", "", "he said <|im_end|>", "bell \a and escape \x1b[31m",
         LONG.strip(), "n=100", "temprature=0.5", "tokens=1", "help", "quit", "exit", "\ufeff in the middle"]


@pytest.fixture(scope="module")
def piped(checkpoints):
    """What comes of PIPED and one line that is not UTF-8: (status, list of texts, standard error)."""
    stdin = b"\xef\xbb\xbf" + "\n".join(PIPED).encode() + b"\n\xff\xfe\nthe last line"
    status, out, err = run("--model-path", checkpoints["reverse"], "--tokens", 20, "--top-k", 20, "--temperature", 2,
                           "--seed", 7, stdin=stdin)
    return status, out.removesuffix("\n").split("\n---\n"), err


@pytest.mark.parametrize("direction", TOKENIZERS)
@fewer
@given(text=st.text(min_size=1), new=st.lists(st.integers(0, 329)))
def test_the_given_words_stand_unchanged_at_their_side_of_the_text(direction, text, new):
    tokenizer = TOKENIZERS[direction]
    ids = tokenizer.encode_ending(text) + new
    parts = tokenizer.parts(ids, text)
    assert "".join(s for s, _ in parts) == tokenizer.to_text(ids)
    assert parts[-1 if direction == "reverse" else 0] == (text, True)


@pytest.mark.parametrize("flags, numbers", [(("--dtype", "bfloat16"), (torch.bfloat16, "off")),
                                            (("--dtype", "float32"), (torch.float32, "off")),
                                            (("--dtype", "float32", "--quantize", "int8"), (torch.float32, "int8"))])
def test_what_writes_has_its_weights_in_the_numbers_asked_for(checkpoints, monkeypatch, flags, numbers):
    writers = []

    def pasts(decoder, *arguments, **options):
        writers.append(decoder)
        raise ValueError("enough")

    monkeypatch.setattr(sample_xcoax, "Pasts", pasts)
    assert "enough" in complaint(sample_xcoax, "--model-path", checkpoints["reverse"], "--prompt", "x", "--device",
                                 "cpu", *flags)
    assert (writers[0].dtype, writers[0].quantize) == numbers


# Pipes

def test_every_line_of_a_pipe_is_text_and_gets_one_that_ends_with_it(piped):
    endings = [*filter(None, PIPED), "the last line"]
    assert len(piped[1]) == len(endings)
    assert all(text.endswith(ending) and len(text) > len(ending) + 5 for text, ending in zip(piped[1], endings))


def test_a_byte_order_mark_before_the_first_line_is_no_part_of_it(piped):
    assert ["\ufeff" in text for text in piped[1]] == [False] * (len(piped[1]) - 2) + [True, False]


def test_a_line_that_fails_is_named_and_the_rest_goes_on(piped):
    status, _, err = piped
    assert status == 1 and "Traceback" not in err
    assert "line 3 is blank: skipped" in err and "line 14: not UTF-8 (byte 1 is 0xff)" in err
    assert err.count("line ") == 2


def test_a_blank_line_is_no_failure(checkpoints):
    status, out, err = run("--model-path", checkpoints["reverse"], "--tokens", 5, stdin=b"\nover the water.\n\n")
    assert status == 0 and out.endswith("over the water.\n") and err.count("is blank: skipped") == 2


def test_a_pipe_gets_plain_texts_even_where_colours_are_forced(checkpoints):
    status, out, err = run("--model-path", checkpoints["reverse"], "--tokens", 100, "--num-samples", 2, "--seed", 7,
                           stdin=b"over the water.\n", env=ENV | {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"})
    assert status == 0 and "\x1b" not in out + err
    assert [text.endswith("over the water.") for text in out.removesuffix("\n").split("\n---\n")] == [True, True]


def test_a_very_long_ending_is_kept_whole_and_the_part_read_is_named(piped):
    assert re.search(r"This text has [\d,]{6,} tokens; the model reads the 64 nearest", piped[2])


def test_a_line_without_end_is_refused_by_its_number_before_it_fills_the_memory(checkpoints):
    with open("/dev/zero", "rb") as zero:
        process = start_on_pipes(SCRIPT, "--model-path", checkpoints["reverse"], stdin=zero)
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 1 and out == b""
    assert b"Error: line 1 of standard input is longer than 67,108,864 bytes" in err and b"Traceback" not in err


def test_the_same_seed_gives_the_same_text_called_once_and_typed(checkpoints, terminal, capsys):
    args = "--model-path", checkpoints["reverse"], "--tokens", 20, "--top-k", 20, "--temperature", 2, "--seed", 7
    out, err = called_once(capsys, *args, "--prompt", "by the mill.")
    assert out.endswith("by the mill.\n") and "seed=7" in err
    assert out in plain(terminal.ask("by the mill."))


# The terminal

def test_the_terminal_shows_the_text_and_the_ending_in_bold(terminal):
    shown = terminal.ask("the geese slept.")
    assert re.search(r"\w \x1b\[1mthe geese slept\.\x1b\[0m\r\n", shown)
    assert "seed=7, cut at tokens=20" in shown


def test_a_temperature_near_zero_or_beyond_all_bounds_writes_a_text(terminal):
    for temperature, shown in (("1e-45", "1e-45"), ("5e-324", "5e-324"), ("1e308", "1e\\+308")):
        terminal.type(f"temp={temperature}\r")
        terminal.wait(f"temp={shown} top_k=20")
        assert "cut at tokens=20" in terminal.ask("the geese slept.")


def test_three_samples_get_three_headings(terminal):
    terminal.command("n=3")
    shown = terminal.ask("the geese slept.")
    shown = shown[shown.rindex("\x1b[?2026l"):]  # what stays, after the last painting
    assert [shown.count(f"{i} of 3\x1b[0m\r\n") for i in (1, 2, 3)] == [1, 1, 1]
    assert shown.count("\x1b[1mthe geese slept.") == 3
    assert len(set(re.findall(r"\d of 3\x1b\[0m\r\n(.*?)\x1b", shown, re.DOTALL))) == 3


def test_ctrl_c_stops_a_text_keeps_it_and_leaves_the_settings(terminal):
    terminal.command("tokens=100000")
    terminal.type("without end\r")
    terminal.wait("tokens, Ctrl-C stops")
    terminal.wait("tokens, Ctrl-C stops")
    terminal.type("\x03")
    shown = terminal.wait("stopped by Ctrl-C")
    assert re.search(r"\w\s+\x1b\[1mwithout\s+end\x1b\[0m\r\n", unfolded(shown))  # a row may end at either space
    assert "tokens=100000" in terminal.command("n=1")


@pytest.mark.parametrize("typed, rest", [("\x1b[200~one line,\nanother line\x1b[201~", ""),
                                         ("one line,\x1b\r", "another line")])
def test_lines_that_are_pasted_or_parted_by_alt_enter_are_one_ending(terminal, typed, rest):
    terminal.type(typed)
    shown = unfolded(terminal.ask(rest))
    assert "\x1b[1mone line,\r\nanother line\x1b[0m\r\n" in shown and shown.count("tokens/s") == 1


def test_pasted_control_characters_are_shown_as_pictures(terminal):
    terminal.type("\x1b[200~a bell \x07 and \x1b]0;title\x1b[201~")
    assert "\x1b[1ma bell ␇ and ␛]0;title\x1b[0m" in terminal.ask("")


def test_a_bad_command_or_an_empty_line_is_answered_and_changes_nothing(terminal):
    for line, answer in [("temp=cold", "temp= takes a number, 0 or above"), ("sede=3", "There is no command sede="),
                         ("n=2 tokens=0", "tokens= takes"), ("", "There is no text here"),
                         ("help", "the likeliest token")]:
        terminal.type(line + "\r")
        terminal.wait(answer)
        terminal.wait("Ending:")
    assert RESET in terminal.command("temp=2.0")


def test_settings_that_make_all_samples_alike_are_taken_and_remarked_on(terminal):
    terminal.type("temperature 0\r")
    terminal.wait(r"\x1b\[2mtemp=0.0 .* n=1 ")
    terminal.type("/n 3\r")
    terminal.wait(r"(?s)\x1b\[2mtemp=0.0 .* n=3 .*All 3 samples will be alike")


def test_ctrl_c_at_the_prompt_clears_the_line_only(terminal):
    terminal.type("n=5")
    terminal.wait("n=5")
    terminal.type("\x03")
    terminal.wait("Ending:")
    assert RESET in terminal.command("temp=2.0")


def words_of(rows):
    """What stands in the rows of a text, the last of which may tell how far it is."""
    return " ".join(row for row in rows if "tokens" not in row).split()


@pytest.mark.parametrize("columns", [30, 80])
def test_no_painting_of_a_growing_text_loses_a_word_and_the_last_screen_is_the_text(checkpoints, columns):
    """What was shown stays: the words of every screen end with those of the one before, but for the newest, which may
    have been a half."""
    terminal = Terminal(SCRIPT, "--model-path", checkpoints["reverse"], "--speed", 60, "--tokens", 60, "--temperature",
                        2, "--top-k", 20, "--seed", 7, columns=columns)
    try:
        before = terminal.wait("Ending:")
        shown = terminal.ask("the moon came.")
    finally:
        terminal.close()
    found = [screen for screen in screens(before + shown, columns, 24)]
    growing = [screen for screen in found if any("Ctrl-C stops" in row for row in screen)]
    texts = [words_of(screen[next(i for i, row in enumerate(screen) if row.startswith("Ending:")) + 1:])
             for screen in growing]
    assert len(texts) > 4
    for earlier, later in zip(texts, texts[1:]):
        assert later[len(later) - len(earlier) + 1:] == earlier[1:] and len(later) >= len(earlier)
    final = "".join(found[-1])
    assert "".join(texts[-1][1:]) in final.replace(" ", "") and not any("Ctrl-C stops" in row for row in found[-1])


def test_texts_side_by_side_stay_there_and_move_to_the_other_margin_alone(checkpoints):
    columns, each = 80, 38
    terminal = Terminal(SCRIPT, "--model-path", checkpoints["reverse"], "--speed", 60, "--tokens", 40, "--temperature",
                        2, "--top-k", 20, "--seed", 7, "--num-samples", 2, columns=columns)
    try:
        before = terminal.wait("Ending:")
        shown = terminal.ask("the moon came.")
    finally:
        terminal.close()
    found = list(screens(before + shown, columns, 24))
    growing = [screen for screen in found if any("Ctrl-C stops" in row for row in screen)][-1]

    def halves(screen):
        first = next(i for i, row in enumerate(screen) if row.startswith("Ending:")) + 1
        rows = screen[first:next(i for i, row in enumerate(screen) if i > first and "tokens" in row)]
        return [[row[:each].strip(), row[each + 3:].strip()] for row in rows]

    grown, settled = halves(growing), halves(found[-1])
    assert {row[0] for row in settled} >= {"1 of 2"} and {row[1] for row in settled} >= {"2 of 2"}
    for side in (0, 1):  # the newest word may have come with the last token
        rows, final = ([row[side] for row in screen if row[side] and " of 2" not in row[side]]
                       for screen in (grown, settled))
        assert final[-len(rows) + 1:] == rows[1:] and final[-len(rows)].endswith(rows[0].partition(" ")[2])


def test_enter_shows_all_at_once_and_no_key_is_echoed_or_left_for_the_prompt(terminal):
    terminal.command("speed=0.5 tokens=60")
    terminal.type("the moon came.\r")
    terminal.wait("Enter shows all at once")
    terminal.type("xyzzy\x1b[A\r")
    shown = terminal.wait(r"seed=\d+,[^\r]*\r")
    assert "60 tokens" in shown and "xyzzy" not in plain(shown) and "^[[A" not in shown
    assert "temp=3.0" in terminal.command("temp=3")  # and nothing stood before it


def test_ctrl_z_stops_the_program_with_a_cursor_and_it_goes_on_below_what_was_shown(terminal):
    terminal.command("speed=0.5 tokens=60")
    terminal.type("the moon came.\r")
    terminal.wait("Enter shows all at once")
    terminal.type("\x1a")
    assert os.WIFSTOPPED(os.waitpid(terminal.pid, os.WUNTRACED)[1])
    assert "\x1b[?25h" in terminal.wait(r"\x1b\[\?25h")
    os.kill(terminal.pid, signal.SIGCONT)
    terminal.type("\r")
    shown = terminal.wait(r"seed=\d+,[^\r]*\r")
    assert "60 tokens" in shown and "\x1b[?25h" in shown[shown.index("\x1b[?25l"):]


def test_the_pace_is_kept(terminal):
    terminal.command("speed=20 tokens=60")
    started = time.monotonic()
    shown = terminal.ask("the moon came.")
    words = len(plain(shown[shown.rindex("\x1b[J"):]).split())
    assert time.monotonic() - started > (words - 20) / 20  # no sooner; the ending and the summary are words, too


def test_tab_completes_a_command(terminal):
    terminal.type("see\t3\r")
    terminal.wait("seed=3 n=1")


def in_another_session(checkpoints, folder, *args):
    """A terminal whose user keeps what is typed in folder."""
    terminal = Terminal(SCRIPT, "--model-path", checkpoints["reverse"], "--tokens", 5, *args,
                        env=ENV | {"XDG_STATE_HOME": str(folder)})
    terminal.wait("Ending:")
    return terminal


def test_the_arrow_up_brings_back_the_text_of_an_earlier_session_unless_nothing_is_to_be_kept(checkpoints, tmp_path):
    for args, typed in [((), "by the mill."), (("--no-history",), "in secret.")]:
        terminal = in_another_session(checkpoints, tmp_path, *args)
        try:
            terminal.ask(typed)
        finally:
            terminal.close()
    terminal = in_another_session(checkpoints, tmp_path)
    try:
        assert "\x1b[1mby the mill." in unfolded(terminal.ask("\x1b[A"))
    finally:
        terminal.close()


def test_plain_shows_a_text_once_and_moves_nothing(checkpoints):
    terminal = Terminal(SCRIPT, "--model-path", checkpoints["reverse"], "--tokens", 30, "--plain")
    try:
        terminal.wait("Ending:")
        shown = terminal.ask("by the mill.")
    finally:
        terminal.close()
    assert "by the mill." in plain(shown)
    answer = shown[shown.rindex("\x1b[?2004l"):]  # behind the prompt
    assert not re.search(r"\x1b\[(\?2026|\d*[AJ]|\d+;\d+H|3\d)", answer[: answer.index("tokens/s")])


def test_in_a_narrow_terminal_no_row_of_the_growing_text_is_too_wide(terminal):
    terminal.command("tokens=1000 seed=3")
    terminal.resize(40)


def test_of_several_pasts_one_is_kept_and_goes_on_and_back_returns(terminal, tmp_path):
    terminal.command("n=3")
    terminal.ask("the geese slept.")
    shown = terminal.ask("keep 2")
    assert [shown.count(f"{i} of 3\x1b[0m\r\n") for i in (1, 2, 3)] == [1, 1, 1]
    assert "1 of 3" in terminal.ask("back")
    terminal.ask("/keep 3")
    terminal.wait("Ending:")
    terminal.type("tree\r")
    terminal.wait("tree")
    tree = plain(terminal.wait("Ending:"))
    assert "the geese slept." in tree and tree.count("words") == 6 and tree.count("kept") == 1
    terminal.type("copy\r")
    terminal.wait(r"There are 3 texts\. Keep one first")
    terminal.type("keep 9\r")
    terminal.wait("There is no text 9: the last are 1 to 3")
    terminal.type(f"save {tmp_path / 'pasts.jsonl'}\r")
    terminal.wait("3 texts appended to ")
    saved = [json.loads(line) for line in (tmp_path / "pasts.jsonl").read_text().splitlines()]
    assert [(record["number"], record["kept"], len(record["seeds"])) for record in saved] == [
        (1, [3], 2), (2, [3], 2), (3, [3], 2)]
    terminal.wait("Ending:")
    terminal.type(f"save {tmp_path}\r")
    terminal.wait("could not write ")
    terminal.wait("Ending:")
    terminal.ask("another ending.")
    assert "the geese slept." in plain(terminal.ask("back"))  # the tree of the ending before
    assert len({record["text"] for record in saved}) == 3
    [common] = {record["text"][-len("the geese slept."):] for record in saved}
    assert common == "the geese slept." and all(len(record["model_sha256"]) == 64 for record in saved)
    terminal.command("n=1")
    terminal.ask("the geese slept.")
    terminal.type("copy\r")
    sent = re.search(r"\x1b\]52;c;([^\x07]*)\x07", terminal.wait("Copied"))[1]
    assert base64.b64decode(sent).decode().endswith("the geese slept.")


def test_a_wall_shows_text_after_text_until_the_one_key_that_leaves(checkpoints, tmp_path):
    (tmp_path / "endings.txt").write_text("the geese slept.\n\nthe moon came.\n")
    terminal = Terminal(SCRIPT, "--model-path", checkpoints["reverse"], "--kiosk", tmp_path / "endings.txt", "--pause",
                        0.1, "--speed", "off", "--tokens", 30, "--kiosk-file", tmp_path / "kept.jsonl")
    try:
        shown = terminal.wait(r"slept\.")
        terminal.type("q\r\x03\x1a\x1b")  # Ctrl-C, Ctrl-Z and Escape among them
        for _ in range(2):
            shown += terminal.wait(r"came\.") + terminal.wait(r"slept\.")
        terminal.type("\x11")
        shown += terminal.wait(re.escape("\x1b[?1049l"))
        assert terminal.status() == 0
    finally:
        terminal.close()
    assert shown.count("\x1b[?1049h") == 1 and "Traceback" not in shown
    kept = [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text().splitlines()]
    assert [record["given"] for record in kept[:3]] == ["the geese slept.", "the moon came.", "the geese slept."]
    assert kept[0]["text"] != kept[2]["text"]  # a seed of its own for each


def test_a_wall_needs_endings_and_a_terminal(checkpoints, tmp_path):
    (tmp_path / "endings.txt").write_text("\n \n")
    args = "--model-path", checkpoints["reverse"], "--kiosk", tmp_path / "endings.txt"
    assert "endings.txt holds no ending" in complaint(sample_xcoax, *args)
    (tmp_path / "endings.txt").write_text("the end.\n")
    assert "--kiosk needs a terminal" in complaint(sample_xcoax, *args)


def test_a_pipe_gets_a_line_of_json_for_every_line_the_failing_ones_included(checkpoints, capsys):
    status, out, _ = run("--model-path", checkpoints["reverse"], "--tokens", 5, "--seed", 7, "--json",
                         stdin=b"over the water.\n\n\xff\nby the mill.\n")
    found = [json.loads(line) for line in out.splitlines()]
    assert status == 1 and [sorted(record) == ["error"] for record in found] == [False, True, True, False]
    again, _ = called_once(capsys, "--model-path", checkpoints["reverse"], "--tokens", 5, "--seed", *found[3]["seeds"],
                           "--prompt", found[3]["given"])
    assert again.removesuffix("\n") == found[3]["text"]


def test_a_forward_model_asks_for_a_beginning_and_ctrl_d_leaves(checkpoints):
    terminal = Terminal(SCRIPT, "--model-path", checkpoints["forward"], "--speed", "off")
    try:
        terminal.wait("Beginning:")
        shown = unfolded(terminal.ask("One day"))
        assert re.search(r"\x1b\[1mOne\s+day\x1b\[0m.+\r\n", shown, re.DOTALL)
        terminal.wait("Beginning:")
        terminal.type("\x04")
        assert terminal.status() == 0
    finally:
        terminal.close()


# Wrong things

class Stranger:
    def __reduce__(self):
        return os.mkdir, ("owned",)


def test_a_missing_checkpoint_is_answered_with_the_next_command():
    told = complaint(sample_xcoax, "--model-path", "nowhere/best_checkpoint.pt")
    assert "No checkpoint at nowhere/best_checkpoint.pt" in told and "python train_xcoax.py" in told


@pytest.mark.parametrize("keep", [0, 1, 1000, 0.5, 0.99])
def test_a_checkpoint_cut_short_is_named(checkpoints, tmp_path, keep):
    data = checkpoints["reverse"].read_bytes()
    path = tmp_path / "short.pt"
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    assert str(path) in complaint(sample_xcoax, "--model-path", path, "--prompt", "x")


@pytest.mark.parametrize("write", [lambda thing, path: torch.save(thing, path),
                                   lambda thing, path: path.write_bytes(pickle.dumps(thing, protocol=2))])
def test_pickled_code_is_refused_and_not_run(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    write({"model": Stranger()}, tmp_path / "evil.pt")
    assert "code" in complaint(sample_xcoax, "--model-path", "evil.pt", "--prompt", "x")
    assert not Path("owned").exists()


@pytest.mark.parametrize("args, answer", [
    (["--prompt", " "], "--prompt is empty"), (["--num-samples", 0], "from 1 to 64"), (["--top-p", 3], "top_p= takes"),
    (["--device", "abacus"], "not available")])
def test_a_flag_that_does_not_fit_is_answered(checkpoints, args, answer):
    assert answer in complaint(sample_xcoax, "--model-path", checkpoints["reverse"], *args)
