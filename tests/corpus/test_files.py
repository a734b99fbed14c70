"""What the readers of files promise: every document once, in little memory, and help where a file is bad."""

import itertools
import json
import os
import random
import re
import tracemalloc
from unittest.mock import patch

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus import files
from corpus.files import identity, numbered_json_lines, read_json, read_parquet
from tests.support.files import parquet_bytes, write
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


# ---- .jsonl, .json and .parquet


@pytest.mark.parametrize("line, complaint", [
    ('{"text": "cut o', "line 3: not valid JSON"),
    ('["a list"]', "line 3: expected an object"),
    ("[" * 100_000, "line 3: not valid JSON"),
])
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
    *((nested(depth), "more than 200 objects and arrays") for depth in (files.DEEPEST + 1, 980, 990, 1000, 100_000)),
    ("[" * 100_000, "within one another"), ('{"a": ' * 100_000, "within one another"),
    ('{"a": "' + "x" * 100_000, "Unterminated string"), ('{"a": "\\', "Unterminated string"),
    ('{"n": ' + "9" * 5000 + "}", "a number of 5,000 digits"), ('{"n": -' + "9" * 10**6 + "}", "a number of 1,000,001"),
    ('{"n": NaN}', "NaN is no number"), ('{"n": [-Infinity]}', "-Infinity is no number"),
    ('{"n": 1e999}', "a number too large: 1e999"), ('{"a": 1,}', "not valid JSON"), ('{"a": [1}', "not valid JSON"),
])
def test_json_and_jsonl_refuse_the_same_records_in_the_same_words(folder, text, complaint):
    said = list(of_each_kind(folder, text))
    assert all(isinstance(one, str) for one in said)
    assert all(re.search(complaint, one) for one in said)


@pytest.mark.parametrize("text", [
    nested(files.DEEPEST), '{"a": "' + "[{" * 10_000 + '"}', '{"a": "\\\\", "b": "\\"]}"}',
    '{"n": ' + "9" * 4000 + "}",
    '{"half": "\\ud83d", "f": 1.5e300, "d": {"d": [[], {}]}}',
])
def test_json_and_jsonl_read_the_same_records(folder, text):
    assert list(of_each_kind(folder, text)) == [[json.loads(text)]] * 2


