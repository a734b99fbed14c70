"""
What a line typed at the prompt asks for: its commands, once for reading them, for help and for completion.

    temp=0.5 n=3       also temp = 0.5, top-k=10, n=4; TEMP=.3; temperature 0.5; /temp 0.5
    keep 2             also /keep 2, and so for every command of a word
"""

import difflib
import re
import shlex
from dataclasses import replace
from typing import Any, NamedTuple

from terminal.samples import ShownControls

KNOBS = ShownControls.knobs()


class Command(NamedTuple):
    """One of WORDS with its argument, if it takes one; or "set", with the new Controls."""

    name: str
    value: Any = None


class Word(NamedTuple):
    """What is known of a command of one word."""

    takes: str  # its argument, as help shows it: "", or one of ARGUMENTS
    about: str


class Argument(NamedTuple):
    """What is known of an argument."""

    words: str     # what it is
    example: str
    likely: str    # without a slash, a line is a command if this matches the argument, and a text if not
    read: Any      # a function that takes it as typed; raises ValueError for one that does not fit


def _whole_number(typed):
    if re.fullmatch(r"\d{1,9}", typed) and int(typed):
        return int(typed)
    raise ValueError("no whole number, 1 or above")


def _file_name(typed):
    [name] = shlex.split(typed)  # ValueError, too, where there is another number of them
    if name:
        return name
    raise ValueError("an empty name")


WORDS = {
    "keep": Word("N", "Take text N of those just written, and go on from its first word."),
    "back": Word("", "Return to the fork before."),
    "again": Word("", "Write others from the same fork."),
    "tree": Word("", "Show where one is: the texts of every fork, and which were kept."),
    "save": Word("FILE", "Append the text to a file, a line of JSON with all that is needed to write it again."),
    "copy": Word("", "Put the text on the clipboard."),
    "help": Word("", "This page; also ?"),
    "quit": Word("", "Leave; also exit, or Ctrl-D. Ctrl-C stops a text and keeps what there is."),
}
SAME = {"?": "help", "exit": "quit"}
ARGUMENTS = {
    "N": Argument("a whole number, 1 or above", "2",
                  r"|[-+]?\d+([.,]\d+)?|one|two|three|four|five|six|seven|eight", _whole_number),
    # "save me." is a text: no file's name ends like a sentence.
    "FILE": Argument("the name of one file, in quotes if it has spaces", "tale.txt",
                     r"""|"[^"]+"|'[^']+'|[^\s"']*[^\s"'.,:;!?…]|.*\.(txt|jsonl?)""", _file_name),
}
# What may stand before "=": the field that it sets; as flags say it, as commands do, and as other programs do.
FIELDS = {name: name for name in KNOBS} | {k.command: name for name, k in KNOBS.items()} | dict.fromkeys(
    ("max_tokens", "max_new_tokens", "length"), "tokens")
# What does without "=" or a slash. A text may well end in "n 4", "length 40" or "tokens 4"; hardly in "seed 4".
PLAIN = FIELDS.keys() - {"n", "tokens", "length", "speed", "colour"}

_NAME = r"[A-Za-z][\w-]*"
_SLIP = re.compile(rf"{_NAME}(\s+\d+)?")  # a misspelt command has no more behind it; a text would, or end with a sign
_SLASHED = re.compile(rf"/({_NAME}|\?)(?![^\s:=])")  # /home/ada is no command
_PLAIN = re.compile(rf"({_NAME})(?:\s++(?!:)|\s*+:\s*+)(\S+)")
_NUMBER = re.compile(r"off|[-+]?[.,]?\d+([.,]\d+)?(e[-+]?\d+)?", re.I)
_PAIR = re.compile(rf"({_NAME})\s*=\s*(\S*)")
_BETWEEN = re.compile(rf"(?<![\s,;])[\s,;]++(?={_NAME}\s*=)")  # the comma in temp=0,5 parts nothing


