"""
Texts on a wall: one after another on the whole screen, for ever.
"""

import itertools
import time

from rich.text import Text

from program.files import append
from terminal.layout import rows_of
from terminal.live import Keys, Region, animated
from terminal.pasts import Pasts
from terminal.samples import Growing, draw_samples, styled
from terminal.screen import send

WIDEST = 72  # columns: longer rows are hard to read
LEAVE, LEAVING = "Ctrl-Q", b"\x11"
_OTHER_SCREEN, _OWN_SCREEN = "\x1b[?1049h\x1b[2J\x1b[H", "\x1b[?1049l"


class Locked(Keys):
    """Keys of which one alone does anything: it raises KeyboardInterrupt."""

    signals = False

    def pressed(self):
        if LEAVING in super().pressed():
            raise KeyboardInterrupt
        return b""


def on_wall(rows, region):
    """Rows in the middle of the screen, the last of them always at the same height."""
    columns, room = min(WIDEST, region.columns), region.rows
    margin = Text(" " * ((region.columns - columns) // 2))
    rows = rows[: room - 2]
    return [Text()] * (room - 1 - len(rows)) + [margin + row for row in rows] + [Text()]


class Wall(Growing):
    """The first sample, growing on the whole screen."""

    def paint(self, counts):
        columns = min(WIDEST, self.region.columns)
        self.region.paint(on_wall(self.panel(0, counts[0], columns, self.region.rows - 2), self.region))


class Kiosk(Pasts):
    """Writes for one ending after another, until Ctrl-Q."""

    def show(self, endings, controls, pause, file=None):
        """Show a text for each of endings, again and again, each for pause seconds when it is whole; append all that
        are written to a file, if one is named."""
        if not animated():
            raise ValueError("--kiosk needs a terminal that can be painted on. For texts in a file give the endings on "
                             "a pipe: < endings.txt > texts.txt")
        send(_OTHER_SCREEN)
        try:
            for ending in itertools.cycle(endings):
                if not self.answer(ending, controls):
                    return
                if file:
                    append(file, "".join(self.lines()))
                if not self.rest(pause, controls):
                    return
        finally:
            send(_OWN_SCREEN)

    def draw(self, fork, controls):
        return draw_samples(self.decoder, fork.ids, controls, self.tokenizer.stop_ids, self.parts(fork), growing=Wall,
                            keys=Locked)

    def tell(self, controls):
        """Nothing is printed."""

    def rest(self, pause, controls):
        """Show the text at the other margin for so many seconds; return False where Ctrl-Q was pressed."""
        fork, until = self.forks[-1], time.monotonic() + pause
        [sample] = fork.samples.found
        parts, backward = self.parts(fork), self.tokenizer.direction == "reverse"
        with Region() as region, Locked(back=region.elsewhere) as keys:
            try:
                while True:
                    rows = rows_of(styled(sample, len(sample.ids), parts, controls), min(WIDEST, region.columns),
                                   backward)
                    region.paint(on_wall(rows, region))
                    keys.pressed()
                    if time.monotonic() >= until:
                        return True
                    time.sleep(min(0.1, max(0.0, until - time.monotonic())))
            except KeyboardInterrupt:
                return False
