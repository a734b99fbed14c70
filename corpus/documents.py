"""
Where documents come from: Hugging Face data sets, files, the embedded tales; all through one streaming loader.

A corpus is a list of parts that are read one after the other, a part as a stream of rows. A position (part, row) says
where a reader is, so that an interrupted one goes on without starting over. The order of the documents never depends on
how many are wanted, so that a longer run begins with what a shorter one has read.
"""

import itertools
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from tqdm import tqdm

from characters import utf8
from corpus import hub
from corpus.files import identity, no_column
from corpus.json_files import numbered_json_lines
from corpus.parquet_files import open_parquet, parquet_size, read_parquet
from corpus.paths import expand_paths
from corpus.text_files import cut, division_of, in_words, read_text_file
from program import commands

HUB_ROUND = 2500             # documents taken of every file in the first round; see Corpus.span
TALES_PER_PART = 10_000


class Row(NamedTuple):
    """What is read at once: a document, or one piece of a long one of a text file."""

    position: tuple  # (part, row) to go on from after it
    pieces: list     # texts: one, several of a long document, none of a row that holds nothing but white space
    head: str | None = None   # the first piece of the document, if it has more than one; by it all go to one split
    goes_on: bool = False     # whether the document began in an earlier row
    fault: str | None = None  # what is wrong with a row that is passed over
    source: str | None = None  # where its text is from, if a column says so


def _file_rows(path, text_column, division, source_columns):
    """{"text": ...} of one file, see _text_rows and _checked."""
    if path.endswith(".txt"):
        yield from _text_rows(path, division)
    elif path.endswith(".jsonl"):
        for number, record in numbered_json_lines(path):
            yield _checked(record, text_column, f"{path}, line {number:,}", source_columns)
    else:
        there = open_parquet(path, [text_column]).schema_arrow.names if source_columns else []
        for number, record in read_parquet(path, [text_column, *(name for name in source_columns if name in there)]):
            yield _checked(record, text_column, f"{path}, row {number:,}", source_columns)


def _text_rows(path, division):
    """Rows of a text file; an empty one has a row without text, so that it is counted."""
    empty = True
    try:
        for row in read_text_file(path, division):
            empty = False
            yield row
    except ValueError as error:  # not UTF-8; where the next document begins is not known
        yield {"fault": str(error)}
        return
    if empty:
        yield {"text": ""}


def _checked(record, text_column, where, source_columns=()):
    """{"text": text of a record}, with the "source" that the first of source_columns tells that is there; or {"fault":
    what is wrong with it}."""
    if isinstance(record, ValueError):
        return {"fault": str(record)}
    if text_column not in record:
        return {"fault": str(no_column(text_column, where, record))}
    text = record[text_column]
    if text is not None and not isinstance(text, str):
        return {"fault": f"{where}: column {text_column!r} holds {type(text).__name__}, not text. Name another with "
                         "--text-column"}
    source = next((record[name] for name in source_columns if record.get(name) is not None), None)
    return {"text": text or "", **({} if source is None else {"source": str(source)})}


def _tales(seed, part):
    from corpus import tales
    for index in range(part * TALES_PER_PART, (part + 1) * TALES_PER_PART):
        yield {"text": tales.story(seed, index)}


def _stream(generator, **arguments):
    import datasets
    cache = datasets.config.HF_DATASETS_CACHE
    with tempfile.TemporaryDirectory() as datasets.config.HF_DATASETS_CACHE:  # else each part leaves a lock file there
        try:
            return datasets.IterableDataset.from_generator(generator, gen_kwargs=arguments)
        finally:
            datasets.config.HF_DATASETS_CACHE = cache


