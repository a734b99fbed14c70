"""
How far a figure would move with other documents: intervals by the bootstrap (Efron and Tibshirani 1993, chapter 13).
"""

import numpy as np

DRAWS, LEVEL = 2000, 0.95
_ROWS = 100  # draws held in memory at once


def interval(values, sizes=None, seed=0, draws=DRAWS, level=LEVEL):
    """{"value", "low", "high"} of sum(values) / sum(sizes), the documents being drawn anew, with replacement, so often.

    values and sizes have one number for each document, such as its bits and its bytes; without sizes it is the mean.
    What belongs to one document stays together, since its parts are not independent. low and high are percentiles:
    None where there are fewer than two documents, which say nothing of others.
    """
    values = np.asarray(values, dtype=float)
    sizes = np.ones_like(values) if sizes is None else np.asarray(sizes, dtype=float)
    if not len(values) or not sizes.sum():
        return {"value": None, "low": None, "high": None}
    value = float(values.sum() / sizes.sum())
    if len(values) < 2:
        return {"value": value, "low": None, "high": None}
    rng, found = np.random.default_rng(seed), []
    for first in range(0, draws, _ROWS):
        times = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=min(_ROWS, draws - first))
        found.append((times @ values) / np.maximum(times @ sizes, np.finfo(float).tiny))
    low, high = np.quantile(np.concatenate(found), ((1 - level) / 2, (1 + level) / 2))
    return {"value": value, "low": float(low), "high": float(high)}
