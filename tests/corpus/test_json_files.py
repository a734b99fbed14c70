"""What reading .jsonl and .json promises: every record once, in little memory, and help where a file is bad."""

import json
import re
import tracemalloc
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus import files, json_files
from corpus.json_files import numbered_json_lines, read_json
from tests.support.files import begins, write
from tests.support.texts import few

words = st.text(alphabet="aé語🙂 .", min_size=1, max_size=12).filter(lambda text: text.strip())


def records(found):
    """Records without their places; raises the first error."""
    for _, record in found:
        if isinstance(record, ValueError):
            raise record
        yield record


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("corpus")


@pytest.mark.parametrize("line, complaint", [
    ('{"text": "cut o', "line 3: not valid JSON"),
    ('["a list"]', "line 3: expected an object"),
    ("[" * 100_000, "line 3: not valid JSON"),
], ids=begins)
def test_a_bad_line_of_a_jsonl_file_is_named(folder, line, complaint):
    path = write(folder / "a.jsonl", '{"text": "fine"}\n\n' + line + "\n")
    with pytest.raises(ValueError, match=complaint) as error:
        list(records(numbered_json_lines(path)))
    assert path in str(error.value)


@few
@given(before=st.lists(words, max_size=4), bom=st.booleans())
def test_a_jsonl_file_that_is_not_utf8_is_named_with_line_and_byte(folder, before, bom):
    lines = [json.dumps({"text": word}, ensure_ascii=False) + "\n" for word in before]
    data = b"\xef\xbb\xbf" * bom + "".join(lines).encode()
    path = write(folder / "a.jsonl", data + b'{"text": "\xff"}\n')
    with pytest.raises(ValueError, match=f"line {len(before) + 1}, is not UTF-8: byte {len(data) + 10:,} is 0xff"):
        list(records(numbered_json_lines(path)))


def test_a_record_too_long_for_memory_is_refused_by_its_line(folder, monkeypatch):
    monkeypatch.setattr(files, "RECORD_BYTES", 100)
    path = write(folder / "a.jsonl", '{"text": "short"}\n' + json.dumps({"text": "x" * 200}))
    with pytest.raises(ValueError, match="line 2: longer than 100 bytes"):
        list(records(numbered_json_lines(path)))
    path = write(folder / "a.json", '[{"text": "short"},\n' + json.dumps({"text": "x" * 200}) + "]")
    with pytest.raises(ValueError, match=r"a\.json, line 2: a record of more than 100 bytes"):
        list(records(read_json(path)))


def nested(depth, inner="1"):
    return '{"a": ' + "[" * (depth - 1) + inner + "]" * (depth - 1) + "}"


def of_each_kind(folder, text):
    """The records, or what is wrong with the first bad one, of a file of either kind that holds one record."""
    for name, read in (("a.json", read_json), ("a.jsonl", numbered_json_lines)):
        path = write(folder / name, text)
        try:
            yield list(records(read(path)))
        except ValueError as error:
            assert f"{path}, line 1: " in str(error)
            yield str(error).partition("line 1: ")[2]


@pytest.mark.parametrize("text, complaint", [
    *((nested(n), "more than 200 objects and arrays") for n in (json_files.DEEPEST + 1, 980, 990, 1000, 100_000)),
    ("[" * 100_000, "within one another"), ('{"a": ' * 100_000, "within one another"),
    ('{"a": "' + "x" * 100_000, "Unterminated string"), ('{"a": "\\', "Unterminated string"),
    ('{"n": ' + "9" * 5000 + "}", "a number of 5,000 digits"), ('{"n": -' + "9" * 10**6 + "}", "a number of 1,000,001"),
    *((f'{{"a": {wrong}}}', "not valid JSON") for wrong in ("nan", "Infinit", "1,", "[1", "01", "")),
], ids=begins)
def test_json_and_jsonl_refuse_the_same_records_in_the_same_words(folder, text, complaint):
    said = list(of_each_kind(folder, text))
    assert all(isinstance(one, str) for one in said)
    assert all(re.search(complaint, one) for one in said)


@pytest.mark.parametrize("text", [
    nested(json_files.DEEPEST), '{"a": "' + "[{" * 10_000 + '"}', '{"a": "\\\\", "b": "\\"]}"}',
    '{"n": ' + "9" * 4000 + "}", '{"n": [NaN, -Infinity, 1e999]}',
    '{"half": "\\ud83d", "f": 1.5e300, "d": {"d": [[], {}]}}',
], ids=begins)
def test_json_and_jsonl_read_the_same_records(folder, text):
    assert str(list(of_each_kind(folder, text))) == str([[json.loads(text)]] * 2)


