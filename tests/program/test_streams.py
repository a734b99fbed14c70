"""What a message is when it reaches a person: all of it, and nothing that does harm."""

import io
import subprocess
import sys

import pytest
from tqdm import tqdm

from program.streams import prepare_streams, say, visible
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
