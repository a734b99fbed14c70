"""
Files: .txt, .jsonl, .json and .parquet, each read a little at a time; what is wrong with one is said with its place.
"""

import glob
import hashlib
import itertools
import json
import os
import re
from pathlib import Path

import ijson
import ijson.backends.python  # the one in C turns half a surrogate pair into a question mark and knows no long integers
import ijson.common

DIVIDER = "<|endoftext|>"    # a line of its own between two documents of a text file
SUFFIXES = (".parquet", ".jsonl", ".txt")
PIECE_BYTES = 2**20          # of a text file held at a time: a longer document comes in pieces
RECORD_BYTES = 2**26         # a longer record of a .jsonl or .json file is refused: it would not fit in memory, parsed
BATCH_BYTES = 2**22          # of a Parquet file read at a time
_JSON_BYTES = 2**16          # of a .json file read at a time
IDENTITY_BLOCKS = 8          # of IDENTITY_BYTES each, spread over a file, by which it is known again
IDENTITY_BYTES = 2**16
_NEXT_RECORD = re.compile(rb'\}[\s,]*\{\s*"')  # never within a string, where the quotation mark would be escaped


def expand_paths(dataset, suffixes=SUFFIXES, names=("tales",)):
    """Files named by a comma-separated list of files, folders (searched through) and globs, in sorted order.

    suffixes are the kinds of file wanted, names what else --dataset takes. Raises FileNotFoundError or ValueError.
    """
    files = []
    for item in str(dataset).split(","):
        item = os.path.expanduser(item.strip())
        if os.path.isdir(item):
            found = sorted(str(p) for p in Path(item).rglob("*") if p.suffix in suffixes and p.is_file())
        else:
            found = [item] if os.path.isfile(item) else sorted(p for p in glob.glob(item, recursive=True)
                                                               if os.path.isfile(p))
        if not found:
            raise FileNotFoundError(
                f"--dataset {item}: no such file, and no {', '.join(suffixes)} in such a folder. It takes "
                f"{', '.join(names)}, or paths; with no network, try --dataset tales")
        files += found
    unknown = [file for file in files if Path(file).suffix not in suffixes]
    if unknown:
        raise ValueError(f"{unknown[0]} is of no known kind; known are {', '.join(suffixes)}")
    return list(dict.fromkeys(files))


def not_utf8(path, position, byte, where=""):
    """The ValueError that says where a file is no UTF-8, and how to convert it."""
    return ValueError(f"{path}{where} is not UTF-8: byte {position:,} is 0x{byte:02x}. "
                      f"Convert it: iconv -f latin1 -t utf-8 {path} > converted{Path(path).suffix}")


def no_column(column, source, found):
    """The ValueError that says which columns there are instead."""
    return ValueError(f"{source} has no column {column!r}; it has {', '.join(map(repr, found))}. "
                      "Name one with --text-column")


