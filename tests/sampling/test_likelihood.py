"""What a likelihood promises: it equals that of a slow loop, whatever it is computed together with."""

import random

import pytest
import torch
from torch.testing import assert_close

from sampling import log_probs
from tests.support.weighing import TOKENIZER, slowly, tiny


def random_pairs(n, longest=30):
    rng = random.Random(1)

    def ids():
        return [rng.randrange(TOKENIZER.vocab_size) for _ in range(rng.randint(1, longest))]

    prompts = [ids() for _ in range(n // 3)]  # several continuations for each, and one for a few
    return [(rng.choice(prompts), ids()) for _ in range(n)]


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
    assert_close(torch.tensor([total for total, _ in found]), torch.tensor([expected[i] for i in order]),
                 rtol=1e-4, atol=1e-3)


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


def test_a_score_that_is_no_number_is_never_returned():
    model = tiny()
    with torch.no_grad():
        model.wte.weight[7] = float("nan")  # one logit of each position
    with pytest.raises(FloatingPointError, match="NaN or infinity instead of probabilities"):
        log_probs(model, [([1], [2])])
