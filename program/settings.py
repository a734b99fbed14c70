"""
Settings: the defaults of a dataclass, then a file from config/, then flags; the later wins.

A file in config/ is only flags with the dashes taken off: one parser (tyro) reads it and then the command line, checks
names and types of both and suggests the nearest name for a misspelt one.
"""

import os
import sys
import tomllib
from pathlib import Path

import tyro

from program.streams import prepare_streams, say, visible

CONFIG = Path(__file__).parent.parent / "config"


def _flags(path):
    """The entries of a TOML file as command-line arguments."""
    try:
        entries = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        found = ", ".join(sorted(str(p) for p in CONFIG.glob("*.toml")))
        raise SystemExit(f"No settings file {path}. There are: {found}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SystemExit(f"{path} is not valid TOML: {error}") from None
    flags = []
    for name, value in entries.items():
        flag = name.replace("_", "-")
        flags += [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}={value}"]
    return flags


def parse(settings_class, description, args=None, default_file=None):
    """Read settings from the command line, whose first argument may name a file from config/.

    default_file, a name in config/, is read when none is named. What follows from other settings is left to a method
    derive() of the settings: it is called once, after the last of them is known. Exits with a message on anything
    unknown.
    """
    settings = _parse(settings_class, description, args, default_file)
    if hasattr(settings, "derive"):
        settings.derive()
    return settings


def _parse(settings_class, description, args, default_file):
    args = list(sys.argv[1:] if args is None else args)
    file = default_file and CONFIG / default_file
    if args and (args[0].endswith(".toml") or Path(f"{args[0]}.toml").is_file()):
        file = args.pop(0).removesuffix(".toml") + ".toml"
    if not file:
        return tyro.cli(settings_class, args=args, description=description)
    # The file alone first, under its own name, so that an error says where it stands; what it gives are the defaults of
    # the flags, so that --help shows them.
    defaults = tyro.cli(settings_class, prog=str(file), args=_flags(file), description=description)
    return tyro.cli(settings_class, args=args, default=defaults, description=description)


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
        raise SystemExit(visible(f"Error: {error}")) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
