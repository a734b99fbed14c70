"""
The prompt loop of the samplers and its commands.

    Ending: temp=0.5 n=3            a line of commands changes how samples are drawn
    Ending: butterfly in the sky.   any other line is text for the model
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
    """Read lines until quit or the end of the input; return the exit status.

    answer(text, controls) prints samples and returns False if Ctrl-C stopped it. In a terminal label is the prompt, and
    editing and history work. On a pipe there is no prompt, a line that fails is named on standard error, and the status
    is 1; a blank one is named and skipped.
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
                note(help_text(label, purpose))
            elif command is not None:
                controls = command
                note(str(controls))
            elif not line.strip():
                note("There is no text here. Write some words, or help." if terminal else
                     f"line {number} is blank: skipped")
            else:
                if answers and not terminal:
                    separate()
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
