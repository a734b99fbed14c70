"""Instruction records: which field is which, and what is said of files that hold none."""

import json
from unittest.mock import patch

import pytest

from backchat.records import blank_lines, full_instruction, pair, read_file, read_records, response, shape_of
from tests.support.tiny import RECORDS, write_lines

# ---- fields


@pytest.mark.parametrize("record, shape, expected", [
    ({"instruction": "Add.", "input": "1 2", "output": "3"}, "instruction, input, output", ("Add.", "1 2", "3")),
    ({"instruction": "Hi", "output": "Ho"}, "instruction, output", ("Hi", "", "Ho")),
    ({"instruction": "Hi", "input": None, "output": "Ho"}, "instruction, input, output", ("Hi", "", "Ho")),
    ({"instruction": "Sum", "context": "text", "response": "gist", "category": "x"}, "instruction, context, response",
     ("Sum", "text", "gist")),
    ({"instruction": "Hi", "output": None, "response": "Ho"}, "instruction, response", ("Hi", "", "Ho")),
    ({"prompt": "Hi", "completion": "Ho"}, "prompt, completion", ("Hi", "", "Ho")),
    ({"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"},
                   {"role": "assistant", "content": "Ho"}, {"role": "user", "content": "More"},
                   {"role": "assistant", "content": "No"}]}, "messages", ("Hi", "", "Ho")),
    ({"prompt": "Hi", "messages": [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}]},
     "messages", ("A", "", "B")),
])
def test_each_usual_shape_is_known_by_its_fields(record, shape, expected):
    assert shape_of(record) == shape and pair(record) == expected


@pytest.mark.parametrize("record, found", [
    ({"question": "Hi", "answer": "Ho"}, "found question, answer"),
    ({}, "found no fields"),
    ({"instruction": "Hi"}, "found instruction"),
    ({"instruction": "Hi", "output": 7}, "'output' holds int"),
    ({"messages": "Hi"}, "list of turns"),
    ({"messages": [{"role": "assistant", "content": "Ho"}, {"role": "user", "content": "Hi"}]}, "assistant, user"),
    ({"messages": []}, "found no turns"),
    ({"messages": [{"role": "user", "content": ["Hi"]}, {"role": "assistant", "content": "B"}]}, "holds list"),
])
def test_a_record_that_is_no_pair_is_an_error_with_its_place_and_what_was_found(record, found):
    with pytest.raises(ValueError) as error:
        pair(record, "a.jsonl, line 3")
    assert str(error.value).startswith("a.jsonl, line 3: ") and found in str(error.value)


def test_an_input_follows_the_instruction_after_one_newline_and_an_empty_one_leaves_no_trace():
    assert full_instruction("Add these.", "1 2") == "Add these.\n1 2"
    assert full_instruction("Say hello.", "") == full_instruction("Say hello.", " \n") == "Say hello."


# ---- files


def test_every_kind_of_file_gives_the_same_records_and_says_where_they_stand(tmp_path):
    import pyarrow
    import pyarrow.parquet
    found = RECORDS[:5]
    write_lines(tmp_path / "lines.jsonl", found)
    write_lines(tmp_path / "objects.json", found)
    (tmp_path / "array.json").write_text(json.dumps(found))
    (tmp_path / "indented.json").write_text("\ufeff" + json.dumps(found, indent=2), encoding="utf-8")
    (tmp_path / "one.json").write_text(json.dumps(found[0], indent=2))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(found), tmp_path / "rows.parquet")
    read = {path.name: list(read_file(path)) for path in tmp_path.iterdir()}
    assert [record for _, record in read.pop("one.json")] == found[:1]
    assert all([record for _, record in one] == found for one in read.values())
    assert {name: one[2][0].rpartition(", ")[2] for name, one in read.items()} == {
        "lines.jsonl": "line 3", "objects.json": "line 3", "array.json": "line 1", "indented.json": "line 12",
        "rows.parquet": "row 3"}
    everything = [record for _, record in read_records(f"{tmp_path}/lines.jsonl,{tmp_path}/*.parquet")]
    assert everything == found * 2


