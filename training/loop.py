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
from program.ranks import joined, launched, loss_of_another, may_restart
from program.streams import say
from training.losses import Losses
from training.optimizers import make_optimizer, set_rates
from training.progress import LOG_INTERVAL, Progress
from training.run_folder import RunFolder
from training.schedule import Clock, decays, learning_rate_at
from training.settings import onward
from training.update import Updates, evaluate

SMALL = 2e9  # bytes of activations that every machine for training has room for


def train(settings, model, tokenizer, batches, val_batches, sample, kind="base", tokens_per_byte=None,
          whereabouts=lambda counters: ""):
    """Train model until settings.max_iters or max_minutes, from the start or from where an earlier run stopped.

    batches(counters) gives the batches (see training/update.py) of the next update, which all processes share; they
    follow from the counters alone: "samples" sequences have been drawn so far, and "first_batch_size" is the batch size
    with which the run began. val_batches is a list of batches. sample() returns a text to print. tokens_per_byte, if
    given, turns the validation loss into bits per byte. whereabouts(counters) says where in the data the batches of the
    next update stand.

    Raises FloatingPointError when ten losses in a row were not finite (the last checkpoint is kept), MemoryError with
    what to do when the device has too little memory, OSError where another run is at work in the folder, another
    process of this run has ended, or the last state cannot be saved, ValueError where the folder holds finished work or
    the processes do not divide the work, and what checkpoint.save raises. What a person is only shown may fail:
    training goes on.
    """
    device = pick_device(settings.device)
    torch.set_float32_matmul_precision("high")  # TF32 where a GPU has it
    model.to(device).train()
    model.activation_checkpointing = settings.activation_checkpointing
    with joined(device) as ranks, locked_folder(settings.out_dir) if ranks.first else contextlib.nullcontext():
        check_ranks(settings, ranks)
        optimizer = make_optimizer(model, settings, device)
        folder = RunFolder(settings, model, tokenizer, optimizer, kind, ranks)
        counters, dtype = folder.counters, pick_dtype(folder.settings["dtype"], device)
        if nothing_is_left(settings, folder):
            return counters
        if settings.warmup_iters > settings.max_iters:
            say(never_warm(settings))
        if settings.activation_checkpointing:
            say(what_checkpointing_spares(model, settings.batch_size))

        fast_model, clock = compiled(model, device, settings.compile), Clock(settings.max_minutes, counters)
        updates = Updates(model, fast_model, optimizer, settings, device, dtype, ranks)
        losses = Losses(settings, folder, whereabouts)
        with (advice_on_memory(), loss_of_another(lambda: what_is_kept(settings, folder)), folder.tracked(),
              StopSignals(ranks.first) as stop, folder.writing(),
              Progress(settings, counters["iter_num"], device, ranks, folder.seconds) as progress):
            upcoming = batches(counters)
            while True:
                iter_num = counters["iter_num"]
                share_of_time, number = ranks.highest(clock.share(counters), stop.number)  # read once: what comes later
                stopping = signal.Signals(int(number)) if number else None             # is for after the next update
                rate = learning_rate_at(iter_num, settings, share_of_time)
                set_rates(optimizer, rate)
                last = iter_num >= settings.max_iters or share_of_time >= 1
                is_new = folder.given_at != iter_num  # a run that goes on has evaluated this update before it was saved
                evaluated = is_new and (iter_num % settings.eval_interval == 0 or last)
                saved = is_new and (iter_num % settings.save_interval == 0 or last or stopping)
                if evaluated or saved:
                    losses.read(counters)
                if evaluated:
                    val_loss = evaluate(model, val_batches, device, dtype, ranks)
                    found = record(folder, counters, val_loss, tokens_per_byte, progress.seconds)
                if saved and not counters["skipped_in_a_row"]:  # whose weights may be what makes them go wrong
                    folder.save_last(counters)
                if decays(iter_num, settings, share_of_time) and not counters["decaying"]:
                    folder.save_stable(counters)
                if evaluated:  # all is safe before anything is shown
                    with autocast(device, dtype):
                        show(progress, folder, found, sample)
                if last or stopping:
                    break

                torch.manual_seed(settings.seed * 1_000_003 + iter_num + 500_009 * ranks.rank)  # a resumed run has an
                try:                                                           # unbroken one's dropout
                    loss = updates.gradients(upcoming)
                except Exception as error:  # Ctrl-C reaches the compiler's processes, too
                    if not stop.received or ranks.count > 1:
                        raise
                    say(f"The update was broken off ({type(error).__name__}).")
                    continue  # save what there is, and stop
                used, upcoming = upcoming, batches(after(counters, upcoming))  # while the device is busy
                losses.note(counters, loss, updates.step(loss))

                counters = after(counters, used)
                progress.count(sum(x.numel() for x, _, _ in used))
                if counters["iter_num"] % LOG_INTERVAL == 0 or counters["iter_num"] == settings.max_iters:
                    log(folder, counters, progress, model, learning_rate=rate, **losses.read(counters))
        progress.try_to("say how it ended", say, how_it_ended(settings, folder, counters, None if last else stopping))
    if stopping and not last:
        raise SystemExit(128 + stopping)  # so that `train && sample` does not go on
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


def log(folder, counters, progress, model, train_loss, **measured):
    """Log and show the mean loss since the last multiple of LOG_INTERVAL, the speed, and what else was measured."""
    speed = progress.show(counters["iter_num"], train_loss, model.flops_per_token())
    folder.log(counters, train_loss=train_loss, **measured, **speed)


