"""What the README prints is what the programs take."""

import dataclasses
import importlib
import re
import shlex
from pathlib import Path

import pytest

import settings

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "demo.sh", *ROOT.glob("config/*.toml"), *ROOT.glob("*.py")]
COMMAND = re.compile(r"^[#$ ]*(?:\.venv/bin/)?python (\w+)\.py\b([^\n]*)", re.M)
COMMANDS = sorted({(script, arguments.strip()) for page in PAGES
                   for script, arguments in COMMAND.findall(page.read_text(encoding="utf-8"))
                   if "{" not in arguments and "\\" not in arguments})  # those are put together by a program


def settings_class(module):
    """The dataclass of a script that becomes its flags."""
    [found] = [value for name, value in vars(module).items() if name.endswith("Settings")
               and dataclasses.is_dataclass(value) and value.__module__ == module.__name__]
    return found


def test_there_are_commands_for_every_script():
    shown = {script for script, _ in COMMANDS}
    assert {path.stem for path in ROOT.glob("*_xcoax*.py")} | {"preprocess_instruct", "tales"} <= shown


@pytest.mark.parametrize("script, arguments", COMMANDS)
def test_every_printed_command_is_understood_by_its_script(script, arguments, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = list(before_redirection(shlex.split(arguments, comments=True)))
    assert settings.parse(settings_class(importlib.import_module(script)), "", words)


def before_redirection(words):
    """The words before a redirection or a pipe."""
    for word in words:
        if word[0] in "<>|":
            return
        yield word


@pytest.mark.parametrize("path", re.findall(r"`([\w/]+\.(?:py|sh|toml|md|txt))`", (ROOT / "README.md").read_text("utf-8")))
def test_every_file_that_the_readme_names_is_there(path):
    assert (ROOT / path).exists()
