"""
The prompt loop that both samplers share: its commands, the terminal and the pipe, the text that grows while it is made.

    Ending: temp=0.5 n=3            a line of commands changes how samples are drawn
    Ending: butterfly in the sky.   any other line is text for the model

Texts go to standard output, everything else to standard error. A terminal gets text as visible() shows it, a pipe gets
it as it is, in UTF-8, with a line "---" between two texts.
"""

import difflib
import itertools
import math
import os
import random
import re
import shutil
import signal
import sys
import time
from dataclasses import dataclass, replace

import torch
from prompt_toolkit import PromptSession
from prompt_toolkit.output import create_output
from prompt_toolkit.utils import get_cwidth

SEPARATOR = "---"  # between two texts on a pipe

# name: (type, which values fit, that in words, what it is for)
COMMANDS = {
    "temp": (float, lambda v: 0 <= v < math.inf, "a number, 0 or above", "0 always writes the likeliest token; higher is bolder"),
    "top_k": (int, lambda v: v >= 1, "a whole number, 1 or above, or off", "choose among the k likeliest tokens"),
    "top_p": (float, lambda v: 0 < v <= 1, "a number above 0 and up to 1, or off", "choose among the likeliest that sum to p"),
    "min_p": (float, lambda v: 0 <= v < 1, "a number from 0 to below 1, or off", "drop those below p times the likeliest"),
    "tokens": (int, lambda v: v >= 1, "a whole number, 1 or above", "the most tokens that one sample may get"),
    "seed": (int, lambda v: 0 <= v < 2**63, "a whole number, 0 or above, or off",
             "the same seed, n and text give the same samples; off draws a fresh seed each time"),
    "n": (int, lambda v: 1 <= v <= 64, "a whole number from 1 to 64", "samples for each text"),
}
ALIASES = {"temperature": "temp", "num_samples": "n"}  # as the flags say it
_PAIR = re.compile(r"([A-Za-z][\w-]*)=(\S*)")


@dataclass
class Controls:
    """How samples are drawn; None is off. Takes strings too; raises ValueError for a value that does not fit."""

    temp: float = 0.8
    top_k: int | None = 200
    top_p: float | None = None
    min_p: float | None = None
    tokens: int = 500
    seed: int | None = None
    n: int = 1

    def __post_init__(self):
        for name, (kind, fits, takes, _) in COMMANDS.items():
            value = getattr(self, name)
            off = "off" in takes and (value in (None, "off") or name == "top_k" and str(value) == "0")
            try:
                fit = off or fits(kind(value))
            except ValueError:
                fit = False
            if not fit:
                raise ValueError(f"{name}={value} does not fit: {name}= takes {takes}.")
            setattr(self, name, None if off else kind(value))

    def __str__(self):
        """The commands that set these values."""
        return " ".join(f"{name}={'off' if value is None else value}" for name, value in vars(self).items())


def read_command(line, controls):
    """What a line asks for: "help", "quit", new Controls, or None when it is text for the model.

    Commands have a line to themselves and start it; a text that looks like one is given with a space before it.
    Raises ValueError for a misspelt name or a value that does not fit.
    """
    if line.rstrip() in ("help", "quit", "exit"):
        return "help" if line.startswith("help") else "quit"
    pairs = [_PAIR.fullmatch(word) for word in line.split()]
    if not pairs or not all(pairs) or line[0].isspace() or len(line.rstrip().splitlines()) > 1:
        return None
    names = [ALIASES.get(name, name) for name in (pair[1].replace("-", "_") for pair in pairs)]
    unknown = [name for name in names if name not in COMMANDS]
    slip = difflib.get_close_matches(names[0].lower(), [*COMMANDS, *ALIASES], n=1, cutoff=0.75)
    if len(unknown) == len(names) and (len(names) > 1 or not slip):  # x=5 is text, temprature=0.5 is a slip
        return None
    if unknown:
        raise ValueError(f"There is no command {unknown[0]}=. There are: "
                         + " ".join(f"{name}=" for name in COMMANDS) + " help quit. As a text, put a space before it.")
    return replace(controls, **{name: pair[2] for name, pair in zip(names, pairs)})


