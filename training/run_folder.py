"""
The folder of one run: what was measured, the best and the last checkpoint, and where an interrupted run goes on.

    metrics.jsonl        a row every ten updates, and one for every evaluation
    loss.png             the same as a picture
    best_checkpoint.pt   the lowest validation loss: all that sampling needs
    last_checkpoint.pt   the newest state: all that resuming needs
    stable_checkpoint.pt the state before the rate of --schedule wsd began to fall: from it a longer run goes on
"""

import contextlib
import hashlib
import json
import math
import time
from dataclasses import asdict
from pathlib import Path

import checkpoint
from program.device import pick_device, pick_dtype
from program.files import append, atomic_write
from program.ranks import Ranks
from program.streams import complain, say
from shards import fingerprint
from training.curve import plot_losses, read_rows
from training.schedule import decays
from training.settings import MOST_SEQUENCES

NOT_KEPT = ("data_dir", "out_dir", "model_path", "init_from",  # paths, and what each part of a run may change
            "overwrite", "reset_optimizer", "device", "threads", "wandb")
ANEW = {"data": "The shards are not what they were", "eval_tokens": "Another part of the validation split is read"}

SECONDS_BETWEEN_PICTURES = 10


class RunFolder:
    """Opens settings.out_dir, which the caller has locked, for a run; loads model and optimiser from
    last_checkpoint.pt if it is to go on.

    counters says where the run is: "iter_num" updates, "samples" sequences and "tokens" so far, "best_val_loss",
    "loss_sum" and "loss_count" of the updates that the next row of metrics is the mean of, updates "skipped" and
    "skipped_in_a_row", and the "first_batch_size"; saved_at is the update in last_checkpoint.pt, None if there is none,
    and given_at the one that was last given to be written there. settings are those that the checkpoints keep. seconds
    of training are in metrics.jsonl already. Of several processes the first alone writes. Raises ValueError where the
    folder holds another run, or a finished one that is not to be thrown away.
    """

    def __init__(self, settings, model, tokenizer, optimizer, kind, ranks=Ranks()):
        self.path, self.writes = Path(settings.out_dir), ranks.first
        self.path.mkdir(parents=True, exist_ok=True)
        self.best, self.last, self.stable, self.metrics, self.picture = (self.path / name for name in (
            "best_checkpoint.pt", "last_checkpoint.pt", "stable_checkpoint.pt", "metrics.jsonl", "loss.png"))
        goes_on = self.last.exists() and not settings.overwrite
        if self.best.exists() and not goes_on and not settings.overwrite:
            raise ValueError(f"{self.path} holds a finished run: {self.best.name}, and no {self.last.name} to go on "
                             "from. Choose another --out-dir, or throw that run away with --overwrite.")
        self.model, self.tokenizer, self.optimizer, self.kind = model, tokenizer, optimizer, kind
        self.settings = {name: value for name, value in asdict(settings).items() if name not in NOT_KEPT}
        self.settings["dtype"] = _name(pick_dtype(settings.dtype, pick_device(settings.device)))
        self.settings["data"] = fingerprint(settings.data_dir)  # wherever it lies
        if kind == "instruct":
            self.settings["base"] = _digest(model.wte.weight.detach().cpu().numpy().tobytes())
        self.counters = {"iter_num": 0, "samples": 0, "tokens": 0, "best_val_loss": math.inf, "loss_sum": 0.0,
                         "loss_count": 0, "skipped": 0, "skipped_in_a_row": 0, "decaying": 0,
                         "first_batch_size": settings.batch_size}
        self.given_at = self.resumed_at = None
        self.writer, self.told, self.rows = checkpoint.Writer(self._not_written), set(), []  # rows not written yet
        if goes_on:
            self._go_on(settings)
        ranks.agree("the update to go on from, so a folder that all processes see must hold the run",
                    self.counters["iter_num"])
        # The last checkpoint goes first: what is left of a run that is thrown away must not be gone on with.
        self.thrown_away = [self.last, self.stable, self.best, self.metrics, self.picture] if settings.overwrite else []
        if self.writes and not settings.overwrite:
            _trim(self.metrics, -1 if self.resumed_at is None else self.resumed_at)
        self.seconds = 0.0 if settings.overwrite else _seconds(self.metrics)
        self.drawn = time.monotonic()
        self.wandb, self.tracker = settings.wandb and self.writes, None

    def _go_on(self, settings):
        same = {}
        if self.kind == "instruct":
            same = {"base": (self.settings["base"], "another base model"),
                    "data": (self.settings["data"], "other examples")}
        source, best_val_loss = self._source(settings)
        counters, old = checkpoint.resume(source, self.model, self.tokenizer, self.optimizer, self.kind, same,
                                          settings.reset_optimizer)
        counters["best_val_loss"] = min(counters["best_val_loss"], best_val_loss)
        begun_with = old.get("batch_size", self.counters["first_batch_size"])  # as far as an older checkpoint tells
        self.counters |= {"first_batch_size": begun_with, **counters}
        if type(begun_with := self.counters["first_batch_size"]) is not int or not 1 <= begun_with <= MOST_SEQUENCES:
            raise ValueError(f"{source} is damaged, so training cannot go on from it: the batch size with which it "
                             f"began is {begun_with!r}. Choose another --out-dir, or start anew with --overwrite.")
        self.given_at = self.resumed_at = self.counters["iter_num"]
        chosen = self.settings["dtype"]
        if settings.dtype == "auto" and old.get("dtype") in ("bfloat16", "float32"):
            self.settings["dtype"] = old["dtype"]
        changed = [f"{name} {old[name]} -> {value}" for name, value in self.settings.items()
                   if name in old and old[name] != value]
        end, before = settings.lr_decay_iters, old.get("lr_decay_iters")
        if end is not None and end != before and end <= self.resumed_at:
            raise ValueError(f"--lr-decay-iters {end} ends the schedule before update {self.resumed_at:,}, at which "
                             "this run goes on: it would learn at the lowest rate alone. Take a later one, or leave it "
                             "out.")
        say(f"Going on from {source}, update {self.resumed_at:,}"
              + (f", with changed settings: {', '.join(changed)}" if changed else ""))
        if self.settings["dtype"] != chosen:
            say(f"It computes in {old['dtype']}, as before; a run that began on this device would take {chosen}. "
                f"Change it with --dtype {chosen}.")
        anew = [what for name, what in ANEW.items() if old.get(name) != self.settings[name]]
        for what in anew or ([] if self.best.exists() else [f"{self.best} is gone"]):
            say(f"{what}, so the best validation loss is sought anew.")
            self.counters["best_val_loss"] = math.inf

    def _source(self, settings):
        """The checkpoint to go on from, and the lowest validation loss that the run has seen: the last one, unless its
        rate has begun to fall and would now begin later."""
        if settings.schedule == "wsd" and self.stable.exists():
            stable, last = (checkpoint.load(path, self.kind, tensors=False)["counters"]
                            for path in (self.stable, self.last))
            share = stable.get("seconds", 0) / 60 / settings.max_minutes if settings.max_minutes else 0
            if last.get("decaying") and not decays(stable["iter_num"], settings, share):
                say(f"The rate now begins to fall later, so the updates after {self.stable.name} are done anew.")
                return self.stable, last["best_val_loss"]
        return self.last, math.inf

    @contextlib.contextmanager
    def tracked(self):
        """Log to an experiment tracker as well, if that is wanted; it hears of an error that ends the run."""
        if not self.wandb:
            yield
            return
        try:
            import wandb
        except ImportError as error:
            raise ValueError(f"--wandb needs a package that cannot be imported ({error}):\n    pip install wandb"
                             ) from error
        try:
            self.tracker = wandb.init(project="backward-gpt", name=self.path.name, config=self.settings,
                                      dir=str(self.path))
        except wandb.Error as error:
            raise ValueError(f"Weights & Biases cannot be used ({error}). Run `wandb login`, set WANDB_MODE=offline, "
                             "or go without --wandb.") from error
        status = 1
        try:
            yield
            status = 0
        finally:
            self.tracker.finish(exit_code=status)

    def log(self, counters, **row):
        """Add a row to metrics.jsonl: the first thing that a run writes, after its first evaluation."""
        if not self.writes:
            return
        while self.thrown_away:
            self.thrown_away.pop(0).unlink(missing_ok=True)
        row = {"iter": counters["iter_num"], "tokens": counters["tokens"], **row}
        self.rows.append(json.dumps(row) + "\n")
        try:
            self._add_rows()
        except OSError as error:
            self._tell(error, "tries again with the next row")
        if self.tracker:
            self.tracker.log(row, step=counters["iter_num"])

    def _add_rows(self):
        append(self.metrics, "".join(self.rows))
        self.rows = []

    @property
    def saved_at(self):
        if not self.writes:  # another process does
            with contextlib.suppress(OSError, ValueError):
                return checkpoint.load(self.last, tensors=False)["counters"]["iter_num"]
        self.writer.wait()
        written = self.writer.written.get(self.last)
        return written["iter_num"] if written else self.resumed_at

    @contextlib.contextmanager
    def writing(self):
        """Checkpoints are written in the background; on leaving all are there, and all rows. Raises OSError if one
        cannot be; where another error ends the run, that is complained of."""
        try:
            yield
        except BaseException:
            try:
                self._finish()
            except OSError as error:
                complain(str(error))
            raise
        self._finish()

    def _finish(self):
        self.writer.finish()
        if self.rows:
            self._add_rows()

    def _write(self, path, counters, optimizer=None):
        self.writer.save(path, self.model, self.tokenizer, self.settings, counters, optimizer, self.kind)

    def _not_written(self, error, counters):
        """Training goes on without a checkpoint; the same reason is told once. At the end of a run it is an error."""
        done, end, interval = counters["iter_num"], self.settings["max_iters"], self.settings["save_interval"]
        if done < end:
            self._tell(error, f"tries again at update {min(end, done - done % interval + interval):,}")

    def _tell(self, error, how):
        """Say, once for each reason, that a file could not be written and how training goes on."""
        if str(error) not in self.told:
            self.told.add(str(error))
            say(f"{error} Training goes on, and {how}.")

    def save_last(self, counters):
        """Write last_checkpoint.pt."""
        if self.writes:
            self._write(self.last, counters, self.optimizer)
        self.given_at = counters["iter_num"]

    def save_stable(self, counters):
        """Write stable_checkpoint.pt, and note in counters that from now on the rate falls."""
        if self.writes:
            self._write(self.stable, counters, self.optimizer)
        counters["decaying"] = 1

    def save_if_best(self, counters, val_loss):
        """Write best_checkpoint.pt if no loss was lower before, and note the loss in counters."""
        if math.isfinite(val_loss) and val_loss < counters["best_val_loss"]:
            counters["best_val_loss"] = val_loss
            if self.writes:
                self._write(self.best, counters)

    def plot(self, at_once=False):
        """Draw metrics.jsonl as loss.png; unless at once, no more often than somebody may look at it: drawing takes as
        long as many updates of a small model."""
        if self.writes and (at_once or time.monotonic() - self.drawn > SECONDS_BETWEEN_PICTURES):
            plot_losses(self.metrics, self.picture, str(self.path))
            self.drawn = time.monotonic()


def _digest(content):
    return hashlib.sha256(content).hexdigest()[:16]


def _name(dtype):
    return str(dtype).removeprefix("torch.")


def _seconds(path):
    """The seconds of training that the rows of a metrics.jsonl tell of."""
    rows = [row for _, row in read_rows(path) if row is not None] if path.is_file() else []
    return max((row["seconds"] for row in rows if row.get("seconds") is not None), default=0.0)


def _trim(path, iter_num):
    """Drop rows written after the update that a run resumes from; a last line cut short by a kill goes, too."""
    if not path.is_file():
        return
    rows = list(read_rows(path))
    damaged = sum(row is None for _, row in rows[:-1])
    if damaged:
        say(f"{path} has {damaged:,} damaged {'row' if damaged == 1 else 'rows'}, dropped.")
    with atomic_write(path, "w") as file:
        file.writelines(line for line, row in rows if row is not None and row["iter"] <= iter_num)
