"""What a corpus promises: every document once, in an order of its own, and help where something is bad."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus import documents
from corpus.documents import cut, open_corpus
from tests.support.files import parquet_bytes, write
from tests.support.texts import few


def all_of(dataset, **options):
    return ["".join(pieces) for _, pieces in open_corpus(str(dataset), **options).documents()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("corpus")


# ---- long documents


@few
@given(text=st.text(alphabet="ab\n🙂", max_size=3000), limit=st.integers(1, 500))
def test_cut_pieces_joined_are_the_text(text, limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "MAX_DOCUMENT_CHARACTERS", limit)
        pieces = list(cut(text))
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= limit


def test_a_long_document_comes_as_one_in_several_pieces(folder, monkeypatch):
    monkeypatch.setattr(documents, "MAX_DOCUMENT_CHARACTERS", 8)
    path = write(folder / "long.jsonl", '{"text": "short"}\n{"text": "three\\nlines\\nof it"}\n')
    assert list(open_corpus(path).documents()) == [((0, 1), ["short"]), ((0, 2), ["three\n", "lines\n", "of it"])]


# ---- what stands in the files


def test_a_byte_order_mark_before_jsonl_is_dropped(folder):
    assert all_of(write(folder / "a.jsonl", '\ufeff{"text": "é"}\n')) == ["é"]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_missing_column_lists_those_that_are_there(folder, kind):
    path = folder / f"columns.{kind}"
    write(path, '{"body": "x", "title": "y"}\n' if kind == "jsonl" else parquet_bytes({"body": ["x"], "title": ["y"]}))
    with pytest.raises(ValueError, match="has no column 'text'; it has 'body', 'title'. Name one with --text-column"):
        all_of(path)
    assert all_of(path, text_column="body") == ["x"]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_column_of_numbers_is_refused_and_a_missing_text_is_empty(folder, kind):
    path = folder / f"numbers.{kind}"
    write(path, '{"text": null, "n": 1}\n{"text": "a", "n": 2}' if kind == "jsonl"
          else parquet_bytes({"text": [None, "a"], "n": [1, 2]}))
    assert all_of(path) == ["", "a"]
    with pytest.raises(ValueError, match="'n' of .* holds int, not text"):
        all_of(path, text_column="n")


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_a_truncated_parquet_file_is_named_before_any_work(folder, keep):
    path = write(folder / "whole.parquet", parquet_bytes({"text": ["some text"] * 100})[:keep])
    with pytest.raises(ValueError, match="is not a whole Parquet file") as error:
        open_corpus(path)
    assert path in str(error.value)


def test_a_parquet_file_damaged_in_the_middle_is_named(folder):
    data = bytearray(parquet_bytes({"text": [f"{i} text" for i in range(1000)]}))
    data[4:2000] = os.urandom(1996)
    path = write(folder / "damaged.parquet", bytes(data))
    with pytest.raises(ValueError, match="(?s)is damaged.*again") as error:
        all_of(path)
    assert path in str(error.value)


# ---- paths


def test_kinds_may_be_mixed_and_are_read_in_order(tmp_path):
    write(tmp_path / "a.txt", "one\n\ntwo")
    write(tmp_path / "b.jsonl", '{"body": "three"}')
    write(tmp_path / "c.parquet", parquet_bytes({"body": ["four", "five"]}))
    write(tmp_path / "d.txt", "")
    assert all_of(tmp_path, text_column="body") == ["one", "two", "three", "four", "five"]


def test_a_path_that_leads_nowhere_tells_what_dataset_takes(tmp_path):
    for nowhere in (tmp_path, tmp_path / "no.txt", tmp_path / "*.txt"):
        with pytest.raises(FileNotFoundError, match="fineweb, tinystories, tales, or paths.*--dataset tales"):
            open_corpus(str(nowhere))


def test_a_file_of_unknown_kind_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"a\.docx is of no known kind; known are \.parquet, \.jsonl, \.txt"):
        open_corpus(write(tmp_path / "a.docx", "x"))


# ---- positions and samples


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    write(folder / "a.txt", "\n\n".join(f"a{i}" for i in range(7)))
    write(folder / "b.txt", "")
    write(folder / "c.jsonl", "".join(json.dumps({"text": f"c{i}"}) + "\n" for i in range(5)))
    write(folder / "d.parquet", parquet_bytes({"text": [f"d{i}" for i in range(9)]}, row_group_size=4))
    return str(folder)


def test_a_reader_goes_on_from_every_position(mixed):
    whole = list(open_corpus(mixed).documents())
    assert len(whole) == 21
    for number, (position, _) in enumerate(whole, 1):
        assert list(open_corpus(mixed).documents(position)) == whole[number:]


@few
@given(size=st.integers(1, 3000))
def test_a_sample_is_spread_evenly_over_the_whole_corpus(evenly, size):
    found, documents = evenly
    sample = found.sample(size)
    numbers = [documents.index(text) for text in sample]
    steps = {later - earlier for earlier, later in zip(numbers, numbers[1:])}
    assert numbers[0] == 0 and len(steps) <= 1
    stride = steps.pop() if steps else len(documents)
    assert len(documents) - numbers[-1] <= stride or len(sample) == 1
    assert sum(map(len, sample)) >= min(size, len("".join(documents))) or len(sample) == 1 or stride == 1
    assert sum(map(len, sample)) <= 2 * size or len(sample) == 1


@pytest.fixture(scope="module")
def evenly(tmp_path_factory):
    documents = [f"{i:04d}" for i in range(300)]
    found = open_corpus(write(tmp_path_factory.mktemp("evenly") / "a.txt", "\n\n".join(documents)))
    found.open_file = lambda _: [{"text": text} for text in documents]
    return found, documents


def test_tales_depend_on_the_seed_alone():
    first = next(open_corpus("tales", seed=1).documents())
    assert first == next(open_corpus("tales", seed=1).documents())
    assert first != next(open_corpus("tales", seed=2).documents())