@pytest.mark.parametrize("content", [
    b'[{"a": "' + b"x" * 10**7, b"[" + b'{"a": [' * 10**5, b"[" + b'{"a": 1}' * 10**5, b'"' + b"\\" * 10**7,
    b"7" * 10**7, b'{"a": [' + b"[]," * 10**5,
], ids=begins)
def test_what_does_not_end_is_refused_at_once_and_in_little_memory(folder, monkeypatch, content):
    monkeypatch.setattr(files, "RECORD_BYTES", 2**20)
    monkeypatch.setattr(json_files, "RECORD_PARTS", 2**14)
    path = write(folder / "endless.json", content)
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"{path}, line 1: "):
        list(records(read_json(path)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * 2**20


def test_a_record_of_too_many_parts_is_refused_before_it_is_decoded(folder, monkeypatch):
    monkeypatch.setattr(json_files, "RECORD_PARTS", 1000)
    for inner in ("[]", "{}", '""'):
        for text, fits in ((",".join([inner] * 900), True), (",".join([inner] * 3000), False)):
            for found in of_each_kind(folder, f'{{"a": [{text}]}}'):
                assert fits == isinstance(found, list) or "a record of more than" in found


def test_after_a_line_too_long_the_next_is_read(folder, monkeypatch):
    monkeypatch.setattr(files, "RECORD_BYTES", 100)
    path = write(folder / "a.jsonl", "\n".join(['{"a": 1}', '"' + "x" * 1000 + '"', '{"a": "é"}', "x" * 99, "y" * 300]))
    found = list(numbered_json_lines(path))
    assert [number for number, _ in found] == [1, 2, 3, 4, 5]
    assert [type(record) for _, record in found] == [dict, ValueError, dict, ValueError, ValueError]


@pytest.mark.parametrize("text", ["", "\n \n", "\ufeff", "[]", "\ufeff\n[ ]\n"])
def test_a_json_file_without_records_gives_none(folder, text):
    assert list(read_json(write(folder / "none.json", text))) == []


@pytest.mark.parametrize("blank", ["\n" * 100_000, "\ufeff" + " " * 100_000 + "\n" * 100_000], ids=begins)
@pytest.mark.parametrize("text", ['[{"a": 1}]', '{"a": 1}'], ids=begins)
def test_white_space_before_the_records_of_a_json_file_changes_only_their_lines(folder, blank, text):
    assert list(read_json(write(folder / "late.json", blank + text))) == [(100_001, {"a": 1})]


def test_records_that_together_are_longer_than_one_may_be_are_read(folder, monkeypatch):
    monkeypatch.setattr(json_files, "_READ_BYTES", 50)
    monkeypatch.setattr(files, "RECORD_BYTES", 150)
    found = [{"text": f"{number} " + "x" * 60} for number in range(20)]
    assert list(records(numbered_json_lines(write(folder / "a.jsonl", "\n".join(map(json.dumps, found)))))) == found
    for text in (json.dumps(found), json.dumps(found, indent=1), "\n\n".join(map(json.dumps, found))):
        assert [record for _, record in read_json(write(folder / "a.json", text))] == found


JSON_OBJECTS = st.lists(st.dictionaries(st.text(max_size=3), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=4),
    max_size=3), max_size=4)


@settings(max_examples=60, deadline=None)
@given(found=JSON_OBJECTS, indent=st.sampled_from([None, 1]), ascii=st.booleans(),
       chunk=st.integers(1, 9) | st.integers(10, 60),
       at=st.integers(0, 200), put=st.sampled_from(["", ",", "]", "}", "[", '"', " \n", "x"]))
def test_a_json_file_read_piece_by_piece_gives_what_reading_it_whole_gives(
        tmp_path_factory, found, indent, ascii, chunk, at, put):
    path = tmp_path_factory.getbasetemp() / "pieces.json"
    text = json.dumps(found, indent=indent, ensure_ascii=ascii)
    if put:
        text = text[:at] + put + text[at:]
    try:
        data = text.encode()
    except UnicodeEncodeError:
        data = json.dumps(found, indent=indent).encode()
    path.write_bytes(data)
    try:
        expected = json.loads(data)
    except ValueError:
        expected = None
    with patch.object(json_files, "_READ_BYTES", chunk):
        if isinstance(expected, list) and all(isinstance(record, dict) for record in expected):
            assert [record for _, record in read_json(path)] == expected
        else:
            with pytest.raises(ValueError, match="line [0-9]+: "):
                list(records(read_json(path)))


@pytest.mark.parametrize("text", ["word " * 400, "if (a) { return {}; }, {" * 80, '{"a": "b"}, {"c": {}}, ' * 80],
                         ids=begins)
def test_a_large_array_is_read_in_little_memory(tmp_path, text):
    path = tmp_path / "large.json"
    path.write_text(json.dumps([{"instruction": "Write.", "output": text}] * 2100))
    assert path.stat().st_size > 4_000_000
    tracemalloc.start()
    count = sum(1 for _ in read_json(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 2100 and peak < 1_500_000
