"""
The training loop that pre-training and fine-tuning share.

A script gives the model, the batches of an update, fixed validation batches and a sample to print; the loop does the
rest and leaves what training/run_folder.py says in the output folder.
"""

import contextlib
import math
import os
import signal

import torch

from program import commands
from program.device import autocast, compiled, pick_device, pick_dtype
from program.files import locked_folder
from program.streams import say
from training.optimizers import make_optimizer
from training.progress import LOG_INTERVAL, Progress
from training.run_folder import RunFolder
from training.schedule import Clock, learning_rate_at
from training.update import accumulate, evaluate

RANK, RANKS = 0, 1  # this process among those that share an update's micro-steps


def train(settings, model, tokenizer, batches, val_batches, sample, kind="base", tokens_per_byte=None):
    """Train model until settings.max_iters or max_minutes, from the start or from where an earlier run stopped.

    batches(counters, rank, ranks) gives the batches (see training/update.py) that process `rank` of `ranks` has in the
    next update; they follow from the counters alone: "samples" sequences have been drawn so far, and "first_batch_size"
    is the batch size with which the run began. val_batches is a list of batches. sample() returns a text to print.
    tokens_per_byte, if given, turns the validation loss into bits per byte.

    Raises FloatingPointError when a loss is not finite (the last checkpoint is kept), MemoryError with what to do when
    the device has too little memory, OSError where another run is at work in the folder, ValueError where it holds
    finished work, and what checkpoint.save raises. What a person is only shown may fail: training goes on.
    """
    device = pick_device(settings.device)
    torch.set_float32_matmul_precision("high")  # TF32 where a GPU has it
    model.to(device).train()
    with locked_folder(settings.out_dir):
        optimizer = make_optimizer(model, settings, device)
        folder = RunFolder(settings, model, tokenizer, optimizer, kind)
        counters, dtype = folder.counters, pick_dtype(folder.settings["dtype"], device)
        if nothing_is_left(settings, folder):
            return counters
        if settings.warmup_iters > settings.max_iters:
            say(never_warm(settings))

        fast_model, clock = compiled(model, device, settings.compile), Clock(settings.max_minutes, counters)
        with (advice_on_memory(settings), folder.tracked(), StopSignals() as stop,
              Progress(settings, counters["iter_num"]) as progress):
            upcoming = batches(counters, RANK, RANKS)
            while True:
                iter_num, share_of_time = counters["iter_num"], clock.share(counters)
                rate = learning_rate_at(iter_num, settings, share_of_time)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                last = iter_num >= settings.max_iters or share_of_time >= 1
                is_new = folder.saved_at != iter_num  # a run that goes on has evaluated this update before it was saved
                evaluated = is_new and (iter_num % settings.eval_interval == 0 or last)
                if evaluated:
                    found = record(folder, counters, evaluate(model, val_batches, device, dtype), tokens_per_byte)
                stopping = stop.received  # read once: what comes later is for after the next update
                if is_new and (iter_num % settings.save_interval == 0 or last or stopping):
                    folder.save_last(counters)
                if evaluated:  # all is safe before anything is shown
                    with autocast(device, dtype):
                        show(progress, folder, found, sample)
                if last or stopping:
                    break

                torch.manual_seed(settings.seed * 1_000_003 + iter_num)  # a resumed run has an unbroken one's dropout
                try:
                    loss = accumulate(fast_model, upcoming, device, dtype)
                except Exception as error:  # Ctrl-C reaches the compiler's processes, too
                    if not stop.received:
                        raise
                    say(f"The update was broken off ({type(error).__name__}).")
                    continue  # save what there is, and stop
                used, upcoming = upcoming, batches(after(counters, upcoming), RANK, RANKS)  # while the device is busy
                norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip or math.inf)
                loss = loss.item()
                if not math.isfinite(loss) or not math.isfinite(norm):
                    raise FloatingPointError(not_finite(settings, folder, iter_num, loss, norm))
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

                counters = after(counters, used, loss)
                progress.count(sum(x.numel() for x, _, _ in used))
                if counters["iter_num"] % LOG_INTERVAL == 0 or counters["iter_num"] == settings.max_iters:
                    log(folder, counters, progress, model, learning_rate=rate, grad_norm=norm.item())
    progress.try_to("say how it ended", say, how_it_ended(settings, folder, counters, None if last else stopping))
    if stopping and not last:
        raise SystemExit(128 + signal.Signals[stopping])  # so that `train && sample` does not go on
    return counters


def nothing_is_left(settings, folder):
    """Whether an earlier run has done all there is to do; says so."""
    counters = folder.counters
    if counters["iter_num"] >= settings.max_iters:
        say(f"This run has had {counters['iter_num']:,} updates, and --max-iters is {settings.max_iters:,}. Raise it "
            "to go on, or write with the model:\n"
            f"    {commands.sample(folder.kind, model_path=folder.best)}")
        return True
    if settings.max_minutes and counters.get("seconds", 0) >= 60 * settings.max_minutes:
        say(f"This run has had its {settings.max_minutes:g} minutes. Raise --max-minutes to go on.")
        return True
    return False


