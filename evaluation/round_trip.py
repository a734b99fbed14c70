"""
The round trip: does an instruction that BackChat writes lead back to the response? A judge says, a forward model that
was fine-tuned to write responses: by P(response | instruction).
"""

import random

import numpy as np

from evaluation.bootstrap import interval
from evaluation.held_out import LN2
from evaluation.progress import bar

_TOGETHER = 16


def round_trip(judge, pairs, written, seed):
    """Bits per token of the response after the instruction that was written for it, after the true one, and after that
    of another record; and how often the written one leads to it better than each of these.

    pairs are (response, instruction, source), written the instructions that were taken; judge is a Forward. Where none
    was written, the record is left out.
    """
    number_of = [i for i, text in enumerate(written) if text.strip()]
    if len(number_of) < 2:
        return None
    order = random.Random(seed).sample(number_of, len(number_of))
    other = dict(zip(order, order[1:] + order[:1]))
    questions = [(pairs[i][0], [written[i], pairs[i][1], pairs[other[i]][1]]) for i in number_of]
    found = []
    with bar(len(questions), "pairs", "round trip") as progress:
        for first in range(0, len(questions), _TOGETHER):
            some = judge.scores(questions[first:first + _TOGETHER])
            found += some
            progress.update(len(some))
    nats, tokens = -np.array(found)[..., 0], np.array(found)[:, 0, 1]
    own, true, random_ = nats.T
    return {"pairs": len(found), **{name: interval(values / LN2, tokens, seed) for name, values in (
        ("written", own), ("true", true), ("random", random_))},
        "better_than_true": interval(own < true, seed=seed), "better_than_random": interval(own < random_, seed=seed)}
