"""What a message is when it reaches a person: all of it, and nothing that does harm."""

import ast
import io
import json
import os
import re
import subprocess
import sys

import pytest
from tqdm import tqdm

from program.streams import complain, prepare_streams, say, visible
from tests.support.terminal import Terminal
from tests.support.tiny import ROOT


def test_controls_of_a_message_are_made_visible(capsys):
    say("a\x1b[31mb\x9b\u202e\ud800\n\tc")
    assert capsys.readouterr().out == "a␛[31mb\\x9b\\u202e\\ud800\n\tc\n"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_every_string_can_be_printed_whatever_the_encoding(encoding, stream):
    code = (f"import sys\nfrom program.streams import prepare_streams\nprepare_streams()\n"
            f"sys.{stream}.write('語\\ud800')")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True,
                          env={"PYTHONIOENCODING": encoding, "PATH": ""})
    assert done.returncode == 0, done.stderr
    assert (done.stdout or done.stderr) == "語\\ud800".encode()


def test_a_stream_that_cannot_be_prepared_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    prepare_streams()


def test_a_message_stands_on_a_line_of_its_own_while_a_bar_runs(capsys):
    with tqdm(total=3, file=sys.stdout) as bar:
        bar.update()
        say("here")
    assert "here" in [line.strip() for line in capsys.readouterr().out.replace("\r", "\n").split("\n")]


def test_visible_leaves_what_does_no_harm():
    assert visible("Grüße,\n\t語 🦋") == "Grüße,\n\t語 🦋"


# ---- streams that are not there, or take no more


SPEAKS = """
import sys
from program.settings import launch
from program.streams import complain, say

def main():
    for i in range(3):
        say(f"said {i}")
    complain("complained")
    open("done", "w").close()

launch(main)
"""


def speaking(tmp_path, redirection, code=SPEAKS):
    """A program that speaks, in a shell that starts it with this redirection, in a folder of its own."""
    program = tmp_path / "speaks.py"
    program.write_text(code)
    return subprocess.run(["bash", "-o", "pipefail", "-c", f'"$0" "$1" {redirection}', sys.executable, program],
                          cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, capture_output=True,
                          timeout=60)


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_program_whose_streams_are_closed_does_its_work(tmp_path, redirection):
    done = speaking(tmp_path, redirection)
    assert done.returncode == 0 and (tmp_path / "done").read_text() == ""
    assert done.stdout.split("\n")[:-1] == ([] if ">&- " in f" {redirection} ".replace("2>&-", "") else
                                           ["said 0", "said 1", "said 2"])
    assert done.stderr.split("\n")[:-1] == ([] if "2>&-" in redirection else ["complained"])


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("redirection", ["| true", ">/dev/full"])
def test_where_nobody_reads_messages_they_go_to_standard_error_and_the_work_goes_on(tmp_path, redirection, unbuffered,
                                                                                   monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    done = speaking(tmp_path, redirection, f"import time\ntime.sleep(0.3)\n{SPEAKS}")
    assert done.returncode == 0 and (tmp_path / "done").exists() and not done.stdout
    told, *said = done.stderr.split("\n")[:-1]
    assert said == ["said 0", "said 1", "said 2", "complained"]
    assert re.fullmatch("Standard output takes no more .*: messages follow here.", told)


def test_the_work_goes_on_where_nobody_reads_anything(tmp_path):
    done = speaking(tmp_path, "2>&1 | true", f"import time\ntime.sleep(0.3)\n{SPEAKS}")
    assert done.returncode == 0 and (tmp_path / "done").exists() and not done.stdout + done.stderr


# ---- words of strangers

EVIL = "\x1b]0;owned\x07\x1b[31m"


def test_warnings_and_tracebacks_are_made_visible():
    code = ("import warnings\nfrom program.settings import launch\ndef main():\n"
            f"    warnings.warn({EVIL!r})\n    raise TypeError({EVIL!r})\nlaunch(main)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, timeout=60)
    assert done.returncode == 1 and "Traceback" in done.stderr and done.stderr.count("␛]0;owned␇␛[31m") == 2
    assert "\x1b" not in done.stderr and "\x07" not in done.stderr


@pytest.fixture
def folder(tmp_path, tokenizer):
    """A folder of a stranger, in whose names and files are commands to the terminal."""
    folder = tmp_path / f"folder{EVIL}"
    folder.mkdir()
    (folder / "key.toml").write_text(f"{json.dumps('key' + EVIL)} = 1")
    (folder / "value.toml").write_text(f"seed = {json.dumps('value' + EVIL)}")
    (folder / "dataset.toml").write_text(f"dataset = {json.dumps('value' + EVIL + '.jsonl')}")
    (folder / "broken.toml").write_text(f"broken{EVIL}")
    (folder / "field.jsonl").write_text(json.dumps({f"field{EVIL}": "text"}) + "\n")
    (folder / "tok.model").write_bytes(tokenizer.model)
    return folder


@pytest.mark.parametrize("script, arguments", [
    ("preprocess_instruct.py", ["{}/key.toml"]), ("preprocess_instruct.py", ["{}/value.toml"]),
    ("preprocess_instruct.py", ["{}/broken.toml"]), ("preprocess_instruct.py", ["{}/absent"]),
    ("preprocess_instruct.py", ["{}/dataset.toml", "--data-dir", "{}/data", "--tokenizer", "{}/absent.model"]),
    ("preprocess_xcoax.py", ["{}/dataset.toml", "--data-dir", "{}/data"]),
    ("preprocess_instruct.py", ["--dataset", "{0}/field.jsonl", "--data-dir", "{0}/data",
                                "--tokenizer", "{0}/tok.model"]),
    ("preprocess_xcoax.py", ["--{}", "{}"]), ("preprocess_xcoax.py", ["--seed", "{}"]),
], ids=["key", "value", "no TOML", "no file", "value that is a path", "value that is shown", "field", "flag",
        "value of a flag"])
def test_no_command_of_a_stranger_arrives_at_a_terminal(folder, script, arguments):
    terminal = Terminal(script, *(argument.format(folder) for argument in arguments))
    try:
        shown = terminal.wait(r"(?s).*(Error: |╯)[^\r]*(?=\r)")
        assert "owned" in shown or "31m" in shown
        assert "\x1b]" not in shown and "\x1b[31m" not in shown and "\x07" not in shown
        assert terminal.status() in (1, 2)
    finally:
        terminal.close()


def test_no_bar_of_any_program_reaches_a_pipe():
    """It would be one line of thousands of characters there."""
    rooms = [room for room in ROOT.iterdir() if room.is_dir() and room.name not in ("tests", "out", "data")]
    bars = 0
    for path in [*ROOT.glob("*.py"), *(path for room in rooms if room.name[0] != "." for path in room.rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "tqdm":
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert given.get("disable") in ("None", "not progress"), f"{path}, line {node.lineno}"
                bars += 1
    assert bars > 5


def test_of_processes_that_torchrun_has_started_one_alone_says_what_several_would(monkeypatch, tmp_path, capsys):
    for number, said in ((0, "wrong flag"), (1, "wrong flag"), (1, "no room"), (0, "no room")):
        (tmp_path / str(number)).mkdir(exist_ok=True)
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / str(number) / "error.json"))
        complain(said, f"[{number}] ")
    assert capsys.readouterr().err == "[0] wrong flag\n[1] no room\n"


def test_without_torchrun_everything_is_said(monkeypatch, capsys):
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    complain("once")
    complain("once")
    assert capsys.readouterr().err == "once\nonce\n"
