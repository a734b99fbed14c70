"""
Where documents come from: Hugging Face data sets, files, the embedded tales; all through one streaming loader.

A corpus is a list of parts that are read one after the other, a part as a stream of documents. A position (part, row)
says where a reader is, so that an interrupted one goes on without starting over. The order of the documents never
depends on how many are wanted, so that a longer run begins with what a shorter one has read.
"""

import itertools
import os
import queue
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass

from tqdm import tqdm

from readers import expand_paths, no_column, open_parquet, read_json_lines, read_parquet, read_text_file, text_bytes

HUB = {
    "fineweb": {"path": "HuggingFaceFW/fineweb", "name": "sample-100BT", "split": "train"},
    "tinystories": {"path": "roneneldan/TinyStories", "split": "train"},
}
HUB_COLUMNS = {
    "fineweb": ("text", "id", "dump", "url", "date", "file_path", "language", "language_score", "token_count"),
    "tinystories": ("text",),
}
HUB_TIMEOUT = 10             # seconds for each step of the first question to a hub
HUB_PATIENCE = 20            # seconds for its answer in all
HUB_ROUND = 2500             # documents taken of every file in the first round; see Corpus.span
BATCH_ROWS = 100             # rows read at a time: FineWeb's long documents must not fill the memory
TALES_PER_PART = 10_000


def hub_arguments(dataset, text_column="text"):
    """The arguments of datasets.load_dataset for a data set on a hub; Parquet, of which one column is fetched.

    Raises ValueError for a column that the data set does not have.
    """
    if text_column not in HUB_COLUMNS[dataset]:
        raise no_column(text_column, dataset, HUB_COLUMNS[dataset])
    return {**HUB[dataset], "streaming": True, "columns": [text_column], "batch_size": BATCH_ROWS}


def _file_records(path, text_column):
    """{"text": ...} of one file; raises ValueError where the column is missing or holds something else than text."""
    if path.endswith(".txt"):
        yield from read_text_file(path)
        return
    records = read_json_lines(path) if path.endswith(".jsonl") else read_parquet(path, [text_column])
    for number, record in enumerate(records, 1):
        if text_column not in record:
            raise no_column(text_column, f"record {number:,} of {path}", record)
        yield {"text": _checked(record[text_column], text_column, path, number)}


def _checked(text, text_column, source, number):
    if text is not None and not isinstance(text, str):
        raise ValueError(f"column {text_column!r} of {source} holds {type(text).__name__}, not text (row {number:,}). "
                         "Name another with --text-column")
    return text or ""


def _tales(seed, part):
    import tales
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


def _ask_hub(repository):
    """One short question that finds out whether there is a hub at all; raises what the library raises, or TimeoutError.

    In a thread, since a time-out holds for every address that a name has, and for the name's own look-up not at all.
    """
    import huggingface_hub
    answers = queue.SimpleQueue()

    def ask():
        try:
            answers.put(huggingface_hub.HfApi().dataset_info(repository, timeout=HUB_TIMEOUT))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=HUB_PATIENCE)
    except queue.Empty:
        raise TimeoutError(f"no answer in {HUB_PATIENCE} seconds") from None
    if isinstance(answer, Exception):
        raise answer


def _open_hub(dataset, text_column):
    return open_hub(hub_arguments(dataset, text_column),
                    "train on the embedded corpus or on files of yours:\n"
                    "    python preprocess_xcoax.py --dataset tales\n"
                    "    python preprocess_xcoax.py --dataset 'texts/*.txt'      (also .parquet, .jsonl, folders)")


def open_hub(arguments, otherwise):
    """What datasets.load_dataset gives for arguments; raises OSError that says what to do otherwise.

    It asks first, and shortly: the library's own retries would take minutes to say that there is no network.
    """
    try:
        _ask_hub(arguments["path"])
        import datasets
        return datasets.load_dataset(**arguments)
    except Exception as error:  # many kinds (offline mode, no route, no name, time-out, refused, 5xx), one meaning
        raise OSError(
            f"{arguments['path']} cannot be reached ({_in_short(error)}). Without the hub, {otherwise}") from error


def _in_short(error):
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


