"""
What reaches a terminal or a pipe: texts on standard output, everything else on standard error.

A terminal gets text as visible() shows it, wrapped between words; a pipe gets it as it is, in UTF-8, a line "---"
between two texts.
"""

import sys

from rich.console import Console
from rich.text import Text

from program.streams import visible
from terminal.layout import rows_of

SEPARATOR = "---"  # between two texts on a pipe

# By themselves they would take a pipe for a terminal where FORCE_COLOR is set.
OUT, ERR = (Console(stderr=err, force_terminal=stream is not None and stream.isatty())
            for err, stream in ((False, sys.stdout), (True, sys.stderr)))


def be_plain():
    """Do what NO_COLOR asks for, whatever the environment says."""
    OUT.no_color = ERR.no_color = True


def note(message):
    """Tell the person something that is not a text: on standard error, dim in a terminal."""
    sys.stdout.flush()
    if ERR.is_terminal:
        ERR.print(Text(visible(message), style="dim"))
    else:
        print(visible(message), file=sys.stderr, flush=True)


def send(codes):
    """Order the terminal about: codes are this program's own."""
    OUT.file.write(codes)
    OUT.file.flush()


def drawn(rows):
    """Rows, rich.text.Text, each as the string that draws it, cut where the terminal ends."""
    with OUT.capture() as captured:
        for row in rows:
            OUT.print(row, no_wrap=True, overflow="crop", crop=True)
    return captured.get().split("\n")[:-1]


def show_lines(lines):
    """Print lines for another program."""
    text = "".join(lines)
    print(visible(text) if OUT.is_terminal else text, end="", flush=True)


def show(parts, styled=None):
    """Print a text, pairs (string, was it given): in a terminal in the rows in which it grew, what was given bold, or
    as pairs (string, style)."""
    if OUT.is_terminal:
        styled = styled or [(string, "bold" if given else "") for string, given in parts]
        show_rows(rows_of(styled, max(2, OUT.width - 1), backward=not parts[0][1]))
    else:
        print("".join(s for s, _ in parts), flush=True)


def show_rows(rows):
    """Print rows, rich.text.Text, in a terminal."""
    for row in rows:
        OUT.print(row, no_wrap=True, overflow="crop")


def separate():
    """Print what stands between two texts on a pipe."""
    print(SEPARATOR, flush=True)
