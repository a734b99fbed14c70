"""
Documents to chunks of token ids, by worker processes: tasks of half a megabyte go out and come back in order.

Where a chunk ends depends on the documents alone, so the shards are the same with one worker or with many.
"""

from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

from characters import utf8
from program.processes import children
from shards.folder import split_of
from shards.format import SPLITS
from tokenizer import Tokenizer

TASK_BYTES = 500_000       # of text: what a worker is given at a time
CHUNK_BYTES = 300_000_000  # of text: a chunk of documents as long as books ends here, so that it fits in memory


@dataclass
class Task:
    """What a worker gets, and what is known of it meanwhile."""

    texts: list                # (text, split or None), see tokenize
    chunk_ends: bool = False
    position: tuple = (0, 0)   # after the last row
    documents: int = 0
    noted: Counter = field(default_factory=Counter)  # documents that were cut, rows that are "empty", and "bad" ones
    fault: str | None = None   # what is wrong with the first bad one


def tasks(rows, chunk_documents, val_fraction):
    """Group rows of a corpus (corpus.documents.Row) into tasks. A chunk may end within a document that comes in many
    rows: it may be longer than what fits in memory."""
    task, size, chunk_rows, chunk_size, open_chunk = Task([]), 0, 0, 0, False
    for row in rows:
        task.position, open_chunk = row.position, True
        split = None if row.head is None else split_of(row.head, val_fraction)  # all pieces go to one
        for piece in row.pieces:
            task.texts.append((piece, split))
            size += utf8.length(piece)
            if split and size >= TASK_BYTES:  # in the middle of a document
                yield task
                chunk_size += size
                task, size = Task([], position=task.position), 0
        _count(task, row)
        chunk_rows += not row.goes_on
        task.chunk_ends = chunk_rows == chunk_documents or chunk_size + size >= CHUNK_BYTES
        if size >= TASK_BYTES or task.chunk_ends:
            yield task
            chunk_rows, chunk_size = (0, 0) if task.chunk_ends else (chunk_rows, chunk_size + size)
            open_chunk = not task.chunk_ends
            task, size = Task([], position=task.position), 0
    if open_chunk:
        task.chunk_ends = True
        yield task


def _count(task, row):
    task.documents += not row.goes_on
    if row.fault:
        task.noted["bad"] += 1
        task.fault = task.fault or row.fault
    elif not row.pieces:
        task.noted["empty"] += 1
    elif row.head is not None and not row.goes_on:
        task.noted["cut"] += 1


_tokenizer = None  # of a worker process


def start_worker(path):
    """Give a fresh worker its tokenizer."""
    global _tokenizer
    _tokenizer = Tokenizer.load(path)


def tokenize(texts, val_fraction):
    """Token ids and counts of a list of (text, split or None): {split: (uint16 array, documents, bytes)}."""
    ids = {split: [] for split in SPLITS}
    counts = {split: [0, 0] for split in SPLITS}
    for text, split in texts:
        split = split or split_of(text, val_fraction)
        if text:
            ids[split] += _tokenizer.encode_document(text)
            counts[split][0] += 1
            counts[split][1] += utf8.length(text)
    return {split: (np.array(ids[split], dtype=np.uint16), *counts[split]) for split in SPLITS}


class Chunk:
    """What the tasks of one chunk add up to."""

    def __init__(self):
        self.ids = {split: bytearray() for split in SPLITS}
        self.counts = {split: {"documents": 0, "bytes": 0} for split in SPLITS}
        self.position, self.documents, self.noted, self.fault = (0, 0), 0, Counter(), None

    def add(self, task, result):
        """Add what a worker made of a task."""
        self.position = task.position
        self.documents += task.documents
        self.noted += task.noted
        self.fault = self.fault or task.fault
        for split, (ids, documents, size) in result.items():
            self.ids[split] += ids.tobytes()
            self.counts[split]["documents"] += documents
            self.counts[split]["bytes"] += size

    def held(self):
        """{split: (uint16 ids, counts)}, as folder.add_chunk takes it."""
        return {split: (np.frombuffer(self.ids[split], dtype=np.uint16), self.counts[split]) for split in SPLITS}


def workers(count, path):
    """Processes that tokenize with the tokenizer at path (see processes.children)."""
    return children(count, start_worker, (path,))


def chunks(executor, documents, count, chunk_documents, val_fraction, in_flight, advance):
    """Yield up to count whole chunks of documents; advance(documents, bytes) is told after every task."""
    chunk = Chunk()
    found = tasks(documents, chunk_documents, val_fraction)
    for task, result in _in_order(executor, found, count, val_fraction, in_flight):
        chunk.add(task, result)
        advance(task.documents, sum(size for _, _, size in result.values()))
        if task.chunk_ends:
            yield chunk
            chunk = Chunk()


def _in_order(executor, found, count, val_fraction, in_flight):
    """Yield (task, what a worker made of it) until count chunks have ended; few are out at a time, so memory stays
    level."""
    waiting = deque()
    for task in found:
        waiting.append((task, executor.submit(tokenize, task.texts, val_fraction)))
        task.texts = None
        count -= task.chunk_ends
        if not count:
            break
        if len(waiting) > in_flight:
            task, future = waiting.popleft()
            yield task, future.result()
    for task, future in waiting:
        yield task, future.result()
