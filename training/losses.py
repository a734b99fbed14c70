"""
What the updates have measured, and what is done about those that went wrong.
"""

import math

import torch

from program.streams import say
from training.advice import onward
from training.progress import LOG_INTERVAL

MOST_IN_A_ROW = 10  # skipped updates: after so many, the next would be skipped as well


class Losses:
    """Losses and gradient norms, which stay on the device until they are read: asking for a number would make the
    program wait for the device, and the device then for the program.

    An update whose loss or gradient was not finite has changed nothing (training/update.py); here it is counted and
    told, with whereabouts(counters): where its batches stand in the data.
    """

    def __init__(self, settings, folder, whereabouts):
        self.settings, self.folder, self.whereabouts, self.unread = settings, folder, whereabouts, []

    def note(self, counters, loss, norm):
        """Remember what the update after these counters has measured: two tensors."""
        self.unread.append((counters, loss, norm))

    def read(self, counters):
        """Add to the counters what was measured since the last reading; return what a row of metrics has of it.

        "loss_sum" and "loss_count" are of the finite updates since the last multiple of LOG_INTERVAL. Raises
        FloatingPointError after MOST_IN_A_ROW updates that were not.
        """
        values = torch.stack([torch.stack(pair) for _, *pair in self.unread]).tolist() if self.unread else []
        unread, self.unread, norm = self.unread, [], None
        for (before, _, _), (loss, norm) in zip(unread, values):
            if before["iter_num"] % LOG_INTERVAL == 0:
                counters["loss_sum"], counters["loss_count"] = 0.0, 0
            if math.isfinite(loss) and math.isfinite(norm):
                counters["loss_sum"] += loss
                counters["loss_count"] += 1
                counters["skipped_in_a_row"] = 0
                continue
            counters["skipped"] += 1
            counters["skipped_in_a_row"] += 1
            say(f"\nUpdate {before['iter_num']:,} is skipped: loss {loss:.4g}, gradient norm {norm:.4g}. "
                f"{self.whereabouts(before)}".rstrip())
            if counters["skipped_in_a_row"] >= MOST_IN_A_ROW:
                raise FloatingPointError(self._gone_wrong(before["iter_num"]))
        mean = counters["loss_sum"] / counters["loss_count"] if counters["loss_count"] else None
        skipped = {"skipped": counters["skipped"]} if counters["skipped"] else {}
        return {"train_loss": mean, "grad_norm": norm if norm is None or math.isfinite(norm) else None, **skipped}

    def _gone_wrong(self, iter_num):
        """What happened, what is kept, and how to go on."""
        settings, folder = self.settings, self.folder
        kept = "" if folder.saved_at is None else (
            f"{folder.last} holds update {folder.saved_at:,}; no skipped update has changed it. ")
        rates = " ".join(f"--{name.replace('_', '-')} {getattr(settings, name) / 3:.2g}"
                         for name in ("learning_rate", "head_rate", "embedding_rate") if getattr(settings, name))
        return (f"{MOST_IN_A_ROW} updates in a row, up to {iter_num:,}, had a loss or a gradient that was not finite: "
                f"training stops here. {kept}Go on with lower rates{onward(settings)}:\n"
                f"    {rates} --min-lr {min(settings.min_lr, settings.learning_rate / 30):.2g}\n"
                "or, where that does not help, begin anew with --overwrite.")
