"""What --help promises: every setting with its words and its value, in boxes, and commands that can be pasted."""

import contextlib
import dataclasses
import importlib
import io
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import tyro

import finetune_xcoax
import train_xcoax
from program import commands
from program.flags import flags_of
from program.settings import parse
from tests.support.runs import settings_class
from tests.support.tiny import ROOT

SCRIPTS = [script.removesuffix(".py") for steps in commands.SCRIPTS.values() for script in steps.values()]
DESCRIPTION = """
What the script does, in a line that is too long for a narrow terminal.

    python script.py --a-long-command "with many words" --that-stays --on-one-line
    python script.py --a-short-command             # and many words of what it does #1

    indented text of a description is no command, and so it is wrapped, with its indentation

Reads --what-is-there
and writes more.
"""


@dataclass
class Base:
    """Settings that two scripts share."""

    data_dir: Path = Path("data")
    """Folder with
    the data."""
    RATE: ClassVar = "learning rate"
    learning_rate: float = 0.1
    """Highest rate."""
    max_minutes: float | None = None
    """Minutes at most; without it there is no end."""


@dataclass
class Example(Base):
    """Settings of one script."""

    side: Literal["left", "right"] = "left"
    """Which side."""
    MODEL: ClassVar = "model"
    n_layer: int = 3
    """Blocks."""
    learning_rate: float = 0.2


def help_of(example=Example, description=DESCRIPTION, args=("--help",), **options):
    """What --help prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as ended:
        parse(example, description, args, **options)
    assert ended.value.code in (0, None)
    return printed.getvalue()


def boxes(shown):
    """The flags in every box of help, by its heading."""
    found = {}
    for line in shown.splitlines():
        if heading := re.match(r"[╭+][─-]+ (.+?) [─-]+[╮+]$", line):
            flags = found[heading[1]] = []
        elif name := re.match(r"[│|] --([\w-]+)", line):
            flags.append(name[1].replace("-", "_"))
    return found


@pytest.fixture(autouse=True)
def named(monkeypatch):
    monkeypatch.setattr("sys.argv", ["script.py"])


def test_help_begins_with_the_usage_and_a_blank_line():
    assert re.match(r"usage: script.py \[CONFIG\] \[OPTIONS\]\n\nWhat the script does,", help_of())


def test_settings_stand_in_the_box_of_the_heading_above_them_wherever_their_default_is_changed():
    assert boxes(help_of()) == {"options": ["data_dir", "side"],
                                "learning rate options": ["learning_rate", "max_minutes"],
                                "model options": ["n_layer"]}


def test_headings_leave_the_settings_flat():
    assert vars(parse(Example, "", ["--n-layer", "5"])) == dataclasses.asdict(Example(n_layer=5)) == {
        "data_dir": Path("data"), "learning_rate": 0.2, "max_minutes": None, "side": "left", "n_layer": 5}


def test_a_value_that_may_be_none_is_shown_by_its_type_and_without_a_default():
    shown = " ".join(help_of().replace("|", " ").replace("│", " ").split())
    assert "--max-minutes FLOAT Minutes at most; without it there is no end. +" in shown.replace("╰", "+")
    assert "--side {left,right} Which side. (default: left)" in shown and "None" not in shown


def test_help_has_the_words_of_the_class_that_said_them_last_and_the_value_that_counts():
    shown = " ".join(help_of().replace("|", " ").replace("│", " ").split())
    assert "Highest rate. (default: 0.2)" in shown and "Folder with the data. (default: data)" in shown


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_text_is_wrapped_to_the_terminal_and_commands_stay_whole(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = help_of()
    command = DESCRIPTION.splitlines()[3]
    said = "    python script.py --a-short-command             # and many words of what it does #1"
    if columns < len(said):
        said = "    # and many words of what it does #1\n    python script.py --a-short-command"
    assert f"\n\n{command}\n{said}\n\n    indented text of a description" in shown
    assert "\n\nReads --what-is-there and writes more.\n\n" in shown
    assert all(len(line) <= columns for line in shown.splitlines() if line != command)
    assert "\n\n\n" not in shown


def test_arguments_that_must_be_given_leave_no_place_for_a_settings_file(capsys):
    @dataclass
    class Bench:
        path: tyro.conf.Positional[Path]
        """What to read."""

    shown = help_of(Bench)
    assert "[CONFIG]" not in shown and re.search(r"PATH +What to read. \(required\)", shown)
    assert parse(Bench, "", ["run.toml"]).path == Path("run.toml")


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_help_of_a_script_names_every_setting_once_and_says_something_of_each(script):
    module = importlib.import_module(script)
    flags, shown = flags_of(settings_class(module)), help_of(settings_class(module), module.__doc__)
    assert sorted(name for names in boxes(shown).values() for name in names) == sorted(flags)
    assert all(flag.help for flag in flags.values()) and "{None}" not in shown
    for command in re.findall(r"^    python .*?(?= +# |$)", module.__doc__, re.M):
        assert f"\n{command}" in shown


@pytest.mark.parametrize("script", [train_xcoax, finetune_xcoax])
def test_no_box_of_the_trainings_help_is_longer_than_a_screen(script):
    assert max(map(len, boxes(help_of(settings_class(script))).values())) <= 10


def test_help_names_the_files_that_suit_a_script_and_the_one_it_shows():
    shown = " ".join(help_of(train_xcoax.TrainSettings, default_file="xcoax.toml").split())
    assert "the name of one in config/: small, tales, tinystories, xcoax." in shown
    assert "The defaults shown are those of config/xcoax.toml." in shown
    assert {path.stem for path in ROOT.glob("config/*.toml")} > {"small", "tales", "tinystories", "xcoax"}


@dataclass
class Optional:
    """Settings that may be None."""

    limit: float | None = 3.0
    """The most."""
    count: int | None = None
    """How many."""
    words: str | None = None
    """Any words."""


def test_a_number_may_be_off_and_words_are_what_they_are():
    assert parse(Optional, "", ["--limit", "off", "--words", "None"]) == Optional(None, None, "None")
    assert parse(Optional, "", ["--limit", "2", "--count", "5", "--words", "off"]) == Optional(2.0, 5, "off")


@pytest.mark.parametrize("args", [["--limit", "much"], ["--count", "1.5"], ["--count", "None"]])
def test_what_is_no_number_is_told_without_the_types_of_python(args, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(Optional, "", args)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and args[0] in said and f"'{args[1]}'" in said and "{None}" not in said


def test_a_reader_who_leaves_ends_help_quietly():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        ended = subprocess.run([sys.executable, "preprocess_instruct.py", "--help"], cwd=ROOT, stdout=pipe,
                               stderr=subprocess.PIPE)
    assert (ended.returncode, ended.stderr) == (-signal.SIGPIPE, b"")


@pytest.mark.parametrize("args", [["--\x1b[31m", "x"], ["--n-layer", "\x1b[31m"], ["\x1b[31m"], ["--side=\x9b31m"]])
def test_what_is_said_of_a_wrong_argument_is_harmless(args, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(Example, "", args)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "31m" in said and not re.search("[\x1b\x9b]", said)
