"""Scripts as a person meets them: in a real terminal, on pipes, or refusing to start."""

import contextlib
import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from unittest.mock import patch

import pyte
import pytest

from program.settings import launch
from tests.support.tiny import ROOT

ENV = {**{name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")},  # the terminal's say
       "OMP_NUM_THREADS": "1", "PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm", "LC_ALL": "C.UTF-8",
       "XDG_STATE_HOME": os.devnull}  # which is no folder: what the tests type is not kept among the user's own


class Terminal:
    """A script in a real terminal: type at it, and wait for what it shows."""

    def __init__(self, script, *args, columns=80, env=ENV):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(ROOT)
            os.execve(sys.executable, [sys.executable, script, *map(str, args)], env)
        self.resize(columns)
        self.seen = ""

    def resize(self, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def wait(self, pattern, seconds=60):
        """Read until pattern stands in what came since the last wait; return everything up to its end."""
        deadline, data = time.monotonic() + seconds, self.seen.encode()
        while not (found := re.search(pattern, data.decode(errors="ignore"))):
            ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"no {pattern!r} within {seconds} s, but {data!r}"
            try:
                data += os.read(self.fd, 65536)
            except OSError:  # how Linux reports that the program has left
                raise AssertionError(f"the program left without {pattern!r}: {data!r}") from None
        text = data.decode(errors="ignore")
        self.seen = text[found.end():]
        return text[: found.end()]

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def ask(self, line):
        """Type a line and Enter; return what is shown from there to the seed that ends an answer."""
        self.type(line + "\r")
        return self.wait(r"seed=\d+,[^\r]*\r")

    def command(self, line):
        self.type(line + "\r")
        shown = self.wait(r"(?s)\x1b\[2mtemp=\S+ top_k=.*?colour=\w+\x1b\[0m\r\n")
        return re.sub(r"\s*\x1b\[0m\r\n\x1b\[2m", " ", shown)  # where it fills several rows

    def status(self):
        """The exit status, once the program has left."""
        deadline = time.monotonic() + 60
        while (done := os.waitpid(self.pid, os.WNOHANG))[0] == 0:
            assert time.monotonic() < deadline, "the program does not leave"
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    os.read(self.fd, 65536)
                except OSError:
                    pass
        self.pid = None
        return os.waitstatus_to_exitcode(done[1])

    def close(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


def unfolded(shown):
    """What a terminal was sent, bold text that fills several rows in one piece."""
    return shown.replace("\x1b[0m\r\n\x1b[1m", "\r\n")


def plain(shown):
    """What a terminal was sent, without colours and movements."""
    return re.sub(r"\x1b\[[\d;?]*\w|\r", "", shown)


def screens(shown, columns=80, rows=24):
    """What stood on the screen of a terminal after every painting among all that it was sent, and at the end: lists of
    rows without trailing spaces."""
    screen = pyte.Screen(columns, rows)
    stream, found = pyte.Stream(screen), []
    for part in shown.split("\x1b[?2026l"):
        stream.feed(part.replace("\x1b[?2026h", ""))
        found.append([row.rstrip() for row in screen.display])
    return found


def start_on_pipes(script, *args, env=ENV, **options):
    return subprocess.Popen([sys.executable, script, *map(str, args)], cwd=ROOT, env=env, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, **options)


def run_on_pipes(script, *args, stdin=b"", **options):
    """Run a script to its end; return (status, standard output, standard error)."""
    process = start_on_pipes(script, *args, stdin=subprocess.PIPE, **options)
    out, err = process.communicate(stdin, timeout=180)
    return process.returncode, out.decode(), err.decode()


def complaint(script, *args):
    """What a script, a module, says when it refuses to start."""
    printed = io.StringIO()
    with (patch.object(script, "end_with_pipe", create=True),  # it would change those of the tests
          patch.object(sys, "argv", [f"{script.__name__}.py", *map(str, args)]),
          contextlib.redirect_stderr(printed), pytest.raises(SystemExit) as left):
        launch(script.main)
    if left.value.code == 2:  # a wrong flag: told in a box
        return re.sub(r"[│\s]+", " ", printed.getvalue())
    assert isinstance(left.value.code, str)  # printed to standard error, with status 1
    return left.value.code
