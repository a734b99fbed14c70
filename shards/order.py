"""
Order without state: what follows from a key and a counter alone need not be saved, and is the same on every machine.
"""

import hashlib

import numpy as np


def keyed_permutation(index, length, key):
    """Where index goes under a pseudo-random bijection of range(length): a Feistel network with cycle walking.

    Constant memory and time, so visiting a corpus of any size without replacement needs no state but a counter.
    """
    half = max(1, ((length - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for turn in range(4):
            mixed = hashlib.blake2b(f"{key}/{turn}/{right}".encode(), digest_size=8).digest()
            left, right = right, left ^ (int.from_bytes(mixed, "big") & mask)
        index = left << half | right
        if index < length:
            return index


def splitmix(count, key):
    """count pseudo-random uint64 that follow from the key alone (splitmix64, doi:10.1145/2660193.2660195)."""
    start = np.uint64(int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big"))
    x = np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + start  # uint64 arrays wrap around
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
