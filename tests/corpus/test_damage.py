"""What readers promise of any file at all: its texts, or an error that names it, and soon."""

import time

import pytest

from backchat.records import read_file
from corpus.documents import open_corpus
from tests.support.damage_files import KINDS, strange_files


def texts_of(path):
    for row in open_corpus(path, skip_bad=True).documents():
        yield from row.pieces


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """The libraries, which take seconds to import."""
    path = tmp_path_factory.mktemp("loaded") / "a.txt"
    path.write_text("one")
    assert list(texts_of(str(path))) == ["one"]


def test_the_same_seed_gives_the_same_files_and_another_others(tmp_path):
    found = {}
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        (tmp_path / name).mkdir()
        found[name] = [(what, open(path, "rb").read()) for what, path in strange_files(tmp_path / name, seed)
                       if what.partition(":")[0] in KINDS]
    assert found["first"] == found["again"] != found["other"] and len(found["first"]) > 100


@pytest.mark.parametrize("seed", [1, 560])  # of 560, one ended the whole program
def test_any_file_is_read_to_its_end_or_refused_by_name(tmp_path, loaded, seed):
    for what, path in strange_files(tmp_path, seed):
        for read in (texts_of, read_file):
            begun = time.process_time()
            try:
                for _ in read(path):
                    pass
            except (ValueError, OSError) as error:
                assert path in str(error), what
            assert time.process_time() - begun < 1, what
