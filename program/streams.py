"""
What the program says to a person: every message goes through visible(), because file names, fields and texts may come
from strangers.
"""

import hashlib
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path

from tqdm import tqdm

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
    """Let every string be printed: UTF-8 on a pipe, and escapes for what an old terminal does not know.

    A stream that was closed before the program began leads nowhere. Warnings and tracebacks are made visible. Of
    several processes that train together, the first alone speaks; their warnings and tracebacks bear their number.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))
    if _number():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")
    sys.excepthook = lambda *error: complain("".join(traceback.format_exception(*error)).rstrip("\n"), _number())
    warnings.showwarning = lambda *what: complain(warnings.formatwarning(*what[:4]).rstrip("\n"), _number())


def _number():
    """What stands before a warning: nothing, but under torchrun the number of a process that is not the first."""
    rank = os.environ.get("RANK", "0") if "TORCHELASTIC_RUN_ID" in os.environ else "0"
    return "" if rank == "0" else f"[process {rank}] "


def end_with_pipe():
    """Let `| head` end the program quietly."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def say(message=""):
    """Print a message on standard output, above the bars of progress if there are any.

    Where standard output takes no more, as after `| head`, messages go on to standard error, and so does the work.
    """
    try:
        tqdm.write(visible(message), file=sys.stdout)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes what is held back
        sys.stdout.flush()
        sys.stdout = sys.stderr
        say(f"Standard output takes no more ({error.strerror}): messages follow here.\n{message}")


def complain(message, number=""):
    """Print a message on standard error, with whose it is; of processes that torchrun has started on this machine, one
    alone says what several would."""
    if is_said(message):
        return
    sys.stdout.flush()
    print(visible(number + message), file=sys.stderr, flush=True)


def is_said(message):
    """Whether another process that torchrun has started on this machine has said this; if not, this one now does.

    They share a folder, in which torchrun gives each a place for a report of its end.
    """
    place = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not place:
        return False
    try:
        digest = hashlib.sha256(message.encode("utf-8", "backslashreplace")).hexdigest()
        os.close(os.open(Path(place).parent.parent / f"{digest}.said", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return True
    except OSError:
        pass
    return False
