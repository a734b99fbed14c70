"""
Where documents come from: Hugging Face data sets, files, the embedded tales; all through one streaming loader.

A corpus is a list of parts (the files of a data set) that are read one after the other, a part as a stream of
documents. A position (part, row) says where a reader is, so that an interrupted one goes on without starting over.
"""

import glob
import itertools
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tokenizer import EOS_PIECE

HUB = {
    "fineweb": {"path": "HuggingFaceFW/fineweb", "name": "sample-100BT", "split": "train"},
    "tinystories": {"path": "roneneldan/TinyStories", "split": "train"},
}
HUB_COLUMNS = {
    "fineweb": ("text", "id", "dump", "url", "date", "file_path", "language", "language_score", "token_count"),
    "tinystories": ("text",),
}
SUFFIXES = (".parquet", ".jsonl", ".txt")
HUB_TIMEOUT = 10             # seconds for the first answer of a hub
BATCH_ROWS = 100             # rows read at a time: FineWeb's long documents must not fill the memory
MAX_DOCUMENT_BYTES = 2**20   # a longer "document" (a file without blank lines, say) is cut
TALES_PER_PART = 10_000


def hub_arguments(dataset, text_column="text"):
    """The arguments of datasets.load_dataset for a data set on a hub; Parquet, of which one column is fetched.

    Raises ValueError for a column that the data set does not have.
    """
    if text_column not in HUB_COLUMNS[dataset]:
        raise _no_column(text_column, dataset, HUB_COLUMNS[dataset])
    return {**HUB[dataset], "streaming": True, "columns": [text_column], "batch_size": BATCH_ROWS}


def expand_paths(dataset, suffixes=SUFFIXES, names=(*HUB, "tales")):
    """Files named by a comma-separated list of files, folders (searched through) and globs, in sorted order.

    suffixes are the kinds of file wanted, names what else --dataset takes.

    Raises FileNotFoundError or ValueError.
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


def read_text_file(path):
    """Documents of a text file as {"text": ...}, divided by `<|endoftext|>` lines, else by blank lines.

    Reads a line at a time; a document over MAX_DOCUMENT_BYTES is cut. Raises ValueError naming file and byte where the
    file is not UTF-8.
    """
    marker = EOS_PIECE.encode()
    with open(path, "rb") as file:
        marked = any(line.strip() == marker for line in _lines(file))
    with open(path, "rb") as file:
        lines, size, start = [], 0, 0
        for line in itertools.chain(_lines(file), [None]):
            at_border = line is None or (line.strip() == marker if marked else not line.strip())
            if lines and (at_border or size + len(line) > MAX_DOCUMENT_BYTES):
                data = b"".join(lines)
                try:
                    text = data.decode("utf-8").replace("\r\n", "\n").strip("\n")
                except UnicodeDecodeError as error:
                    raise ValueError(f"{path} is not UTF-8: byte {start + error.start:,} is 0x{data[error.start]:02x}. "
                                     f"Convert it: iconv -f latin1 -t utf-8 {path} > converted.txt") from error
                if text.strip():
                    yield {"text": text}
                start, lines, size = start + size, [], 0
            if line is not None and not at_border:
                lines.append(line)
                size += len(line)
            elif line is not None:
                start += len(line)


def _lines(file):
    """Lines as bytes; one longer than half a document comes in pieces, cut between characters."""
    while line := file.readline(MAX_DOCUMENT_BYTES // 2):
        while not line.endswith(b"\n") and (following := file.peek(1)[:1]) and 0x80 <= following[0] < 0xC0:
            line += file.read(1)
        yield line


def read_json_lines(path):
    """Records of a .jsonl file; raises ValueError naming file and line of what is not a JSON object in UTF-8."""
    return (record for _, record in numbered_json_lines(path))


def numbered_json_lines(path):
    """(line number, record) of a .jsonl file, as read_json_lines."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    record = json.loads(line)
                except ValueError as error:  # UnicodeDecodeError is one
                    raise ValueError(f"{path}, line {number:,}: not valid JSON ({error})") from error
                if not isinstance(record, dict):
                    raise ValueError(f"{path}, line {number:,}: expected an object with fields, found {line[:40]!r}")
                yield number, record


def _no_column(column, source, found):
    return ValueError(f"{source} has no column {column!r}; it has {', '.join(map(repr, found))}. "
                      "Name one with --text-column")


def _file_part(path, text_column):
    """One file as a streaming data set."""
    import datasets
    if not path.endswith(".parquet"):
        reader = read_json_lines if path.endswith(".jsonl") else read_text_file
        return datasets.IterableDataset.from_generator(reader, gen_kwargs={"path": path})
    import pyarrow.parquet
    try:
        found = pyarrow.parquet.read_schema(path).names
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path} is not a whole Parquet file: {error}") from error
    if text_column not in found:
        raise _no_column(text_column, path, found)
    return datasets.load_dataset("parquet", data_files=[path], split="train", streaming=True, columns=[text_column],
                                 batch_size=BATCH_ROWS)


