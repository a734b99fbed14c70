"""
Files that are odd or damaged, of every kind that a corpus or records may be in.

    for what, path in strange_files(folder, seed):
        read(path)
"""

import io
import itertools
import json
import os
import random

import pyarrow
import pyarrow.parquet

from tests.support.texts import TEXTS

KINDS = ("txt", "jsonl", "json", "parquet")
_NAMES = ("a", "a b", "é", "[x]", "*", "x\x1b[31m", "new\nline", "-a", "{}")
_ATOMS = [None, True, -0.0, 1e308, 10**40, "", " \n", "\ud83d", "\0", "[{\"", "a\\\"b", "<|endoftext|>", [], {}, [[]],
          {"role": "user", "content": "Hi"}, *TEXTS.values()]
_TOKENS = [b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"\\u", b"\\ud800", b"null", b"NaN", b"-Infinity", b"1e999",
           b"9" * 5000, b"-" * 3, b"\n", b"\r", b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"[" * 2000,
           b'{"a":' * 2000, b"]" * 500, b'"text": 7', b" " * 70_000, b"//", b"'", b"tru", b"[],\n"]
_BYTES = [b"\xff", b"\x80", b"\xc3", b"\xe8\xaa", b"\xf0\x9f\x99", b"\xed\xa0\x80", b"\0", b"\r", b"\x1a",
          b"\xef\xbb\xbf", b"\n<|endoftext|>\n", b"\r\n<|endoftext|>", b"\n \n", b"\n" * 3000, b"\r\n\r\n",
          b"\xc2\x85", b"<|endoftext|>"]


def strange_files(folder, seed):
    """Yield (what is strange about it, path) for one file of every kind and way; the same files for the same seed."""
    rng = random.Random(seed)
    number = itertools.count()
    for kind in KINDS:
        for what, data in _STRANGE[kind](rng):
            path = os.path.join(folder, f"{rng.choice(_NAMES)}{next(number)}.{kind}")
            with open(path, "wb") as file:
                file.write(data)
            yield f"{kind}: {what}", path
    for what, make in _NO_FILES.items():
        path = os.path.join(folder, f"{what}.{rng.choice(KINDS)}")
        make(path)
        yield what, path


_NO_FILES = {"a folder": os.mkdir, "a pipe": os.mkfifo, "nothing": lambda path: None,
             "a device": lambda path: os.symlink("/dev/zero", path),
             "a link to itself": lambda path: os.symlink(os.path.basename(path), path)}


def damaged(data, rng):
    """(what was done, data in which it was done), in the ways that disks, networks and other programs have."""
    size = len(data)
    yield "cut off", data[:rng.randrange(size + 1)]
    yield "without its beginning", data[rng.randrange(size + 1):]
    for count in (1, 1, 3, 30):
        flipped = bytearray(data)
        for _ in range(count):
            flipped[rng.randrange(size)] ^= 1 << rng.randrange(8)
        yield f"{count} bits flipped", bytes(flipped)
    start, end = sorted(rng.choices(range(size + 1), k=2))
    yield "a stretch of noughts", data[:start] + bytes(end - start) + data[end:]
    yield "a stretch of noise", data[:start] + rng.randbytes(end - start) + data[end:]
    yield "a stretch missing", data[:start] + data[end:]
    yield "a stretch twice", data[:end] + data[start:]


def _spliced(data, tokens, rng):
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        data = data[:at] + rng.choice(tokens) + data[at + rng.choice((0, 0, 1, 7)):]
    return data


def _texts(rng):
    plain = "\n\n".join(rng.sample(list(TEXTS.values()), 5)).encode("utf-8", "replace")
    yield "empty", b""
    yield "one byte", rng.randbytes(1)
    yield "noise", rng.randbytes(rng.randrange(1, 5000))
    yield "newlines alone", rng.choice((b"\n", b"\r", b"\r\n")) * rng.choice((1, 300_000))
    yield "one long line", rng.choice((b"x", b" ", "語".encode(), b"ab ")) * 600_000
    yield "UTF-16", plain.decode().encode("utf-16")
    yield "latin-1", plain.decode().encode("latin-1", "replace") + b"\xe9"
    yield "dividers alone", b"\n<|endoftext|>\n" * rng.randrange(50)
    for _ in range(4):
        yield "strange bytes", _spliced(plain, _BYTES, rng)
    yield from damaged(plain, rng)


def _value(rng, depth=0):
    if depth < 4 and rng.random() < 0.3:
        inner = [_value(rng, depth + 1) for _ in range(rng.randrange(4))]
        return inner if rng.random() < 0.5 else {rng.choice(("text", "messages", "", "a")): value for value in inner}
    return rng.choice(_ATOMS)


def _records(rng):
    names = ("text", "instruction", "output", "input", "messages", "a\nb", "")
    return [{name: _value(rng) if rng.random() < 0.5 else rng.choice(list(TEXTS.values()))
             for name in rng.sample(names, rng.randint(0, 4)) + ["text"]} for _ in range(rng.randrange(1, 6))]


def _json_values(rng):
    """The JSON of some records."""
    ascii = rng.random() < 0.5
    return [json.dumps(record, ensure_ascii=ascii).encode("utf-8", rng.choice(("replace", "surrogatepass")))
            for record in _records(rng)]


