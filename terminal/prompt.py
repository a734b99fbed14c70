"""
The prompt loop of the samplers and its commands.

    Ending: temp=0.5 n=3            a line of commands changes how samples are drawn
    Ending: butterfly in the sky.   any other line is text for the model

On a pipe every line is text: there, commands would be obeyed that stand in somebody's file.
"""

import difflib
import itertools
import re
import sys
import textwrap
from dataclasses import replace

from prompt_toolkit import PromptSession
from prompt_toolkit.output import create_output

from sampling.controls import KNOBS, help_of
from terminal.screen import ERR, note, separate

# What may stand before "=": the field that it sets; as flags say it, and as commands do.
FIELDS = {name: name for name in KNOBS} | {k.command: name for name, k in KNOBS.items()}
LINE_BYTES = 2**26  # of a pipe, at most: a longer line would not fit in memory, made into ids
_PAIR = re.compile(r"([A-Za-z][\w-]*)=(\S*)")


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
    names = [pair[1].replace("-", "_") for pair in pairs]
    unknown = [name for name in names if name not in FIELDS]
    slip = difflib.get_close_matches(names[0].lower(), FIELDS, n=1, cutoff=0.75)
    if len(unknown) == len(names) and (len(names) > 1 or not slip):  # x=5 is text, temprature=0.5 is a slip
        return None
    if unknown:
        known = " ".join(f"{k.command}=" for k in KNOBS.values())
        raise ValueError(f"There is no command {unknown[0]}=. There are: {known} help quit. "
                         "As a text, put a space before it.")
    return replace(controls, **{FIELDS[name]: pair[2] for name, pair in zip(names, pairs)})


def help_text(label, purpose):
    """What `help` prints; purpose says what becomes of the text given."""
    rows = {f"{k.command}=": f"{k.takes}. {help_of(name)}" for name, k in KNOBS.items()}
    rows |= {"help": "this page", "quit": "leave (also exit, or Ctrl-D); Ctrl-C stops a text and keeps what there is"}
    table = [textwrap.fill(about, ERR.width, initial_indent=f"  {command:<8} ", subsequent_indent=" " * 11)
             for command, about in rows.items()]
    return "\n".join([
        f"{label}{purpose} Several lines pasted at once are one text.", "", *table, "",
        "Commands may share a line: temp=0.5 n=3. A text that looks like a command: put a space before it."])


def loop(label, answer, controls, purpose):
    """Answer what comes on standard input until its end; return the exit status.

    answer(text, controls) prints samples and returns False if Ctrl-C stopped it. In a terminal label is the prompt, and
    `quit` ends it. On a pipe every line is text.
    """
    return _in_terminal(label, answer, controls, purpose) if sys.stdin.isatty() else _on_pipe(answer, controls)


def _in_terminal(label, answer, controls, purpose):
    """Texts and commands, with editing and history; nothing typed makes the program fail."""
    session = PromptSession(output=create_output(always_prefer_tty=True))
    while True:
        try:
            line = session.prompt(label)
            command = read_command(line, controls)
            if command == "quit":
                return 0
            if command == "help":
                note(help_text(label, purpose))
            elif command is not None:
                controls = command
                note(str(controls))
            elif not line.strip():
                note("There is no text here. Write some words, or help.")
            else:
                answer(line, controls)
        except EOFError:
            return 0
        except ValueError as error:
            note(str(error))
        except KeyboardInterrupt:  # at the prompt it clears the line
            pass


def _on_pipe(answer, controls):
    """A line that fails is named on standard error, and the status is 1; a blank one is named and skipped.

    Raises ValueError for a line longer than LINE_BYTES: where it ends is not known, if it does.
    """
    status = answers = 0
    for number in itertools.count(1):
        line = sys.stdin.buffer.readline(LINE_BYTES + 1)
        if not line:
            return status
        if len(line) > LINE_BYTES:
            raise ValueError(f"line {number:,} of standard input is longer than {LINE_BYTES:,} bytes. A line is one "
                             "text; divide this one")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            if not text.strip():
                note(f"line {number:,} is blank: skipped")
                continue
            if answers:
                separate()
            answers += 1
            if not answer(text, controls):
                raise KeyboardInterrupt
        except UnicodeDecodeError as error:
            status = 1
            note(f"line {number:,}: not UTF-8 (byte {error.start + 1:,} is 0x{error.object[error.start]:02x})")
        except ValueError as error:
            status = 1
            note(f"line {number:,}: {error}")
