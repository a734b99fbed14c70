"""What generation promises: a cache that changes nothing, rows that do not disturb one another, due ends."""

import pytest
import torch

from sampling import generate, generate_batch
from sampling.decoding import Decoder
from sampling.engine import Batch
from tests.support.network import VOCAB, random_ids, rng, tiny


def generate_slowly(model, prompt, n):
    """Greedy generation without a cache, by the same rule: a full block goes on from its last half."""
    size = model.config.block_size
    row, new = prompt[-size:], []
    for _ in range(n):
        new.append(model(torch.tensor([row]))[0][0, -1].argmax().item())
        row = row + new[-1:]
        if len(row) > size:
            row = row[-(size // 2) :]
    return new


def greedy(model, prompts, n, **options):
    """All ids of each row of a greedy batch."""
    return columns(generate_batch(model, prompts, n, temperature=0, **options), len(prompts))


def columns(steps, n):
    """The ids of each of n rows."""
    rows = [[] for _ in range(n)]
    for step in steps:
        for row, i in zip(rows, step):
            row += [] if i is None else [i]
    return rows


@pytest.mark.parametrize("length", [1, 5, 15, 16, 40])
def test_cached_generation_equals_uncached_also_past_the_block(length):
    model, prompt = tiny(), random_ids(length).tolist()
    assert list(generate(model, prompt, 50, temperature=0)) == generate_slowly(model, prompt, 50)


@pytest.mark.parametrize("n", [8, 50])
def test_a_ragged_batch_equals_one_prompt_at_a_time(n):
    model = tiny()
    prompts = [random_ids(length, seed=length).tolist() for length in (3, 1, 16, 9, 30)]
    together = greedy(model, prompts, n)
    assert together == [generate_slowly(model, prompt, n) for prompt in prompts]
    assert len(set(map(tuple, together))) == len(prompts)  # the prompts matter


def test_equal_prompts_in_one_batch_equal_a_single_one():
    model, prompt = tiny(), random_ids(5).tolist()
    assert greedy(model, [prompt] * 3, 30) == [generate_slowly(model, prompt, 30)] * 3


def test_even_a_block_of_one_token_generates():
    model = tiny(block_size=1)
    assert len(list(generate(model, [1, 2], 5))) == 5


def test_a_stop_id_ends_its_row_and_is_never_yielded():
    model = tiny()
    prompts = [random_ids(length, seed=length).tolist() for length in (3, 5, 9)]
    free = greedy(model, prompts, 20)
    stop = free[0][4]
    expected = [row[: row.index(stop)] if stop in row else row for row in free]
    assert len(expected[0]) < 20 and any(len(row) > len(expected[0]) for row in expected)  # one ends before another
    assert greedy(model, prompts, 20, stop_ids=[stop]) == expected
    assert list(generate(model, prompts[0], 20, temperature=0, stop_ids=(stop,))) == expected[0]
    assert list(generate(model, prompts[0], 20, stop_ids=range(VOCAB))) == []


def test_rows_that_end_leave_the_batch_without_disturbing_the_rest():
    model, prompts = tiny(), [random_ids(length, seed=length).tolist() for length in (3, 1, 16, 9, 30, 3)]
    prompts[5] = prompts[0]  # equal prompts far apart
    limits = [40, 1, 7, 0, 21, 3]
    assert greedy(model, prompts, limits) == [generate_slowly(model, prompt, n) for prompt, n in zip(prompts, limits)]


@pytest.mark.parametrize("batch_size", [1, 2, 4, 5, 20])
def test_texts_that_wait_for_a_free_row_become_what_they_would_have_become_alone(batch_size):
    model = tiny()
    prompts = [random_ids(length, seed=length).tolist() for length in (3, 1, 16, 9, 30, 3, 2, 12, 16, 5, 7)]
    limits = [40, 1, 7, 0, 21, 3, 30, 2, 2, 15, 9]  # some fill the block of 16 and are read in anew
    steps = list(generate_batch(model, prompts, limits, temperature=0, batch_size=batch_size))
    assert columns(steps, 11) == [generate_slowly(model, prompt, n) for prompt, n in zip(prompts, limits)]
    assert max(sum(i is not None for i in step) for step in steps) <= batch_size


def test_what_a_row_draws_from_its_own_numbers_does_not_depend_on_the_other_rows():
    model, prompts = tiny(), [random_ids(length, seed=length).tolist() for length in (3, 5, 9, 9)]
    uniform = torch.rand(4, 20, generator=rng(), dtype=torch.float64)

    def draw(rows, batch_size=None):
        return columns(generate_batch(model, [prompts[b] for b in rows], 20, top_k=20, uniform=uniform[rows],
                                      stop_ids=[3, 4, 5], batch_size=batch_size), len(rows))

    together = draw([0, 1, 2, 3])
    assert draw([0, 1, 2, 3], batch_size=2) == together
    assert [draw([b])[0] for b in range(4)] == together == draw([3, 1, 0, 2])[2:3] + [draw([1, 0])[0], *draw([2, 3])]


def test_a_text_that_has_used_up_its_numbers_leaves_a_free_row_that_draws_none():
    limits, uniform = [4, 1, 1, 1, 4, 4, 4], torch.rand(7, 4, generator=rng(), dtype=torch.float64)
    steps = generate_batch(tiny(), [[1, i] for i in range(7)], limits, uniform=uniform, batch_size=4)
    assert [len(row) for row in columns(steps, 7)] == limits  # the first ends while the last three go on


def test_the_same_seed_gives_the_same_ids():
    model = tiny()

    def draw(seed):
        return list(generate_batch(model, [[1, 2], [3]], 12, generator=rng(seed)))

    assert draw(0) == draw(0) != draw(1)


def test_samples_of_one_prompt_differ():
    steps = list(generate_batch(tiny(), [[1, 2]] * 4, 10, temperature=2.0, generator=rng()))
    assert len(set(zip(*steps))) > 1


def test_generation_does_not_disturb_training():
    model, idx = tiny(dropout=0.1).train(), random_ids(2, 16)
    for i, _ in enumerate(generate(model, [1, 2, 3], 30)):
        assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()
        if i == 20:
            break
    assert model.training
    model(idx, idx)[1].backward()
    assert not any(t.is_inference() for t in (*model.parameters(), *model.buffers()))


# ---- texts that join and leave


def write(batch, n=10**9):
    """What the texts of a batch are given in up to n steps: lists of ids by number."""
    rows = {}
    while batch.unfinished and n:
        for number, token in batch.step().items():
            rows.setdefault(number, []).append(token)
        n -= 1
    return rows


@pytest.mark.parametrize("size", [2, 3, 8])
def test_a_text_that_joins_late_becomes_what_it_would_have_become_alone(size):
    model = tiny()
    prompts = [random_ids(length, seed=length).tolist() for length in (3, 9, 1, 30, 5)]
    batch, rows = Batch(Decoder(model), size, temperature=0), {}
    for prompt in prompts:  # one every three steps; the block of 16 fills meanwhile
        batch.add(prompt, 20)
        for number, new in write(batch, 3).items():
            rows.setdefault(number, []).extend(new)
    for number, new in write(batch).items():
        rows.setdefault(number, []).extend(new)
    assert [rows[i] for i in range(5)] == [generate_slowly(model, prompt, 20) for prompt in prompts]


def test_a_text_that_is_dropped_leaves_its_row_to_the_next_and_the_others_alone():
    model, prompts = tiny(), [random_ids(length, seed=length).tolist() for length in (3, 9, 5)]
    batch = Batch(Decoder(model), 2, temperature=0)
    numbers = [batch.add(prompt, 12) for prompt in prompts]
    first = write(batch, 4)
    assert sorted(first) == numbers[:2]  # the third waits
    batch.drop(numbers[0])
    rest = write(batch)
    assert numbers[0] not in rest
    assert first[numbers[1]] + rest[numbers[1]] == generate_slowly(model, prompts[1], 12)
    assert rest[numbers[2]] == generate_slowly(model, prompts[2], 12)


FILTERED = [{"temperature": 2.0, "top_k": 5}, {"temperature": 0.5}, {"top_p": 0.9}, {"temperature": 2.0, "top_k": 5},
            {"temperature": 0}]


@pytest.mark.parametrize("size", [2, 5])
def test_texts_with_filters_and_generators_of_their_own_become_what_each_would_become_alone(size):
    model = tiny()
    prompts = [random_ids(length, seed=length).tolist() for length in (3, 9, 1, 30, 5)]
    batch = Batch(Decoder(model), size, stop_ids=[3])
    for seed, (prompt, filters) in enumerate(zip(prompts, FILTERED)):
        batch.add(prompt, 8 + seed, generator=rng(seed), **filters)
    rows = write(batch)
    assert [rows.get(i, []) for i in range(5)] == [
        list(generate(model, prompt, 8 + seed, generator=rng(seed), stop_ids=[3], **filters))
        for seed, (prompt, filters) in enumerate(zip(prompts, FILTERED))]


def test_filters_that_do_not_fit_are_refused_before_a_text_begins():
    batch = Batch(Decoder(tiny()), 1)
    with pytest.raises(ValueError, match="top_p is 3"):
        batch.add([1, 2], 3, generator=rng(), top_p=3)
    assert not batch.unfinished


def test_how_unlikely_each_id_was_is_told_beside_it():
    model, prompts = tiny(), [random_ids(length, seed=length).tolist() for length in (3, 5)]
    batch, found = Batch(Decoder(model), 2, surprise=True, temperature=2.0, top_k=5, generator=rng()), {0: [], 1: []}
    for prompt in prompts:
        batch.add(prompt, 6)
    while batch.unfinished:
        for number, token in batch.step().items():
            found[number].append((token, batch.nats[number]))
    for number, prompt in enumerate(prompts):
        ids = [token for token, _ in found[number]]
        for i, (token, nats) in enumerate(found[number]):  # not of the few that may be drawn, nor at that temperature
            expected = -model(torch.tensor([prompt + ids[:i]]))[0][0, -1].log_softmax(dim=-1)[token].item()
            assert nats == pytest.approx(expected, abs=1e-4)


def test_a_waiting_text_may_be_dropped_too():
    batch = Batch(Decoder(tiny()), 1, temperature=0)
    numbers = [batch.add([1, 2], 3) for _ in range(3)]
    batch.drop(numbers[1])
    assert sorted(write(batch)) == [numbers[0], numbers[2]] and not batch.step()


@pytest.mark.parametrize("temperature", [0, 0.8])
@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_a_model_that_computes_nan_says_so_and_writes_nothing(temperature, weight):
    model = tiny()
    with torch.no_grad():
        model.norm.weight.fill_(weight)
    with pytest.raises(FloatingPointError, match="NaN or infinity instead of probabilities"):
        list(generate(model, [1, 2], 5, temperature=temperature))


@pytest.mark.parametrize("prompts", [[], [[]], [[1], []], [[VOCAB]], [[-1]]])
def test_prompts_the_model_cannot_read_are_refused_at_once(prompts):
    with pytest.raises(ValueError):
        generate_batch(tiny(), prompts, 1)
