"""
Windows of a corpus: what pre-training reads, in an order without state.
"""

import numpy as np

from shards.order import keyed_permutation


class Windows:
    """The windows of block_size + 1 tokens of a split; neighbours share one token, so that every token is a target."""

    def __init__(self, shards, block_size, seed=0, split="train"):
        self.block_size, self.seed = block_size, seed
        self.shards, self.tokens = shards, [shard.tokens for shard in shards]
        self.ends = np.cumsum([max(0, len(tokens) - 1) // block_size for tokens in self.tokens], dtype=np.int64)
        if not len(self.ends) or self.ends[-1] == 0:
            found = sum(map(len, self.tokens))
            more = "more text" if split == "train" else "with a larger --val-fraction and --overwrite"
            raise ValueError(f"{found:,} tokens in the {split} split are too few for one window of {block_size:,} + 1. "
                             f"Preprocess {more}, or train with a smaller --block-size.")

    def __len__(self):
        return int(self.ends[-1])

    def _place(self, index):
        """Window number index in corpus order: the number of its shard, and where it begins there."""
        shard = int(np.searchsorted(self.ends, index, side="right"))
        return shard, (index - (int(self.ends[shard - 1]) if shard else 0)) * self.block_size

    def window(self, index):
        """Window number index in corpus order: int64 (block_size + 1,)."""
        shard, start = self._place(index)
        return self.tokens[shard][start:start + self.block_size + 1].astype(np.int64)

    def _drawn(self, position):
        """The number of the window at a position of an endless reading, see batch()."""
        epoch, index = divmod(position, len(self))
        return keyed_permutation(index, len(self), f"{self.seed}/{epoch}")

    def batch(self, first, batch_size):
        """The windows at positions first to first + batch_size of an endless reading: inputs and targets, each int64
        (batch_size, block_size).

        Each epoch visits every window once, in an order of its own. A position is the number of windows drawn before,
        by all processes together, so neither a resumed run nor one with another batch size repeats or skips any.
        """
        rows = np.stack([self.window(self._drawn(position)) for position in range(first, first + batch_size)])
        return rows[:, :-1], rows[:, 1:]

    def whereabouts(self, first, count):
        """Where the windows at these positions stand, in words: the tokens at which they begin, shard by shard."""
        return in_words((self.shards[shard].path.name, start) for shard, start in (
            self._place(self._drawn(position)) for position in range(first, first + count)))

    def fixed_batches(self, tokens, batch_size):
        """Batches of windows spread evenly over the split, up to `tokens` tokens in all but one window at least: the
        same windows at every call and for every batch size."""
        count = min(len(self), max(1, tokens // self.block_size))
        chosen = [i * len(self) // count for i in range(count)]
        for first in range(0, count, batch_size):
            rows = np.stack([self.window(i) for i in chosen[first:first + batch_size]])
            yield rows[:, :-1], rows[:, 1:]


def in_words(places):
    """Pairs (name of a shard, token in it) in words."""
    starts = {}
    for name, start in places:
        starts.setdefault(name, []).append(start)
    return "; ".join(f"{name}: " + ", ".join(map(str, sorted(found))) for name, found in sorted(starts.items()))
