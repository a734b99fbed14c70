"""What is evaluated on: the split that belongs to a checkpoint, files spread evenly, and help where nothing is there.
"""

import json
from types import SimpleNamespace

import pytest

from backchat.records import full_instruction
from evaluation import data
from shards import fingerprint, split_of
from tests.support.files import parquet_bytes, write
from tests.support.tiny import RECORDS, TEXTS, make_shards, write_lines
from tokenizer import Tokenizer


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder of the shards of TEXTS, in a folder of such folders."""
    folder = tmp_path_factory.mktemp("data") / "tiny"
    make_shards(folder)
    return folder


def opened(folder, kind="base", **settings):
    return SimpleNamespace(path="out/x.pt", kind=kind, settings={"data": fingerprint(folder), **settings},
                           tokenizer=Tokenizer.load(next(folder.glob("tok*.model"))))


def test_the_shards_of_a_model_are_known_by_their_fingerprint_wherever_they_lie(corpus, tmp_path):
    assert data.own_folder(opened(corpus), root=corpus.parent) == corpus
    assert data.own_folder(opened(corpus), data_dir=corpus, root=tmp_path) == corpus
    assert data.own_folder(opened(corpus), root=tmp_path) is None
    assert data.own_folder(opened(corpus, data="0" * 16), root=corpus.parent) is None


def test_where_no_held_out_split_matches_it_is_said_what_helps(corpus):
    with pytest.raises(FileNotFoundError, match="No folder in data/ holds the shards that out/x.pt was trained on"
                       "(.|\n)*--data-dir(.|\n)*--eval-data(.|\n)*python preprocess_xcoax.py"):
        data.folder_of(opened(corpus), None, None)
    with pytest.raises(ValueError, match="of a model of the kind 'base', out/x.pt is of the kind 'instruct'"):
        data.folder_of(opened(corpus, "instruct"), corpus, None)


def test_the_documents_of_a_split_are_those_that_the_split_holds_out_as_a_person_reads_them(corpus):
    expected = [(text, None) for text in TEXTS if split_of(text, 0.1) == "val"]
    assert data.documents_of_split(corpus, 10_000) == expected
    few = data.documents_of_split(corpus, 3)
    assert few == [expected[0], expected[(len(expected) - 1) // 2], expected[-1]]


def test_documents_of_files_are_spread_evenly_with_the_source_that_a_column_tells(tmp_path):
    path = write(tmp_path / "a.parquet", parquet_bytes({"text": [f"Text {n}." for n in range(100)],
                                                        "dump": [f"part {n // 50}" for n in range(100)]}))
    found, empty = data.documents_of_corpus(str(path), 5)
    assert len(found) == 5 and {source for _, source in found} == {"part 0", "part 1"} and empty == 0
    lines = [{"text": f"Line {n}.", "from": n % 2} for n in range(6)]
    path = write_lines(tmp_path / "b.jsonl", lines)
    assert data.documents_of_corpus(str(path), 9, source_column="from")[0] == [
        (line["text"], str(line["from"])) for line in lines]
    assert {source for _, source in data.documents_of_corpus(str(path), 9)[0]} == {None}


def test_empty_texts_are_passed_over_and_counted_and_files_of_nothing_else_are_an_error(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [{"text": "A."}, {"text": " \n"}, {"text": None}, {"text": "B."}])
    assert data.documents_of_corpus(str(path), 9) == ([("A.", None), ("B.", None)], 2)
    with pytest.raises(ValueError, match="empty.jsonl holds no text to evaluate on"):
        data.documents_of_corpus(str(write_lines(tmp_path / "empty.jsonl", [{"text": ""}])), 9)
    path = write_lines(tmp_path / "pairs.jsonl", [{"instruction": "A?", "output": "B.", "source": "x"},
                                                  {"instruction": " ", "output": "B."}, {"prompt": "C?", "output": ""}])
    assert data.pairs_of_file(str(path), 9) == ([("B.", "A?", "x")], 2)
    with pytest.raises(ValueError, match="none.jsonl holds no record that can be used: all 1 lack"):
        data.pairs_of_file(str(write_lines(tmp_path / "none.jsonl", [{"instruction": "", "output": "x"}])), 9)


def test_a_file_without_the_fields_is_an_error_that_names_those_it_has(tmp_path):
    path = write(tmp_path / "a.jsonl", json.dumps({"body": "Text."}) + "\n")
    with pytest.raises(ValueError, match="no column 'text'; it has 'body'"):
        data.documents_of_corpus(str(path), 9)
    with pytest.raises(ValueError, match="a.jsonl, line 1: expected instruction and output .*; found body"):
        data.pairs_of_file(str(path), 9)


def test_the_pairs_of_a_split_are_the_records_that_it_holds_out(data_folder, tokenizer):
    instructions = {full_instruction(record["instruction"], record["input"]): record["output"] for record in RECORDS}
    held, known = (data.pairs_of_split(data_folder, tokenizer, split) for split in ("val", "train"))
    assert sorted(instruction for _, instruction, _ in held + known) == sorted(instructions)
    assert all(instructions[instruction].startswith(response) for response, instruction, _ in held + known)
    assert not {response for response, *_ in held} & {response for response, *_ in known}
    assert len(data.pairs_of_split(data_folder, tokenizer, most=4)) == 4 and held[0][2] is None


@pytest.fixture(scope="module")
def data_folder(base, tmp_path_factory):
    from tests.support.instruct import make_examples
    return make_examples(tmp_path_factory.mktemp("instruct"), base)


@pytest.mark.parametrize("count, most", [(0, 5), (3, 5), (100, 7), (1000, 1)])
def test_some_of_many_are_spread_evenly_and_never_more_than_wanted(count, most):
    found = data.thinned(iter(range(count)), most)
    assert len(found) == min(count, most) and found == sorted({*found})
    gaps = [b - a for a, b in zip(found, found[1:])]
    assert not gaps or max(gaps) <= 2 * max(1, min(gaps)) and found[-1] >= 0.8 * (count - 1)
