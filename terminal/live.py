"""
Text that grows: the newest rows of it at the bottom of a terminal.
"""

import re
import time

from prompt_toolkit.utils import get_cwidth
from rich.live import Live
from rich.text import Text

from program.streams import visible
from terminal.screen import OUT

MOST_ROWS = 8         # of the text
NEAREST = 300         # characters of a long given part: the rest would not be seen
SECONDS_BETWEEN = 0.05


def wrap_from_end(text, columns):
    """The rows of text, filled from its end: no row but the first changes while text grows at its beginning."""
    rows = []
    for line in reversed(text.split("\n")):
        row = ""
        for word in reversed(re.findall(r"\S+\s*|\s+", line)):
            fits = get_cwidth(word) + get_cwidth(row) <= columns
            for i, c in enumerate([word] if fits else reversed(word)):  # only a word longer than a row is broken
                if row and not fits and (i == 0 or get_cwidth(c) + get_cwidth(row) > columns):
                    rows.append(row)
                    row = ""
                row = c + row
        rows.append(row)
    return rows[::-1]


class Growing:
    """A few rows that show a text growing, gone when the context is left; nothing where output is no terminal.

    The text stands at the right margin: what was written stays in place, and new words appear to the left of it.
    """

    def __init__(self):
        self.live = Live(console=OUT, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)
        self.on, self.next_time = OUT.is_terminal and not OUT.is_dumb_terminal, 0.0

    def __enter__(self):
        if self.on:
            self.live.start()
        return self

    def __exit__(self, *exception):
        if self.on:
            self.live.stop()

    def draw(self, parts, status):
        """Show the newest rows of parts(), pairs as screen.show takes them, unless that was done a moment ago."""
        started = time.monotonic()
        if not self.on or started < self.next_time:
            return
        columns, parts = max(10, OUT.width - 1), parts()
        backward = not parts[0][1]
        text = "".join(s if not given else s[:NEAREST] if backward else s[-NEAREST:] for s, given in parts)
        rows = [row.rstrip() for row in wrap_from_end(visible(text).replace("\t", " "), columns)]
        most = max(1, min(MOST_ROWS, OUT.height - 3))
        rows = [" " * (columns - get_cwidth(row)) + row for row in (rows[:most] if backward else rows[-most:])]
        shown = Text.assemble("\n".join(rows), "\n", (status[:columns], "dim"), no_wrap=True, overflow="crop")
        self.live.update(shown, refresh=True)
        self.next_time = time.monotonic() + max(SECONDS_BETWEEN, 10 * (time.monotonic() - started))
