"""
What reaches a terminal or a pipe: texts on standard output, everything else on standard error.

A terminal gets text as visible() shows it, wrapped between words; a pipe gets it as it is, in UTF-8, a line "---"
between two texts.
"""

import sys

from rich.console import Console
from rich.text import Text

from program.streams import visible

SEPARATOR = "---"  # between two texts on a pipe

# By themselves they would take a pipe for a terminal where FORCE_COLOR is set.
OUT, ERR = (Console(stderr=err, force_terminal=stream is not None and stream.isatty())
            for err, stream in ((False, sys.stdout), (True, sys.stderr)))


def note(message):
    """Tell the person something that is not a text: on standard error, dim in a terminal."""
    sys.stdout.flush()
    if ERR.is_terminal:
        ERR.print(Text(visible(message), style="dim"))
    else:
        print(visible(message), file=sys.stderr, flush=True)


def show(parts):
    """Print a text, pairs (string, was it given): in a terminal what was given is bold, so that the seam shows."""
    if OUT.is_terminal:
        OUT.print(Text.assemble(*((visible(s), "bold" if given else "") for s, given in parts)), overflow="fold")
    else:
        print("".join(s for s, _ in parts), flush=True)


def separate():
    """Print what stands between two texts on a pipe."""
    print(SEPARATOR, flush=True)
