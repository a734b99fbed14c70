"""
The training loop that pre-training and fine-tuning share.

A script gives the model, the batches of an update, fixed validation batches and a sample to print; the loop does the
rest and leaves what training/run_folder.py says in the output folder.
"""

import math
import os
import signal
import sys
import time

import torch
from tqdm import tqdm

from program import commands
from program.device import autocast, compiled, pick_device, pick_dtype
from program.streams import say
from training.optimizers import make_optimizer
from training.run_folder import RunFolder
from training.schedule import Clock, learning_rate_at
from training.update import accumulate, evaluate

LOG_INTERVAL = 10  # updates between rows of metrics.jsonl
RANK, RANKS = 0, 1  # this process among those that share an update's micro-steps


def train(settings, model, tokenizer, batches, val_batches, sample, kind="base", tokens_per_byte=None):
    """Train model until settings.max_iters or max_minutes, from the start or from where an earlier run stopped.

    batches(counters, rank, ranks) gives the batches (see training/update.py) that process `rank` of `ranks` has in the
    next update; they follow from the counters alone: "iter_num" updates and "samples" sequences so far. val_batches is
    a list of batches. sample() returns a text to print. tokens_per_byte, if given, turns the validation loss into bits
    per byte.

    Raises FloatingPointError when a loss is not finite (the last checkpoint is kept), MemoryError with what to do when
    the device has too little memory, and what checkpoint.save raises.
    """
    device = pick_device(settings.device)
    dtype = pick_dtype(settings.dtype, device)
    torch.set_float32_matmul_precision("high")  # TF32 where a GPU has it
    model.to(device).train()
    optimizer = make_optimizer(model, settings, device)
    folder = RunFolder(settings, model, tokenizer, optimizer, kind)
    counters = folder.counters
    if nothing_is_left(settings, counters):
        return counters

    fast_model, clock = compiled(model, device, settings.compile), Clock(settings.max_minutes, counters)
    with StopSignals() as stop, Progress(settings.max_iters, counters["iter_num"]) as progress:
        upcoming = batches(counters, RANK, RANKS)
        while True:
            iter_num, share_of_time = counters["iter_num"], clock.share(counters)
            rate = learning_rate_at(iter_num, settings, share_of_time)
            for group in optimizer.param_groups:
                group["lr"] = rate
            last = iter_num >= settings.max_iters or share_of_time >= 1
            if (iter_num % settings.eval_interval == 0 or last) and folder.saved_at != iter_num:
                val_loss = evaluate(model, val_batches, device, dtype)
                with autocast(device, dtype):
                    report(folder, counters, val_loss, tokens_per_byte, sample)
                progress.restart_timer()
            if (iter_num % settings.save_interval == 0 or last or stop.received) and folder.saved_at != iter_num:
                folder.save_last(counters)
            if last or stop.received:
                break

            torch.manual_seed(settings.seed * 1_000_003 + iter_num)  # a resumed run has the dropout of an unbroken one
            try:
                loss = accumulate(fast_model, upcoming, device, dtype)
            except torch.OutOfMemoryError as error:
                raise MemoryError(out_of_memory(settings)) from error
            used, upcoming = upcoming, batches(after(counters, upcoming), RANK, RANKS)  # while the device is still busy
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip or math.inf)
            loss = loss.item()
            if not math.isfinite(loss) or not math.isfinite(norm):
                raise FloatingPointError(not_finite(settings, folder, iter_num, loss, norm))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

            counters = after(counters, used)
            progress.count(loss, sum(x.numel() for x, _, _ in used))
            if counters["iter_num"] % LOG_INTERVAL == 0 or counters["iter_num"] == settings.max_iters:
                train_loss, speed = progress.show()
                folder.log(counters, train_loss=train_loss, learning_rate=rate, grad_norm=norm.item(),
                           tokens_per_second=round(speed), teraflops=round(speed * model.flops_per_token() / 1e12, 3))
    folder.close()
    say(how_it_ended(settings, folder, counters, stop.received))
    return counters


