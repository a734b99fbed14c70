"""What choosing promises: from logits the ids that temperature and filters leave, as often as they are likely."""

import math

import pytest
import torch
from torch.testing import assert_close

from sampling import generate
from sampling.choosing import sample_next
from tests.support.network import VOCAB, rng, tiny


def drawn(logits, n=2000, **options):
    """The set of ids drawn in n tries from logits (vocab,)."""
    return set(sample_next(logits.expand(n, -1), generator=rng(), **options).tolist())


LOGITS = torch.tensor([0.05, 0.4, 0.02, 0.3, 0.2, 0.03]).log()


def test_temperature_zero_is_argmax():
    logits = torch.randn(50, VOCAB, generator=rng())
    assert torch.equal(sample_next(logits, temperature=0), logits.argmax(dim=-1))
    assert torch.equal(sample_next(logits, temperature=1e-30), logits.argmax(dim=-1))  # and the limit is the same


def test_draws_follow_the_tempered_distribution():
    for temperature in (0.5, 1.0, 2.0):
        ids = sample_next(LOGITS.expand(40_000, -1), temperature, generator=rng())
        assert_close(ids.bincount() / 40_000, (LOGITS / temperature).softmax(-1), rtol=0, atol=0.01)


def test_evenly_spread_numbers_draw_each_id_as_often_as_it_is_likely():
    uniform = torch.arange(10_000, dtype=torch.float64) / 10_000
    for options, kept in (({}, range(6)), ({"top_k": 4}, (0, 1, 3, 4)), ({"min_p": 0.6}, (1, 3))):
        p = torch.where(torch.isin(torch.arange(6), torch.tensor(list(kept))), LOGITS.exp(), 0)
        ids = sample_next(LOGITS.expand(10_000, -1), uniform=uniform, **options)
        assert_close(ids.bincount(minlength=6) / 10_000, p / p.sum(), rtol=0, atol=2e-4)


def test_the_smallest_and_the_largest_number_draw_an_id_that_can_be_drawn():
    logits = torch.tensor([-math.inf, 0.0, -math.inf, 0.0, -math.inf]).expand(2, -1)
    assert sorted(sample_next(logits, uniform=torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)).tolist()) == [1, 3]


def test_top_p_draws_all_of_the_nucleus_and_nothing_else():
    assert drawn(LOGITS, top_p=0.95) == {1, 3, 4, 0}
    assert drawn(LOGITS, top_p=0.65) == {1, 3}
    assert drawn(LOGITS, top_p=0.1) == drawn(LOGITS, top_p=1e-9) == {1}
    assert drawn(LOGITS, top_p=1.0) == set(range(6))
    assert drawn(LOGITS, top_p=0.65, temperature=4.0) > {1, 3}  # the nucleus is that of the tempered distribution


def test_top_k_draws_the_k_likeliest():
    for k, expected in ((1, {1}), (3, {1, 3, 4}), (6, set(range(6))), (1000, set(range(6)))):
        assert drawn(LOGITS, top_k=k) == expected
    assert len(drawn(torch.zeros(9), top_k=4)) == 4  # also where all are equal


def test_min_p_drops_what_is_unlikely_beside_the_likeliest():
    assert drawn(LOGITS, min_p=0.1) == {1, 3, 4, 0}
    assert drawn(LOGITS, min_p=0.6) == {1, 3}
    assert drawn(LOGITS, min_p=1 - 1e-9) == {1}


def test_filters_work_together_top_k_first():
    assert drawn(LOGITS, top_k=2, top_p=0.5) == {1}  # of the two kept, the first has 4/7
    assert drawn(LOGITS, top_p=0.5) == {1, 3}
    assert drawn(LOGITS, top_k=5, top_p=0.99, min_p=0.3) == {1, 3, 4}


@pytest.mark.parametrize("temperature", [5e-324, 1e-45, 1e-40, 1e-38, 1e-30])
@pytest.mark.parametrize("options", [{}, {"top_p": 0.9}, {"top_k": 5}, {"min_p": 0.1}])
def test_a_temperature_near_zero_is_argmax_too(temperature, options):
    logits = torch.randn(50, VOCAB, generator=rng())
    logits[:, 3] = -math.inf
    uniform = torch.rand(50, generator=rng(), dtype=torch.float64)
    for draws in ({"generator": rng()}, {"uniform": uniform}):
        assert torch.equal(sample_next(logits, temperature, **options, **draws), logits.argmax(dim=-1))


def test_of_equally_likely_ids_a_temperature_near_zero_draws_each():
    assert drawn(torch.tensor([1.0, 0.0, 1.0]), temperature=1e-45) == {0, 2}


def test_a_huge_temperature_draws_every_id_that_is_possible():
    assert drawn(torch.tensor([-math.inf, 1.0, 9.0, 5.0]), temperature=1e300) == {1, 2, 3}


@pytest.mark.parametrize("temperature", [0, 1e-45, 1.0])
@pytest.mark.parametrize("logits", [[1.0, math.nan], [math.nan] * 2, [math.inf, 1.0], [-math.inf] * 2])
def test_logits_of_which_none_is_the_likeliest_are_named_and_nothing_is_drawn(temperature, logits):
    for dtype in (torch.float32, torch.bfloat16):
        with pytest.raises(FloatingPointError, match="NaN or infinity instead of probabilities.*--dtype float32"):
            sample_next(torch.tensor([[0.0, 1.0], logits], dtype=dtype), temperature)


def test_logits_may_be_huge_or_minus_infinity():
    assert drawn(torch.tensor([1e30, -math.inf, 1e30]), temperature=1e-3, top_p=0.9) == {0, 2}


@pytest.mark.parametrize(
    "options", [dict(temperature=-1), dict(temperature=math.nan), dict(top_k=0), dict(top_p=1.5), dict(top_p=0.0),
                dict(min_p=-0.1), dict(min_p=1.0)]
)
def test_settings_that_mean_nothing_are_refused(options):
    [(name, value)] = options.items()
    with pytest.raises(ValueError, match=f"{name} is {value}; it takes "):
        sample_next(LOGITS[None], **options)
    with pytest.raises(ValueError, match=f"{name} is {value}; it takes "):
        generate(tiny(), [1], 1, **options)
