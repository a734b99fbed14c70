"""
Samples for one text: drawn while they are shown growing, and printed.
"""

import random
import time
from dataclasses import dataclass

import torch

from sampling import generate_batch
from terminal.live import Growing
from terminal.screen import OUT, note, separate, show


@dataclass
class Samples:
    """What was drawn for one text: rows of ids, and how it went."""

    rows: list
    seed: int
    stopped: bool  # by Ctrl-C
    limit: int
    seconds: float

    def summary(self, whole):
        """In a few words; whole says what it means that a sample ended by itself."""
        n, count = len(self.rows), sum(map(len, self.rows))
        wholes = sum(len(row) < self.limit for row in self.rows)  # one that ended by itself has fewer than it might
        end = f"cut at tokens={self.limit}" if not wholes else whole if n == 1 else f"{whole} in {wholes} of {n}"
        speed = count / max(self.seconds, 1e-9)
        return (f"{count} tokens, {self.seconds:.1f} s, {speed:.0f} tokens/s, seed={self.seed}, "
                + ("stopped by Ctrl-C" if self.stopped else end))


def draw_samples(model, idx, controls, stop_ids, parts):
    """Generate samples from the ids idx, the first shown while it grows as parts(its ids); Ctrl-C stops all."""
    n = controls.num_samples
    seed = random.SystemRandom().randrange(2**31) if controls.seed is None else controls.seed
    steps = generate_batch(model, [idx] * n, controls.tokens, generator=torch.Generator().manual_seed(seed),
                           stop_ids=stop_ids, **controls.filters())
    rows, stopped, started = [[] for _ in range(n)], False, time.monotonic()
    with Growing() as growing:
        try:
            for step in steps:
                for row, token in zip(rows, step):
                    row += [] if token is None else [token]
                growing.draw(lambda: parts(rows[0]),
                             f"{len(rows[0])} tokens{f', 1 of {n}' if n > 1 else ''}, Ctrl-C stops")
        except KeyboardInterrupt:
            stopped = True
    return Samples(rows, seed, stopped, controls.tokens, time.monotonic() - started)


def write_samples(model, idx, controls, stop_ids, parts, whole="the beginning was reached"):
    """Generate samples from the ids idx and print them; return False if Ctrl-C stopped it.

    parts(new ids) gives the pairs that screen.show prints; whole says what it means that a sample ended by itself.
    """
    block_size = model.config.block_size
    if len(idx) > block_size:
        note(f"This text has {len(idx):,} tokens; the model reads the {block_size:,} nearest to what it writes.")
    samples = draw_samples(model, idx, controls, stop_ids, parts)
    for i, row in enumerate(samples.rows):
        if OUT.is_terminal and controls.num_samples > 1:
            note(f"{i + 1} of {controls.num_samples}")
        elif i:
            separate()
        show(parts(row))
    note(samples.summary(whole))
    return not samples.stopped