def nothing_is_left(settings, counters):
    """Whether an earlier run has done all there is to do; says so."""
    if counters["iter_num"] >= settings.max_iters:
        say(f"This run has had its {settings.max_iters:,} updates. Raise --max-iters to go on.")
        return True
    if settings.max_minutes and counters.get("seconds", 0) >= 60 * settings.max_minutes:
        say(f"This run has had its {settings.max_minutes:g} minutes. Raise --max-minutes to go on.")
        return True
    return False


def report(folder, counters, val_loss, tokens_per_byte, sample):
    """Log, keep and show what an evaluation has found."""
    bits_per_byte = val_loss / math.log(2) * tokens_per_byte if tokens_per_byte else None
    folder.log(counters, val_loss=val_loss, bits_per_byte=bits_per_byte)
    folder.save_if_best(counters, val_loss)
    bits = f", {bits_per_byte:.4f} bits per byte" if bits_per_byte else ""
    say(f"\nupdate {counters['iter_num']:,}: validation loss {val_loss:.4f}{bits}\n{sample()}\n")
    folder.plot()


def after(counters, batches):
    """The counters after an update on batches."""
    return {**counters, "iter_num": counters["iter_num"] + 1,
            "samples": counters["samples"] + sum(len(x) for x, _, _ in batches),
            "tokens": counters["tokens"] + sum(x.numel() for x, _, _ in batches)}


class Progress:
    """The bar, and loss and speed since the last row of metrics."""

    def __init__(self, max_iters, iter_num):
        self.bar = tqdm(total=max_iters, initial=iter_num, unit="update", dynamic_ncols=True, file=sys.stderr,
                        smoothing=0.05)
        self.losses = []
        self.restart_timer()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.bar.close()

    def restart_timer(self):
        """Leave the time before now, such as that of an evaluation, out of the speed."""
        self.started, self.tokens = time.monotonic(), 0

    def count(self, loss, tokens):
        """One update is done."""
        self.losses.append(loss)
        self.tokens += tokens
        self.bar.update()

    def show(self):
        """Show mean loss and tokens per second, and return them."""
        loss, speed = sum(self.losses) / len(self.losses), self.tokens / (time.monotonic() - self.started)
        self.bar.set_postfix_str(f"loss {loss:.3f}, {speed:,.0f} tokens/s")
        self.losses = []
        return loss, speed


class StopSignals:
    """SIGINT and SIGTERM ask the loop to finish its update; a SIGINT after that ends the program at once."""

    def __enter__(self):
        self.received = None
        self.previous = {number: signal.signal(number, self.receive) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def receive(self, number, frame):
        self.received = signal.Signals(number).name
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.write(2, f"\n{self.received}: finishing this update, then saving. Ctrl-C again stops at once.\n".encode())

    def __exit__(self, *exception):
        for number, handler in self.previous.items():
            signal.signal(number, handler)


def out_of_memory(settings):
    """What to do when memory runs out."""
    return ("The device ran out of memory. Half the batch gives the same updates:\n"
            f"    --batch-size {max(1, settings.batch_size // 2)}"
            f" --gradient-accumulation-steps {settings.gradient_accumulation_steps * 2}")


def not_finite(settings, folder, iter_num, loss, norm):
    """What went wrong in an update, what is kept, and how to go on."""
    kept = f"{folder.last} holds update {folder.saved_at:,}, which was good; " if folder.saved_at is not None else ""
    return (f"Loss {loss}, gradient norm {norm:.3g} at update {iter_num:,}: training stops here. {kept}"
            f"go on with a lower rate:\n    --learning-rate {settings.learning_rate / 3:.2g}"
            f" --min-lr {min(settings.min_lr, settings.learning_rate / 30):.2g}")


def how_it_ended(settings, folder, counters, signal_received):
    """The last words of a run."""
    if signal_received:
        return (f"Stopped by {signal_received} after update {counters['iter_num']:,}, saved in {folder.last}. The same "
                "command goes on from there.")
    why = "the time was up" if counters["iter_num"] < settings.max_iters else "all updates are done"
    return (f"Finished after update {counters['iter_num']:,}: {why}. The best validation loss, "
            f"{counters['best_val_loss']:.4f}, is in {folder.best}. Next:\n"
            f"    {commands.sample(folder.kind, model_path=folder.best)}")
