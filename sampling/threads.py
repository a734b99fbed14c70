"""
How many threads a model writes with.
"""

import itertools
import os
import time

import torch

from program.device import use_threads

_STEPS, _ROUNDS = 3, 3
_GAIN = 0.85  # more threads must take at most so much of the time: on a machine with other work they take far more


def settle_threads(decoder, wanted=None):
    """Set the number of threads of PyTorch: that wanted, or whichever of one and all lets the decoder read a token
    faster just now; return it. Takes some milliseconds, for a large model tenths of a second; on a GPU nothing is done.

    Beside other programs, waiting for a second thread costs more than it does.
    """
    if wanted is not None and wanted < 1:
        raise ValueError(f"--threads {wanted}: there must be at least one")
    if wanted or decoder.device.type != "cpu" or "OMP_NUM_THREADS" in os.environ:
        return use_threads(wanted)
    choices, seconds = {1, torch.get_num_threads()}, {}
    for threads, _ in itertools.product(sorted(choices), range(_ROUNDS)):
        torch.set_num_threads(threads)
        seconds[threads] = min(seconds.get(threads, float("inf")), _seconds(decoder))
    best = max(choices)
    torch.set_num_threads(best if seconds[best] < _GAIN * seconds[1] else 1)
    return torch.get_num_threads()


def _seconds(decoder):
    """What some tokens take."""
    cache, idx = decoder.cache(1, _STEPS), torch.zeros(1, 1, dtype=torch.long)
    started = time.perf_counter()
    for _ in range(_STEPS):
        decoder.logits(decoder.read(idx, cache))
    return time.perf_counter() - started
