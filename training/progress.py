"""
What a person sees of a run while it works: a bar or lines, losses, a sample. Nobody need be there to see it.
"""

import io
import math
import sys
import time

import torch
from tqdm import tqdm

from program.device import peak_flops
from program.streams import say

LOG_INTERVAL = 10  # updates between rows of metrics.jsonl
LINES = 5  # between evaluations, where there is no bar


class Progress:
    """A bar in a terminal, a line now and then in a file or a pipe; and all else that training can do without.

    seconds counts the time of training, without evaluating and saving; earlier runs in the same folder had some.
    """

    def __init__(self, settings, iter_num, device, ranks, seconds=0.0):
        self.max_iters, self.device, self.devices, self.seconds = settings.max_iters, device, ranks.count, seconds
        self.limit = 60 * settings.max_minutes if settings.max_minutes else math.inf
        self.line_interval = max(LOG_INTERVAL, settings.eval_interval // LINES // LOG_INTERVAL * LOG_INTERVAL)
        self.bar = tqdm(total=settings.max_iters, initial=iter_num, unit="update", dynamic_ncols=True,
                        file=sys.stderr if ranks.first else io.StringIO(), smoothing=0.05,
                        disable=None)  # unless it is a terminal
        self.failed = set()
        self.before, self.updates, self.tokens, self.passed, self.started = seconds, 0, 0, 0.0, None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.bar.close()

    def pause(self):
        """From now on the time is not one of training, such as that of an evaluation, until resume()."""
        if self.started is not None:
            passed = time.monotonic() - self.started
            self.passed, self.seconds, self.started = self.passed + passed, self.seconds + passed, None

    def resume(self):
        """From now on the time is one of training."""
        if self.started is None:
            self.started = time.monotonic()

    def count(self, tokens):
        """One update is done."""
        self.tokens += tokens
        self.updates += 1
        self.bar.update()

    def show(self, iter_num, loss, flops_per_token):
        """Show a mean loss (None where there is none) and how fast it went since the last time; return that as
        fields of a row: tokens per second, the share of the device's peak, its memory, and seconds in all."""
        self.pause()
        speed = self.tokens / self.passed
        self.tokens, self.passed = 0, 0.0
        self.resume()
        flops, peak = speed * flops_per_token, peak_flops(self.device)
        fields = {"tokens_per_second": round(speed), "teraflops": round(flops / 1e12, 3),
                  "seconds": round(self.seconds, 1)}
        text = f"loss {'none' if loss is None else f'{loss:.3f}'}, {speed:,.0f} tokens/s"
        if peak:
            used = flops / peak / self.devices
            fields["flops_utilization"] = round(used, 4)
            text += f", {used:.0%} of the peak"
        if self.device.type == "cuda":
            fields["gigabytes"] = round(torch.cuda.max_memory_allocated(self.device) / 1e9, 2)
            text += f", {fields['gigabytes']:.1f} GB"
        self.bar.set_postfix_str(text)
        if self.bar.disable and iter_num % self.line_interval == 0:
            left = (self.seconds - self.before) / self.updates * (self.max_iters - iter_num)
            left = min(left, self.limit - self.seconds)
            text += f", {left / 60:,.0f} min left" if left >= 90 else ""
            self.try_to("show the progress", say, f"update {iter_num:,} of {self.max_iters:,}: {text}")
        return fields

    def try_to(self, what, action, *arguments):
        """Do what training can do without: a failure, such as of a full disk, is told once."""
        try:
            action(*arguments)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            if not self.failed & {what, why}:
                say(f"Could not {what} ({why}). Training goes on.")
            self.failed |= {what, why}
