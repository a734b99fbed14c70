"""
The arrow of time: how many more bits the same texts cost a model that reads them backward.

Models of both directions, trained alike, are compared seed by seed on the same documents. Their tokens differ; their
words, each with the space before it, are the same, and the bits of all tokens of a word are its own.
"""

import math

import numpy as np

from evaluation.bootstrap import interval
from evaluation.held_out import by_context
from evaluation.words import by_kind

# Quantiles of Student's t that leave 2.5 % above them, by degrees of freedom; beyond these the normal one is near.
_T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
SHOWN, SHOWN_WORDS = 4, 160  # texts that are shown word by word, and the most words of one


def paired(models):
    """Pairs (forward, backward) of models, {"seed", "readings", …} of either direction, that have the same seed, or in
    the order given where seeds do not pair them."""
    sides = {side: [model for model in models if model["direction"] == side] for side in ("forward", "reverse")}
    by_seed = {model["seed"]: model for model in sides["reverse"]}
    found = [(model, by_seed[model["seed"]]) for model in sides["forward"] if model["seed"] in by_seed]
    return found if found and len(by_seed) == len(sides["reverse"]) else list(zip(sides["forward"], sides["reverse"]))


def arrow(pairs, seed, curves=()):
    """All that is compared of pairs (readings forward, readings backward) of the same documents, one pair for each seed
    of training; curves are what along_training() gives for them."""
    forward, backward = (np.mean([[reading.bits for reading in readings] for readings in side], axis=0)
                         for side in zip(*pairs))
    sizes = [reading.bytes for reading in pairs[0][0]]
    by_seed = [sum(b.bits - f.bits for f, b in zip(*pair)) / sum(sizes) for pair in pairs]
    tokens = {side: sum(len(reading.nats) for reading in readings)
              for side, readings in zip(("forward", "backward"), pairs[0])}
    return {
        "seeds": len(pairs), "documents": len(sizes), "forward": interval(forward, sizes, seed),
        "backward": interval(backward, sizes, seed), "gap": interval(backward - forward, sizes, seed),
        "relative": interval(backward - forward, forward, seed), "gap_by_seed": by_seed,
        "gap_over_seeds": over_seeds(by_seed), "tokens": {**tokens, "per_mille":
                                                          1000 * (tokens["backward"] / tokens["forward"] - 1)},
        "by_context": _side_by_side(pairs, lambda readings: {
            seen: (bits, size) for seen, bits, size, _ in by_context(readings)}),
        "by_kind": _side_by_side(pairs, lambda readings: {
            kind: (bits, count) for kind, (bits, count, _) in by_kind(readings).items()}),
        "along_training": list(curves), "texts": _words(pairs)}


def over_seeds(gaps):
    """The mean of the gaps of several seeds with the interval of Student's t, which few seeds make wide."""
    mean = sum(gaps) / len(gaps)
    if len(gaps) < 2:
        return {"value": mean, "low": None, "high": None}
    half = _T.get(len(gaps) - 1, 1.96) * float(np.std(gaps, ddof=1)) / math.sqrt(len(gaps))
    return {"value": mean, "low": mean - half, "high": mean + half}


def _side_by_side(pairs, parts):
    """{part: {"forward", "backward", "gap"}}, bits for each of what parts() counts, the mean over seeds."""
    sides = [[parts(readings) for readings in side] for side in zip(*pairs)]
    found = {}
    for part in sides[0][0]:
        if all(part in one for side in sides for one in side):
            forward, backward = (float(np.mean([one[part][0] / one[part][1] for one in side if one[part][1]]))
                                 for side in sides)
            found[part] = {"forward": forward, "backward": backward, "gap": backward - forward,
                           "counted": sides[0][0][part][1]}
    return found


def _words(pairs):
    """Some short texts as lists of (word with the space before it, bits forward, bits backward), the mean over seeds.
    """
    short = [i for i, reading in enumerate(pairs[0][0]) if 20 <= len(reading.units) <= SHOWN_WORDS]
    chosen = short[:SHOWN] or range(min(SHOWN, len(pairs[0][0])))
    found = []
    for i in chosen:
        forward, backward = (np.mean([side[i].unit_bits for side in sides], axis=0) for sides in zip(*pairs))
        rows = zip(pairs[0][0][i].units, forward.tolist(), backward.tolist())
        found.append([row for row, _ in zip(rows, range(SHOWN_WORDS))])
    return found


def along_training(forward, backward):
    """[(tokens trained on, bits per byte forward, backward), …] of two lists of rows of metrics.jsonl, where both were
    evaluated."""
    def evaluations(rows):
        return {row["iter"]: row for row in rows if row.get("bits_per_byte") is not None}

    one, other = evaluations(forward), evaluations(backward)
    return [(one[update]["tokens"], one[update]["bits_per_byte"], other[update]["bits_per_byte"])
            for update in sorted(one.keys() & other.keys())]