def help_text(label, what):
    """What `help` prints; what says what becomes of the text given."""
    table = "\n".join(f"  {name + '=':<8} {takes}: {about}" for name, (_, _, takes, about) in COMMANDS.items())
    return (f"{label}{what} Several lines pasted at once are one text.\n\n{table}\n"
            "  help     this page\n  quit     leave (also exit, or Ctrl-D); Ctrl-C stops a text and keeps what there is\n\n"
            "Commands may share a line: temp=0.5 n=3. A text that looks like a command: put a space before it.")


# Controls could move the cursor or worse, and bidirectional overrides show words in another order. Newline and tab stay.
_VISIBLE = {c: chr(0x2400 + c) for c in range(32) if c not in (9, 10)} | {127: "\u2421"}
_VISIBLE |= {c: f"\\x{c:02x}" for c in range(0x80, 0xA0)}
_VISIBLE |= {c: f"\\u{c:04x}" for c in (*range(0x2028, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000))}


def visible(text):
    """Text that is safe to print to a terminal: control characters appear as pictures or escapes.

    >>> visible("red\\x1b[31m")
    'red␛[31m'
    """
    return text.translate(_VISIBLE)


def _styled(stream):
    """Whether stream understands bold, dim and a moving cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def prepare_streams():
    """Let every string be printed: UTF-8 on a pipe, escapes for the rest; and let `| head` end the program quietly."""
    sys.stdout.reconfigure(encoding=None if sys.stdout.isatty() else "utf-8", errors="backslashreplace")
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def note(message):
    """Tell the person something that is not a text: on standard error, dim in a terminal."""
    sys.stdout.flush()
    message = visible(message)
    print(f"\x1b[2m{message}\x1b[0m" if _styled(sys.stderr) else message, file=sys.stderr, flush=True)


def show(parts):
    """Print a text, given as pairs (string, was it given): in a terminal what was given is bold, so that the seam shows."""
    if sys.stdout.isatty():
        bold, parts = _styled(sys.stdout), [(visible(s), given) for s, given in parts]
        text = wrap("".join(s for s, _ in parts), shutil.get_terminal_size().columns)
        ends = [0, *itertools.accumulate(len(s) for s, _ in parts)]
        parts = [(f"\x1b[1m{text[start:end]}\x1b[0m" if given and bold else text[start:end], given)
                 for start, end, (_, given) in zip(ends, ends[1:], parts)]
    print("".join(s for s, _ in parts), flush=True)


def wrap(text, columns):
    """Text with a newline in the place of a space wherever the next word would not fit into the row.

    >>> wrap("the moon rose over the mill", 10)
    'the moon\\nrose over\\nthe mill'
    """
    pieces, column = [], 0
    for piece in re.findall(r"\s|\S+", text):
        width = get_cwidth(piece)
        if column + width > columns and not piece.isspace() and pieces and pieces[-1] == " ":
            pieces[-1], column = "\n", 0
        pieces.append(piece)
        column = 0 if piece == "\n" else column + width
    return "".join(pieces)


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


class Live:
    """A few rows at the bottom of a terminal that show a text growing; nothing where output is no terminal.

    The text stands at the right margin: what was written stays in place, and new words appear to the left of it.
    """

    def __init__(self):
        self.on, self.height, self.next_time = _styled(sys.stdout), 0, 0.0

    def draw(self, parts, status):
        """Show the newest rows of parts(), pairs as show() takes them, unless that was done a moment ago."""
        started = time.monotonic()
        if not self.on or started < self.next_time:
            return
        columns, lines = shutil.get_terminal_size()
        columns, most = max(10, columns - 1), max(1, min(8, lines - 3))  # the last column might wrap
        parts, near = parts(), 300  # of a long given part the nearest characters are enough
        backward = not parts[0][1]
        text = "".join(s if not given else s[:near] if backward else s[-near:] for s, given in parts)
        rows = wrap_from_end(visible(text).replace("\t", " "), columns)
        rows = [" " * (columns - get_cwidth(row)) + row for row in (rows[:most] if backward else rows[-most:])]
        self._redraw([*rows, f"\x1b[2m{status[:columns]}\x1b[0m"])
        self.next_time = time.monotonic() + max(0.05, 10 * (time.monotonic() - started))

    def _redraw(self, rows):
        up = f"\x1b[{self.height - 1}A" if self.height > 1 else ""
        print(f"\r{up}" + "\x1b[K\n".join(rows) + "\x1b[J", end="", flush=True)
        self.height = len(rows)

    def erase(self):
        if self.height:
            self._redraw([])


@dataclass
class Samples:
    """What was drawn for one text: rows of ids, and how it went."""

    rows: list
    seed: int
    stopped: bool  # by Ctrl-C
    limit: int
    seconds: float

    def summary(self, whole):
        """In a few words; whole says what it means that a sample ended by itself."""
        n, count = len(self.rows), sum(map(len, self.rows))
        wholes = sum(len(row) < self.limit for row in self.rows)  # one that stopped by itself got fewer than it might have
        end = f"cut at tokens={self.limit}" if not wholes else whole if n == 1 else f"{whole} in {wholes} of {n}"
        return (f"{count} tokens, {self.seconds:.1f} s, {count / max(self.seconds, 1e-9):.0f} tokens/s, seed={self.seed}, "
                + ("stopped by Ctrl-C" if self.stopped else end))


def draw_samples(model, idx, controls, stop_ids, parts):
    """Generate controls.n samples from the ids idx, the first shown while it grows as parts(its ids); Ctrl-C stops all."""
    n = controls.n
    seed = random.SystemRandom().randrange(2**31) if controls.seed is None else controls.seed
    steps = model.generate_batch(
        [idx] * n, controls.tokens, temperature=controls.temp, top_k=controls.top_k, top_p=controls.top_p,
        min_p=controls.min_p, generator=torch.Generator().manual_seed(seed), stop_ids=stop_ids)
    rows, stopped, live, started = [[] for _ in range(n)], False, Live(), time.monotonic()
    try:
        for step in steps:
            for row, token in zip(rows, step):
                row += [] if token is None else [token]
            live.draw(lambda: parts(rows[0]), f"{len(rows[0])} tokens{f', 1 of {n}' if n > 1 else ''}, Ctrl-C stops")
    except KeyboardInterrupt:
        stopped = True
    finally:
        live.erase()
    return Samples(rows, seed, stopped, controls.tokens, time.monotonic() - started)


def write_samples(model, idx, controls, stop_ids, parts, whole="the beginning was reached"):
    """Generate controls.n samples from the ids idx and print them; return False if Ctrl-C stopped it.

    parts(new ids) gives the pairs that show() prints; whole says what it means that a sample ended by itself.
    """
    n, block_size = controls.n, model.config.block_size
    if len(idx) > block_size:
        note(f"This text has {len(idx):,} tokens; the model reads the {block_size:,} nearest to what it writes.")
    samples = draw_samples(model, idx, controls, stop_ids, parts)
    for i, row in enumerate(samples.rows):
        if n > 1 and sys.stdout.isatty():
            note(f"{i + 1} of {n}")
        elif i:
            print(SEPARATOR)
        show(parts(row))
    note(samples.summary(whole))
    return not samples.stopped


def loop(label, answer, controls, what):
    """Read lines until quit or the end of the input; return the exit status.

    answer(text, controls) prints samples and returns False if Ctrl-C stopped it. In a terminal label is the prompt, and
    editing and history work. On a pipe there is no prompt, a line that fails is named on standard error, and the status is 1;
    a blank one is named and skipped.
    """
    terminal, status, answers = sys.stdin.isatty(), 0, 0
    session = PromptSession(output=create_output(always_prefer_tty=True)) if terminal else None
    for number in itertools.count(1):
        try:
            line = session.prompt(label) if terminal else sys.stdin.buffer.readline().decode("utf-8")
            if not line and not terminal:
                return status
            line = line.rstrip("\r\n")
            command = read_command(line, controls)
            if command == "quit":
                return status
            if command == "help":
                note(help_text(label, what))
            elif command is not None:
                controls = command
                note(str(controls))
            elif not line.strip():
                note("There is no text here. Write some words, or help." if terminal else f"line {number} is blank: skipped")
            else:
                if answers and not terminal:
                    print(SEPARATOR)
                answers += 1
                if not answer(line, controls) and not terminal:
                    raise KeyboardInterrupt
        except EOFError:
            return status
        except ValueError as error:
            status = 0 if terminal else 1
            note(str(error) if terminal else f"line {number}: {error}")
        except KeyboardInterrupt:
            if not terminal:
                raise
