"""
Files of records: .jsonl, .json and .parquet, each read a little at a time; what is wrong with one is said with its
place.

A reader yields (number of the line or row, record), and in the place of a record that is bad by itself the ValueError
that says so: the next one may be good. It raises what is wrong with the file: ValueError or OSError.
"""

import hashlib
import itertools
import json
import math
import os
import re
from contextlib import contextmanager
from pathlib import Path

from corpus.paths import check_file

RECORD_BYTES = 2**26         # a longer record of a .jsonl or .json file is refused: it would not fit in memory, parsed
RECORD_PARTS = 2**20         # strings, objects and arrays in a record, for the same reason
DEEPEST = 200                # objects and arrays within one another: the decoder and the encoder fail near 1000
BATCH_BYTES = 2**26          # of a Parquet file read at a time, if every value were as long as its whole row group
_JSON_BYTES = 2**16          # of a .json file read at a time
IDENTITY_BLOCKS = 8          # of IDENTITY_BYTES each, spread over a file, by which it is known again
IDENTITY_BYTES = 2**16
_UNREADABLE = (ValueError, ArithmeticError, LookupError, TypeError, NotImplementedError, RecursionError)
_BLANK = re.compile(rb"[ \t\r\n]*")
_MARKS = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\]"]', re.S)  # whole strings, brackets, and a string not yet whole
_STEPS = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}
_BARE = re.compile(rb'[^\s,:"{}\[\]]*')      # a number, true, false, null


def open_file(path):
    """The file at path, to read bytes from; see check_file."""
    check_file(path)
    return open(path, "rb")


def not_utf8(path, position, byte, where=""):
    """The ValueError that says where a file is no UTF-8, and how to convert it."""
    return ValueError(f"{path}{where} is not UTF-8: byte {position:,} is 0x{byte:02x}. "
                      f"Convert it: iconv -f latin1 -t utf-8 {path} > converted{Path(path).suffix}")


def no_column(column, source, found):
    """The ValueError that says which columns there are instead."""
    return ValueError(f"{source} has no column {column!r}; it has {', '.join(map(repr, found)) or 'none'}. "
                      "Name one with --text-column")


# ---- lines


def numbered_lines(path):
    """(line number, line without its end) of each line of a text file that is not blank; a ValueError in the place of
    a line that is not UTF-8 or is longer than RECORD_BYTES."""
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
                    if text.strip():
                        yield number, text
            position += len(line)


def numbered_json_lines(path):
    """(line number, record) of a .jsonl file."""
    for number, line in numbered_lines(path):
        yield number, line if isinstance(line, ValueError) else _record(line, path, number)


# ---- JSON


def _record(text, path, number):
    """The object that text holds, or a ValueError that says what else; text begins on line `number` of a file."""
    try:
        _check_shape(text)
        record = _decoder.decode(text)
        if isinstance(record, dict):
            return record
        why = f"expected an object with fields, found {text.strip()[:40]!r}"
    except json.JSONDecodeError as error:
        number += error.lineno - 1
        why = f"not valid JSON ({error.msg} at character {error.colno:,})"
    except ValueError as error:
        why = f"not valid JSON ({error})"
    return ValueError(f"{path}, line {number:,}: {why}")


def _check_shape(text):
    """Raise ValueError for a record that the decoder cannot hold; only what has many brackets is looked through."""
    if text.count("{") + text.count("[") <= DEEPEST and text.count('"') <= RECORD_PARTS:
        return
    depth, data = 0, text.encode("utf-8", "surrogatepass")
    for parts, mark in enumerate(_MARKS.finditer(data)):
        depth += _STEPS.get(data[mark.start()], 0)
        if depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} objects and arrays within one another")
        if parts > 2 * RECORD_PARTS:
            raise ValueError(f"a record of more than {RECORD_PARTS:,} parts")


def _finite(digits):
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"a number too large: {digits[:40]}")
    return number