@dataclass
class Corpus:
    """A stream of documents in parts. `source` says in plain values what it is, so that a later run can compare."""

    source: dict
    text_column: str
    file_count: int
    open_file: Callable  # file number -> datasets.IterableDataset
    size: int | None = None  # bytes of text, nearly; None where only the hub knows
    on_hub: bool = False  # far larger than what is wanted: take something of every file, then more

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
        """Yield ((part, row) to go on from, text) for all documents from the position `start`.

        Raises ValueError on bad files, OSError where the hub breaks off.
        """
        ended = set()  # files on a hub of which nothing is left
        for part in itertools.count(start[0]):
            if len(ended) == self.file_count or not self.on_hub and part >= self.file_count:
                return
            file, first, rows = self.span(part)
            if file in ended:
                continue
            row = start[1] if part == start[0] else 0
            for text in self._texts(file, first + row, rows and rows - row):
                row += 1
                yield (part, row), text
            if rows and row < rows:
                ended.add(file)

    def _texts(self, file, skip, rows):
        """Texts of one file, after `skip` of them, at most `rows`."""
        for number, record in enumerate(self._records(file, skip, rows), skip + 1):
            if self.text_column not in record:
                raise no_column(self.text_column, self.source["dataset"], record)
            yield _checked(record[self.text_column], self.text_column, self.source["dataset"], number)

    def _records(self, file, skip, rows):
        try:
            stream = self.open_file(file)
            stream = stream.skip(skip) if skip else stream
            yield from stream if rows is None else stream.take(rows)
        except Exception as error:  # of many kinds, as in _open_hub
            if not self.on_hub:
                raise
            raise OSError(f"the hub broke off ({_in_short(error)}). The chunks done are kept: run the same command "
                          "again, and it goes on after them") from error

    def sample(self, size):
        """A list of texts of `size` to 2 * `size` bytes in all (or the whole corpus), spread evenly.

        On a hub it takes the head of every file, of the tales the first part. Of files it reads all and keeps every
        k-th document, with k doubling whenever the sample has grown too large.
        """
        kept, total, stride = [], 0, 1
        if self.on_hub or self.size is None:
            files = range(self.file_count) if self.on_hub else range(1)
            for file in tqdm(files, desc="reading a sample", unit=" files", dynamic_ncols=True, leave=False, delay=1):
                taken = 0
                for text in self._texts(file, 0, None):
                    kept.append(text)
                    taken += text_bytes(text)
                    if taken * len(files) >= size:
                        break
            return kept
        with tqdm(desc="reading a sample", total=self.size, unit="B", unit_scale=True, dynamic_ncols=True, leave=False,
                  delay=1) as progress:
            for number, (_, text) in enumerate(self.documents()):
                progress.update(text_bytes(text))
                if number % stride == 0:
                    kept.append(text)
                    total += text_bytes(text)
                    if total > 2 * size and len(kept) > 1:
                        kept, stride = kept[::2], stride * 2
                        total = sum(map(text_bytes, kept))
        return kept


def _text_size(path, text_column):
    """Bytes of text in a file, nearly; a Parquet file is looked at, so that a bad one is found before any work."""
    if not path.endswith(".parquet"):
        return os.path.getsize(path)
    file = open_parquet(path, [text_column])
    groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
    return sum(group.column(i).total_uncompressed_size for group in groups for i in range(group.num_columns)
               if group.column(i).path_in_schema == text_column)


def open_corpus(dataset, text_column="text", seed=1):
    """The corpus named by --dataset: a data set on the hub, "tales", or paths.

    Raises FileNotFoundError, ValueError or OSError, each with what to run next.
    """
    source = {"dataset": str(dataset), "text_column": text_column}
    if dataset in HUB:
        stream = _open_hub(dataset, text_column)
        count = stream.num_shards
        return Corpus(source, text_column, count, lambda file: stream.shard(num_shards=count, index=file), on_hub=True)
    if dataset == "tales":
        return Corpus({**source, "seed": seed}, "text", sys.maxsize, lambda part: _stream(_tales, seed=seed, part=part))
    files = expand_paths(dataset, names=(*HUB, "tales"))
    source["files"] = {file: os.path.getsize(file) for file in files}
    return Corpus(source, "text", len(files),
                  lambda file: _stream(_file_records, path=files[file], text_column=text_column),
                  size=sum(_text_size(file, text_column) for file in files))
