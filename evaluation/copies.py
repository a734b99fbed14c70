"""
What stands in a training corpus word for word: runs of ids, found by their hash in shards of any size.
"""

import numpy as np

from tokenizer import FIRST_BYTE_ID

COPIED = 8            # tokens in a row that count as copied: about six words
_CHUNK = 2**20        # ids of a shard that are hashed at a time
_TABLE_BITS = 24      # of a hash, in a table that lets few through that are not there
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def _hashes(ids, n):
    """64 bits for each run of n neighbours of ids: uint64 (len(ids) - n + 1,)."""
    found = np.zeros(max(0, len(ids) - n + 1), dtype=np.uint64)
    for start in range(n):
        found = (found + ids[start:start + len(found)].astype(np.uint64) + np.uint64(1)) * _FACTOR
        found ^= found >> np.uint64(29)
    return found


def copied(rows, shards, n=COPIED, advance=lambda ids: None):
    """For each of rows, lists of ids, which of its runs of n ids stand in the shards: bool arrays (len(row) - n + 1,).

    A run with a special id in it belongs to no text, and counts as not there. advance() is told of ids read.
    """
    rows = [np.asarray(row, dtype=np.int64) for row in rows]
    of_rows = [_hashes(row, n) for row in rows]
    wanted = np.unique(np.concatenate([np.empty(0, np.uint64), *of_rows]))
    there, table = np.zeros(len(wanted), dtype=bool), np.zeros(2**_TABLE_BITS, dtype=bool)
    mask = np.uint64(2**_TABLE_BITS - 1)
    table[(wanted & mask).astype(np.int64)] = True
    for shard in shards:
        for start in range(0, len(shard.tokens), _CHUNK):
            found = _hashes(np.asarray(shard.tokens[start:start + _CHUNK + n - 1]), n)
            found = found[table[(found & mask).astype(np.int64)]]
            there[np.flatnonzero(np.isin(wanted, found))] = True
            advance(min(_CHUNK, len(shard.tokens) - start))
    marked = []
    for row, hashes in zip(rows, of_rows):
        special = np.convolve(row < FIRST_BYTE_ID, np.ones(n), "valid") > 0 if len(hashes) else np.empty(0, bool)
        marked.append(there[np.searchsorted(wanted, hashes)] & ~special)
    return marked


def share(marked):
    """The share of runs that are copied, over what copied() gives; None where there are none."""
    total = sum(map(len, marked))
    return float(sum(int(row.sum()) for row in marked) / total) if total else None
