"""The table of character classes: what its generator builds, and no character twice."""

import unicodedata
from pathlib import Path

import pytest

from characters import classes as table
from characters import make_classes
from characters.make_classes import build_classes, character_class
from tests.support.characters import CLASSES, EVERY_CHARACTER


def test_no_character_is_in_two_classes():
    assert not set(CLASSES["WORD"].findall(EVERY_CHARACTER)) & set(CLASSES["GLYPH"].findall(EVERY_CHARACTER))


@pytest.mark.parametrize("name", CLASSES)
def test_the_table_is_what_its_generator_builds(name):
    """Under another version of Unicode than the table's, what had a class then has it still."""
    if unicodedata.unidata_version == table.UNICODE_VERSION:
        assert build_classes()[name] == (getattr(table, name), getattr(table, name + "_BEYOND"))
    else:
        assert not [char for char in CLASSES[name].findall(EVERY_CHARACTER) if character_class(ord(char)) != name]


@pytest.mark.skipif(unicodedata.unidata_version != table.UNICODE_VERSION, reason="from another version of Unicode")
def test_the_file_of_the_table_is_what_its_generator_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(make_classes, "__file__", str(tmp_path / "make_classes.py"))
    make_classes.main()
    assert (tmp_path / "classes.py").read_bytes() == Path(table.__file__).read_bytes()
