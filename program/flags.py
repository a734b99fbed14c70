"""
Flags: how a dataclass of settings stands on the command line and in --help. tyro reads them and explains them.

A class variable among the fields heads those below it: in --help they have a box of their own.

    learning_rate: float = 3e-4
    SAVING: ClassVar = "evaluation and saving"
    eval_interval: int = 250
"""

import contextlib
import dataclasses
import inspect
import io
import re
import shutil
import sys
import textwrap
import types
import typing
from typing import Annotated, Any, ClassVar, NamedTuple

import docstring_parser
import tyro

from program.streams import complain, end_with_pipe, say

WIDEST = 100  # columns of running text
OFF, NUMBERS = "off", (int, float)  # how a number is said not to be there


class Flag(NamedTuple):
    """What is known of a setting."""

    kind: Any      # its type as annotated, with tyro's marks
    default: Any   # dataclasses.MISSING where a value must be given
    help: str
    heading: str   # of its box in --help; "" is the first box
    part_of: str   # the field that holds it, where settings hold other settings; else ""

    @property
    def takes(self):
        """The type of its values, other than None."""
        kind = typing.get_args(self.kind)[0] if typing.get_origin(self.kind) is Annotated else self.kind
        if self.optional:
            [kind] = set(typing.get_args(kind)) - {types.NoneType}
        return kind

    @property
    def optional(self):
        """Whether it may be None."""
        return types.NoneType in typing.get_args(self.kind)


def flags_of(settings_class, instance=None):
    """The flags of a dataclass, {name: Flag}; those of settings that it holds stand among its own.

    Defaults are those of an instance, if one is given.
    """
    kinds, helps, headings, flags = typing.get_type_hints(settings_class, include_extras=True), {}, {}, {}
    for base in settings_class.__mro__[-2::-1]:
        helps |= {p.arg_name: " ".join(p.description.split()) for p in docstring_parser.parse_from_object(base).params
                  if p.description}
        heading = ""
        for name, kind in inspect.get_annotations(base).items():
            if kind is ClassVar:
                heading = getattr(base, name)
            else:
                headings.setdefault(name, heading)  # a class that only changes a default leaves it where it was
    for field in dataclasses.fields(settings_class):
        default = field.default if instance is None else getattr(instance, field.name)
        if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if dataclasses.is_dataclass(default):
            flags |= {name: flag._replace(heading=headings[field.name] or field.name, part_of=field.name)
                      for name, flag in flags_of(type(default), default).items()}
        else:
            flags[field.name] = Flag(kinds[field.name], default, helps.get(field.name, ""), headings[field.name], "")
    return flags


def build(settings_class, flags, values):
    """The settings that have these values, {name: value}."""
    held = {}
    for name, flag in flags.items():
        held.setdefault(flag.part_of, {})[name] = values[name]
    inner = {field.name: type(field.default_factory())(**held[field.name])
             for field in dataclasses.fields(settings_class) if field.name in held}
    return settings_class(**held.get("", {}), **inner)


def read_flags(flags, args, defaults, description, usage=""):
    """The values of all flags, {name: value}: those of the arguments, else of defaults, else the flags' own.

    Ends the program with --help, and on a wrong flag with status 2. usage is what --help shows before the flags.
    """
    boxes = {"": []}
    for name, flag in flags.items():
        marks = (_shown(flag), _optional(flag.takes)) if flag.optional else (_shown(flag),)
        boxes.setdefault(flag.heading, []).append(
            (name, Annotated[flag.kind, *marks], _field(defaults.get(name, flag.default))))
    for number, heading in enumerate([*boxes][1:]):
        box = dataclasses.make_dataclass("Box", boxes[heading], kw_only=True)
        boxes[""].append((f"box{number}", Annotated[tyro.conf.OmitArgPrefixes[box],
                                                    tyro.conf.arg(name=heading, help="")], _field(box())))
    read = _ask_tyro(dataclasses.make_dataclass("Flags", boxes[""], kw_only=True), args, description, usage)
    values = vars(read)
    return {name: value for name, value in values.items() if name in flags} | {
        name: value for box in values.values() if dataclasses.is_dataclass(box) for name, value in vars(box).items()}


def _shown(flag):
    """How a flag looks in --help; the help puts into words what no value means."""
    needed = flag.default is dataclasses.MISSING

    def with_default(value):  # in one piece, since tyro would put a space before no default
        return "" if needed else flag.help if value == "None" else f"{flag.help} (default: {value})"

    return tyro.conf.arg(help=flag.help if needed else None, help_behavior_hint=with_default)


def _optional(kind):
    """Takes a value that may be None: a number can be "off"; words and paths are what they are, "None" too."""
    def read(words):
        return None if words == [OFF] and kind in NUMBERS else kind(words[0])

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1, metavar=kind.__name__.upper(), instance_from_str=read, str_from_instance=lambda value: [str(value)],
        is_instance=lambda value: value is None or isinstance(value, kind))


def _field(default):
    return dataclasses.field() if default is dataclasses.MISSING else dataclasses.field(default_factory=lambda: default)


class _Heard(io.StringIO):
    """Takes what is printed, as if it were standard output."""

    encoding = property(lambda self: getattr(sys.__stdout__, "encoding", "ascii").lower())


def _ask_tyro(view, args, description, usage):
    """An instance of the dataclass with the values of the arguments. What tyro prints is made visible: arguments may be
    names of files, and those may come from strangers."""
    heard = _Heard()
    try:
        with contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard):
            return tyro.cli(view, args=args, description="", config=(tyro.conf.PositionalMetavarFromFieldName,))
    except SystemExit as ended:
        if ended.code:
            complain(heard.getvalue().rstrip("\n"))
        else:
            end_with_pipe()  # `--help | head` has shown what was wanted
            line, _, flags = heard.getvalue().rstrip("\n").partition("\n\n")
            say(f"{_wrapped(line.replace('[-h] ', usage))}\n\n{_wrapped(description)}\n\n{flags}")
        raise


def _wrapped(text):
    """Running text wrapped for this terminal. Commands, which are indented, stay whole: where one is too long for its
    line, what is said of it goes before it."""
    columns, parts = min(WIDEST, shutil.get_terminal_size().columns), []
    for part in text.strip("\n").split("\n\n"):
        if part.lstrip().startswith("python ") and part.startswith(" "):
            parts.append("\n".join(re.sub(r"^( +)(.*?) +(# .*)", r"\1\3\n\1\2", line) if len(line) > columns else line
                                   for line in part.split("\n")))
        else:
            indent = " " * (len(part) - len(part.lstrip()))
            parts.append(textwrap.fill(" ".join(part.split()), columns, initial_indent=indent, subsequent_indent=indent,
                                       break_long_words=False, break_on_hyphens=False))
    return "\n\n".join(parts)