def _tales(seed, part):
    import tales
    for index in range(part * TALES_PER_PART, (part + 1) * TALES_PER_PART):
        yield {"text": tales.story(seed, index)}


def _tales_part(seed, part):
    import datasets
    return datasets.IterableDataset.from_generator(_tales, gen_kwargs={"seed": seed, "part": part})


def _open_hub(dataset, text_column):
    return open_hub(hub_arguments(dataset, text_column),
                    "train on the embedded corpus or on files of yours:\n"
                    "    python preprocess_xcoax.py --dataset tales\n"
                    "    python preprocess_xcoax.py --dataset 'texts/*.txt'      (also .parquet, .jsonl, folders)")


def open_hub(arguments, otherwise):
    """What datasets.load_dataset gives for arguments, after one short question: is there a hub at all?

    Raises OSError that says what to do otherwise; without the question, retries would take minutes to say so.
    """
    import datasets
    import huggingface_hub
    try:
        huggingface_hub.HfApi().dataset_info(arguments["path"], timeout=HUB_TIMEOUT)
    except Exception as error:  # many kinds (offline mode, no route, no name, time-out, refused, 5xx), one meaning
        raise OSError(
            f"{arguments['path']} cannot be reached ({type(error).__name__}: {str(error).splitlines()[0][:200]}). "
            f"Without the hub, {otherwise}") from error
    return datasets.load_dataset(**arguments)


@dataclass
class Corpus:
    """A stream of documents in parts. `source` says in plain values what it is, so that a later run can compare."""

    source: dict
    text_column: str
    part_count: int
    open_part: Callable  # part number -> datasets.IterableDataset
    endless: bool        # far larger than what is wanted: take equally much from every part

    def documents(self, limit, start=(0, 0)):
        """Yield ((part, row) to go on from, text) for `limit` documents from the very beginning; None means all.

        Raises ValueError where the text column is missing or holds something else than text.
        """
        share = -(-limit // self.part_count) if self.endless and limit else None
        for part in range(start[0], self.part_count):
            row = start[1] if part == start[0] else 0
            stream = self.open_part(part)
            if row:
                stream = stream.skip(row)
            if share is not None:
                stream = stream.take(max(0, share - row))
            for batch in stream.iter(BATCH_ROWS):
                if self.text_column not in batch:
                    raise _no_column(self.text_column, self.source["dataset"], batch)
                for text in batch[self.text_column]:
                    row += 1
                    if text is not None and not isinstance(text, str):
                        raise ValueError(f"column {self.text_column!r} of {self.source['dataset']} holds "
                                         f"{type(text).__name__}, not text (row {row:,} of part {part + 1}). Name "
                                         "another with --text-column")
                    yield (part, row), text or ""

    def sample(self, size, limit):
        """A list of texts of `size` to 2 * `size` characters in all (or the whole corpus), spread evenly.

        Of an endless corpus it takes the head of every part. Of any other it reads all that will be used and keeps
        every k-th document, with k doubling whenever the sample has grown too large.
        """
        kept, total, stride = [], 0, 1
        if self.endless:
            for part in range(min(self.part_count, limit)):
                taken = 0
                one = replace(self, part_count=1, open_part=lambda _, part=part: self.open_part(part))
                for _, text in one.documents(-(-limit // self.part_count)):
                    kept.append(text)
                    taken += len(text)
                    if taken * self.part_count >= size:
                        break
            return kept
        for number, (_, text) in enumerate(itertools.islice(self.documents(limit), limit)):
            if number % stride == 0:
                kept.append(text)
                total += len(text)
                if total > 2 * size and len(kept) > 1:
                    kept, stride = kept[::2], stride * 2
                    total = sum(map(len, kept))
        return kept


def open_corpus(dataset, text_column="text", seed=1):
    """The corpus named by --dataset: a data set on the hub, "tales", or paths.

    Raises FileNotFoundError, ValueError or OSError, each with what to run next.
    """
    source = {"dataset": str(dataset), "text_column": text_column}
    if dataset in HUB:
        stream = _open_hub(dataset, text_column)
        parts = stream.num_shards
        return Corpus(source, text_column, parts, lambda part: stream.shard(num_shards=parts, index=part), endless=True)
    if dataset == "tales":
        return Corpus({**source, "seed": seed}, "text", sys.maxsize, lambda part: _tales_part(seed, part), endless=False)
    files = expand_paths(dataset)
    source["files"] = {file: os.path.getsize(file) for file in files}
    return Corpus(source, text_column, len(files), lambda part: _file_part(files[part], text_column), endless=False)


def cut(text):
    """The text as documents of at most MAX_DOCUMENT_BYTES characters, cut at a line's end where there is one."""
    while len(text) > MAX_DOCUMENT_BYTES:
        end = text.rfind("\n", MAX_DOCUMENT_BYTES // 2, MAX_DOCUMENT_BYTES) + 1 or MAX_DOCUMENT_BYTES
        yield text[:end]
        text = text[end:]
    yield text
