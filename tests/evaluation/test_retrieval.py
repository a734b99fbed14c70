"""What retrieval promises: an oracle is always first, a trained model finds the true instruction, controls are at
chance."""

import random

import numpy as np
import pytest
from rank_bm25 import BM25Okapi

from evaluation.retrieval import backward, bm25, mrr, questions, ranks, recall_at
from sampling.decoding import decoder_of
from tests.support.tiny import learn
from tests.support.weighing import PAIRS, TOKENIZER, blind, slowly, tiny

CHANCE = sum(1 / rank for rank in range(1, 9)) / 8  # of the mean reciprocal rank among 8


def places(model, pairs=PAIRS, seed=0, control=False):
    asked = questions(pairs, 8, seed)
    return {order: ranks(worth, seed, control) for order, worth in backward(model, TOKENIZER, asked).items()}


@pytest.fixture(scope="module")
def trained():
    """A small model that has learned which instruction goes with which response, and has seen empty responses."""
    rng = random.Random(0)
    return learn(tiny(loud=1), TOKENIZER, lambda: [(response if rng.random() > 0.1 else "", text)
                                                   for response, text in rng.sample(PAIRS, 12)],
                 steps=250, learning_rate=1.2e-2)


def test_an_oracle_has_a_mean_reciprocal_rank_of_one_and_a_random_scorer_that_of_chance():
    rng, worth = np.random.default_rng(1), np.zeros((4000, 65))
    worth[:, 0] = 1
    assert mrr(ranks(worth)) == recall_at(ranks(worth), 1) == 1
    chance = 1 / np.arange(1, 65)
    error = chance.std() / 4000**0.5
    assert chance.mean() == pytest.approx(0.074, abs=5e-4)
    for values in (rng.random((4000, 65)), np.zeros((4000, 65))):  # the second: all are worth the same
        for control in (False, True):
            assert mrr(ranks(values, 1, control)) == pytest.approx(chance.mean(), abs=4 * error)


def test_places_are_what_a_hand_counts():
    worth = [[3.0, 1.0, 5.0, 2.0], [0.0, 9.0, -1.0, -2.0], [1.0, 0.0, 3.0, 2.0]]
    assert ranks(worth).tolist() == [2, 1, 3] and ranks(worth, control=True).tolist() == [3, 1, 3]


def test_where_the_response_cannot_matter_every_place_is_at_chance():
    model = decoder_of(blind())
    for control in (False, True):
        for found in places(model, 4 * PAIRS, control=control).values():
            assert mrr(found) == pytest.approx(CHANCE, abs=0.1)


def test_a_trained_model_finds_the_true_instruction_and_shuffled_responses_are_at_chance(trained):
    true = places(trained, seed=1)
    assert mrr(true["pmi"]) > 0.9 and recall_at(true["pmi"], 1) > 0.85
    assert min(mrr(found) for found in true.values()) > 0.7
    shuffled = [places(trained, seed=seed, control=True)["pmi"] for seed in range(4)]
    assert mrr(np.concatenate(shuffled)) == pytest.approx(CHANCE, abs=0.1)


def test_a_worth_is_what_a_slow_loop_finds_whatever_it_is_computed_together_with():
    from backchat.template import EMPTY_RESPONSE, encode_instruction, encode_response
    model, asked = tiny(), questions(PAIRS, 8)[:20]
    worth = backward(model, TOKENIZER, asked)
    for row, column in ((0, 0), (7, 3), (19, 8)):
        response, text = asked[row].response, asked[row].instructions[column]
        ids = encode_instruction(TOKENIZER, text)
        total = slowly(model, encode_response(TOKENIZER, response)[0], ids)
        assert worth["raw"][row, column] == pytest.approx(total, abs=1e-3)
        assert worth["per_token"][row, column] == pytest.approx(total / len(ids), abs=1e-3)
        assert worth["pmi"][row, column] == pytest.approx(total - slowly(model, [*EMPTY_RESPONSE], ids), abs=2e-3)


def test_every_question_holds_its_own_instruction_and_different_others_and_the_control_takes_each_once():
    asked = questions(PAIRS, 8, seed=3)
    assert [question.instructions[0] for question in asked] == [text for _, text in PAIRS]
    assert all(len({*question.instructions}) == 9 for question in asked)
    assert sorted(question.instructions[1] for question in asked) == sorted(text for _, text in PAIRS)


def test_the_same_seed_asks_the_same_questions_and_too_few_are_refused():
    assert questions(PAIRS, 8, 1) == questions(PAIRS, 8, 1) != questions(PAIRS, 8, 2)
    with pytest.raises(ValueError, match="48 different instructions are too few to draw 64"):
        questions(PAIRS)


def test_a_response_too_long_for_the_block_is_shortened_for_ranking():
    long = [(response * 30, text) for response, text in PAIRS[:9]]
    assert len(places(tiny(), long)["pmi"]) == 9


def test_the_baseline_is_that_of_the_library_and_finds_the_one_that_shares_rare_words():
    asked = questions([("The wren sings in the barn.", "Who sings in the barn?"), ("Two and two are four.", "Add two."),
                       ("It rains.", "What is the weather?"), ("The cat sleeps.", "Who sleeps?"),
                       ("A boat.", "Name a thing that floats.")], 4)
    worth = bm25(asked)
    assert ranks(worth)[0] == 1
    rows = [text.lower().rstrip("?.").split() for text in asked[0].instructions]
    assert worth[0].tolist() == BM25Okapi(rows).get_scores("the wren sings in the barn".split()).tolist()


def test_mean_reciprocal_rank_and_recall_of_known_ranks():
    assert mrr([1, 2, 4, 4]) == 0.5
    assert recall_at([1, 2, 4, 4], 1) == 0.25 and recall_at([1, 2, 4, 4], 2) == 0.5
