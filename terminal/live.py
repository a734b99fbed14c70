"""
Some rows of a terminal that are painted over and over, and keys that do not disturb them.
"""

import contextlib
import os
import select
import signal
import sys
import time

try:
    import termios
except ImportError:  # Windows
    termios = None

from terminal.screen import OUT, drawn, send

SECONDS_BETWEEN = 1 / 30
# After another size a terminal wraps the old rows anew, or not, sooner or later: for so many seconds nobody knows where
# they stand, and the screen is cleared.
SETTLING = 0.5
_TOGETHER, _SHOWN = "\x1b[?2026h", "\x1b[?2026l"  # what stands between is shown at once, by terminals that can
_HIDE, _CURSOR = "\x1b[?25l", "\x1b[?25h"


def animated():
    """Whether rows are painted over: not on a pipe, nor on a terminal that knows no movements, nor where NO_COLOR asks
    for plain text."""
    return OUT.is_terminal and not (OUT.is_dumb_terminal or OUT.no_color or OUT.legacy_windows)


class Region:
    """The rows below the cursor, from entering the context to leaving it; gone afterwards, with the cursor where it
    was. Where output is no such terminal, nothing is painted."""

    def __init__(self):
        self.on, self.painted, self.size, self.next_time, self.unsettled = animated(), 0, None, 0.0, 0.0

    def __enter__(self):
        if self.on:
            send(_HIDE)
        return self

    def __exit__(self, *exception):
        if self.on:
            send(self._back() + "\x1b[J" + _CURSOR)

    @property
    def columns(self):
        """How wide a row may be: the last column stays free, where terminals differ in when they begin a new row."""
        return max(2, OUT.width - 1)

    @property
    def rows(self):
        """How many rows there may be: the one in which the text was asked for stays on the screen."""
        return max(2, OUT.height - 1)

    @property
    def due(self):
        """Whether it is time for another painting."""
        return self.on and time.monotonic() >= self.next_time

    def paint(self, rows):
        """Show these, a list of rich.text.Text, in place of what was shown."""
        started = time.monotonic()
        lines = drawn(rows[: self.rows])
        if self.size not in (None, OUT.size):
            self.unsettled = started + SETTLING
        where = "\x1b[2J\x1b[H" if started < self.unsettled else self._back()
        send(_TOGETHER + where + "\r\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J" + _SHOWN)
        self.painted, self.size = len(lines), OUT.size
        self.next_time = started + max(SECONDS_BETWEEN, 4 * (time.monotonic() - started))

    def elsewhere(self):
        """The cursor has been moved by another program: what was painted stays, and the next rows stand below."""
        self.painted = 0

    def _back(self):
        """To the beginning of the first row painted."""
        return "\r" + (f"\x1b[{self.painted - 1}A" if self.painted > 1 else "")


class Keys:
    """Keys while something is shown: none is echoed, or left for the prompt that follows; Ctrl-C and Ctrl-Z do what
    they do elsewhere; back() is called when the program is continued. Where input is no terminal, there are none."""

    signals = True  # whether Ctrl-C and Ctrl-Z are more than keys

    def __init__(self, back):
        self.on, self.back = termios is not None and sys.stdin.isatty(), back
        self.before = self.handler = None

    def __enter__(self):
        if self.on:
            self._quiet()
            with contextlib.suppress(ValueError):  # signals are for the main thread alone
                self.handler = signal.signal(signal.SIGTSTP, self._stop)
        return self

    def __exit__(self, *exception):
        if self.on:
            if self.handler is not None:
                signal.signal(signal.SIGTSTP, self.handler)
            termios.tcsetattr(0, termios.TCSAFLUSH, self.before)  # what was typed meanwhile is forgotten

    def _quiet(self):
        self.before = termios.tcgetattr(0)
        quiet = termios.tcgetattr(0)
        quiet[3] &= ~(termios.ECHO | termios.ICANON)
        if not self.signals:
            quiet[3] &= ~termios.ISIG
            quiet[0] &= ~termios.IXON  # Ctrl-S and Ctrl-Q
        termios.tcsetattr(0, termios.TCSADRAIN, quiet)

    def _stop(self, *_):
        """Leave the terminal to the shell in order, and take it again afterwards."""
        termios.tcsetattr(0, termios.TCSADRAIN, self.before)
        send(_CURSOR)
        os.kill(os.getpid(), signal.SIGSTOP)  # until it is continued
        self._quiet()
        self.back()
        send(_HIDE)

    def pressed(self):
        """The bytes typed since the last call."""
        if not self.on or not select.select([0], [], [], 0)[0]:
            return b""
        return os.read(0, 1024)
