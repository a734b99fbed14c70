"""
How files become documents: .txt, .jsonl and .parquet, each read a little at a time, and what is wrong with one is said
with its file and place.
"""

import glob
import itertools
import json
import os
from pathlib import Path

from tokenizer import EOS_PIECE

SUFFIXES = (".parquet", ".jsonl", ".txt")
MAX_DOCUMENT_BYTES = 2**20   # a longer "document" (a file without blank lines, say) is cut
MAX_RECORD_BYTES = 2**26     # a longer line of a .jsonl file is refused: it would not fit in memory, parsed
BATCH_BYTES = 2**22          # of a Parquet file read at a time


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


def _not_utf8(path, position, byte, where=""):
    return ValueError(f"{path}{where} is not UTF-8: byte {position:,} is 0x{byte:02x}. "
                      f"Convert it: iconv -f latin1 -t utf-8 {path} > converted{Path(path).suffix}")


def no_column(column, source, found):
    return ValueError(f"{source} has no column {column!r}; it has {', '.join(map(repr, found))}. "
                      "Name one with --text-column")


def _lines(file):
    """Lines as (bytes, whether it is a whole line); one longer than half a document comes in pieces, cut between
    characters and never within CRLF."""
    at_start = True
    while line := file.readline(MAX_DOCUMENT_BYTES // 2):
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

    Reads a line at a time; a document over MAX_DOCUMENT_BYTES comes in pieces. Newlines around a document and a byte
    order mark are dropped. Raises ValueError naming file and byte where the file is not UTF-8.
    """
    marker = EOS_PIECE.encode()
    with open(path, "rb") as file:
        marked = any(whole and line.strip() == marker for line, whole in _lines(file))
    with open(path, "rb") as file:
        if file.peek(3)[:3] == b"\xef\xbb\xbf":
            file.read(3)
        position, start = file.tell(), 0   # of the next line, and of the piece gathered in lines
        lines, size, inside = [], 0, False  # inside: a piece of this document has been given
        for line, whole in itertools.chain(_lines(file), [(None, True)]):
            at_border = line is None or whole and (line.strip() == marker if marked else not line.strip())
            if lines and (at_border or size + len(line) > MAX_DOCUMENT_BYTES):
                data = b"".join(lines)
                try:
                    text = data.decode("utf-8").replace("\r\n", "\n")
                except UnicodeDecodeError as error:
                    raise _not_utf8(path, start + error.start, data[error.start]) from error
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


def read_json_lines(path):
    """Records of a .jsonl file; see numbered_json_lines."""
    return (record for _, record in numbered_json_lines(path))


def numbered_json_lines(path):
    """(line number, record) of a .jsonl file; raises ValueError naming file and line of what is no JSON object."""
    position = 0
    with open(path, "rb") as file:
        for number in itertools.count(1):
            line = file.readline(MAX_RECORD_BYTES + 1)
            if not line:
                return
            if len(line) > MAX_RECORD_BYTES:
                raise ValueError(f"{path}, line {number:,}: longer than {MAX_RECORD_BYTES:,} bytes. A .jsonl file "
                                 "holds one record per line; divide this one")
            if line.strip():
                try:
                    record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                except UnicodeDecodeError as error:
                    skipped = 3 if number == 1 and line.startswith(b"\xef\xbb\xbf") else 0  # not counted in error.start
                    at = skipped + error.start
                    raise _not_utf8(path, position + at, line[at], f", line {number:,},") from error
                except (ValueError, RecursionError) as error:
                    # The decoder's own text counts lines within this one.
                    why = f"{error.msg} at character {error.pos + 1:,}" if isinstance(error, json.JSONDecodeError) else error
                    raise ValueError(f"{path}, line {number:,}: not valid JSON ({why})") from error
                if not isinstance(record, dict):
                    raise ValueError(f"{path}, line {number:,}: expected an object with fields, found {line[:40]!r}")
                yield number, record
            position += len(line)


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
    """Records of a Parquet file with these columns (all, if it is None), a few at a time however long its row groups are."""
    import pyarrow
    file = open_parquet(path, columns or [])
    stored = sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
    rows = max(1, min(1000, BATCH_BYTES * file.metadata.num_rows // max(1, stored)))
    try:
        for batch in file.iter_batches(rows, columns=columns, use_threads=False):
            yield from batch.to_pylist()
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}. Fetch or copy it again") from error


def text_bytes(text):
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def cut(text):
    """The text as documents of at most MAX_DOCUMENT_BYTES characters, cut at a line's end where there is one."""
    start = 0
    while len(text) - start > MAX_DOCUMENT_BYTES:
        middle, end = start + MAX_DOCUMENT_BYTES // 2, start + MAX_DOCUMENT_BYTES
        end = text.rfind("\n", middle, end) + 1 or end
        yield text[start:end]
        start = end
    yield text[start:]
