"""
How the learning rate rises and falls, by updates or by the clock.
"""

import math
import time


def learning_rate_at(iter_num, settings, share_of_time=0.0):
    """Linear warm-up; then a cosine down to min_lr, or the highest rate until the straight decay of the last
    decay_fraction of the run (wsd, arXiv:2404.06395); then constant.

    share_of_time is how much of max_minutes has passed; where it is ahead of the updates, it sets the pace.
    """
    if iter_num < settings.warmup_iters:
        return settings.learning_rate * (iter_num + 1) / settings.warmup_iters
    if settings.schedule == "wsd":
        left = min(1.0, (1 - _done(iter_num, settings, share_of_time)) / settings.decay_fraction)
    else:
        left = 0.5 * (1 + math.cos(math.pi * _done(iter_num, settings, share_of_time)))
    return settings.min_lr + left * (settings.learning_rate - settings.min_lr)


def _done(iter_num, settings, share_of_time):
    """The share of the way from the end of the warm-up to the end of the decay."""
    end = settings.lr_decay_iters or settings.max_iters
    done = (iter_num - settings.warmup_iters) / max(1, end - settings.warmup_iters)
    return min(1.0, max(done, share_of_time))


def decays(iter_num, settings, share_of_time=0.0):
    """Whether the rate of a wsd schedule falls from this update on; from the state before, a longer run may go on."""
    return settings.schedule == "wsd" and iter_num >= settings.warmup_iters and (
        _done(iter_num, settings, share_of_time) >= 1 - settings.decay_fraction)


class Clock:
    """The time that a run has taken, over all its interruptions; it matters only where minutes are limited."""

    def __init__(self, max_minutes, counters):
        self.max_minutes, self.earlier, self.started = max_minutes, counters.get("seconds", 0.0), time.monotonic()

    def share(self):
        """The share of the minutes that has passed, 0 where they have no limit."""
        return (self.earlier + time.monotonic() - self.started) / 60 / self.max_minutes if self.max_minutes else 0.0

    def note(self, counters, share):
        """Note in counters the seconds of the share that the processes have agreed on."""
        if self.max_minutes:
            counters["seconds"] = share * 60 * self.max_minutes
