"""
Text files: how one is divided into documents, and how a document longer than a book is cut; and files of endings.
"""

import itertools
from collections import Counter
from pathlib import Path

from corpus.files import not_utf8, open_file

DIVIDER = "<|endoftext|>"        # a line of its own between two documents
DIVISIONS = ("auto", "files", "paragraphs", "lines")  # see division_of
MAX_DOCUMENT_CHARACTERS = 2**20  # a longer document is cut: a book has about as many
_READ_BYTES = 2**20              # read at a time


def division_of(path, documents="auto"):
    """What ends the documents of a file, besides its end: "dividers", "paragraphs" (blank lines), "lines", or nothing
    ("files").

    With "auto" that is DIVIDER lines where the file has one. Blank lines alone say nothing: they stand between the
    paragraphs of a story as between stories.
    """
    if documents != "auto":
        return documents
    return "dividers" if _has_dividers(path) else "files"


def in_words(divisions):
    """One line on how the text files are divided, given the division of each.

    >>> in_words(["files"] * 60)
    '60 text files, one document each'
    """
    words = {"files": "one document each", "dividers": f"divided at {DIVIDER} lines",
             "paragraphs": "divided at blank lines", "lines": "a document a line"}
    counts = Counter(divisions)
    return ", ".join(f"{counts[division]:,} text file{'s' * (counts[division] != 1)}, {said}"
                     for division, said in words.items() if counts[division])


def _has_dividers(path):
    mark, end = DIVIDER.encode(), b""
    with open_file(path) as file:
        while block := file.read(_READ_BYTES):
            if mark in end + block:
                break
            end = block[-len(mark):]
        else:
            return False
        file.seek(0)
        return any(begins and ends and line.strip() == mark for line, begins, ends in _lines(file))


def _lines(file, read=None):
    """(bytes, whether a line begins with them, whether it ends with them): lines; one longer than half of what is read
    at a time comes in pieces, cut between characters and never within CRLF. With file.read all comes in such pieces."""
    begins, read = True, read or file.readline
    while line := read(_READ_BYTES // 2):
        if not line.endswith(b"\n"):
            for _ in range(3):  # the longest character has three bytes after its first
                following = file.peek(1)[:1]
                if not (following and 0x80 <= following[0] < 0xC0 or line.endswith(b"\r") and following == b"\n"):
                    break
                line += file.read(1)
        ends = line.endswith(b"\n") or not file.peek(1)
        yield line, begins, ends
        begins = ends


def _parts(path, division):
    """(text, whether a document ends with it) from beginning to end, a little at a time."""
    mark = DIVIDER.encode()
    borders = {"files": (), "dividers": (mark,)}.get(division, (mark, b""))
    with open_file(path) as file:
        if file.peek(3)[:3] == b"\xef\xbb\xbf":
            file.read(3)
        position = start = file.tell()  # of the next line, and of what is gathered
        data = bytearray()              # a million lines by themselves would take much memory
        lines = _lines(file, file.read if division == "files" else None)
        for line, begins, ends in itertools.chain(lines, [(b"", True, True)]):
            divides = not line or begins and ends and line.strip() in borders
            closes = divides or ends and division == "lines"
            if not divides:
                data += line
            if closes or len(data) > _READ_BYTES:
                try:
                    text = data.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise not_utf8(path, start + error.start, data[error.start]) from error
                yield text.replace("\r\n", "\n"), closes
                data, start = bytearray(), position + len(line)
            position += len(line)


def read_text_file(path, division="files"):
    """Documents of a text file, divided as division_of says: {"text", "head", "goes_on"} for each, or for each piece
    of one longer than MAX_DOCUMENT_CHARACTERS.

    head is None or, of a piece, the first piece of its document; goes_on is whether a piece came before. The pieces
    joined are the document. Newlines around a document and a byte order mark are dropped, what is white space alone is
    no document, and a line's end may be CRLF. Raises ValueError naming file and byte where the file is not UTF-8.
    """
    text, head = "", None
    for part, ends in _parts(path, division):
        text += part
        if head is None:
            text = text.lstrip("\n")
        if ends:
            text = text.rstrip("\n")
        while len(text) > MAX_DOCUMENT_CHARACTERS * (1 if ends else 2):  # of two, newlines at the end may be dropped
            end, goes_on = _piece_end(text, 0), head is not None
            piece, text = text[:end], text[end:]
            head = head or piece
            yield {"text": piece, "head": head, "goes_on": goes_on}
        if ends:
            if text if head is not None else text.strip():
                yield {"text": text, "head": head, "goes_on": head is not None}
            text, head = "", None


def cut(text):
    """The text as pieces of at most MAX_DOCUMENT_CHARACTERS, cut at a line's end where there is one."""
    start = 0
    while len(text) - start > MAX_DOCUMENT_CHARACTERS:
        end = _piece_end(text, start)
        yield text[start:end]
        start = end
    yield text[start:]


def _piece_end(text, start):
    middle, end = start + MAX_DOCUMENT_CHARACTERS // 2, start + MAX_DOCUMENT_CHARACTERS
    return text.rfind("\n", middle, end) + 1 or end


def read_endings(path):
    """The lines of a UTF-8 file that are not blank, each an ending to write for. Raises ValueError where there is
    none."""
    endings = list(filter(str.strip, Path(path).read_text(encoding="utf-8-sig").splitlines()))
    if not endings:
        raise ValueError(f"{path} holds no ending. Write one a line.")
    return endings