def test_a_text_file_gives_a_response_a_line(tmp_path):
    (tmp_path / "a.txt").write_bytes("One \u00e9.\r\n\n  Two.\n".encode())
    assert [(where[-6:], response(record)[1]) for where, record in read_file(tmp_path / "a.txt")
            ] == [("line 1", "One \u00e9."), ("line 3", "  Two.")]
    assert blank_lines(tmp_path / "a.txt") == 1


@pytest.mark.parametrize("name, content, place, found", [
    ("a.jsonl", b'{"a": 1}\n{"b": \n', "line 2", "not valid JSON"),
    ("a.jsonl", b'{"a": 1}\n\n[1]\n', "line 3", "found '[1]'"),
    ("a.jsonl", b'{"a": "\xe9"}\n', "line 1", "is 0xe9"),
    ("a.json", b'[{"a": 1},\n{"b": 2}\n{"c": 3}]', "line 3", "a comma or the end of the array), found"),
    ("a.json", b'[{"a": 1},\n{"b" 2}]', "line 2", "not valid JSON"),
    ("a.json", b'[{"a": 1},\n2]', "line 2", "expected an object with fields, found '2"),
    ("a.json", b'[{"a": 1},\n[2]]', "line 2", "expected an object with fields, found '["),
    ("a.json", b'{"a": 1}\n2', "line 2", "expected an object with fields, found '2"),
    ("a.json", b'[{"a": 1},\n{"b": 2}', "line 2", "found the end of the file"),
    ("a.json", b'[{"a": 1}]\n{"b": 2}', "line 2", "not valid JSON (expected nothing after the end of the array"),
    ("a.json", b'[{"a": 1},\n{"b": "\xe9"}]', "line 2", "is 0xe9"),
    ("a.txt", b"One.\nTwo \xe9.\n", "line 2", "byte 9 is 0xe9"),
    ("a.parquet", b"PAR1 and no more", "a.parquet", "not a whole Parquet file"),
    ("a.csv", b"", "a.csv", "of no known kind"),
])
def test_a_file_that_cannot_be_read_is_named_with_the_line_and_what_was_found(tmp_path, name, content, place, found):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError) as error:
        list(read_file(tmp_path / name))
    assert str(tmp_path / name) in str(error.value) and place in str(error.value) and found in str(error.value)


@pytest.mark.parametrize("name, content", [
    ("a.json", b'[{"a": 1}, 7, {"a": 2},\n{"b" 3}, {"a": "\xff"}, {"a": nan}]'),
    ("a.jsonl", b'{"a": 1}\n7\n{"a": 2}\n{"b" 3}\n{"a": "\xff"}\n{"a": nan}\n'),
])
def test_records_that_are_bad_by_themselves_may_be_passed_over(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    bad = []
    assert [record for _, record in read_file(tmp_path / name, bad.append)] == [{"a": 1}, {"a": 2}]
    assert len(bad) == 4 and all(f"{tmp_path / name}, line " in str(error) for error in bad)
    with pytest.raises(ValueError, match="expected an object with fields, found '7'"):
        list(read_file(tmp_path / name))


def test_the_hub_is_asked_for_open_instruct_and_without_it_the_error_says_what_else_there_is():
    for dataset in ("open-instruct", "hakurei/open-instruct-v1"):
        with patch("huggingface_hub.HfApi.dataset_info"), patch("datasets.load_dataset") as load:
            load.return_value = RECORDS[:2]
            assert list(read_records(dataset)) == [("hakurei/open-instruct-v1, record 1", RECORDS[0]),
                                                   ("hakurei/open-instruct-v1, record 2", RECORDS[1])]
        load.assert_called_once_with(path="hakurei/open-instruct-v1", split="train", streaming=True)
    with patch("huggingface_hub.HfApi.dataset_info", side_effect=ConnectionError("no route")):
        with pytest.raises(OSError, match="no route(.|\n)*python preprocess_instruct.py --dataset tales"):
            next(read_records("open-instruct"))
