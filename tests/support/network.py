"""A network of a few thousand loud weights, and ids for it to read."""

import torch

from tests.support.tiny import tiny_model

VOCAB = 61


def tiny(seed=0, **changes):
    return tiny_model(8, seed, **{"block_size": 16, "vocab_size": VOCAB, "n_head": 4, **changes})


def random_ids(*shape, seed=1):
    return torch.randint(VOCAB, shape, generator=torch.Generator().manual_seed(seed))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def next_logits(decoder, idx, cache):
    """The logits (B, VOCAB) that follow ids idx (B, T), which are read into the cache."""
    return decoder.logits(decoder.read(idx, cache)[:, -1])