def log(folder, counters, progress, model, **measured):
    """Log and show the mean loss since the last multiple of LOG_INTERVAL, the speed, and what else was measured."""
    train_loss = counters["loss_sum"] / counters["loss_count"]
    speed = progress.show(counters["iter_num"], train_loss)
    folder.log(counters, train_loss=train_loss, **measured, tokens_per_second=round(speed),
               teraflops=round(speed * model.flops_per_token() / 1e12, 3))


def record(folder, counters, val_loss, tokens_per_byte):
    """Log what an evaluation has found and keep the model if it is the best so far; return what to say of it."""
    bits_per_byte = val_loss / math.log(2) * tokens_per_byte if tokens_per_byte else None
    folder.log(counters, val_loss=val_loss, bits_per_byte=bits_per_byte)
    folder.save_if_best(counters, val_loss)
    bits = f", {bits_per_byte:.4f} bits per byte" if bits_per_byte else ""
    return f"update {counters['iter_num']:,}: validation loss {val_loss:.4f}{bits}"


def show(progress, folder, found, sample):
    """Say what an evaluation has found, show a sample, draw the curve."""
    progress.try_to("say the validation loss", say, f"\n{found}")
    progress.try_to("show a sample", lambda: say(f"{sample()}\n"))
    progress.try_to("draw loss.png", folder.plot)
    progress.restart_timer()


def after(counters, batches, loss=0.0):
    """The counters after an update on batches with this loss; its sum is of those that the next row is the mean of."""
    row_begins = counters["iter_num"] % LOG_INTERVAL == 0
    return {**counters, "iter_num": counters["iter_num"] + 1,
            "samples": counters["samples"] + sum(len(x) for x, _, _ in batches),
            "tokens": counters["tokens"] + sum(x.numel() for x, _, _ in batches),
            "loss_sum": (0.0 if row_begins else counters["loss_sum"]) + loss,
            "loss_count": (0 if row_begins else counters["loss_count"]) + 1}


class StopSignals:
    """SIGINT, SIGTERM and SIGHUP (a closed terminal) ask the loop to finish its update; a SIGINT after that ends the
    program at once. Where SIGHUP is ignored, as under nohup, it stays so."""

    def __enter__(self):
        self.received = None
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # Windows has none
            numbers.append(signal.SIGHUP)
        self.previous = {number: signal.signal(number, self.receive) for number in numbers}
        return self

    def receive(self, number, frame):
        self.received = signal.Signals(number).name
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with contextlib.suppress(OSError):  # the terminal may be what has gone
            os.write(2, f"\n{self.received}: finishing this update, then saving. "
                        "Ctrl-C again stops at once.\n".encode())

    def __exit__(self, *exception):
        for number, handler in self.previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def advice_on_memory(settings):
    """Say what to do when the device runs out of memory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        size = settings.batch_size
        factor = next((factor for factor in range(2, size + 1) if size % factor == 0), None)
        advice = "Take a smaller model, or a smaller --block-size." if factor is None else (
            f"A smaller batch gives the same updates{onward(settings)}:\n    --batch-size {size // factor} "
            f"--gradient-accumulation-steps {settings.gradient_accumulation_steps * factor}")
        raise MemoryError(f"The device ran out of memory. {advice}") from error


def onward(settings):
    """What must not be in a command that goes on."""
    return " (without --overwrite)" if settings.overwrite else ""


def never_warm(settings):
    """What a warm-up that is longer than the run means."""
    end = learning_rate_at(settings.max_iters - 1, settings)
    return (f"The warm-up of {settings.warmup_iters:,} updates does not end within the run of {settings.max_iters:,}: "
            f"the rate rises to {end:.2g} at most, not to {settings.learning_rate:.2g}, and never decays. Shorten it "
            "with --warmup-iters.")


def not_finite(settings, folder, iter_num, loss, norm):
    """What went wrong in an update, what is kept, and how to go on."""
    kept = ""
    if folder.saved_at == iter_num:
        kept = (f"{folder.last} holds this very state: where a lower rate does not help, begin anew with --overwrite. "
                "First ")
    elif folder.saved_at is not None:
        kept = f"{folder.last} holds update {folder.saved_at:,}, which was good; "
    return (f"Loss {loss}, gradient norm {norm:.3g} at update {iter_num:,}: training stops here. {kept}"
            f"go on with a lower rate{onward(settings)}:\n    --learning-rate {settings.learning_rate / 3:.2g}"
            f" --min-lr {min(settings.min_lr, settings.learning_rate / 30):.2g}")


def how_it_ended(settings, folder, counters, signal_received):
    """The last words of a run."""
    if signal_received:
        return (f"Stopped by {signal_received} after update {counters['iter_num']:,}, saved in {folder.last}. The same "
                f"command{onward(settings)} goes on from there.")
    why = "the time was up" if counters["iter_num"] < settings.max_iters else "all updates are done"
    return (f"Finished after update {counters['iter_num']:,}: {why}. The best validation loss, "
            f"{counters['best_val_loss']:.4f}, is in {folder.best}. Next:\n"
            f"    {commands.sample(folder.kind, model_path=folder.best)}")
