"""What reading a text file promises: its documents, none lost and none torn apart, in little memory."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus import text_files
from corpus.text_files import cut, division_of, in_words, read_text_file
from tests.support.files import begins, write
from tests.support.texts import few
from tokenizer import EOS_PIECE

words = st.text(alphabet="aé語🙂 .", min_size=1, max_size=12).filter(lambda text: text.strip())


def texts(path, documents="auto"):
    return [row["text"] for row in read_text_file(path, division_of(path, documents))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("corpus")


# ---- what is a document


@few
@given(documents=st.lists(st.lists(words, min_size=1, max_size=3), max_size=6), newline=st.sampled_from(["\n", "\r\n"]),
       bom=st.booleans(), final=st.booleans(), marked=st.booleans())
def test_a_text_file_gives_its_documents_back(folder, documents, newline, bom, final, marked):
    """Whatever ends its lines, with or without a byte order mark or a newline at the end."""
    between = "\n<|endoftext|>\n" if marked else "\n\n"
    documents = ["\n".join(lines) for lines in documents] + (["the last"] if marked else [])
    content = (between if marked else "") + between.join(documents) + ("\n" if final else "")
    content = (b"\xef\xbb\xbf" if bom else b"") + content.replace("\n", newline).encode()
    assert texts(write(folder / "a.txt", content), "auto" if marked else "paragraphs") == documents


def test_a_file_is_one_document_whatever_blank_lines_it_has(folder):
    story = "It was night.\n\nA dog barked.\n\n\n \nNobody came."
    assert texts(write(folder / "a.txt", f"\n\n{story}\n\n")) == [story]


def test_blank_lines_stay_where_divider_lines_divide(folder):
    assert texts(write(folder / "a.txt", "one\n\ntwo\n<|endoftext|>\nthree\n\n\n")) == ["one\n\ntwo", "three"]


@pytest.mark.parametrize("documents, expected", [
    ("auto", ["one\ntwo\n\nthree", "four"]),
    ("files", ["one\ntwo\n\nthree\n <|endoftext|>\nfour"]),
    ("paragraphs", ["one\ntwo", "three", "four"]),
    ("lines", ["one", "two", "three", "four"]),
])
def test_one_may_say_what_a_document_is(folder, documents, expected):
    assert texts(write(folder / "a.txt", "one\ntwo\n\nthree\n <|endoftext|>\nfour\n"), documents) == expected


def test_what_divides_the_documents_of_a_file_is_the_piece_that_ends_one():
    assert text_files.DIVIDER == EOS_PIECE


def test_a_divider_within_a_line_divides_nothing(folder):
    text = "say <|endoftext|>\nand go on\n\nnext"
    assert texts(write(folder / "a.txt", text)) == [text]


@pytest.mark.parametrize("before", [0, 1, 20, 2**20 - 20, 2**20 - 5, 2**20])
def test_a_divider_is_found_wherever_it_stands(folder, before):
    path = write(folder / "a.txt", "x" * before + "\n<|endoftext|>\nb")
    assert texts(path)[-1] == "b"


def test_how_files_are_divided_is_said_in_one_line():
    assert in_words(["files"] * 2 + ["dividers"]) == (
        "2 text files, one document each, 1 text file, divided at <|endoftext|> lines")


# ---- documents longer than a book


@few
@given(text=st.text(alphabet="aé語🙂\n <", max_size=200), limit=st.integers(4, 64), read=st.integers(32, 64),
       documents=st.sampled_from(["auto", "files", "paragraphs", "lines"]))
def test_a_long_document_comes_in_the_pieces_that_cut_makes_of_it(folder, text, limit, read, documents):
    """A piece that cut a character would not decode. Newlines around a document do not count as part of it."""
    text = f"x{text}x"
    path = write(folder / "a.txt", text.replace("\n", "\r\n") + "\r\n<|endoftext|>" * (documents == "auto"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "_READ_BYTES", read)
        patch.setattr(text_files, "MAX_DOCUMENT_CHARACTERS", limit)
        rows = list(read_text_file(path, division_of(path, documents)))
        whole = {"lines": [line for line in text.split("\n") if line.strip()], "paragraphs": divided(text)}.get(
            documents, [text])
        found = []
        for row in rows:
            if row["goes_on"]:
                found[-1].append(row["text"])
            else:
                found.append([row["text"]])
            assert row["head"] in (None, found[-1][0])
        assert ["".join(pieces) for pieces in found] == whole
        assert all(len(piece) <= limit for pieces in found for piece in pieces)
        for pieces, document in zip(found, whole):
            assert pieces == list(cut(document))
        assert [row["head"] is not None for row in rows] == [len(pieces) > 1 for pieces in found for _ in pieces]


def divided(text):
    """Documents between lines that hold nothing but white space, by a slow second way."""
    found = [[]]
    for line in text.split("\n"):
        found.append([]) if not line.strip() else found[-1].append(line)
    return ["\n".join(lines) for lines in found if lines]


@few
@given(text=st.text(alphabet="ab\n🙂", max_size=3000), limit=st.integers(1, 500))
def test_cut_pieces_joined_are_the_text(text, limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "MAX_DOCUMENT_CHARACTERS", limit)
        pieces = list(cut(text))
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= limit


@pytest.mark.parametrize("content", ["é" * 5_000_000, "word " * 2_000_000, "a\n\n" * 3_000_000, "\n" * 10_000_000],
                         ids=begins)
def test_a_large_file_without_dividers_is_read_in_the_memory_of_some_pieces(folder, content):
    path = write(folder / "large.txt", content)
    tracemalloc.start()
    size = sum(len(row["text"]) for row in read_text_file(path, division_of(path)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size == len(content.strip("\n")) and peak < 16_000_000


# ---- what is no text


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
        patch.setattr(text_files, "_READ_BYTES", limit)
        texts(path)
    at = python.value.start
    assert f"{path} is not UTF-8: byte {at:,} is 0x{data[at]:02x}" in str(error.value)
    assert "iconv" in str(error.value)
