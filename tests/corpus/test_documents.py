"""What a corpus promises: every document once, in an order of its own, and help where something is bad."""

import json
import os

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus import documents, text_files
from corpus.documents import Corpus, Row, open_corpus
from shards import tokenizing
from tests.support.files import begins, parquet_bytes, write
from tests.support.texts import few


def all_of(dataset, **options):
    return ["".join(row.pieces) for row in open_corpus(str(dataset), **options).documents()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("corpus")


# ---- long documents


LONG = "three\nlines\nof it"


def test_a_long_record_comes_as_one_row_in_several_pieces(folder, monkeypatch):
    monkeypatch.setattr(text_files, "MAX_DOCUMENT_CHARACTERS", 8)
    path = write(folder / "long.jsonl", '{"text": "short"}\n' + json.dumps({"text": LONG}))
    assert list(open_corpus(path).documents()) == [
        Row((0, 1), ["short"]), Row((0, 2), ["three\n", "lines\n", "of it"], "three\n")]


def test_a_long_text_file_comes_in_rows_that_know_the_beginning_of_their_document(folder, monkeypatch):
    """So that it is never held whole, and a reader may go on in its middle."""
    monkeypatch.setattr(text_files, "MAX_DOCUMENT_CHARACTERS", 8)
    path = write(folder / "long.txt", f"short\n<|endoftext|>\n{LONG}")
    whole = list(open_corpus(path).documents())
    assert whole == [Row((0, 1), ["short"]), Row((0, 2), ["three\n"], "three\n"),
                     Row((0, 3), ["lines\n"], "three\n", True), Row((0, 4), ["of it"], "three\n", True)]
    for number in range(5):
        assert list(open_corpus(path).documents((0, number))) == whole[number:]


@pytest.mark.parametrize("kind", ["txt", "jsonl", "parquet"])
def test_the_pieces_of_a_long_document_fall_to_one_split_and_are_one_cut_document(folder, monkeypatch, kind):
    monkeypatch.setattr(text_files, "MAX_DOCUMENT_CHARACTERS", 50)
    texts = [f"{number} " + "word " * 100 for number in range(20)]
    path = write(folder / f"split.{kind}", {
        "txt": "\n<|endoftext|>\n".join(texts), "parquet": parquet_bytes({"text": texts}),
        "jsonl": "".join(json.dumps({"text": text}) + "\n" for text in texts)}[kind])
    [task] = tokenizing.tasks(open_corpus(path).documents(), 100, 0.5)
    assert "".join(text for text, _ in task.texts).replace("\n", "") == "".join(texts)
    splits = [{split for piece, split in task.texts[11 * n:11 * n + 11]} for n in range(20)]
    assert all(len(split) == 1 for split in splits) and set.union(*splits) == {"train", "val"}
    assert task.documents == 20 and task.noted == {"cut": 20}


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
    place = "line" if kind == "jsonl" else "row"
    with pytest.raises(ValueError, match=f"{path}, {place} 1: column 'n' holds int, not text"):
        all_of(path, text_column="n")


BAD = {  # what stands in the place of a text: what is said of it
    "jsonl": {'{"text": 7}': "column 'text' holds int", '{"body": "x"}': "has no column 'text'; it has 'body'",
              '{"text": "x': "not valid JSON", "[1]": "expected an object", "null": "expected an object",
              '{"text": NaN}': "column 'text' holds float", "[" * 10**5: "within one another",
              '{"text": ' + "1" * 5000 + "}": "5,000 digits", b'{"text": "\xff"}': "is not UTF-8: byte"},
    "parquet": {b"\xff": "column 'text' is not UTF-8 .byte 0xff."},
}


def table_with(folder, kind, bad):
    """Three good rows, a bad one in third place."""
    good = [f"text {number}" for number in range(3)]
    if kind == "jsonl":
        lines = [json.dumps({"text": text}).encode() for text in good]
        bad = bad if isinstance(bad, bytes) else bad.encode()
        return write(folder / "bad.jsonl", b"\n".join([*lines[:2], bad, lines[2]]))
    values = pyarrow.array([*map(str.encode, good[:2]), bad, good[2].encode()]).cast(pyarrow.binary())
    return write(folder / "bad.parquet", parquet_bytes({"text": values.view(pyarrow.string())}))


@pytest.mark.parametrize("kind, bad, said", [(kind, bad, said) for kind in BAD for bad, said in BAD[kind].items()],
                         ids=begins)
def test_a_bad_row_is_named_with_file_and_place_and_may_be_passed_over(folder, kind, bad, said):
    path = table_with(folder, kind, bad)
    with pytest.raises(ValueError, match=f"bad.{kind}, (row|line) 3.*{said}(.|\n)*--skip-bad-records"):
        all_of(path)
    rows = list(open_corpus(path, skip_bad=True).documents())
    assert [row.pieces for row in rows] == [["text 0"], ["text 1"], [], ["text 2"]]
    [fault] = [row.fault for row in rows if row.fault]
    assert path in fault
    assert open_corpus(path, skip_bad=True).sample(10**6) == ["text 0", "text 1", "text 2"]


def some_rows():
    yield from ({"text": "one"}, {"text": 2}, {"text": "three"})


def test_a_bad_row_on_a_hub_is_named_with_its_file_and_may_be_passed_over():
    found = Corpus({"dataset": "fineweb"}, "text", 2, lambda file: documents._stream(some_rows), on_hub=True)
    with pytest.raises(ValueError, match="fineweb, file 1, row 2: column 'text' holds int(.|\n)*--skip-bad-records"):
        list(found.documents())
    found.skip_bad = True
    assert [row.pieces for row in found.documents()] == [["one"], [], ["three"]] * 2


def test_rows_without_text_and_bad_rows_are_counted(folder):
    values = None, "", " \n ", 5, "a"
    path = write(folder / "empty.jsonl", "".join(json.dumps({"text": value}) + "\n" for value in values))
    [task] = tokenizing.tasks(open_corpus(path, skip_bad=True).documents(), 100, 0.5)
    assert [text for text, _ in task.texts] == ["a"] and task.noted == {"empty": 3, "bad": 1}
    assert task.documents == 5 and "line 4" in task.fault


def test_the_name_of_a_column_that_is_not_utf8_is_refused_before_any_work(folder):
    with pytest.raises(ValueError, match="--text-column .* is not UTF-8"):
        open_corpus(write(folder / "column.txt", "x"), text_column="x\udce9")


def test_a_text_file_that_is_not_utf8_is_bad_by_itself_and_an_empty_one_holds_no_text(tmp_path):
    for name, content in (("a.txt", b"caf\xe9"), ("b.txt", b""), ("c.txt", b"good")):
        write(tmp_path / name, content)
    with pytest.raises(ValueError, match="(?s)a.txt is not UTF-8: byte 3 is 0xe9.*--skip-bad-records"):
        all_of(tmp_path)
    [task] = tokenizing.tasks(open_corpus(str(tmp_path), skip_bad=True).documents(), 100, 0.5)
    assert [text for text, _ in task.texts] == ["good"] and task.noted == {"empty": 1, "bad": 1}


def test_what_is_wrong_with_a_whole_file_is_never_passed_over(folder):
    data = bytearray(parquet_bytes({"text": [f"{i} text" for i in range(1000)]}))
    data[4:2000] = os.urandom(1996)
    for name, content in (("a.parquet", bytes(data)), ("b.parquet", b"PAR1")):
        with pytest.raises(ValueError, match=name):
            open_corpus(write(folder / name, content), skip_bad=True).sample(100)


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
    write(tmp_path / "a.txt", "one\n<|endoftext|>\ntwo")
    write(tmp_path / "b.jsonl", '{"body": "three"}')
    write(tmp_path / "c.parquet", parquet_bytes({"body": ["four", "five"]}))
    write(tmp_path / "d.txt", "")
    assert all_of(tmp_path, text_column="body") == ["one", "two", "three", "four", "five", ""]


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
    write(folder / "a.txt", "\n<|endoftext|>\n".join(f"a{i}" for i in range(7)))
    write(folder / "b.txt", "")
    write(folder / "c.jsonl", "".join(json.dumps({"text": f"c{i}"}) + "\n" for i in range(5)))
    write(folder / "d.parquet", parquet_bytes({"text": [f"d{i}" for i in range(9)]}, row_group_size=4))
    return str(folder)


def test_a_reader_goes_on_from_every_position(mixed):
    whole = list(open_corpus(mixed).documents())
    assert len(whole) == 22 and whole[7].pieces == []  # of the empty file
    for number, row in enumerate(whole, 1):
        assert list(open_corpus(mixed).documents(row.position)) == whole[number:]


def test_what_the_documents_of_text_files_are_is_said_and_belongs_to_the_source(mixed, folder):
    assert open_corpus(mixed).divided == (
        "1 text file, one document each, 1 text file, divided at <|endoftext|> lines")
    assert open_corpus(mixed, documents="lines").source["documents"] == "lines"
    found = open_corpus(write(folder / "a.jsonl", '{"text": "x"}'))
    assert not found.divided and "documents" not in found.source


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
