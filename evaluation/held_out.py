"""
How well a model predicts texts: -log P of every token, and of every word with the space before it.

A text is read as in training: bos, its ids, eos; everything but bos is predicted, so the figure is that of whole texts.
What is longer than the block is read in windows. The first begins at bos and fills the block; each further one takes
the half block before what is still to be predicted, and predicts as many ids as then fit. So every id is predicted
once, from all that is before it or from half a block at least, and which ids it sees follows from its place in its text
alone: no batch, no padding and no neighbour changes a figure.
"""

import math
from dataclasses import dataclass

import numpy as np

from reverse import reading_units
from sampling import token_log_probs

LN2 = math.log(2)
_TOGETHER = 2**16  # tokens that are read between two signs of progress


@dataclass
class Reading:
    """What a model made of one text; nats and seen are in the order in which it reads."""

    text: str
    source: str | None
    direction: str
    units: list        # of the text, in reading order: words and signs with the space before them
    sizes: np.ndarray  # tokens of each unit
    nats: np.ndarray   # -log P of each token, eos the last
    seen: np.ndarray   # how many tokens it was predicted from

    @property
    def bytes(self):
        return len(self.text.encode("utf-8", "surrogatepass"))

    @property
    def bits(self):
        return float(self.nats.sum()) / LN2

    def per_unit(self, values, combine=np.add):
        """What belongs to the tokens of each unit, combined, in reading order; that of eos is left out."""
        backward = self.direction == "reverse"
        sizes = self.sizes[::-1] if backward else self.sizes
        found = combine.reduceat(values[:-1], np.cumsum(sizes) - sizes)
        return found[::-1] if backward else found

    @property
    def unit_bits(self):
        return self.per_unit(self.nats) / LN2


def windows(length, block_size):
    """(first id seen, first id predicted, end) for each window of a text of so many ids, see above."""
    first, half = 1, max(1, block_size // 2)
    while first < length:
        start = 0 if first == 1 else first - half
        end = min(length, start + block_size + 1)
        yield start, first, end
        first = end


def read(model, tokenizer, documents, advance=lambda tokens: None):
    """A Reading for each of documents, pairs (text, source); model is a Decoder. advance() is told of tokens read."""
    rows = [tokenizer.encode_document(text) for text, _ in documents]
    places = [(number, *place) for number, row in enumerate(rows)
              for place in windows(len(row), model.config.block_size)]
    nats = [np.empty(len(row) - 1) for row in rows]
    seen = [np.empty(len(row) - 1, dtype=int) for row in rows]
    waiting, size = [], 0
    for place in places:
        waiting.append(place)
        size += place[3] - place[1]
        if size >= _TOGETHER or place is places[-1]:
            found = token_log_probs(model, [(rows[n][start:first], rows[n][first:end])
                                            for n, start, first, end in waiting])
            for (n, start, first, end), log_probs in zip(waiting, found):
                nats[n][first - 1:end - 1] = -log_probs
                seen[n][first - 1:end - 1] = np.arange(first - start, end - start)
            advance(size)
            waiting, size = [], 0
    return [_reading(tokenizer, *of_one) for of_one in zip(documents, nats, seen)]


def _reading(tokenizer, document, nats, seen):
    text, source = document
    units = reading_units(text)
    sizes = np.array([len(tokenizer.encode_text(unit)) for unit in units])
    assert sizes.sum() == len(nats) - 1  # no token reaches from one unit into the next
    return Reading(text, source, tokenizer.direction, units, sizes, nats, seen)


def by_context(readings):
    """[(tokens seen at least, bits, bytes, units), …] over the units of readings, by the tokens seen before their first
    one, which double from row to row."""
    found = {}
    for reading in readings:
        octaves = np.floor(np.log2(reading.per_unit(reading.seen, np.minimum))).astype(int)
        sizes = np.array([len(unit.encode("utf-8", "surrogatepass")) for unit in reading.units])
        bits = reading.unit_bits
        for octave in np.unique(octaves):
            here = octaves == octave
            row = found.setdefault(int(octave), [0.0, 0, 0])
            for i, value in enumerate((bits[here].sum(), sizes[here].sum(), here.sum())):
                row[i] += value
    return [(2**octave, float(bits), int(size), int(units)) for octave, (bits, size, units) in sorted(found.items())]
