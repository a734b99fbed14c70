"""What tokenizing promises: no document is lost, chunks end where the documents say, and workers change nothing."""

from concurrent.futures import Future

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from characters import utf8
from corpus import text_files
from corpus.documents import Row
from corpus.languages import LANGUAGES
from shards import SPLITS, split_of, tokenizing
from tests.support.tiny import TEXTS
from tokenizer import Tokenizer, train_tokenizer

# ---- tasks


def rows_of(text, separate):
    """A document as a row of a table gives it, or piece by piece, as a text file does."""
    pieces = list(text_files.cut(text))
    head = pieces[0] if len(pieces) > 1 else None
    if separate:
        return [Row((), [piece], head, number > 0) for number, piece in enumerate(pieces)]
    return [Row((), pieces, head)]


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(texts=st.lists(st.text(alphabet="aé🙂\n", max_size=60), max_size=30), limit=st.integers(1, 25),
       task=st.integers(1, 80), chunk=st.integers(1, 6), most=st.integers(20, 200), separate=st.booleans())
def test_tasks_lose_nothing_and_end_chunks_where_the_documents_say(texts, limit, task, chunk, most, separate):
    """Whatever the sizes of documents, pieces, tasks and chunks; reading on from a chunk's end gives the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "MAX_DOCUMENT_CHARACTERS", limit)
        patch.setattr(tokenizing, "TASK_BYTES", task)
        patch.setattr(tokenizing, "CHUNK_BYTES", most)
        found_documents = [row for text in texts for row in rows_of(text, separate)]
        found_documents = [row._replace(position=(0, number)) for number, row in enumerate(found_documents, 1)]
        found = list(tokenizing.tasks(found_documents, chunk, 0.5))
        for number, one in enumerate(found):
            if one.chunk_ends:
                rest = found_documents[one.position[1]:]
                assert list(tokenizing.tasks(rest, chunk, 0.5)) == found[number + 1:]
    assert "".join(text for one in found for text, _ in one.texts) == "".join(texts)
    assert sum(one.documents for one in found) == len(texts)
    assert sum(one.noted["cut"] for one in found) == sum(len(text) > limit for text in texts)
    assert all(split in (None, "train", "val") for one in found for _, split in one.texts)
    assert not found or found[-1].chunk_ends
    rows = 0
    for one in found:
        rows += one.documents
        assert rows <= chunk
        rows = 0 if one.chunk_ends else rows


@pytest.mark.parametrize("separate", [False, True])
def test_the_pieces_of_a_long_text_stay_in_one_split(monkeypatch, separate):
    monkeypatch.setattr(text_files, "MAX_DOCUMENT_CHARACTERS", 10)
    for number in range(20):
        text = f"{number} " + "word " * 20
        (task,) = tokenizing.tasks(rows_of(text, separate), 5, 0.5)
        assert {split for _, split in task.texts} == {split_of(text[:10], 0.5)} and len(task.texts) > 5


# ---- chunks


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A tokenizer's file."""
    path = tmp_path_factory.mktemp("tokenizer") / "tok400.model"
    path.write_bytes(train_tokenizer(TEXTS, 400))
    return path


@pytest.fixture(scope="module")
def texts():
    return [*TEXTS, *LANGUAGES.values(), "", "a\0b \ud800 c", "  \n"]


def positioned(texts):
    """Documents as a corpus gives them."""
    return [Row((0, row), [text]) for row, text in enumerate(texts, 1)]


def plain(chunk):
    return chunk.position, chunk.documents, {split: (ids.tolist(), counts) for split, (ids, counts) in
                                             chunk.held().items()}


@pytest.mark.parametrize("count", [1, 3])
def test_one_worker_or_many_make_what_encoding_each_document_by_itself_makes(path, texts, monkeypatch, count):
    """Tasks are small here, so that many workers finish them in another order than they began."""
    monkeypatch.setattr(tokenizing, "TASK_BYTES", 1_000)
    with tokenizing.workers(count, path) as executor:
        found = [plain(chunk) for chunk in tokenizing.chunks(executor, positioned(texts), 100, 50, 0.2, 2 * count,
                                                             lambda *_: None)]
    tokenizer, expected = Tokenizer.load(path), []
    for first in range(0, len(texts), 50):
        part = texts[first:first + 50]
        held = {split: [text for text in part if text and split_of(text, 0.2) == split] for split in SPLITS}
        expected.append(((0, first + len(part)), len(part), {
            split: ([i for text in texts for i in tokenizer.encode_document(text)],
                    {"documents": len(texts), "bytes": sum(map(utf8.length, texts))})
            for split, texts in held.items()}))
    assert found == expected


class OneByOne:
    """An executor that works on a task when its result is asked for; it knows how many were out at most."""

    def __init__(self):
        self.out = self.most = self.submitted = 0

    def submit(self, function, texts, val_fraction):
        self.out, self.submitted = self.out + 1, self.submitted + 1
        self.most = max(self.most, self.out)
        future = Future()

        def result():
            self.out -= 1
            ids = np.arange(len(texts), dtype=np.uint16)
            return {split: (ids, len(texts), 10 * len(texts)) for split in SPLITS}

        future.result = result
        return future


def test_few_tasks_are_out_at_a_time_however_long_the_corpus(monkeypatch):
    monkeypatch.setattr(tokenizing, "TASK_BYTES", 1)
    executor = OneByOne()
    found = list(tokenizing.chunks(executor, positioned(["text"] * 200), 100, 20, 0.5, 6, lambda *_: None))
    assert len(found) == 10 and executor.submitted == 200 and executor.most == 7


def test_no_more_is_read_than_the_chunks_that_are_wanted(monkeypatch):
    monkeypatch.setattr(tokenizing, "TASK_BYTES", 1)
    read, executor = iter(positioned(["text"] * 200)), OneByOne()
    found = list(tokenizing.chunks(executor, read, 3, 20, 0.5, 6, lambda *_: None))
    assert [chunk.position for chunk in found] == [(0, 20), (0, 40), (0, 60)] and executor.submitted == 60
    assert next(read).position == (0, 61)


def test_progress_is_told_of_every_document_and_byte(monkeypatch):
    monkeypatch.setattr(tokenizing, "TASK_BYTES", 10)
    told = []
    list(tokenizing.chunks(OneByOne(), positioned(["text"] * 30), 100, 20, 0.5, 6, lambda *more: told.append(more)))
    assert len(told) > 2 and sum(count for count, _ in told) == 30
    assert sum(size for _, size in told) == 30 * 10 * len(SPLITS)
