"""The arrow of time: a gap is the bits backward less those forward, of the same words, seed by seed."""

import numpy as np
import pytest

from evaluation.arrow import along_training, arrow, over_seeds, paired
from evaluation.held_out import Reading, read
from reverse import reading_units
from sampling.decoding import Decoder
from tests.support.tiny import TEXTS, tiny_model
from tests.support.tokenizers import BACKWARD, FORWARD

LN2 = np.log(2)


def reading(text, direction, bits_per_word):
    """Of a model that pays so many bits for every word, a token each, and none for the end."""
    units = reading_units(text)
    nats = np.array([*(bits_per_word * LN2 for _ in units), 0.0])
    return Reading(text, None, direction, units, np.ones(len(units), dtype=int), nats, np.arange(1, len(nats) + 1))


def pair(forward, backward, texts=("One two three.", "Four five.")):
    return tuple([reading(text, side, bits) for text in texts] for side, bits in (("forward", forward),
                                                                                 ("reverse", backward)))


def test_the_gap_is_what_a_hand_counts_over_documents_and_over_seeds():
    found = arrow([pair(2, 3), pair(2, 4)], seed=1)
    words, size = 4 + 3, len("One two three.Four five.")
    assert found["forward"]["value"] == pytest.approx(2 * words / size)
    assert found["gap"]["value"] == pytest.approx(1.5 * words / size)
    assert found["gap_by_seed"] == pytest.approx([words / size, 2 * words / size])
    assert found["relative"]["value"] == pytest.approx(0.75)
    assert found["tokens"] == {"forward": 9, "backward": 9, "per_mille": 0}
    assert found["by_kind"]["full stop"] == {"forward": 2, "backward": 3.5, "gap": 1.5, "counted": 2}
    assert found["texts"][0][1] == (" two", 2, pytest.approx(3.5))


def test_a_gap_of_the_same_model_is_nothing():
    found = arrow([pair(2, 2)], seed=1)
    assert found["gap"] == {"value": 0, "low": 0, "high": 0} and found["gap_over_seeds"]["low"] is None


def test_of_few_seeds_the_interval_is_that_of_student():
    found = over_seeds([1.0, 2.0, 3.0])  # the standard error is 1 / sqrt(3)
    assert (found["low"], found["high"]) == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5))


def test_words_of_both_directions_are_the_same_and_their_bits_add_up():
    documents = [(text, None) for text in TEXTS[:6]]
    sides = [read(Decoder(tiny_model(8, vocab_size=tokenizer.vocab_size)), tokenizer, documents)
             for tokenizer in (FORWARD, BACKWARD)]
    found = arrow([tuple(sides)], seed=1)
    for text, words in zip(TEXTS, found["texts"]):
        assert "".join(unit for unit, _, _ in words) == text
    assert [bits for _, _, bits in found["texts"][0]] == sides[1][0].unit_bits.tolist()
    assert found["gap"]["value"] == pytest.approx(found["backward"]["value"] - found["forward"]["value"])
    assert found["tokens"]["per_mille"] == pytest.approx(
        1000 * (found["tokens"]["backward"] / found["tokens"]["forward"] - 1))


def test_models_are_paired_by_their_seeds_and_else_by_their_order():
    def models(*found):
        return [{"direction": direction, "seed": seed, "n": n} for n, (direction, seed) in enumerate(found)]

    crossed = models(("forward", 1), ("reverse", 2), ("forward", 2), ("reverse", 1))
    assert [(a["n"], b["n"]) for a, b in paired(crossed)] == [(0, 3), (2, 1)]
    unknown = models(("forward", None), ("reverse", 7), ("forward", 9))
    assert [(a["n"], b["n"]) for a, b in paired(unknown)] == [(0, 1)]


def test_learning_curves_are_compared_where_both_were_evaluated():
    rows = [{"iter": n, "tokens": 100 * n, "bits_per_byte": 3 - n} for n in range(3)]
    other = [{"iter": 1, "tokens": 100, "train_loss": 1.0}, {"iter": 2, "tokens": 200, "bits_per_byte": 1.5}]
    assert along_training(rows, other) == [(200, 1, 1.5)] and along_training([], rows) == []
