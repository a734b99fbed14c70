"""What windows promise: each epoch reads every one of them once, in an order of its own that needs no state."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards import Windows
from tests.support.texts import fewer

lengths_of_shards = st.lists(st.integers(0, 40), min_size=1, max_size=4).filter(lambda lengths: max(lengths) > 8)
block_sizes, seeds = st.integers(1, 8), st.integers(0, 2**31)


def numbered(*lengths):
    """Shards of these lengths in which every token of all is another number."""
    starts = np.cumsum([0, *lengths])
    return [SimpleNamespace(tokens=np.arange(start, start + length, dtype=np.uint16))
            for start, length in zip(starts, lengths)]


def positions(windows, first, count):
    """The windows at count positions of the endless reading, each as a tuple."""
    inputs, targets = windows.batch(first, count)
    return [(*x.tolist(), int(y[-1])) for x, y in zip(inputs, targets)]


@fewer
@given(lengths_of_shards, block_sizes, seeds, st.integers(0, 3))
def test_every_epoch_visits_every_window_once(lengths, block_size, seed, epoch):
    windows = Windows(numbered(*lengths), block_size, seed)
    visited = positions(windows, epoch * len(windows), len(windows))
    assert sorted(visited) == sorted(tuple(windows.window(i).tolist()) for i in range(len(windows)))


@fewer
@given(lengths_of_shards, block_sizes)
def test_every_token_but_a_shards_first_and_its_remainder_is_a_target_once(lengths, block_size):
    shards = numbered(*lengths)
    windows = Windows(shards, block_size)
    targets = np.concatenate([windows.window(i)[1:] for i in range(len(windows))]).tolist()
    expected = []
    for shard in shards:
        whole = max(0, len(shard.tokens) - 1) // block_size * block_size
        expected += shard.tokens[1:1 + whole].tolist()
    assert targets == expected


@fewer
@given(lengths_of_shards, block_sizes)
def test_a_window_is_a_stretch_of_one_shard(lengths, block_size):
    windows = Windows(numbered(*lengths), block_size)
    ends = set(np.cumsum(lengths).tolist())
    for i in range(len(windows)):
        window = windows.window(i)
        assert len(window) == block_size + 1 and np.all(np.diff(window) == 1) and not ends & set(window[1:].tolist())


@fewer
@given(lengths_of_shards, block_sizes, seeds, st.lists(st.integers(1, 7), min_size=1, max_size=8))
def test_any_batch_sizes_read_the_same_sequence(lengths, block_size, seed, sizes):
    windows, parts, first = Windows(numbered(*lengths), block_size, seed), [], 0
    for size in sizes:
        parts += positions(windows, first, size)
        first += size
    assert parts == positions(windows, 0, first)


def test_targets_are_inputs_one_token_on():
    inputs, targets = Windows(numbered(100), 9).batch(0, 5)
    assert inputs.shape == targets.shape == (5, 9) and inputs.dtype == np.int64 and np.array_equal(inputs + 1, targets)


@pytest.mark.parametrize("one, other", [((1, 0), (1, 1)), ((1, 0), (2, 0))], ids=["epochs", "seeds"])
def test_epochs_and_seeds_read_in_different_orders(one, other):
    orders = []
    for seed, epoch in (one, other):
        windows = Windows(numbered(2000), 10, seed)
        orders.append(positions(windows, epoch * len(windows), len(windows)))
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1])


@fewer
@given(lengths_of_shards, block_sizes, st.integers(1, 100), st.lists(st.integers(1, 9), min_size=2, max_size=4))
def test_fixed_batches_are_distinct_windows_and_the_same_for_every_batch_size(lengths, block_size, tokens, sizes):
    windows = Windows(numbered(*lengths), block_size)
    found = []
    for size in sizes:
        batches = list(windows.fixed_batches(tokens, size))
        assert all(len(x) == size for x, _ in batches[:-1]) and 1 <= len(batches[-1][0]) <= size
        found.append([tuple(row) for x, _ in batches for row in x.tolist()])
    assert all(rows == found[0] for rows in found) and len(set(found[0])) == len(found[0])
    assert len(found[0]) == min(len(windows), max(1, tokens // block_size))


@pytest.mark.parametrize("lengths", [(), (0,), (10,), (10, 10, 0)])
def test_too_few_tokens_for_one_window_say_so(lengths):
    complaint = f"{sum(lengths)} tokens in the train split are too few for one window of 10 .* --block-size"
    with pytest.raises(ValueError, match=complaint):
        Windows(numbered(*lengths), 10)


def test_where_windows_stand_is_told_by_the_shard_and_the_token_at_which_they_begin():
    shards = [SimpleNamespace(tokens=shard.tokens, path=Path(f"train_{number}.bin"))
              for number, shard in enumerate(numbered(30, 20))]
    windows = Windows(shards, 4, 5)
    told = dict(part.split(": ") for part in windows.whereabouts(3, 8).split("; "))
    found = [int(start) + 30 * (name == "train_1.bin") for name, starts in told.items() for start in starts.split(", ")]
    assert sorted(found) == sorted(window[0] for window in positions(windows, 3, 8)) and len(told) == 2