def _whole(digits):
    try:
        return int(digits)
    except ValueError:
        raise ValueError(f"a number of {len(digits):,} digits") from None


def _constant(name):
    raise ValueError(f"{name} is no number of JSON")


_decoder = json.JSONDecoder(parse_float=_finite, parse_int=_whole, parse_constant=_constant)


def read_json(path):
    """(line, record) for each object of a .json file: of the array that it holds, or one after the other.

    Where an object ends is found by its brackets, and each is decoded by itself: as a line of a .jsonl file, and in
    memory that does not grow with the file.
    """
    with open_file(path) as file:
        for line, position, data in _JsonText(file, path).values():
            try:
                text = data.decode("utf-8")
            except UnicodeDecodeError as error:
                line += data.count(b"\n", 0, error.start)
                yield line, not_utf8(path, position + error.start, data[error.start], f", line {line:,},")
            else:
                yield line, _record(text, path, line)


class _JsonText:
    """A .json file, of which no more than the value being read is held."""

    def __init__(self, file, path):
        self.file, self.path = file, path
        self.buffer, self.at, self.start = b"", 0, 0  # start: of the buffer, in the file
        self.line = 1                                 # at which it stands
        if self._more() and self.buffer.startswith(b"\xef\xbb\xbf"):
            self.at = 3

    def values(self):
        """(line, position in the file, bytes) of each value; raises ValueError where something else stands."""
        if self._next() != b"[":
            while self._next():
                yield self._value()
            return
        self.at += 1
        if self._next() != b"]":
            yield self._value()
            while self._next() == b",":
                self.at += 1
                yield self._value()
            if self._next() != b"]":
                raise self._fault("not valid JSON (expected a comma or the end of the array)")
        self.at += 1
        if self._next():
            raise self._fault("not valid JSON (expected nothing after the end of the array)")

    def _next(self):
        """The next byte that is no white space, or b"" at the end."""
        while True:
            end = _BLANK.match(self.buffer, self.at).end()
            self.line += self.buffer.count(b"\n", self.at, end)
            self.at = end
            if end < len(self.buffer) or not self._more():
                return self.buffer[self.at:self.at + 1]

    def _more(self):
        """Read on, and let go of what lies behind; False at the file's end."""
        rest = self.buffer[self.at:]
        if len(rest) > RECORD_BYTES:
            raise self._too_large()
        read = self.file.read(max(_JSON_BYTES, min(len(rest), RECORD_BYTES + 1 - len(rest))))
        self.buffer, self.at, self.start = rest + read, 0, self.start + self.at
        return bool(read)

    def _value(self):
        first = self._next()
        size = self._marked() if first in (b"{", b"[", b'"') else self._bare()
        if not size:
            raise self._fault("expected an object with fields")
        if size > RECORD_BYTES:
            raise self._too_large()
        line, position, data = self.line, self.start + self.at, self.buffer[self.at:self.at + size]
        self.at += size
        self.line += data.count(b"\n")
        return line, position, data

    def _marked(self):
        """Bytes of the string, object or array that begins here; all that are left where it does not end."""
        depth = size = marks = 0  # brackets open, bytes and marks looked through
        while True:
            for mark in _MARKS.finditer(self.buffer, self.at + size):
                if mark[0] == b'"':
                    break  # to be looked at again with what follows
                depth += _STEPS.get(self.buffer[mark.start()], 0)
                size, marks = mark.end() - self.at, marks + 1
                if not depth:
                    return size
                if marks > 2 * RECORD_PARTS:
                    raise self._too_large()
            if not self._more():
                return len(self.buffer) - self.at

    def _bare(self):
        while True:
            end = _BARE.match(self.buffer, self.at).end()
            if end < len(self.buffer) or not self._more():
                return end - self.at

    def _too_large(self):
        return ValueError(f"{self.path}, line {self.line:,}: a record of more than {RECORD_BYTES:,} bytes or "
                          f"{RECORD_PARTS:,} parts begins here, or its brackets do not match")

    def _fault(self, expected):
        found = repr(self.buffer[self.at:self.at + 40].decode("utf-8", "replace"))
        return ValueError(f"{self.path}, line {self.line:,}: {expected}, found "
                          f"{found if self.at < len(self.buffer) else 'the end of the file'}")


