"""
Instruction examples as batches: whole ones of similar length, under a budget of tokens, in an order without state.

An example in a shard runs from bos to eos (see backchat/template.py); its targets are what follows `<|instruction|>`,
of a forward model `<|response|>`. A batch is a rectangle of rows × longest row, padded on the right, where the loss
mask is false.

Sorted by length, the examples of a split form groups of neighbours: as many as fit into a forward pass of the batch
size with which a run begins. An epoch reads the groups in an order by chance, each in as many equal parts, the blocks.
A run that goes on with another batch size keeps its groups and takes as many blocks as it now needs; so it reads on in
the same order, in which a position is the number of examples drawn before.
"""

import numpy as np

from backchat.template import AROUND, HEAD, MIDDLE, borders
from program import commands
from shards.order import splitmix
from shards.windows import in_words

ROUND = 8  # lengths are rounded up to a multiple of this: more examples then count as equally long, and mix


def _borders(shard):
    try:
        return borders(shard.tokens)
    except ValueError as error:
        raise ValueError(f"{shard.path} does not hold instruction examples. Make some, in a folder of their own:\n"
                         f"    {commands.preprocess('instruct', data_dir='data/instruct')}") from error


def _edges(lengths, budget):
    """Where to cut rows of these lengths, longest first, into rectangles of at most `budget` tokens (or one row)."""
    edges = [0]
    while edges[-1] < len(lengths):
        edges.append(min(len(lengths), edges[-1] + max(1, budget // int(lengths[edges[-1]]))))
    return np.array(edges)


class Examples:
    """The examples of a split, for a model that sees block_size tokens at once.

    `lengths` are input lengths (an example without its last id), in the order of the shards. Raises ValueError where a
    shard holds something else than examples.
    """

    def __init__(self, shards, block_size, response_dropout=0.0, seed=0):
        self.block_size, self.response_dropout, self.seed = block_size, response_dropout, seed
        self.shards, self.tokens = shards, [shard.tokens for shard in shards]
        found = [_borders(shard) for shard in shards]
        self.shard = np.repeat(np.arange(len(shards)), [len(starts) for starts, _, _ in found])
        self.start, self.mark, self.end = (np.concatenate([np.empty(0, np.int64), *part]) for part in zip(*found))
        self.lengths = self.end - self.start - 1
        self._rounded = np.minimum(-(-self.lengths // ROUND) * ROUND, block_size)
        self._kept = None  # the order of one epoch

    def __len__(self):
        return len(self.start)

    def blocks_per_epoch(self, group):
        """Blocks in an epoch of groups of so many."""
        return group * (len(self._groups(group)) - 1)

    def row(self, index, without_response=False):
        """Ids of an example, and where its first target stands among them."""
        tokens, start, mark, end = self.tokens[self.shard[index]], *(int(part[index]) for part in (
            self.start, self.mark, self.end))
        if not without_response:
            return tokens[start:end], mark + 1 - start
        around = tokens[start:start + len(HEAD)], tokens[mark + 1 - len(MIDDLE):mark + 1]
        return np.concatenate([*around, tokens[mark + 1:end]]), AROUND

    def _groups(self, group):
        """Where groups of so many blocks begin and end among all examples by length: the same in every epoch."""
        edges = _edges(-np.sort(-self._rounded), group * self.block_size)
        rest_is_small = len(edges) > 2 and edges[-1] - edges[-2] < group  # too few examples for so many blocks
        return np.delete(edges, -2) if rest_is_small else edges

    def _reading(self, epoch, group):
        """Examples in the order of an epoch, where each of its blocks ends in it, and which examples (by their place in
        the shards) lose their response.

        In a group the longest come first, and those of the same rounded length as chance has it.
        """
        if self._kept is None or self._kept[0] != (epoch, group):
            key = f"{self.seed}/{epoch}"
            edges = self._groups(group)
            longest_first = np.lexsort((splitmix(len(self), f"{key}/order"), -self._rounded))
            groups = np.split(longest_first, edges[1:-1])
            turns = np.argsort(splitmix(len(groups), f"{key}/groups"))
            sizes = np.diff(edges)[turns]
            parts = sizes[:, None] * np.arange(1, group + 1) // group  # (groups, blocks) examples up to there
            ends = (np.cumsum(sizes) - sizes)[:, None] + parts
            without = splitmix(len(self), f"{key}/response") < np.uint64(self.response_dropout * (2**64 - 2**11))
            self._kept = (epoch, group), np.concatenate([groups[turn] for turn in turns]), ends.ravel(), without
        return self._kept[1:]

    def batches(self, first, blocks, group, budget):
        """The next `blocks` blocks of an endless reading in groups of `group` blocks, from position first on.

        They come as batches of at most `budget` tokens with their padding: inputs and targets, int64 (B, T), and the
        loss mask, bool (B, T).

        Every epoch has every example once, and examples of its own that go without their response, so that the model
        learns what instructions are like before any response is known. A position is the number of examples drawn
        before: another budget divides the same examples otherwise, another number of blocks draws more or fewer, and
        none is repeated or skipped. A batch never reaches over the end of a group.
        """
        found = []
        while blocks:
            epoch, place = divmod(first, len(self))
            order, ends, without = self._reading(epoch, group)
            block = int(np.searchsorted(ends, place, side="right"))  # that has the example at this place
            taken = min(blocks, group - block % group)
            end = int(ends[block + taken - 1])
            found += self._rectangles(order[place:end], budget, without)
            first, blocks = first + end - place, blocks - taken
        return found

    def whereabouts(self, first, count, group):
        """Where the examples at these positions stand (see batches), in words: the tokens at which they begin."""
        chosen = [self._reading(epoch, group)[0][place] for epoch, place in (
            divmod(position, len(self)) for position in range(first, first + count))]
        return in_words((self.shards[self.shard[i]].path.name, int(self.start[i])) for i in chosen)

    def _rectangles(self, chosen, budget, without=None):
        """Examples, longest first, as batches."""
        edges = _edges(self._rounded[chosen], budget)
        return [self._rectangle([self.row(i, without is not None and without[i]) for i in chosen[a:b]])
                for a, b in zip(edges, edges[1:])]

    def _rectangle(self, rows):
        T = max(len(ids) for ids, _ in rows) - 1
        x, y = np.zeros((2, len(rows), T), dtype=np.int64)
        mask = np.zeros((len(rows), T), dtype=bool)
        for b, (ids, first) in enumerate(rows):
            x[b, :len(ids) - 1], y[b, :len(ids) - 1] = ids[:-1], ids[1:]
            mask[b, first - 1:len(ids) - 1] = True
        return x, y, mask

    def fixed_batches(self, tokens, budget):
        """Batches of at most `budget` tokens with whole responses, about `tokens` of them in all: the same examples at
        every call and for every budget, spread evenly over all lengths."""
        count = min(len(self), max(1, len(self) * tokens // int(self._rounded.sum())))
        longest_first = np.argsort(-self._rounded, kind="stable")
        return self._rectangles(longest_first[np.arange(count) * len(self) // count], budget)

    def padding(self, group, epoch=0):
        """Share of an epoch's tokens that is padding where a batch is a group of `group` blocks."""
        order, ends, without = self._reading(epoch, group)
        shorter = AROUND + self.end - (self.mark + 1) - 1  # inputs of row(without_response=True)
        lengths = np.where(without, shorter, self.lengths)[order]
        edges = np.concatenate([[0], ends[group - 1::group]])
        held = np.maximum.reduceat(lengths, edges[:-1]) * np.diff(edges)
        return 1 - int(lengths.sum()) / int(held.sum())
