"""
The training loop that pre-training and fine-tuning share.

A script gives the model, the batches of an update, fixed validation batches and a sample to print; the loop does the
rest and leaves what training/run_folder.py says in the output folder.
"""

import contextlib
import math
import signal

import torch

from program.device import autocast, compiled, pick_device, pick_dtype
from program.files import locked_folder
from program.ranks import joined, loss_of_another
from program.streams import say
from training import advice
from training.losses import Losses
from training.optimizers import make_optimizer, set_rates
from training.progress import LOG_INTERVAL, Progress
from training.run_folder import RunFolder
from training.schedule import Clock, decays, learning_rate_at
from training.stopping import StopSignals
from training.update import Updates, evaluate


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
        advice.check_ranks(settings, ranks)
        optimizer = make_optimizer(model, settings, device)
        folder = RunFolder(settings, model, tokenizer, optimizer, kind, ranks)
        counters, dtype = folder.counters, pick_dtype(folder.settings["dtype"], device)
        if advice.nothing_is_left(settings, folder):
            return counters
        advice.remark_on(settings, model)

        fast_model, clock = compiled(model, device, settings.compile), Clock(settings.max_minutes, counters)
        updates = Updates(model, fast_model, optimizer, settings, device, dtype, ranks)
        losses = Losses(settings, folder, whereabouts)
        with (advice.on_memory(), loss_of_another(lambda: advice.what_is_kept(settings, folder)), folder.tracked(),
              StopSignals(ranks.first) as stop, folder.writing(),
              Progress(settings, counters["iter_num"], device, ranks, folder.seconds) as progress):
            upcoming = batches(counters)
            while True:
                iter_num = counters["iter_num"]
                share_of_time, number = ranks.highest(clock.share(), stop.number)  # read once: what comes later is for
                stopping = signal.Signals(int(number)) if number else None         # after the next update
                clock.note(counters, share_of_time)
                rate = learning_rate_at(iter_num, settings, share_of_time)
                set_rates(optimizer, rate)
                last = iter_num >= settings.max_iters or share_of_time >= 1
                is_new = folder.given_at != iter_num  # a run that goes on has evaluated this update before it was saved
                evaluated = is_new and (iter_num % settings.eval_interval == 0 or last)
                saved = is_new and (iter_num % settings.save_interval == 0 or last or stopping)
                falls = decays(iter_num, settings, share_of_time) and not counters["decaying"]
                if evaluated or saved or falls:
                    losses.read(counters)
                    progress.pause()
                if evaluated:
                    val_loss = evaluate(model, val_batches, device, dtype, ranks)
                    found = record(folder, counters, val_loss, tokens_per_byte, progress.seconds)
                if saved and (last or not counters["skipped_in_a_row"]):  # these weights may be what makes them fail
                    folder.save_last(counters)
                if falls:
                    folder.save_stable(counters)
                if evaluated:  # all is safe before anything is shown
                    with autocast(device, dtype):
                        show(progress, folder, found, sample)
                if last or stopping:
                    break

                progress.resume()
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
        progress.try_to("draw loss.png", folder.plot, True)
        progress.try_to("say how it ended", say,
                        advice.how_it_ended(settings, folder, counters, None if last else stopping))
    if stopping and not last:
        raise SystemExit(128 + stopping)  # so that `train && sample` does not go on
    return counters


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


def after(counters, batches):
    """The counters after an update on the batches of all processes; its loss is added when it is read."""
    return {**counters, "iter_num": counters["iter_num"] + 1,
            "samples": counters["samples"] + sum(len(x) for x, _, _ in batches),
            "tokens": counters["tokens"] + sum(x.numel() for x, _, _ in batches)}
