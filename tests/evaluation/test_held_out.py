"""What text costs a model: a plain loop finds the same, and no batch, padding or window changes it."""

import math
import random

import numpy as np
import pytest
import torch

from evaluation import base, words
from evaluation.held_out import by_context, read, windows
from reverse import reading_units
from sampling.decoding import Decoder
from tests.support.tiny import TEXTS, tiny_model
from tests.support.tokenizers import BACKWARD, FORWARD

DOCUMENTS = [(TEXTS[0], "a"), (TEXTS[1] * 3, "b"), ("Ja.", "a"), (TEXTS[5][:40], None), ("船 が  好き\n\n…", "b")]


def model_of(tokenizer, block_size=48, loud=8):
    return tiny_model(loud, vocab_size=tokenizer.vocab_size, block_size=block_size)


def plainly(model, ids):
    """(-log P, tokens seen) of every id but the first, one window at a time, each id from all logits of its window."""
    found, block, first = [], model.config.block_size, 1
    while first < len(ids):
        start = 0 if first == 1 else first - block // 2
        end = min(len(ids), start + block + 1)
        with torch.no_grad():
            p = model(torch.tensor([ids[start:end - 1]]))[0][0].log_softmax(dim=-1)
        found += [(-p[i - start - 1, ids[i]].item(), i - start) for i in range(first, end)]
        first = end
    return found


@pytest.mark.parametrize("tokenizer", [BACKWARD, FORWARD], ids=["backward", "forward"])
def test_every_token_costs_what_a_plain_loop_finds_in_texts_shorter_and_longer_than_the_block(tokenizer):
    model = model_of(tokenizer)
    for (text, source), reading in zip(DOCUMENTS, read(Decoder(model), tokenizer, DOCUMENTS)):
        expected = plainly(model, tokenizer.encode_document(text))
        assert reading.nats == pytest.approx([nats for nats, _ in expected], abs=1e-3)
        assert reading.seen.tolist() == [seen for _, seen in expected]
        assert (reading.text, reading.source, reading.bytes) == (text, source, len(text.encode()))


def test_a_uniform_model_gives_log2_of_the_vocabulary_in_bits_for_every_token():
    model = model_of(BACKWARD)
    with torch.no_grad():
        model.norm.weight.zero_()  # every logit is zero
    for reading in read(Decoder(model), BACKWARD, DOCUMENTS):
        assert reading.nats / math.log(2) == pytest.approx(math.log2(BACKWARD.vocab_size), rel=1e-6)
        assert reading.bits == pytest.approx(len(reading.nats) * math.log2(BACKWARD.vocab_size), rel=1e-6)


def test_bits_per_byte_do_not_depend_on_what_is_read_beside_a_text_nor_on_the_order(monkeypatch):
    model = Decoder(model_of(BACKWARD))
    whole = read(model, BACKWARD, DOCUMENTS)
    order = random.Random(1).sample(range(len(DOCUMENTS)), len(DOCUMENTS))
    shuffled = read(model, BACKWARD, [DOCUMENTS[i] for i in order])
    monkeypatch.setattr("evaluation.held_out._TOGETHER", 1)
    alone = read(model, BACKWARD, DOCUMENTS)
    for i, reading in enumerate(whole):
        assert alone[i].bits == pytest.approx(reading.bits, rel=1e-5)
        assert shuffled[order.index(i)].bits == pytest.approx(reading.bits, rel=1e-5)