@pytest.mark.parametrize("content", [
    b'[{"a": "' + b"x" * 10**7, b"[" + b'{"a": [' * 10**5, b"[" + b'{"a": 1}' * 10**5, b'"' + b"\\" * 10**7,
    b"7" * 10**7, b'{"a": [' + b"[]," * 10**5,
])
def test_what_does_not_end_is_refused_at_once_and_in_little_memory(folder, monkeypatch, content):
    monkeypatch.setattr(files, "RECORD_BYTES", 2**20)
    monkeypatch.setattr(files, "RECORD_PARTS", 2**14)
    path = write(folder / "endless.json", content)
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"{path}, line 1: "):
        list(records(read_json(path)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * 2**20


def test_a_record_of_too_many_parts_is_refused_before_it_is_decoded(folder, monkeypatch):
    monkeypatch.setattr(files, "RECORD_PARTS", 1000)
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


@pytest.mark.parametrize("blank", ["\n" * 100_000, "\ufeff" + " " * 100_000 + "\n" * 100_000])
@pytest.mark.parametrize("text", ['[{"a": 1}]', '{"a": 1}'])
def test_white_space_before_the_records_of_a_json_file_changes_only_their_lines(folder, blank, text):
    assert list(read_json(write(folder / "late.json", blank + text))) == [(100_001, {"a": 1})]


def test_records_that_together_are_longer_than_one_may_be_are_read(folder, monkeypatch):
    monkeypatch.setattr(files, "_JSON_BYTES", 50)
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
    with patch.object(files, "_JSON_BYTES", chunk):
        if isinstance(expected, list) and all(isinstance(record, dict) for record in expected):
            assert [record for _, record in read_json(path)] == expected
        else:
            with pytest.raises(ValueError, match="line [0-9]+: "):
                list(records(read_json(path)))


@pytest.mark.parametrize("text", ["word " * 400, "if (a) { return {}; }, {" * 80, '{"a": "b"}, {"c": {}}, ' * 80])
def test_a_large_array_is_read_in_little_memory(tmp_path, text):
    path = tmp_path / "large.json"
    path.write_text(json.dumps([{"instruction": "Write.", "output": text}] * 2100))
    assert path.stat().st_size > 4_000_000
    tracemalloc.start()
    count = sum(1 for _ in read_json(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 2100 and peak < 1_500_000


def test_one_huge_row_group_is_read_a_little_at_a_time(folder):
    """300,000 rows, 30 MB of text: the reader's own memory stays under a third of that."""
    path = str(folder / "group.parquet")
    rng = random.Random(1)
    rows = [rng.randbytes(50).hex() for _ in range(300_000)]
    pyarrow.parquet.write_table(pyarrow.table({"text": rows}), path, row_group_size=10**9, use_dictionary=False)
    assert pyarrow.parquet.ParquetFile(path).num_row_groups == 1
    before, most = pyarrow.total_allocated_bytes(), 0
    for number, record in enumerate(records(files.read_parquet(path, ["text"]))):
        assert record["text"] == rows[number]
        most = max(most, pyarrow.total_allocated_bytes() - before)
    assert number == len(rows) - 1
    assert most < 10_000_000


def test_a_long_text_that_a_thousand_rows_repeat_takes_little_memory(folder):
    """A file of some hundred bytes, and of a gigabyte if all rows were read at once."""
    one = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 1000, pyarrow.int32()), ["ab" * 2**19])
    path = str(folder / "dictionary.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"text": one}), path, dictionary_pagesize_limit=2**30, compression="zstd")
    before, most = pyarrow.total_allocated_bytes(), 0
    for _, record in itertools.islice(read_parquet(path, ["text"]), 200):
        assert record["text"] == "ab" * 2**19
        most = max(most, pyarrow.total_allocated_bytes() - before)
    assert most < 1.5 * files.BATCH_BYTES


@pytest.mark.parametrize("column", ["text", "large", "dictionary", "nested"])
def test_text_of_a_parquet_file_that_is_not_utf8_is_named_by_its_row(folder, column):
    values = pyarrow.array([b"one", b"tw\xff", b"three"]).view(pyarrow.string())
    if column == "large":
        values = pyarrow.array([b"one", b"tw\xff", b"three"], pyarrow.large_binary()).view(pyarrow.large_string())
    if column == "dictionary":
        values = values.dictionary_encode()
    if column == "nested":
        values = pyarrow.ListArray.from_arrays([0, 1, 2, 3], values)
    path = write(folder / "bad.parquet", parquet_bytes({"n": [1, 2, 3], column: values}))
    found = list(read_parquet(path))
    assert [number for number, _ in found] == [1, 2, 3]
    assert [record["n"] for _, record in found[::2]] == [1, 3]
    assert str(found[1][1]) == f"{path}, row 2: column {column!r} is not UTF-8 (byte 0xff)"


def test_a_value_that_python_cannot_hold_is_named_by_its_row(folder):
    days = pyarrow.array([0, 10**12], pyarrow.int64()).cast(pyarrow.timestamp("s"))
    path = write(folder / "late.parquet", parquet_bytes({"day": days}))
    [(_, first), (_, second)] = read_parquet(path)
    assert first["day"].year == 1970 and f"{path}, row 2: column 'day' cannot be read" in str(second)


# ---- what a file is known again by


def test_a_file_is_known_by_its_size_and_its_content_wherever_and_whenever_it_was_written(tmp_path):
    for name, time in (("a.txt", 1), ("b.txt", 2)):
        (tmp_path / name).write_bytes(b"the same " * 200_000)
        os.utime(tmp_path / name, (time, time))
    assert identity(tmp_path / "a.txt") == identity(tmp_path / "b.txt")
    assert identity(tmp_path / "a.txt")["bytes"] == 1_800_000


@pytest.mark.parametrize("size", [1, 2, 65_536, 65_537, 300_000, 8 * 65_536])
def test_any_other_byte_makes_another_file_of_one_of_half_a_megabyte(tmp_path, size):
    (tmp_path / "a.bin").write_bytes(bytes(size))
    known = identity(tmp_path / "a.bin")
    for place in {0, 1, size // 3, size // 2, 5 * size // 7, size - 1} & set(range(size)):
        data = bytearray(size)
        data[place] = 1
        (tmp_path / "a.bin").write_bytes(data)
        assert identity(tmp_path / "a.bin") != known


def test_of_a_huge_file_head_tail_and_whatever_has_moved_is_noticed_at_once(tmp_path):
    size, identities = 10**11, []
    for place in (None, 0, 65_535, size - 65_536, size - 1):
        with open(tmp_path / "a.bin", "wb") as file:
            file.truncate(size)  # sparse: it takes no room
            if place is not None:
                file.seek(place)
                file.write(b"x")
        identities.append(identity(tmp_path / "a.bin")["hash"])
    assert len(set(identities)) == 5
