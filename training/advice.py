"""
What a run says of itself before its first update and after its last, and what it refuses.
"""

import contextlib

import torch

from program import commands
from program.ranks import may_restart
from program.streams import say
from training.schedule import learning_rate_at

SMALL = 2e9  # bytes of activations that every machine for training has room for


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


def check_ranks(settings, ranks):
    """Raise ValueError where the processes cannot share an update evenly, or would throw their own work away."""
    if settings.overwrite and may_restart():
        raise ValueError("With --overwrite, each of torchrun's --max-restarts would throw away what the one before has "
                         "done. Take another --out-dir, or --max-restarts 0.")
    steps = settings.gradient_accumulation_steps
    if steps % ranks.count:
        near = min((n for n in range(ranks.count, steps + ranks.count) if n % ranks.count == 0),
                   key=lambda n: abs(n - steps))
        counts = [n for n in range(1, steps + 1) if steps % n == 0 and n % ranks.nodes == 0]
        other = min(counts, key=lambda n: abs(n - ranks.count), default=None)
        raise ValueError(f"{ranks.count} processes cannot share {steps} forward passes an update. Take "
                         f"--gradient-accumulation-steps {near} (and a --batch-size that keeps the product)"
                         + (f", or --nproc-per-node {other // ranks.nodes}." if other else "."))


def remark_on(settings, model):
    """Say what in these settings is hardly meant."""
    if settings.warmup_iters > settings.max_iters:
        say(_never_warm(settings))
    if settings.activation_checkpointing:
        say(_what_checkpointing_spares(model, settings.batch_size))


def _never_warm(settings):
    """What a warm-up that is longer than the run means."""
    end = learning_rate_at(settings.max_iters - 1, settings)
    return (f"The warm-up of {settings.warmup_iters:,} updates does not end within the run of {settings.max_iters:,}: "
            f"the rate rises to {end:.2g} at most, not to {settings.learning_rate:.2g}, and never decays. Shorten it "
            "with --warmup-iters.")


def _what_checkpointing_spares(model, batch_size):
    """What --activation-checkpointing is good for with this model and batch."""
    spared = model.activation_bytes(batch_size * model.config.block_size)
    if spared < SMALL:
        return (f"--activation-checkpointing spares some {spared / 1e6:,.0f} MB here and makes updates a third slower: "
                "a model this small does not need it.")
    return f"--activation-checkpointing spares some {spared / 1e9:,.1f} GB, and updates take about a third longer."


@contextlib.contextmanager
def on_memory():
    """Say what to do when the device runs out of memory even for one sequence."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryError("The device ran out of memory. Take --activation-checkpointing, a smaller --block-size, or a "
                          "smaller model.") from error


def what_is_kept(settings, folder):
    """What a run that cannot go on leaves, and how to go on."""
    if folder.saved_at is None:
        return "Nothing was saved yet; run the same command again."
    return f"{folder.last} holds update {folder.saved_at:,}; the same command{onward(settings)} goes on from there."


def onward(settings):
    """What must not be in a command that goes on."""
    return " (without --overwrite)" if settings.overwrite else ""


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