def _lines(file):
    """Lines as (bytes, whether it is a whole line); one longer than half a document comes in pieces, cut between
    characters and never within CRLF."""
    at_start = True
    while line := file.readline(PIECE_BYTES // 2):
        if not line.endswith(b"\n"):
            for _ in range(3):  # the longest character has three bytes after its first
                following = file.peek(1)[:1]
                if not (following and 0x80 <= following[0] < 0xC0 or line.endswith(b"\r") and following == b"\n"):
                    break
                line += file.read(1)
        ends = line.endswith(b"\n") or not file.peek(1)
        yield line, at_start and ends
        at_start = ends


def read_text_file(path):
    """Documents of a text file as {"text": ...}, divided by `<|endoftext|>` lines, else by blank lines.

    Reads a line at a time; a document of more than PIECE_BYTES comes in pieces. Newlines around a document and a byte
    order mark are dropped. Raises ValueError naming file and byte where the file is not UTF-8.
    """
    divider = DIVIDER.encode()
    with open(path, "rb") as file:
        marked = any(whole and line.strip() == divider for line, whole in _lines(file))
    with open(path, "rb") as file:
        if file.peek(3)[:3] == b"\xef\xbb\xbf":
            file.read(3)
        position, start = file.tell(), 0   # of the next line, and of the piece gathered in lines
        lines, size, inside = [], 0, False  # inside: a piece of this document has been given
        for line, whole in itertools.chain(_lines(file), [(None, True)]):
            at_border = line is None or whole and (line.strip() == divider if marked else not line.strip())
            if lines and (at_border or size + len(line) > PIECE_BYTES):
                data = b"".join(lines)
                try:
                    text = data.decode("utf-8").replace("\r\n", "\n")
                except UnicodeDecodeError as error:
                    raise not_utf8(path, start + error.start, data[error.start]) from error
                text = text if inside else text.lstrip("\n")
                text = text.rstrip("\n") if at_border else text
                if text if inside else text.strip():
                    yield {"text": text}
                    inside = True
                lines, size = [], 0
            if at_border:
                inside = False
            else:
                start = start if lines else position
                lines.append(line)
                size += len(line)
            position += len(line or b"")


def numbered_lines(path):
    """(line number, line without its end) of each line of a text file that is not blank.

    Raises ValueError naming file and line of what is not UTF-8 or longer than RECORD_BYTES.
    """
    position = 0
    with open(path, "rb") as file:
        for number in itertools.count(1):
            line = file.readline(RECORD_BYTES + 1)
            if not line:
                return
            if len(line) > RECORD_BYTES:
                raise ValueError(f"{path}, line {number:,}: longer than {RECORD_BYTES:,} bytes. A line holds one "
                                 "record; divide this one")
            mark = 3 if number == 1 and line.startswith(b"\xef\xbb\xbf") else 0
            try:
                text = line[mark:].decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                at = mark + error.start
                raise not_utf8(path, position + at, line[at], f", line {number:,},") from error
            if text.strip():
                yield number, text
            position += len(line)


def read_json_lines(path):
    """Records of a .jsonl file; see numbered_json_lines."""
    return (record for _, record in numbered_json_lines(path))


def numbered_json_lines(path):
    """(line number, record) of a .jsonl file; raises ValueError naming file and line of what is no JSON object."""
    for number, line in numbered_lines(path):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            # The decoder's own text counts lines within this one.
            parsed = isinstance(error, json.JSONDecodeError)
            why = f"{error.msg} at character {error.pos + 1:,}" if parsed else error
            raise ValueError(f"{path}, line {number:,}: not valid JSON ({why})") from error
        if not isinstance(record, dict):
            raise ValueError(f"{path}, line {number:,}: expected an object with fields, found {line[:40]!r}")
        yield number, record


class _CountedLines:
    """A file that ijson reads: a line at a time, so that it is known on which one it stands."""

    def __init__(self, file):
        self.file, self.number, self.ended, self.record_bytes = file, 1, False, 0

    def read(self, size):
        if size == 0:  # ijson asks whether bytes come or text
            return b""
        self.number += self.ended
        line = self.file.readline(_JSON_BYTES)
        self.ended = line.endswith(b"\n")
        if not self.ended and (borders := [border.start() + 1 for border in _NEXT_RECORD.finditer(line)]):
            # ijson lets go of what it has read only where that ends between two tokens.
            self.file.seek(borders[-1] - len(line), os.SEEK_CUR)
            line = line[:borders[-1]]
        self.record_bytes += len(line)
        return b"" if self.too_long() else line  # an error from here would leave ijson's own parts to complain later

    def too_long(self):
        return self.record_bytes > RECORD_BYTES


def read_json(path):
    """(line, record) for each object of a .json file: of the array that it holds, or one after the other.

    Memory does not grow with the file. Raises ValueError naming file and line of what is not JSON, not UTF-8 or not an
    object.
    """
    with open(path, "rb") as file:
        if file.peek(3)[:3] == b"\xef\xbb\xbf":
            file.read(3)
        start, head = file.tell(), b""
        while not head and (line := file.readline(_JSON_BYTES)):
            head = line.strip()
        if not head:
            return
        file.seek(start)
        level = int(head.startswith(b"["))  # of the records: in an array, or at the top
        lines, depth, line, builder = _CountedLines(file), 0, 1, None
        try:
            for event, value in ijson.backends.python.basic_parse(lines, multiple_values=not level, use_float=True):
                depth -= event in ("end_map", "end_array")
                if depth == level and not builder:
                    if event != "start_map":
                        found = "[" if event == "start_array" else json.dumps(value)[:40]
                        raise ValueError(f"expected an object with fields, found {found!r}")
                    lines.record_bytes, line, builder = 0, lines.number, ijson.common.ObjectBuilder()
                if builder:
                    builder.event(event, value)
                    if depth == level and event == "end_map":
                        yield line, builder.value
                        builder = None
                depth += event in ("start_map", "start_array")
            if lines.too_long():
                raise ValueError
        except (ijson.JSONError, ValueError) as error:
            why = f"a record of more than {RECORD_BYTES:,} bytes" if lines.too_long() else _json_fault(error)
            raise ValueError(f"{path}, line {lines.number:,}: {why}") from error


def _json_fault(error):
    cause = error.args[0] if error.args else error
    if isinstance(cause, UnicodeDecodeError):
        return f"not UTF-8 (byte 0x{cause.object[cause.start]:02x})"
    return f"not valid JSON ({cause})" if isinstance(error, (ijson.JSONError, json.JSONDecodeError)) else str(error)


def open_parquet(path, columns):
    """A pyarrow.parquet.ParquetFile; raises ValueError if it is not whole or lacks a column."""
    import pyarrow.parquet
    try:
        file = pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=2**20)  # reads pages, not row groups
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path} is not a whole Parquet file: {error}. Fetch or copy it again") from error
    for column in columns:
        if column not in file.schema_arrow.names:
            raise no_column(column, path, file.schema_arrow.names)
    return file


def read_parquet(path, columns=None):
    """Records of a Parquet file with these columns (None is all), a few at a time however long its row groups are."""
    import pyarrow
    file = open_parquet(path, columns or [])
    stored = sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
    rows = max(1, min(1000, BATCH_BYTES * file.metadata.num_rows // max(1, stored)))
    try:
        for batch in file.iter_batches(rows, columns=columns, use_threads=False):
            yield from batch.to_pylist()
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}. Fetch or copy it again") from error


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