def record(folder, counters, val_loss, tokens_per_byte, seconds):
    """Log what an evaluation has found and keep the model if it is the best so far; return what to say of it."""
    bits_per_byte = val_loss / math.log(2) * tokens_per_byte if tokens_per_byte else None
    folder.log(counters, val_loss=val_loss, bits_per_byte=bits_per_byte, seconds=round(seconds, 1))
    folder.save_if_best(counters, val_loss)
    bits = f", {bits_per_byte:.4f} bits per byte" if bits_per_byte else ""
    return f"update {counters['iter_num']:,}: validation loss {val_loss:.4f}{bits}"


def show(progress, folder, found, sample):
    """Say what an evaluation has found, show a sample, draw the curve."""
    progress.try_to("say the validation loss", say, f"\n{found}")
    progress.try_to("show a sample", lambda: say(f"{sample()}\n"))
    progress.try_to("draw loss.png", folder.plot)
    progress.restart_timer()


def after(counters, batches):
    """The counters after an update on the batches of all processes; its loss is added when it is read."""
    return {**counters, "iter_num": counters["iter_num"] + 1,
            "samples": counters["samples"] + sum(len(x) for x, _, _ in batches),
            "tokens": counters["tokens"] + sum(x.numel() for x, _, _ in batches)}


class StopSignals:
    """SIGINT, SIGTERM and SIGHUP (a closed terminal) ask the loop to finish its update; a SIGINT after that ends the
    program at once. Where SIGHUP is ignored, as under nohup, it stays so."""

    def __init__(self, speaks=True):
        self.speaks = speaks

    def __enter__(self):
        self.received, self.number = None, 0
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # Windows has none
            numbers.append(signal.SIGHUP)
        self.previous = {number: signal.signal(number, self.receive) for number in numbers}
        return self

    def receive(self, number, frame):
        self.received, self.number = signal.Signals(number).name, number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if launched() and not (self.speaks and number == signal.SIGINT):
            return  # torchrun sends a SIGTERM of its own where another process has died, and passes no second Ctrl-C on
        again = "" if launched() else " Ctrl-C again stops at once."
        with contextlib.suppress(OSError):  # the terminal may be what has gone
            os.write(2, f"\n{self.received}: finishing this update, then saving.{again}\n".encode())

    def __exit__(self, error, *_):
        for number, handler in self.previous.items():  # what ends the run is said, even if torchrun sends its SIGTERM
            signal.signal(number, signal.SIG_IGN if error and launched() and number == signal.SIGTERM else handler)


def what_checkpointing_spares(model, batch_size):
    """What --activation-checkpointing is good for with this model and batch."""
    spared = model.activation_bytes(batch_size * model.config.block_size)
    if spared < SMALL:
        return (f"--activation-checkpointing spares some {spared / 1e6:,.0f} MB here and makes updates a third slower: "
                "a model this small does not need it.")
    return f"--activation-checkpointing spares some {spared / 1e9:,.1f} GB, and updates take about a third longer."


def check_ranks(settings, ranks):
    """Raise ValueError where the processes cannot share an update evenly, or would throw their own work away."""
    if settings.overwrite and may_restart():
        raise ValueError("With --overwrite, each of torchrun's --max-restarts would throw away what the one before has "
                         "done. Take another --out-dir, or --max-restarts 0.")
    steps = settings.gradient_accumulation_steps
    if steps % ranks.count:
        near = min((n for n in range(ranks.count, steps + ranks.count) if n % ranks.count == 0),
                   key=lambda n: abs(n - steps))
        fewer = max(n for n in range(1, ranks.count + 1) if steps % n == 0)
        raise ValueError(f"{ranks.count} processes cannot share {steps} forward passes an update. Take "
                         f"--gradient-accumulation-steps {near} (and a --batch-size that keeps the product), or "
                         f"--nproc-per-node {fewer}.")


@contextlib.contextmanager
def advice_on_memory():
    """Say what to do when the device runs out of memory even for one sequence."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryError("The device ran out of memory. Take --activation-checkpointing, a smaller --block-size, or a "
                          "smaller model.") from error


def never_warm(settings):
    """What a warm-up that is longer than the run means."""
    end = learning_rate_at(settings.max_iters - 1, settings)
    return (f"The warm-up of {settings.warmup_iters:,} updates does not end within the run of {settings.max_iters:,}: "
            f"the rate rises to {end:.2g} at most, not to {settings.learning_rate:.2g}, and never decays. Shorten it "
            "with --warmup-iters.")


def what_is_kept(settings, folder):
    """What a run that cannot go on leaves, and how to go on."""
    if folder.saved_at is None:
        return "Nothing was saved yet; run the same command again."
    return f"{folder.last} holds update {folder.saved_at:,}; the same command{onward(settings)} goes on from there."


def how_it_ended(settings, folder, counters, signal_received):
    """The last words of a run."""
    if signal_received:
        kept = "saved in" if folder.saved_at == counters["iter_num"] else f"of which {folder.saved_at or 0:,} are in"
        return (f"Stopped by {signal_received.name} after update {counters['iter_num']:,}, {kept} {folder.last}. The "
                f"same command{onward(settings)} goes on from there.")
    why = "the time was up" if counters["iter_num"] < settings.max_iters else "all updates are done"
    return (f"Finished after update {counters['iter_num']:,}: {why}. The best validation loss, "
            f"{counters['best_val_loss']:.4f}, is in {folder.best}. Next:\n"
            f"    {commands.sample(folder.kind, model_path=folder.best)}")
