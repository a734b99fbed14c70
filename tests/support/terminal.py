"""A real terminal for the tests of what a person types at, and the surroundings in which the programs run there."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

from tiny import ROOT

ENV = {**{name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")},  # the terminal's say
       "OMP_NUM_THREADS": "1", "PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm", "LC_ALL": "C.UTF-8"}


class Terminal:
    """A script in a real terminal: type at it, and wait for what it shows."""

    def __init__(self, script, *args, columns=80):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(ROOT)
            os.execve(sys.executable, [sys.executable, script, *map(str, args)], ENV)
        self.resize(columns)
        self.seen = ""

    def resize(self, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def wait(self, pattern, seconds=120):
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
        return self.wait(r"seed=\d+, [^\r]*")

    def command(self, line):
        self.type(line + "\r")
        return self.wait(r"temp=\S+ top_k=.* n=\d+")

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