def _lines(rng):
    lines = _json_values(rng)
    yield "blank lines and CRLF", b"\xef\xbb\xbf\r\n" + b"\r\n \r\n".join(lines)
    yield "one value deep", b"[" * 10**5
    yield "one number long", b'{"text": ' + b"7" * rng.choice((4300, 4301, 10**6)) + b"}"
    yield "a string without end", b'{"text": "' + b"x" * 10**6
    yield "another value than an object", rng.choice((b"7", b"null", b'"x"', b"[1]", b"NaN", b"[[[]]]"))
    for _ in range(6):
        yield "strange tokens", _spliced(b"\n".join(_json_values(rng)), _TOKENS, rng)
    yield from damaged(b"\n".join(lines), rng)


def _json(rng):
    lines = _json_values(rng)
    array = b"[" + rng.choice((b",", b" ,\n", b"\n\n, ")).join(lines) + b"]"
    yield "an array", array
    yield "one after the other", rng.choice((b"", b" ", b"\n\n")).join(lines)
    yield "two arrays", array + array
    yield "brackets of one kind", rng.choice(b"[]{}").to_bytes(1, "big") * rng.choice((1, 199, 990, 3 * 10**5))
    yield "many parts", b'[{"a": [' + rng.choice((b"[],", b'"",', b"{},", b"1,")) * 10**5 + b"1]}]"
    yield "a number long", b'[{"text": ' + b"-7" + b"1" * rng.choice((4290, 4301, 10**6)) + b"}]"
    yield "backslashes", b'[{"text": "' + b"\\" * rng.randrange(10**5, 10**5 + 2) + b'"}]'
    for _ in range(6):
        yield "strange tokens", _spliced(rng.choice((array, b"\n".join(lines))), _TOKENS, rng)
    yield from damaged(array, rng)


def _columns(rng):
    texts = [rng.choice((text, None)) for text in TEXTS.values()] * rng.choice((1, 3))
    texts = [text and text.encode("utf-8", "replace").decode() for text in texts]
    rows = len(texts)
    raw = pyarrow.array([rng.choice((b"fine", b"\xff\xfe", b"\xed\xa0\x80", None)) for _ in texts], pyarrow.binary())
    return {
        "strings": texts,
        "large strings": pyarrow.array(texts, pyarrow.large_string()),
        "string views": pyarrow.array(texts, pyarrow.string_view()),
        "a dictionary": pyarrow.array(texts).dictionary_encode(),
        "bytes": raw,
        "strings that are not UTF-8": raw.view(pyarrow.string()),
        "a dictionary that is not UTF-8": raw.view(pyarrow.string()).dictionary_encode(),
        "nothing": pyarrow.nulls(rows),
        "lists": pyarrow.array([[text, None] for text in texts]),
        "turns": pyarrow.array([[{"role": "user", "content": text}] for text in texts]),
        "numbers": pyarrow.array([rng.random() for _ in texts]),
        "times": pyarrow.array([rng.choice((0, 10**14, -10**15)) for _ in texts], pyarrow.timestamp("ms")),
        "times far off": pyarrow.array([rng.choice((0, 2**62, -2**62)) for _ in texts],
                                       pyarrow.timestamp("us", "Nowhere/At")),
    }


def _table(text, others, rng):
    table = pyarrow.table({"text": text, **others})
    sink = io.BytesIO()
    pyarrow.parquet.write_table(
        table, sink, row_group_size=rng.choice((1, 7, 1000)), use_dictionary=rng.random() < 0.5,
        compression=rng.choice(("none", "snappy", "gzip", "zstd")), data_page_version=rng.choice(("1.0", "2.0")),
        data_page_size=rng.choice((1, 2**20)), write_page_checksum=rng.random() < 0.3,
        write_page_index=rng.random() < 0.3)
    return sink.getvalue()


def lying_footer(data, rng):
    """A Parquet file whose footer says something else: numbers in it are changed, its length is mended."""
    size = int.from_bytes(data[-8:-4], "little")
    footer = bytearray(data[-8 - size:-8])
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(footer))
        footer[at:at + rng.choice((0, 1, 1, 2))] = rng.choice((
            b"\xff\xff\xff\xff\x0f", b"\xff" * 9 + b"\x01", b"\x80" * 4 + b"\x08", b"\0", b"\x01", b"\x7f",
            bytes([rng.randrange(256)]), b"\xfe\xff\xff\xff\x1f", b"\x15\x02", b"\x1c" * 1000))
    return data[:-8 - size] + bytes(footer) + len(footer).to_bytes(4, "little") + b"PAR1"


def _tables(rng):
    columns = _columns(rng)
    for what in columns:
        yield what, _table(columns[what], {"n": columns["numbers"]}, rng)
    yield "two columns of one name", _table(columns["strings"], {}, rng).replace(b"text", b"n\0xt")
    for _ in range(3):
        whole = _table(columns[rng.choice(list(columns))], {"output": columns["turns"]}, rng)
        for _ in range(4):
            yield "a lying footer", lying_footer(whole, rng)
        yield from damaged(whole, rng)
        body = bytearray(whole)
        for _ in range(5):  # headers of pages are among the first bytes of a column
            body[rng.randrange(4, 60)] = rng.randrange(256)
        yield "a lying header of a page", bytes(body)


_STRANGE = {"txt": _texts, "jsonl": _lines, "json": _json, "parquet": _tables}
