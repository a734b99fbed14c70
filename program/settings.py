"""
Settings: the defaults of a dataclass, then a file such as those in config/, then flags; the later wins.

A file holds flags with the dashes taken off. Names and types are checked in both.
"""

import dataclasses
import difflib
import os
import re
import shlex
import sys
import tomllib
import typing
from pathlib import Path

from program.commands import CONFIG
from program.flags import NUMBERS, OFF, build, flags_of, read_flags
from program.streams import complain, is_said, prepare_streams, say, visible


def parse(settings_class, description, args=None, default_file=None):
    """Read settings from the command line, whose first argument may name a file; inside config/ its name will do.

    default_file, a name in config/, is read when none is named. What follows from other settings is left to a method
    derive() of the settings: it is called once, after the last of them is known. Ends the program, with status 2 and a
    message, on whatever is unknown or does not fit.
    """
    args, flags = list(sys.argv[1:] if args is None else args), flags_of(settings_class)
    takes_file = all(flag.default is not dataclasses.MISSING for flag in flags.values())
    try:
        file = CONFIG / default_file if default_file else None
        if takes_file and args and not args[0].startswith("-"):
            file = _find(args.pop(0), flags)
        entries = _read(file, flags) if file else {}
        if takes_file and {"-h", "--help"} & {*args}:
            description = f"{description.rstrip()}\n\n{_about_files(file, flags)}"
        values = read_flags(flags, args, entries, description, "[CONFIG] " if takes_file else "")
        try:
            settings = build(settings_class, flags, values)
            if hasattr(settings, "derive"):
                settings.derive()
        except ValueError as error:
            by_file = any(re.search(rf"\b{name}\b", str(error)) and repr(values[name]) == repr(entries[name])
                          for name in entries)  # NaN equals nothing
            raise ValueError(f"{_shown(file)}: {error}" if by_file else error) from None
    except ValueError as error:
        complain(f"Error: {error}")
        raise SystemExit(2) from None
    except SystemExit as ended:
        if ended.code and takes_file and any(word.endswith(".toml") for word in args):
            complain("A settings file stands before the flags.")
        raise
    return settings


# ---- files of settings


def _find(word, flags):
    """The file that a word names. Raises ValueError with those there are."""
    for folder in (Path(), CONFIG.parent, CONFIG):
        for name in (word, f"{word}.toml"):
            if name.endswith(".toml") and os.path.isfile(folder / name):
                return folder / name
    files, flag = _files(flags), _flag_for(word, flags)
    if flag:
        raise ValueError(f"{word} is no settings file. It is given as a flag:\n    --{flag} {shlex.quote(word)}")
    near = difflib.get_close_matches(Path(word).stem, files, n=1)
    raise ValueError(f'"{word}" names no settings file.' + (f" Did you mean {_shown(files[near[0]])}?" if near else "")
                     + (f"\nThere are: {', '.join(map(str, map(_shown, files.values())))}." if files else "")
                     + "\nSettings can also be given as flags; --help lists them.")


def _flag_for(word, flags):
    """The flag that takes such a file, if the script has one."""
    if not os.path.exists(word):
        return None
    return next((flag.replace("_", "-") for flag in ("model_path" if word.endswith(".pt") else "dataset", "input")
                 if flag in flags), None)


def _files(flags):
    """The files in config/ that hold none but these settings, by name."""
    found = {}
    for path in sorted(CONFIG.glob("*.toml")):
        try:
            if _read(path, flags):
                found[path.stem] = path
        except ValueError:
            pass  # it is for another script
    return found


def _about_files(file, flags):
    """What --help says of files of settings."""
    files = ", ".join(_files(flags))
    return ("CONFIG is a .toml file of settings" + (f", or the name of one in config/: {files}" if files else "") + "."
            + (f" The defaults shown are those of {_shown(file)}." if file else ""))


def _read(path, flags):
    """The entries of a TOML file, {name of a flag: value}. Raises ValueError with file and line."""
    try:
        text = path.read_text(encoding="utf-8")
        entries = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{_shown(path)} is not valid TOML: {error}") from None
    values = {}
    for key, value in entries.items():
        name, line = key.replace("-", "_"), re.search(rf"^[ \t\[\"']*{re.escape(key)}[\"']?\s*[=.\]]", text, re.M)
        where = f"{_shown(path)}" + (f", line {text.count(chr(10), 0, line.start()) + 1}" if line else "")
        if name not in flags:
            near = difflib.get_close_matches(name, flags, n=1, cutoff=0.7)
            raise ValueError(f"{where}: {os.path.basename(sys.argv[0])} has no setting {key}"
                             + (f"; did you mean {near[0]}?" if near else "; --help lists those it has")
                             + (". The file's first lines say which script it is for" if path.parent == CONFIG else ""))
        try:
            off = value == OFF and flags[name].optional and flags[name].takes in NUMBERS
            values[name] = None if off else _fitting(value, flags[name].takes)
        except TypeError as error:
            raise ValueError(f"{where}: {key} = {value!r} does not fit; it takes {error}") from None
    return values


def _fitting(value, kind):
    """A value of a TOML file as one of this type; raises TypeError with what would do."""
    if typing.get_origin(kind) is typing.Literal:
        if value not in typing.get_args(kind):
            raise TypeError(" or ".join(map(repr, typing.get_args(kind))))
        return value
    types, what = {bool: ([bool], "true or false"), int: ([int], "a whole number"), float: ([int, float], "a number"),
                   str: ([str], "words in quotes"), Path: ([str], "a path in quotes")}[kind]
    if type(value) not in types:
        raise TypeError(what)
    try:
        return kind(value)
    except OverflowError:
        raise TypeError(f"{what} of a smaller size") from None


def _shown(path):
    """How a path is told: a file in config/ without what stands before it."""
    return path.relative_to(CONFIG.parent) if path.parent == CONFIG else path


# ---- the beginning and the end of a script


def show(settings, **derived):
    """Print the final settings once, and what follows from them."""
    for name, value in {**vars(settings), **derived}.items():
        say(f"    {name:<28} {value:,}" if type(value) is int else f"    {name:<28} {value}")


def launch(main):
    """Call main, as every script does when it is run; what the user can mend ends the program with its message alone,
    anything else with a traceback."""
    prepare_streams()
    try:
        main()
    except (ValueError, OSError, MemoryError, FloatingPointError) as error:
        if os.environ.get("TRACEBACK"):
            raise
        message = f"Error: {_in_words(error)}"
        raise SystemExit(1 if is_said(message) else visible(message)) from None
    except RuntimeError as error:
        if "allocate memory" not in str(error):  # how torch says that the processor's memory is too small
            raise
        raise SystemExit("Error: there is not enough memory. Take a smaller model, batch or block.") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _in_words(error):
    """What an error says; one of the system without its number, and one that says nothing by its name."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error).rstrip() or type(error).__name__
