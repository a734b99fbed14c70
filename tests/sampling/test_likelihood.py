"""What a pair is worth: probabilities equal those of a slow loop, PMI is their difference, a shuffled control is at chance."""

import random

import pytest
import torch
from torch.testing import assert_close

from score import fits, log_probs, mrr, ranks, recall_at, scores, weigh
from tiny import learn, tiny_model
from tokenizer import Tokenizer, train_tokenizer

ANIMALS = ("cat", "dog", "hen", "goat", "mouse", "owl", "horse", "wren")
DOINGS = ("sleeping", "eating", "singing", "hiding", "running", "waiting")
PAIRS = [(f"The {animal} is {doing}.", f"What is the {doing[:-3]} {animal} doing?") for animal in ANIMALS for doing in DOINGS]
TOKENIZER = Tokenizer(train_tokenizer([f"{response}\n{text}" for response, text in PAIRS], 330))
CHANCE = sum(1 / rank for rank in range(1, 9)) / 8  # of the mean reciprocal rank among 8


def tiny(loud=8):
    return tiny_model(loud, vocab_size=TOKENIZER.vocab_size)


@pytest.fixture(scope="module")
def trained():
    """A small model that has learned which instruction goes with which response, and has seen empty responses."""
    rng = random.Random(0)
    return learn(tiny(loud=1), TOKENIZER, lambda: [(response if rng.random() > 0.1 else "", text)
                                                   for response, text in rng.sample(PAIRS, 24)],
                 steps=350, learning_rate=6e-3)


def random_pairs(n, longest=30):
    rng = random.Random(1)
    ids = lambda: [rng.randrange(TOKENIZER.vocab_size) for _ in range(rng.randint(1, longest))]
    prompts = [ids() for _ in range(n // 3)]  # several continuations for each, and one for a few
    return [(rng.choice(prompts), ids()) for _ in range(n)]


def slowly(model, prompt, continuation):
    """The sum of log-probabilities, one position at a time, from all logits of the pair alone."""
    with torch.no_grad():
        p = model(torch.tensor([(prompt + continuation)[:-1]]))[0][0].log_softmax(dim=-1)
    return sum(p[len(prompt) + i - 1, token].item() for i, token in enumerate(continuation))


def test_log_probs_equal_a_slow_loop_over_all_logits():
    model, pairs = tiny(), random_pairs(60)
    expected = [(slowly(model, *pair), len(pair[1])) for pair in pairs]
    found = log_probs(model, pairs)
    assert [n for _, n in found] == [n for _, n in expected]
    assert_close(torch.tensor([total for total, _ in found]), torch.tensor([total for total, _ in expected]),
                 rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("positions", [1, 100, 1000])
def test_neither_the_size_of_a_batch_nor_the_order_changes_a_score(positions):
    model, pairs = tiny(), random_pairs(60)
    order = random.Random(2).sample(range(60), 60)
    expected = [total for total, _ in log_probs(model, pairs)]
    found = log_probs(model, [pairs[i] for i in order], positions)
    assert_close(torch.tensor([total for total, _ in found]), torch.tensor([expected[i] for i in order]), rtol=1e-4, atol=1e-3)


def test_long_prompts_and_long_continuations_that_only_fit_apart_are_scored_together():
    model = tiny()
    pairs = [([1] * 60, [2, 3]), ([4], [5] * 60), ([1] * 63, [2, 3]), ([4, 5], [6] * 63)]
    found = [total for total, _ in log_probs(model, pairs)]
    assert_close(torch.tensor(found), torch.tensor([slowly(model, *pair) for pair in pairs]), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("pair", [([1] * 60, [2] * 6), ([], [1]), ([1], [])])
def test_a_pair_that_cannot_be_scored_is_refused(pair):
    with pytest.raises(ValueError, match="does not fit|no tokens"):
        log_probs(tiny(), [([1], [2]), pair])


def test_scoring_leaves_the_mode_of_the_model_as_it_was():
    model = tiny().train()
    log_probs(model, [([1], [2])])
    assert model.training


def test_pmi_is_the_gain_over_an_empty_response():
    model = tiny()
    pairs = [(TOKENIZER.encode_response(response)[0], text) for response, text in PAIRS[:10]]
    empty, _ = TOKENIZER.encode_response("")
    for (prompt, text), score in zip(pairs, scores(model, TOKENIZER, pairs)):
        ids = TOKENIZER.encode_instruction(text)
        assert score.tokens == len(ids)
        assert score.pmi == pytest.approx(slowly(model, prompt, ids) - slowly(model, empty, ids), abs=1e-3)
        assert score.mean_log_prob * len(ids) == pytest.approx(slowly(model, prompt, ids), abs=1e-3)
    [alone] = scores(model, TOKENIZER, [(empty, PAIRS[0][1])])
    assert alone.pmi == pytest.approx(0, abs=1e-4)


def blind():
    """A model that sees only the last token, so that no response can matter."""
    model = tiny()
    with torch.no_grad():
        for block in model.blocks:
            block.attention.proj.weight.zero_()
    return model


def test_where_the_response_cannot_matter_every_pmi_is_zero_and_every_rank_is_at_chance():
    model = blind()
    prompts = [TOKENIZER.encode_response(response)[0] for response, _ in PAIRS]
    assert all(abs(score.pmi) < 1e-4 for score in scores(model, TOKENIZER, [(p, text) for p, (_, text) in zip(prompts, PAIRS)]))
    for shuffled in (False, True):
        for found in ranks(model, TOKENIZER, 4 * PAIRS, candidates=8, shuffled=shuffled).values():
            assert mrr(found) == pytest.approx(CHANCE, abs=0.1)


def test_a_trained_model_finds_the_true_instruction_and_shuffled_responses_are_at_chance(trained):
    true = ranks(trained, TOKENIZER, PAIRS, candidates=8, seed=1)
    assert mrr(true["pmi"]) > 0.9 and recall_at(true["pmi"], 1) > 0.85 and min(mrr(found) for found in true.values()) > 0.7
    shuffled = [ranks(trained, TOKENIZER, PAIRS, candidates=8, seed=seed, shuffled=True)["pmi"] for seed in range(4)]
    assert mrr(sum(shuffled, [])) == pytest.approx(CHANCE, abs=0.1)


def test_the_same_seed_draws_the_same_candidates_and_too_few_are_refused():
    model = blind()
    draw = lambda seed: ranks(model, TOKENIZER, PAIRS, candidates=8, seed=seed)["raw"]
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


def test_candidates_are_merged_sorted_by_pmi_and_those_of_no_words_or_too_long_left_out():
    model, (prompt, _) = tiny(), TOKENIZER.encode_response("The cat is sleeping.")
    a, b, c = (TOKENIZER.encode_text(text) for text in ("What is it?", "Who sleeps?", "Why?"))
    [found] = weigh(model, TOKENIZER, [prompt], [[a, b, a, [], c, TOKENIZER.encode_text("  "), a, b * 20]])
    assert sorted((candidate.instruction, candidate.count) for candidate in found) == [
        ("What is it?", 3), ("Who sleeps?", 1), ("Why?", 1)]
    assert [x.score.pmi for x in found] == sorted((x.score.pmi for x in found), reverse=True)
    [score] = scores(model, TOKENIZER, [(prompt, found[0].instruction)])
    assert found[0].score.pmi == pytest.approx(score.pmi, abs=1e-3)
    assert not fits(model, TOKENIZER, prompt, "Who sleeps?" * 20)
