"""What texts are like, what of them is copied, what of records overlaps: against what a hand counts."""

import doctest
import random

import numpy as np
import pytest

from evaluation import copies, overlap, samples, texts
from evaluation.copies import copied, share
from sampling.controls import Controls
from sampling.decoding import Decoder
from shards import Shard
from tests.support.tiny import TEXTS, tiny_model
from tests.support.tokenizers import BACKWARD


def test_the_examples_in_the_docstrings_hold():
    outcome = doctest.testmod(texts)
    assert outcome.attempted and not outcome.failed


def test_distinct_and_repeated_runs_of_words_are_those_that_a_hand_counts():
    some = [list("abab"), list("abc")]
    assert texts.distinct(some, 1) == 3 / 7 and texts.distinct(some, 2) == 3 / 5 and texts.distinct(some, 3) == 3 / 3
    assert texts.repetition(some, 2) == 1 / 5 and texts.repetition([list("aaaaaa")], 4) == 2 / 3
    assert texts.distinct([["a"]], 2) is None and texts.repetition([["a"]]) is None
    assert list(texts.limited(some, 5)) == [list("abab"), ["a"]]


def test_openings_are_counted_by_their_first_words_and_equal_texts_once():
    assert texts.words("What's THIS, 3.14?\n") == ["what's", "this", ",", "3.14", "?"]
    some = ["Where is Ada?", "Where is Bo?", "Who is it?", "Where is Ada?"]
    assert texts.openings([texts.words(text) for text in some]) == [("where is", 0.75), ("who is", 0.25)]
    assert texts.repeats(some) == 0.25 and texts.repeats([]) is None
    assert texts.portrait(some, 99, [False, False, True, True])["openings"] == [("where is", 0.5), ("who is", 0.5)]


def shard_of(ids):
    return Shard(None, np.array(ids, dtype="<u2"), 5000, "reverse", b"", None, None)


def test_runs_of_ids_are_found_in_shards_wherever_they_stand_and_by_nothing_else(monkeypatch):
    monkeypatch.setattr(copies, "_CHUNK", 50)  # runs reach over its edges
    rng = random.Random(1)
    shards = [[rng.randrange(10, 40) for _ in range(rng.randrange(3, 400))] for _ in range(5)]
    rows = [shard[start:start + 20] for shard in shards for start in range(0, len(shard), 37)]
    rows += [[rng.randrange(10, 40) for _ in range(20)] for _ in range(20)] + [[12, 13]]
    there = {tuple(shard[i:i + 4]) for shard in shards for i in range(len(shard) - 3)}
    found = copied(rows, map(shard_of, shards), n=4)
    assert [marked.tolist() for marked in found] == [
        [tuple(row[i:i + 4]) in there for i in range(len(row) - 3)] for row in rows]
    assert 0.3 < share(found) < 1 and share([]) is None


def test_a_run_over_the_border_of_two_texts_counts_as_copied_from_neither():
    ids = [20, 21, 2, 1, 22, 23]
    assert copied([ids], [shard_of(ids)], n=3)[0].tolist() == [False] * 4
    assert copied([ids], [shard_of(ids)], n=2)[0].tolist() == [True, False, False, False, True]


def test_written_texts_are_put_beside_held_out_ones_that_are_cut_alike():
    model = Decoder(tiny_model(vocab_size=BACKWARD.vocab_size))
    written = samples.write(model, BACKWARD, Controls(tokens=12, seed=3), 70)
    assert written == samples.write(model, BACKWARD, Controls(tokens=12, seed=3), 70)
    assert len(written) == 70 and all((len(row) < 12) == finished for row, finished in written)
    true = samples.held_out(BACKWARD, ["Ja.", TEXTS[0]], 12)
    assert true == [(BACKWARD.encode_text("Ja."), True), (BACKWARD.encode_text(TEXTS[0])[:12], False)]
    found = samples.compare(BACKWARD, written, true, [shard_of(BACKWARD.encode_document(TEXTS[0]))])
    assert found["held_out"]["finished"] == 0.5 and found["held_out"]["texts"] == 2
    assert found["held_out"]["copied"] == 1 and found["written"]["copied"] < 0.1


PASSAGE = "one two three four five six seven eight nine ten eleven twelve thirteen"


@pytest.mark.parametrize("pair, known, kinds", [
    (("In the barn.", "Where is it?"), ("in  the BARN", "Where are they?"), {"response"}),
    (("In the barn.", "Where is it?"), ("At home.", "where is it"), {"instruction"}),
    ((f"So {PASSAGE}.", "Count."), (f"{PASSAGE}, and more", "Say it."), {"passage"}),
    (("Ready.", f"Repeat: {PASSAGE}"), (PASSAGE.title(), "Go on."), {"passage"}),
    ((PASSAGE.removesuffix(" thirteen"), "Count."), (PASSAGE, "Say it."), set()),
    (("In the barn.", "Where is it?"), ("In the old barn.", "Where is it now?"), set())])
def test_overlap_is_found_by_the_words_of_a_record(pair, known, kinds):
    assert overlap.overlaps([pair, ("Else.", "What?")], [known, ("No.", "Why?")]) == [kinds, set()]


def test_records_that_overlap_are_counted_by_kind_and_once_in_all():
    assert overlap.counts([{"response", "passage"}, set(), {"passage"}]) == {
        "response": 1, "instruction": 0, "passage": 2, "any": 2}
