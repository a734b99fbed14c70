"""
Instruction examples as batches: whole ones of similar length, under a budget of tokens, in an order without state.

An example in a shard runs from bos to eos (see backchat/template.py); its targets are what follows `<|instruction|>`. A
batch is a rectangle of rows × longest row, padded on the right, where the loss mask is false.
"""

import numpy as np

from backchat.template import AROUND, EMPTY_RESPONSE, borders
from program import commands
from shards.order import keyed_permutation, splitmix

ROUND = 8  # lengths are rounded up to a multiple of this: more examples then count as equally long, and mix


def _borders(shard):
    try:
        return borders(shard.tokens)
    except ValueError as error:
        raise ValueError(f"{shard.path} does not hold instruction examples. Make some, in a folder of their own:\n"
                         f"    {commands.preprocess('instruct', data_dir='data/instruct')}") from error


class Examples:
    """The examples of a split, in batches of at most `budget` tokens, padding included.

    `lengths` are input lengths (an example without its last id), in the order of the shards. Raises ValueError where a
    shard holds something else than examples.
    """

    def __init__(self, shards, budget, response_dropout=0.0, seed=0):
        self.budget, self.response_dropout, self.seed = budget, response_dropout, seed
        self.tokens = [shard.tokens for shard in shards]
        found = [_borders(shard) for shard in shards]
        self.shard = np.repeat(np.arange(len(shards)), [len(starts) for starts, _, _ in found])
        self.start, self.mark, self.end = (np.concatenate([np.empty(0, np.int64), *part]) for part in zip(*found))
        self.lengths = self.end - self.start - 1
        self._rounded = -(-self.lengths // ROUND) * ROUND
        # The partition follows from the sorted lengths alone, so every epoch has the same number of batches.
        longest_first = -np.sort(-self._rounded)
        self._edges = [0]
        while self._edges[-1] < len(self):
            rows = max(1, budget // int(longest_first[self._edges[-1]]))
            self._edges.append(min(len(self), self._edges[-1] + rows))
        self._epoch = None  # of which the order is kept

    def __len__(self):
        return len(self.start)

    @property
    def batches_per_epoch(self):
        return len(self._edges) - 1

    def row(self, index, without_response=False):
        """Ids of an example, and where its first target stands among them."""
        tokens, start, mark, end = self.tokens[self.shard[index]], *(int(part[index]) for part in (
            self.start, self.mark, self.end))
        if not without_response:
            return tokens[start:end], mark + 1 - start
        return np.concatenate([np.array(EMPTY_RESPONSE, dtype=tokens.dtype), tokens[mark + 1:end]]), AROUND

    def _order(self, epoch):
        """Examples longest first, those of the same rounded length shuffled; and which ones lose their response."""
        if self._epoch is None or self._epoch[0] != epoch:
            by_chance = splitmix(len(self), f"{self.seed}/{epoch}/order")
            order = np.lexsort((by_chance, -self._rounded))
            chances = splitmix(len(self), f"{self.seed}/{epoch}/response")
            without = chances < np.uint64(self.response_dropout * (2**64 - 2**11))
            self._epoch = epoch, order, without
        return self._epoch[1:]

    def batch(self, number):
        """Batch `number` of an endless reading, in which every epoch has every example once: inputs and targets,
        int64 (B, T), and the loss mask, bool (B, T).

        Every epoch has an order of its own, and examples of its own that go without their response, so that the model
        learns what instructions are like before any response is known.
        """
        epoch, turn = divmod(number, self.batches_per_epoch)
        order, without = self._order(epoch)
        return self._rectangle(keyed_permutation(turn, self.batches_per_epoch, f"{self.seed}/{epoch}"), order, without)

    def _rectangle(self, which, order, without):
        rows = [self.row(i, without[i]) for i in order[self._edges[which]:self._edges[which + 1]]]
        T = max(len(ids) for ids, _ in rows) - 1
        x, y = np.zeros((2, len(rows), T), dtype=np.int64)
        mask = np.zeros((len(rows), T), dtype=bool)
        for b, (ids, first) in enumerate(rows):
            x[b, :len(ids) - 1], y[b, :len(ids) - 1] = ids[:-1], ids[1:]
            mask[b, first - 1:len(ids) - 1] = True
        return x, y, mask

    def fixed_batches(self, count):
        """Up to `count` batches of whole responses, of all lengths, the same ones at every call."""
        order, without = np.argsort(-self._rounded, kind="stable"), np.zeros(len(self), dtype=bool)
        for turn in range(min(count, self.batches_per_epoch)):
            yield self._rectangle(keyed_permutation(turn, self.batches_per_epoch, "fixed"), order, without)

    def padding(self, epoch=0):
        """Share of an epoch's tokens that is padding."""
        order, without = self._order(epoch)
        shorter = AROUND + self.end - (self.mark + 1) - 1  # inputs of row(without_response=True)
        lengths = np.where(without, shorter, self.lengths)[order]
        edges = np.array(self._edges)
        held = np.maximum.reduceat(lengths, edges[:-1]) * np.diff(edges)
        return 1 - int(lengths.sum()) / int(held.sum())
