"""A small model that writes instructions, and a file of pairs that it has written in one go."""

import pytest

from backchat import pairs_file
from tests.support.pairs import RECORDS, convert, learned_model
from tests.support.tiny import write_lines


@pytest.fixture(scope="session")
def model():
    return learned_model()


@pytest.fixture
def small_windows(monkeypatch):
    monkeypatch.setattr(pairs_file, "WINDOW", 8)


@pytest.fixture
def unbroken(model, tmp_path, small_windows):
    """(input, output) of a run without interruption over RECORDS."""
    source, target = write_lines(tmp_path / "in.jsonl", RECORDS), tmp_path / "whole" / "out.jsonl"
    assert convert(model, source, target)[:3] == (30, 4, 0)
    return source, target