@pytest.mark.parametrize("block_size", [1, 2, 7, 48])
def test_windows_predict_every_token_once_from_half_a_block_at_least_and_never_from_more_than_one(block_size):
    for length in range(1, 160):
        found = list(windows(length, block_size))
        assert [i for _, first, end in found for i in range(first, end)] == list(range(1, length))
        for start, first, end in found:
            assert start == 0 or first - start == max(1, block_size // 2)
            assert end - 1 - start <= block_size


def test_bits_per_byte_do_not_depend_on_the_window_of_a_text_that_fits_into_it():
    small, large = (read(Decoder(model_of(BACKWARD, block_size)), BACKWARD, DOCUMENTS) for block_size in (300, 500))
    assert [reading.bits for reading in small] == pytest.approx([reading.bits for reading in large], rel=1e-5)


def test_a_block_that_holds_the_whole_text_needs_one_window():
    ids = BACKWARD.encode_document(TEXTS[0])
    assert list(windows(len(ids), len(ids) - 1)) == [(0, 1, len(ids))]


@pytest.mark.parametrize("tokenizer", [BACKWARD, FORWARD], ids=["backward", "forward"])
def test_the_bits_of_words_are_those_of_their_tokens_whichever_way_they_are_read(tokenizer):
    for reading in read(Decoder(model_of(tokenizer)), tokenizer, DOCUMENTS):
        assert "".join(reading.units) == reading.text
        assert reading.unit_bits.sum() + reading.nats[-1] / math.log(2) == pytest.approx(reading.bits)
        at = 0
        for number, unit in enumerate(reading.units if tokenizer is FORWARD else reading.units[::-1]):
            size = len(tokenizer.encode_text(unit))
            bits = reading.unit_bits[number if tokenizer is FORWARD else -1 - number]
            assert bits == pytest.approx(reading.nats[at:at + size].sum() / math.log(2))
            at += size


def test_the_parts_of_a_text_add_up_to_the_whole():
    readings = read(Decoder(model_of(BACKWARD)), BACKWARD, DOCUMENTS)
    bits, ends = sum(reading.bits for reading in readings), sum(reading.nats[-1] for reading in readings) / math.log(2)
    assert sum(row[1] for row in by_context(readings)) == pytest.approx(bits - ends)
    assert sum(row[2] for row in by_context(readings)) == sum(reading.bytes for reading in readings)
    assert sum(row[0] for row in words.by_kind(readings).values()) == pytest.approx(bits)
    found = base.parts(readings, seed=1)
    assert {source: row["documents"] for source, row in found["by_source"].items()} == {"a": 2, "b": 2}
    assert sum(row["share_of_bits"] for row in found["by_kind"].values()) == pytest.approx(1)
    loss = base.loss(readings, seed=1)
    assert loss["bits_per_byte"]["value"] == pytest.approx(bits / loss["bytes"])
    assert loss["tokens"] == sum(len(BACKWARD.encode_document(text)) - 1 for text, _ in DOCUMENTS)


def test_kinds_of_words_are_told_by_what_stands_before_them():
    text = 'On Monday Ada came. "Why?" asked Bo.\n\nshe had 3.14 of it…  So (nearly) all,'
    found = dict(zip(reading_units(text), words.kinds_of(reading_units(text))))
    first, capital, word = words.KINDS[:3]
    assert {unit.strip(): kind for unit, kind in found.items() if kind in words.KINDS[:3]} == {
        "On": first, "Monday": capital, "Ada": capital, "came": word, "Why": first, "asked": first, "Bo": capital,
        "she": first, "had": word, "of": word, "it": word, "So": first, "nearly": word, "all": word}
    assert found[" 3.14"] == "number" and found["\n"] == "line break" and found["."] == "full stop"
    assert found[","] == found[' "'] == "other sign"


def test_the_most_and_least_surprising_words_are_those_with_the_most_and_least_bits_on_the_average():
    readings = read(Decoder(model_of(BACKWARD)), BACKWARD, [(text, None) for text in TEXTS[:30]])
    most, least = words.surprising(readings, enough=10, listed=3)
    every = {}
    for reading in readings:
        for unit, bits in zip(reading.units, reading.unit_bits):
            if unit.strip()[:1].isalpha():
                every.setdefault(unit.strip(), []).append(bits)
    means = sorted((np.mean(bits), word) for word, bits in every.items() if len(bits) >= 10)
    assert [word for word, _, _ in most] == [word for _, word in means[:-4:-1]]
    assert [(word, times) for word, _, times in least] == [(word, len(every[word])) for _, word in means[:3]]
