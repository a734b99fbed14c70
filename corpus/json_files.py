"""
.jsonl and .json files: their records, decoded in the same way and refused in the same words, one at a time.
"""

import json
import re

from corpus import files

RECORD_PARTS = 2**20     # strings, objects and arrays in a record: more would not fit in memory
DEEPEST = 200            # objects and arrays within one another: the decoder and the encoder fail near 1000
_READ_BYTES = 2**16      # of a .json file at a time
_BLANK = re.compile(rb"[ \t\r\n]*")
_MARKS = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\]"]', re.S)  # whole strings, brackets, and a string not yet whole
_STEPS = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}
_BARE = re.compile(rb'[^\s,:"{}\[\]]*')  # a number, true, false, null


def numbered_json_lines(path):
    """(line number, record) of a .jsonl file; blank lines are none."""
    for number, line in files.numbered_lines(path):
        if isinstance(line, ValueError):
            yield number, line
        elif line.strip():
            yield number, _record(line, path, number)


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


def _whole(digits):
    try:
        return int(digits)
    except ValueError:
        raise ValueError(f"a number of {len(digits):,} digits") from None


_decoder = json.JSONDecoder(parse_int=_whole)  # NaN and Infinity are read: Python's own encoder writes them


def read_json(path):
    """(line, record) for each object of a .json file: of the array that it holds, or one after the other.

    Where an object ends is found by its brackets, and each is decoded by itself: as a line of a .jsonl file, and in
    memory that does not grow with the file.
    """
    with files.open_file(path) as file:
        for line, position, data in _JsonText(file, path).values():
            try:
                text = data.decode("utf-8")
            except UnicodeDecodeError as error:
                line += data.count(b"\n", 0, error.start)
                yield line, files.not_utf8(path, position + error.start, data[error.start], f", line {line:,},")
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
        if len(rest) > files.RECORD_BYTES:
            raise self._too_large()
        read = self.file.read(max(_READ_BYTES, min(len(rest), files.RECORD_BYTES + 1 - len(rest))))
        self.buffer, self.at, self.start = rest + read, 0, self.start + self.at
        return bool(read)

    def _value(self):
        first = self._next()
        size = self._marked() if first in (b"{", b"[", b'"') else self._bare()
        if not size:
            raise self._fault("expected an object with fields")
        if size > files.RECORD_BYTES:
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
        return ValueError(f"{self.path}, line {self.line:,}: a record of more than {files.RECORD_BYTES:,} bytes or "
                          f"{RECORD_PARTS:,} parts begins here, or its brackets do not match")

    def _fault(self, expected):
        found = repr(self.buffer[self.at:self.at + 40].decode("utf-8", "replace"))
        return ValueError(f"{self.path}, line {self.line:,}: {expected}, found "
                          f"{found if self.at < len(self.buffer) else 'the end of the file'}")