def read_command(line, controls):
    """The Command that a line is, or None when it is text for the model.

    Commands have a line to themselves and start it; a text that looks like one is given with a space before it. Large
    letters are as good as small ones, - as good as _. Raises ValueError for a misspelt name or what does not fit.
    """
    line = line.rstrip()
    if line[:1].isspace() or len(line.splitlines()) != 1:
        return None
    slashed = bool(_SLASHED.match(line))
    line = line[1:] if slashed else line
    return _read_word(line, slashed) or _read_settings(line, controls, slashed)


def _read_word(line, slashed):
    """One of WORDS as a Command, or None."""
    name, *rest = line.split(maxsplit=1)
    name, typed = SAME.get(name.lower(), name.lower()), "".join(rest)
    if name not in WORDS:
        if not slashed and _SLIP.fullmatch(line) and (near := difflib.get_close_matches(name, WORDS, 1, 0.75)):
            raise ValueError(f"There is no command {name}; did you mean {near[0]}? As a text, put a space before it.")
        return None
    takes = WORDS[name].takes
    if not takes:
        if typed and (slashed or typed.isdecimal()):
            raise ValueError(f"{name} takes nothing after it. As a text, put a space before it.")
        return None if typed else Command(name)
    argument = ARGUMENTS[takes]
    if not slashed and not re.fullmatch(argument.likely, typed):
        return None
    try:
        return Command(name, argument.read(typed))
    except ValueError:
        raise ValueError(f"{name} takes {argument.words}: {name} {argument.example}. As a text, put a space before it."
                         ) from None


def _read_settings(line, controls, slashed):
    """The Command that sets what the pairs of a line say, or None."""
    pairs = _pairs(line, slashed)
    if not pairs and not slashed:
        return None
    names = [name.lower().replace("-", "_") for name, _ in pairs] or [re.match(_NAME, line)[0].lower()]
    unknown = [name for name in names if name not in FIELDS]
    slip = difflib.get_close_matches(names[0], FIELDS, n=1, cutoff=0.75)
    if len(unknown) == len(names) and not slashed and (len(names) > 1 or not slip):
        return None  # x=5 is text, temprature=0.5 is a slip
    if unknown:
        raise ValueError(_no_command(unknown[0], slashed))
    if not pairs:
        k = KNOBS[FIELDS[names[0]]]
        raise ValueError(f"{k.command}= takes {k.takes}. As a text, put a space before it.")
    return Command("set", replace(controls, **{FIELDS[name]: _value(pair[1]) for name, pair in zip(names, pairs)}))


def _no_command(name, slashed):
    """What to say of a name that is none; with a slash before it, it may be that of a word."""
    near = difflib.get_close_matches(name, [*FIELDS, *(WORDS if slashed else ())], n=1, cutoff=0.7)
    hint = f"; did you mean {near[0]}{'=' if near[0] in FIELDS else ''}?" if near else "."
    shown = f"/{name}" if slashed else f"{name}="
    return f"There is no command {shown}{hint} There are: {', '.join(commands())}. As a text, put a space before it."


def _pairs(line, slashed):
    """What a line sets, as pairs (name, value) of strings; none where it is no such line."""
    plain = _PLAIN.fullmatch(line)
    if plain and (slashed or plain[1].lower().replace("-", "_") in PLAIN and _NUMBER.fullmatch(plain[2])):
        return [plain.groups()]
    found = [_PAIR.fullmatch(part) for part in _BETWEEN.split(line.rstrip(" ,;"))]
    return [pair.groups() for pair in found] if all(found) else []


def _value(typed):
    return "off" if typed.lower() == "off" else typed


def commands():
    """Every command and what it does, {as help shows it: in words}."""
    settings = {f"{k.command}=": f"{k.takes}. {ShownControls.help_of(name)}" for name, k in KNOBS.items()}
    return settings | {f"{name} {word.takes}".rstrip(): word.about for name, word in WORDS.items()}


def remark(controls):
    """What should be said of these settings, or None."""
    if controls.temperature == 0 and controls.num_samples > 1:
        return (f"All {controls.num_samples} samples will be alike, because temperature 0 always takes the likeliest "
                "token.")
    return None
