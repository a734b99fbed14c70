"""
What reaches a terminal or a pipe: texts on standard output, everything else on standard error.

A terminal gets text as visible() shows it, wrapped between words; a pipe gets it as it is, in UTF-8, a line "---"
between two texts.
"""

import signal
import sys

from rich.console import Console
from rich.text import Text

SEPARATOR = "---"  # between two texts on a pipe

# By themselves they would take a pipe for a terminal where FORCE_COLOR is set.
OUT, ERR = (Console(stderr=stream is sys.stderr, force_terminal=stream.isatty()) for stream in (sys.stdout, sys.stderr))

# Controls could move the cursor or worse, bidirectional overrides show words in another order. Newline and tab stay.
_VISIBLE = {c: chr(0x2400 + c) for c in range(32) if c not in (9, 10)} | {127: "\u2421"}
_VISIBLE |= {c: f"\\x{c:02x}" for c in range(0x80, 0xA0)}
_VISIBLE |= {c: f"\\u{c:04x}" for c in (*range(0x2028, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000))}


def visible(text):
    """Text that is safe to print to a terminal: control characters appear as pictures or escapes.

    >>> visible("red\\x1b[31m")
    'red␛[31m'
    """
    return text.translate(_VISIBLE)


def prepare_streams():
    """Let every string be printed: UTF-8 on a pipe, escapes for the rest; and let `| head` end the program quietly."""
    sys.stdout.reconfigure(encoding=None if sys.stdout.isatty() else "utf-8", errors="backslashreplace")
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)


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
