"""What the order of reading promises: it follows from a key and a counter, leaves nothing out, and mixes well."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.order import keyed_permutation, splitmix
from tests.support.texts import fewer


@pytest.mark.parametrize("key", ["1/0", "1/1", "another"])
def test_the_keyed_permutation_is_a_bijection(key):
    for length in range(1, 301):
        assert sorted(keyed_permutation(i, length, key) for i in range(length)) == list(range(length))


@fewer
@given(st.integers(1, 2**40), st.integers(0, 2**40))
def test_the_keyed_permutation_stays_within_any_length(length, index):
    assert 0 <= keyed_permutation(index % length, length, "1/0") < length


@pytest.mark.parametrize("key", ["1/0", "2/7"])
def test_the_keyed_permutation_mixes(key):
    order = np.array([keyed_permutation(i, 10_000, key) for i in range(10_000)])
    assert abs(np.corrcoef(order, np.arange(10_000))[0, 1]) < 0.05                  # no trend
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.05                     # neighbours are strangers
    assert all(800 < np.sum(order[:2000] // 2000 == fifth) * 2.5 < 1200 for fifth in range(5))  # a part like the whole


def test_another_key_gives_another_order():
    first, second = ([keyed_permutation(i, 100, key) for i in range(100)] for key in ("1/0", "1/1"))
    assert sum(a == b for a, b in zip(first, second)) < 10


@fewer
@given(st.integers(0, 50), st.text(max_size=5))
def test_the_numbers_of_a_key_are_those_of_splitmix64(count, key):
    """The reference is the generator as its authors give it, in whole numbers, from the hash of the key."""
    state, mask, expected = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big"), 2**64 - 1, []
    for _ in range(count):
        x = state
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & mask
        x = (x ^ x >> 27) * 0x94D049BB133111EB & mask
        expected.append(x ^ x >> 31)
        state = state + 0x9E3779B97F4A7C15 & mask
    assert splitmix(count, key).tolist() == expected


def test_another_key_gives_other_numbers_and_each_bit_is_a_fair_coin():
    one, other = splitmix(10_000, "1/0/order"), splitmix(10_000, "1/1/order")
    assert not np.any(one == other)
    bits = (one[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    assert np.all(abs(bits.mean(axis=0) - 0.5) < 0.03)
