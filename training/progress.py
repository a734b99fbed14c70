"""
What a person sees of a run while it works: a bar or lines, losses, a sample. Nobody need be there to see it.
"""

import sys
import time

from tqdm import tqdm

from program.streams import say

LOG_INTERVAL = 10  # updates between rows of metrics.jsonl
LINES = 5  # between evaluations, where there is no bar


class Progress:
    """A bar in a terminal, a line now and then in a file or a pipe; and all else that training can do without."""

    def __init__(self, settings, iter_num):
        self.max_iters = settings.max_iters
        self.line_interval = max(LOG_INTERVAL, settings.eval_interval // LINES // LOG_INTERVAL * LOG_INTERVAL)
        self.bar = tqdm(total=settings.max_iters, initial=iter_num, unit="update", dynamic_ncols=True, file=sys.stderr,
                        smoothing=0.05, disable=None)  # unless it is a terminal
        self.failed = set()
        self.restart_timer()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.bar.close()

    def restart_timer(self):
        """Leave the time before now, such as that of an evaluation, out of the speed."""
        self.started, self.tokens = time.monotonic(), 0

    def count(self, tokens):
        """One update is done."""
        self.tokens += tokens
        self.bar.update()

    def show(self, iter_num, loss):
        """Show a mean loss beside the tokens per second, which are returned."""
        speed = self.tokens / (time.monotonic() - self.started)
        text = f"loss {loss:.3f}, {speed:,.0f} tokens/s"
        self.bar.set_postfix_str(text)
        if self.bar.disable and iter_num % self.line_interval == 0:
            self.try_to("show the progress", say, f"update {iter_num:,} of {self.max_iters:,}: {text}")
        return speed

    def try_to(self, what, action, *arguments):
        """Do what training can do without: a failure, such as of a full disk, is told once."""
        try:
            action(*arguments)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            if not self.failed & {what, why}:
                say(f"Could not {what} ({why}). Training goes on.")
            self.failed |= {what, why}
