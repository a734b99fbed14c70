"""What retrieval promises: a trained model finds the true instruction, and a shuffled control is at chance."""

import random

import pytest

from evaluation.retrieval import mrr, ranks, recall_at
from tests.support.tiny import learn
from tests.support.weighing import PAIRS, TOKENIZER, blind, tiny

CHANCE = sum(1 / rank for rank in range(1, 9)) / 8  # of the mean reciprocal rank among 8


@pytest.fixture(scope="module")
def trained():
    """A small model that has learned which instruction goes with which response, and has seen empty responses."""
    rng = random.Random(0)
    return learn(tiny(loud=1), TOKENIZER, lambda: [(response if rng.random() > 0.1 else "", text)
                                                   for response, text in rng.sample(PAIRS, 24)],
                 steps=350, learning_rate=6e-3)


def test_where_the_response_cannot_matter_every_rank_is_at_chance():
    model = blind()
    for shuffled in (False, True):
        for found in ranks(model, TOKENIZER, 4 * PAIRS, candidates=8, shuffled=shuffled).values():
            assert mrr(found) == pytest.approx(CHANCE, abs=0.1)


def test_a_trained_model_finds_the_true_instruction_and_shuffled_responses_are_at_chance(trained):
    true = ranks(trained, TOKENIZER, PAIRS, candidates=8, seed=1)
    assert mrr(true["pmi"]) > 0.9 and recall_at(true["pmi"], 1) > 0.85
    assert min(mrr(found) for found in true.values()) > 0.7
    shuffled = [ranks(trained, TOKENIZER, PAIRS, candidates=8, seed=seed, shuffled=True)["pmi"] for seed in range(4)]
    assert mrr(sum(shuffled, [])) == pytest.approx(CHANCE, abs=0.1)


def test_the_same_seed_draws_the_same_candidates_and_too_few_are_refused():
    model = blind()

    def draw(seed):
        return ranks(model, TOKENIZER, PAIRS, candidates=8, seed=seed)["raw"]

    assert draw(1) == draw(1) != draw(2)
    with pytest.raises(ValueError, match="48 different instructions are too few to draw 64"):
        ranks(model, TOKENIZER, PAIRS)


def test_a_response_too_long_for_the_block_is_shortened_for_ranking():
    long = [(response * 30, text) for response, text in PAIRS[:8]]
    assert len(ranks(tiny(), TOKENIZER, long, candidates=8)["pmi"]) == 8


def test_mean_reciprocal_rank_and_recall_of_known_ranks():
    assert mrr([1, 2, 4, 4]) == 0.5
    assert recall_at([1, 2, 4, 4], 1) == 0.25 and recall_at([1, 2, 4, 4], 2) == 0.5
    assert mrr(range(1, 65)) == pytest.approx(0.074, abs=5e-4)
