"""The first moments of a program: something is said at once, Ctrl-C ends it quietly, and a missing library is named."""

import os
import re
import signal
import subprocess
import sys

import pytest

from tests.support.terminal import ENV, Terminal
from tests.support.tiny import ROOT

SAMPLERS = ["sample_xcoax.py", "sample_xcoax_instruct.py"]


@pytest.mark.parametrize("script", SAMPLERS)
def test_a_terminal_is_told_of_the_loading_before_all_else_and_ctrl_c_then_ends_it_quietly(script):
    terminal = Terminal(script)
    try:
        assert terminal.wait("Loading …") == "Loading …"
        os.kill(terminal.pid, signal.SIGINT)
        assert terminal.status() == -signal.SIGINT and "Traceback" not in terminal.seen
    finally:
        terminal.close()


def test_a_pipe_is_told_nothing_of_it():
    done = subprocess.run([sys.executable, "sample_xcoax.py", "--model-path", "nowhere.pt"], cwd=ROOT, env=ENV,
                          capture_output=True, text=True)
    assert "Loading" not in done.stderr and done.stderr.startswith("Error: No checkpoint")


@pytest.mark.parametrize("script", SAMPLERS)
def test_without_the_libraries_one_is_told_how_to_activate_the_environment(script):
    done = subprocess.run([sys.executable, "-S", script], cwd=ROOT, capture_output=True, text=True)  # without packages
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.match(r"PyTorch is not installed for this Python\..*\n    \. \.venv/bin/activate", done.stderr)