# ---- Parquet


@contextmanager
def _damage_named(path, what):
    """Let whatever Arrow finds in a file be a ValueError that names the file."""
    import pyarrow
    try:
        yield
    except (pyarrow.ArrowException, OSError, *_UNREADABLE) as error:
        raise ValueError(f"{path} is {what}: {str(error).strip()}. Fetch or copy it again") from error


def open_parquet(path, columns):
    """A pyarrow.parquet.ParquetFile; raises ValueError if it is not whole or lacks a column."""
    import pyarrow.parquet
    open_file(path).close()  # what the system has against it is said in the system's words
    with _damage_named(path, "not a whole Parquet file"):
        file = pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=2**20,  # reads pages, not row groups
                                           page_checksum_verification=True)
        names = file.schema_arrow.names
    for column in columns:
        if column not in names:
            raise no_column(column, path, names)
    return file


def parquet_size(path, column):
    """Bytes that a column of a Parquet file takes, nearly; raises what open_parquet does."""
    file = open_parquet(path, [column])
    with _damage_named(path, "not a whole Parquet file"):
        groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
        return sum(group.column(i).total_uncompressed_size for group in groups for i in range(group.num_columns)
                   if group.column(i).path_in_schema == column)


def read_parquet(path, columns=None):
    """(number of the row, record) of a Parquet file with these columns (None is all), a few at a time however long its
    row groups are."""
    file, number = open_parquet(path, columns or []), 0
    with _damage_named(path, "damaged"):
        largest = max((file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups)), default=0)
        rows = max(1, min(1000, BATCH_BYTES // max(1, largest)))  # a dictionary holds once what many rows repeat
        for batch in file.iter_batches(rows, columns=columns, use_threads=False):
            for record in _records(batch, path, number + 1):
                number += 1
                yield number, record


def _records(batch, path, first):
    """The rows of a batch, the first of which has the number `first`, as records; a ValueError in the place of one
    that Python cannot hold (text that is not UTF-8, a day of the year 300,000)."""
    try:
        return batch.to_pylist()
    except _UNREADABLE:
        return [_row(batch.slice(row, 1), f"{path}, row {first + row:,}") for row in range(batch.num_rows)]


def _row(batch, where):
    record = {}
    for name, column in zip(batch.schema.names, batch.columns):
        try:
            [record[name]] = column.to_pylist()
        except UnicodeDecodeError as error:
            return ValueError(f"{where}: column {name!r} is not UTF-8 (byte 0x{error.object[error.start]:02x})")
        except _UNREADABLE as error:
            return ValueError(f"{where}: column {name!r} cannot be read ({error})")
    return record


def identity(path):
    """What a later run knows a file again by: its size, and a hash of blocks at its head, at its tail and between.

    Half a megabyte is read however large the file is: a shorter one whole, so that no change in it goes unnoticed; of a
    longer one, whatever moves text along, or touches one of the blocks. Its time stamp is left out, because copying a
    corpus changes it, and because the same corpus gives the same manifest on every machine.
    """
    size, digest = os.path.getsize(path), hashlib.blake2b(digest_size=16)
    last = max(0, size - IDENTITY_BYTES)  # where the last block begins
    with open(path, "rb") as file:
        for number in range(IDENTITY_BLOCKS):
            file.seek(last * number // (IDENTITY_BLOCKS - 1))
            digest.update(file.read(IDENTITY_BYTES))
    return {"bytes": size, "hash": digest.hexdigest()}
