"""What the readers of files promise: every document once, in little memory, and help where a file is bad."""

import json
import os
import random
import tracemalloc
from unittest.mock import patch

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus import files
from corpus.files import expand_paths, identity, read_json, read_json_lines, read_text_file
from tests.support.files import write
from tests.support.texts import few
from tokenizer import EOS_PIECE

words = st.text(alphabet="aé語🙂 .", min_size=1, max_size=12).filter(lambda text: text.strip())


def texts(path):
    return [record["text"] for record in read_text_file(path)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("corpus")


# ---- text files


@few
@given(documents=st.lists(st.lists(words, min_size=1, max_size=3), max_size=6), newline=st.sampled_from(["\n", "\r\n"]),
       bom=st.booleans(), final=st.booleans(), marked=st.booleans())
def test_a_text_file_gives_its_documents_back(folder, documents, newline, bom, final, marked):
    """Whatever ends its lines, with or without a byte order mark or a newline at the end."""
    between = "\n<|endoftext|>\n" if marked else "\n\n"
    documents = ["\n".join(lines) for lines in documents] + (["the last"] if marked else [])
    content = (between if marked else "") + between.join(documents) + ("\n" if final else "")
    content = (b"\xef\xbb\xbf" if bom else b"") + content.replace("\n", newline).encode()
    assert texts(write(folder / "a.txt", content)) == documents


def test_blank_lines_stay_where_marker_lines_divide(folder):
    assert texts(write(folder / "a.txt", "one\n\ntwo\n<|endoftext|>\nthree\n\n\n")) == ["one\n\ntwo", "three"]


def test_what_divides_the_documents_of_a_file_is_the_piece_that_ends_one():
    assert files.DIVIDER == EOS_PIECE


def test_a_marker_within_a_line_divides_nothing(folder):
    path = write(folder / "a.txt", "say <|endoftext|>\nand go on\n\nnext")
    assert texts(path) == ["say <|endoftext|>\nand go on", "next"]


@few
@given(text=st.text(alphabet="aé語🙂\n <", max_size=200), limit=st.integers(32, 64), marked=st.booleans())
def test_a_document_over_the_limit_is_cut_between_characters_and_loses_nothing(folder, text, limit, marked):
    """A piece that cut a character would not decode. Newlines around a document do not count as part of it."""
    text = f"x{text}x"
    path = write(folder / "a.txt", text.replace("\n", "\r\n") + "\r\n<|endoftext|>" * marked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "PIECE_BYTES", limit)
        pieces = texts(path)
    expected = text if marked else "".join(part.strip("\n") for part in divided(text))
    assert "".join(pieces).replace("\n", "") == expected.replace("\n", "")
    if marked:
        assert "".join(pieces) == expected
    assert all(len(piece.encode()) <= limit + 3 for piece in pieces)


def divided(text):
    """Documents between lines that hold nothing but white space, by a slow second way."""
    found = [[]]
    for line in text.split("\n"):
        found.append([]) if not line.strip() else found[-1].append(line)
    return ["\n".join(lines) for lines in found]


def test_one_long_line_is_read_in_pieces_of_the_limit(folder):
    line = "é" * (3 * files.PIECE_BYTES // 2 + 1)
    pieces = texts(write(folder / "a.txt", line))
    assert "".join(pieces) == line and len(pieces) > 2


@few
@given(before=st.lists(words, max_size=6), after=st.lists(words, max_size=3), bom=st.booleans(),
       joined=st.sampled_from(["\n", "\n\n", "\n<|endoftext|>\n", ""]), limit=st.sampled_from([8, 16, 2**20]),
       bad=st.sampled_from([b"\xff", b"\x80", b"\xc3(", b"\xf0\x9f\x99 ", b"\xed\xa0\x80", b"\xe8\xaa"]))
def test_a_file_that_is_not_utf8_is_named_with_the_very_byte(folder, before, after, bom, joined, limit, bad):
    data = joined.join([*before, ""]).encode()
    data = b"\xef\xbb\xbf" * bom + data + b"x" + bad + joined.join(["", *after]).encode()
    path = write(folder / "a.txt", data)
    with pytest.raises(UnicodeDecodeError) as python:
        data.decode("utf-8")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ValueError) as error:
        patch.setattr(files, "PIECE_BYTES", limit)
        texts(path)
    at = python.value.start
    assert f"{path} is not UTF-8: byte {at:,} is 0x{data[at]:02x}" in str(error.value)
    assert "iconv" in str(error.value)


# ---- .jsonl, .json and .parquet


@pytest.mark.parametrize("line, complaint", [
    ('{"text": "cut o', "line 3: not valid JSON"),
    ('["a list"]', "line 3: expected an object"),
    ("[" * 100_000, "line 3: not valid JSON"),
])
def test_a_bad_line_of_a_jsonl_file_is_named(folder, line, complaint):
    path = write(folder / "a.jsonl", '{"text": "fine"}\n\n' + line + "\n")
    with pytest.raises(ValueError, match=complaint) as error:
        list(read_json_lines(path))
    assert path in str(error.value)


@few
@given(before=st.lists(words, max_size=4), bom=st.booleans())
def test_a_jsonl_file_that_is_not_utf8_is_named_with_line_and_byte(folder, before, bom):
    lines = [json.dumps({"text": word}, ensure_ascii=False) + "\n" for word in before]
    data = b"\xef\xbb\xbf" * bom + "".join(lines).encode()
    path = write(folder / "a.jsonl", data + b'{"text": "\xff"}\n')
    with pytest.raises(ValueError, match=f"line {len(before) + 1}, is not UTF-8: byte {len(data) + 10:,} is 0xff"):
        list(read_json_lines(path))


def test_a_record_too_long_for_memory_is_refused_by_its_line(folder, monkeypatch):
    monkeypatch.setattr(files, "RECORD_BYTES", 100)
    path = write(folder / "a.jsonl", '{"text": "short"}\n' + json.dumps({"text": "x" * 200}))
    with pytest.raises(ValueError, match="line 2: longer than 100 bytes"):
        list(read_json_lines(path))
    path = write(folder / "a.json", '[{"text": "short"},\n' + json.dumps({"text": "x" * 200}) + "]")
    with pytest.raises(ValueError, match=r"a\.json, line 2: a record of more than 100 bytes"):
        list(read_json(path))


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
    assert list(read_json_lines(write(folder / "a.jsonl", "\n".join(map(json.dumps, found))))) == found
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
                list(read_json(path))


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
    for number, record in enumerate(files.read_parquet(path, ["text"])):
        assert record["text"] == rows[number]
        most = max(most, pyarrow.total_allocated_bytes() - before)
    assert number == len(rows) - 1
    assert most < 10_000_000


# ---- paths


def test_folders_globs_and_lists_name_the_same_files(tmp_path):
    (tmp_path / "deep").mkdir()
    files = [write(tmp_path / name, "x") for name in ("a.txt", "b.jsonl", "deep/c.txt")]
    write(tmp_path / "notes.md", "not a corpus")
    assert expand_paths(tmp_path) == files
    assert expand_paths(f"{tmp_path}/**/*.txt") == [files[0], files[2]]
    assert expand_paths(", ".join([files[2], files[0], f"{tmp_path}/*.txt"])) == [files[2], files[0]]


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
