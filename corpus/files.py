"""
Files: what is said of a bad one, the lines of one, and what one is known again by.

A reader of records yields (number of the line or row, record), and in the place of a record that is bad by itself the
ValueError that says so: the next one may be good. It raises what is wrong with the file: ValueError or OSError.
"""

import hashlib
import itertools
import os
import shlex

from corpus.paths import check_file

RECORD_BYTES = 2**26     # a longer line of a file is refused, and a longer record of a .json file: what it is parsed to
                         # would not fit in memory
WHOLE_BYTES = 2**22      # a file that is no larger is known again by all of its content
IDENTITY_BLOCKS = 8      # a larger one by so many blocks of IDENTITY_BYTES, spread over it, and by its time stamp
IDENTITY_BYTES = 2**16


def open_file(path):
    """The file at path, to read bytes from; see check_file."""
    check_file(path)
    return open(path, "rb")


def not_utf8(path, position, byte, where=""):
    """The ValueError that says where a file is no UTF-8, and how to convert it."""
    name = shlex.quote(str(path))
    return ValueError(f"{path}{where} is not UTF-8: byte {position:,} is 0x{byte:02x}. "
                      f"Convert it:\n    iconv -f latin1 -t utf-8 {name} > {name}.new && mv {name}.new {name}")


def no_column(column, source, found):
    """The ValueError that says which columns there are instead."""
    return ValueError(f"{source} has no column {column!r}; it has {', '.join(map(repr, found)) or 'none'}. "
                      "Name one with --text-column")


def numbered_lines(path):
    """(line number, line without its end) of each line of a text file; a ValueError in the place of one that is not
    UTF-8 or is longer than RECORD_BYTES."""
    position = 0
    with open_file(path) as file:
        for number in itertools.count(1):
            line = file.readline(RECORD_BYTES + 1)
            if not line:
                return
            if len(line) > RECORD_BYTES:
                yield number, ValueError(f"{path}, line {number:,}: longer than {RECORD_BYTES:,} bytes. A line holds "
                                         "one record; divide this one")
                while not line.endswith(b"\n"):
                    position += len(line)
                    line = file.readline(RECORD_BYTES)
                    if not line:
                        return
            else:
                mark = 3 if number == 1 and line.startswith(b"\xef\xbb\xbf") else 0
                try:
                    text = line[mark:].decode("utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    at = mark + error.start
                    yield number, not_utf8(path, position + at, line[at], f", line {number:,},")
                else:
                    yield number, text
            position += len(line)


def identity(path):
    """What a later run knows a file again by: its size and a hash of its content, wherever and whenever it was copied.

    Of a file larger than WHOLE_BYTES only blocks at its head, at its tail and between are read, however large it is,
    and its time stamp, in nanoseconds, tells of changes elsewhere.
    """
    size, digest = os.path.getsize(path), hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        if size <= WHOLE_BYTES:
            digest.update(file.read())
            return {"bytes": size, "hash": digest.hexdigest()}
        for number in range(IDENTITY_BLOCKS):
            file.seek((size - IDENTITY_BYTES) * number // (IDENTITY_BLOCKS - 1))
            digest.update(file.read(IDENTITY_BYTES))
        return {"bytes": size, "hash": digest.hexdigest(), "modified": os.fstat(file.fileno()).st_mtime_ns}