@dataclass
class Corpus:
    """A stream of documents in parts. `source` says in plain values what it is, so that a later run can compare."""

    source: dict
    text_column: str
    file_count: int
    open_file: Callable  # file number (of the tales: number of the part) -> datasets.IterableDataset
    size: int | None = None  # bytes of text, nearly; None on a hub, and of the tales, which do not end
    on_hub: bool = False  # far larger than what is wanted: take something of every file, then more
    skip_bad: bool = False  # rows that are bad by themselves are passed over
    divided: str = ""  # how text files are divided into documents, in words

    def span(self, part):
        """(file, first row, number of rows or None for all) that a part stands for.

        Files on disk are read whole, one after the other. Those on a hub are visited in rounds, each taking four times
        as many rows of every file as the one before: what has been read is always spread over the whole data set, and
        passing over the rows of earlier rounds costs little. Files next to each other hold pages of the same weeks, so
        a round goes through them in leaps.
        """
        if not self.on_hub:
            return part, 0, None
        turn, place = divmod(part, self.file_count)
        leaps = sorted(range(self.file_count), key=lambda file: f"{file:032b}"[::-1])
        return leaps[place], HUB_ROUND * (4**turn - 1) // 3, HUB_ROUND * 4**turn

    def documents(self, start=(0, 0)):
        """Yield a Row for every document, or piece of one, from the position `start`.

        Raises ValueError on a bad file, and unless skip_bad on a bad row; OSError where the hub breaks off.
        """
        ended = set()  # files on a hub of which nothing is left
        for part in itertools.count(start[0]):
            if len(ended) == self.file_count or not self.on_hub and part >= self.file_count:
                return
            file, first, rows = self.span(part)
            if file in ended:
                continue
            number = start[1] if part == start[0] else 0
            for row in self._rows(file, first + number, rows and rows - number):
                number += 1
                yield self._row((part, number), **row)
            if rows and number < rows:
                ended.add(file)

    def _row(self, position, text="", head=None, goes_on=False, fault=None, source=None):
        if head is not None:
            return Row(position, [text], head, goes_on)
        pieces = list(cut(text)) if text.strip() else []
        return Row(position, pieces, pieces[0] if len(pieces) > 1 else None, fault=fault, source=source)

    def _rows(self, file, skip, rows):
        """Rows of one file as _checked gives them, after `skip` of them, at most `rows`."""
        for number, record in enumerate(self._records(file, skip, rows), skip + 1):
            if self.on_hub:
                record = _checked(record, self.text_column,
                                  f"{self.source['dataset']}, file {file + 1:,}, row {number:,}")
            if "fault" in record and not self.skip_bad:
                raise ValueError(f"{record['fault']}\nTo go on without what is bad by itself: --skip-bad-records")
            yield record

    def _records(self, file, skip, rows):
        try:
            stream = self.open_file(file)
            stream = stream.skip(skip) if skip else stream
            yield from stream if rows is None else stream.take(rows)
        except Exception as error:  # of many kinds, as in hub.open_hub
            if not self.on_hub:
                raise
            raise OSError(f"the hub broke off ({hub.in_short(error)}). The chunks done are kept: run the same command "
                          "again, and it goes on after them") from error

    def sample(self, size):
        """A list of texts of `size` to 2 * `size` bytes in all (or the whole corpus), spread evenly.

        On a hub it takes the head of every file, of the tales the first part. Of files it reads all and keeps every
        k-th document, with k doubling whenever the sample has grown too large.
        """
        kept, total, stride = [], 0, 1
        if self.on_hub or self.size is None:
            files = range(self.file_count) if self.on_hub else range(1)
            for file in tqdm(files, desc="reading a sample", unit=" files", dynamic_ncols=True, leave=False, delay=1,
                             disable=None):
                taken = 0
                for text in self._texts([file]):
                    kept.append(text)
                    taken += utf8.length(text)
                    if taken * len(files) >= size:
                        break
            return kept
        with tqdm(desc="reading a sample", total=self.size, unit="B", unit_scale=True, dynamic_ncols=True, leave=False,
                  delay=1, disable=None) as progress:
            for number, text in enumerate(self._texts(range(self.file_count))):
                progress.update(utf8.length(text))
                if number % stride == 0:
                    kept.append(text)
                    total += utf8.length(text)
                    if total > 2 * size and len(kept) > 1:
                        kept, stride = kept[::2], stride * 2
                        total = sum(map(utf8.length, kept))
        return kept

    def _texts(self, files):
        """The texts of whole files that hold some, in as few pieces as they are read in."""
        return (text for file in files for row in self._rows(file, 0, None) if (text := row.get("text", "")).strip())


def _text_size(path, text_column):
    """Bytes of text in a file, nearly; a Parquet file is looked at, so that a bad one is found before any work."""
    return parquet_size(path, text_column) if path.endswith(".parquet") else os.path.getsize(path)


def open_corpus(dataset, text_column="text", seed=1, documents="auto", skip_bad=False, source_columns=()):
    """The corpus named by --dataset: a data set on the hub, "tales", or paths.

    documents says what a document of a text file is, see text_files.division_of; with skip_bad, rows that are bad by
    themselves are passed over. Of files, the first of source_columns that is there says where a text is from. Raises
    FileNotFoundError, ValueError or OSError, each with what to run next.
    """
    if text_column != text_column.encode("utf-8", "replace").decode():
        raise ValueError(f"--text-column {text_column!r} is not UTF-8, as every name of a column is")
    source = {"dataset": str(dataset), "text_column": text_column}
    if dataset in hub.DOCUMENTS:
        stream = hub.open_hub(hub.hub_arguments(dataset, text_column),
                              "train on the embedded corpus or on files of yours:\n"
                              f"    {commands.preprocess(dataset='tales')}\n"
                              f"    {commands.preprocess(dataset='texts/*.txt')}      (also .parquet, .jsonl, folders)")
        count = stream.num_shards
        return Corpus(source, text_column, count, lambda file: stream.shard(num_shards=count, index=file), on_hub=True,
                      skip_bad=skip_bad)
    if dataset == "tales":
        return Corpus({**source, "seed": seed}, "text", sys.maxsize, lambda part: _stream(_tales, seed=seed, part=part))
    files = expand_paths(dataset, names=(*hub.DOCUMENTS, "tales"))
    source["files"] = {file: identity(file) for file in files}
    divisions = {file: division_of(file, documents) for file in files if file.endswith(".txt")}
    if divisions:
        source["documents"] = documents
    return Corpus(source, text_column, len(files),
                  lambda file: _stream(_file_rows, path=files[file], text_column=text_column,
                                       division=divisions.get(files[file]), source_columns=source_columns),
                  size=sum(_text_size(file, text_column) for file in files), skip_bad=skip_bad,
                  divided=in_words(divisions.values()))
