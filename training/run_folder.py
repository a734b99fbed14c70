"""
The folder of one run: what was measured, the best and the last checkpoint, and where an interrupted run goes on.

    metrics.jsonl        a row every ten updates, and one for every evaluation
    loss.png             the same as a picture
    best_checkpoint.pt   the lowest validation loss: all that sampling needs
    last_checkpoint.pt   the newest state: all that resuming needs
"""

import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path

import checkpoint
from program.files import atomic_write
from program.streams import say

NOT_KEPT = ("data_dir", "out_dir", "model_path", "resume", "device", "wandb")  # paths, and what may differ in each part


class RunFolder:
    """Opens settings.out_dir for a run, and loads model and optimiser from last_checkpoint.pt if it is to go on.

    counters says where the run is: "iter_num" updates, "samples" sequences and "tokens" so far, "best_val_loss";
    saved_at is the update in last_checkpoint.pt, None if there is none. Raises ValueError where the folder holds
    another run.
    """

    def __init__(self, settings, model, tokenizer, optimizer, kind):
        self.path = Path(settings.out_dir)
        self.path.mkdir(parents=True, exist_ok=True)
        self.best, self.last, self.metrics = (self.path / name for name in (
            "best_checkpoint.pt", "last_checkpoint.pt", "metrics.jsonl"))
        self.model, self.tokenizer, self.optimizer, self.kind = model, tokenizer, optimizer, kind
        self.settings = {name: value for name, value in asdict(settings).items() if name not in NOT_KEPT}
        self.settings["data"] = _digest((Path(settings.data_dir) / "manifest.json").read_bytes())  # wherever it lies
        if kind == "instruct":
            self.settings["base"] = _digest(model.wte.weight.detach().cpu().numpy().tobytes())
        self.counters = {"iter_num": 0, "samples": 0, "tokens": 0, "best_val_loss": math.inf}
        self.saved_at = None
        if settings.resume and self.last.exists():
            self._go_on()
        _trim(self.metrics, -1 if self.saved_at is None else self.saved_at)
        self.tracker = None
        if settings.wandb:
            import wandb
            self.tracker = wandb.init(project="backward-gpt", name=self.path.name, config=self.settings,
                                      dir=str(self.path))

    def _go_on(self):
        same = {}
        if self.kind == "instruct":
            same = {"base": (self.settings["base"], "another base model"),
                    "data": (self.settings["data"], "other examples")}
        self.counters, old = checkpoint.resume(self.last, self.model, self.tokenizer, self.optimizer, self.kind, same)
        self.saved_at = self.counters["iter_num"]
        changed = [f"{name} {old[name]} -> {value}" for name, value in self.settings.items()
                   if name in old and old[name] != value]
        say(f"Going on from {self.last}, update {self.saved_at:,}"
              + (f", with changed settings: {', '.join(changed)}" if changed else ""))
        if old.get("data") != self.settings["data"]:
            say("The shards are not what they were, so the best validation loss is sought anew.")
            self.counters["best_val_loss"] = math.inf

    def log(self, counters, **row):
        """Add a row to metrics.jsonl."""
        row = {"iter": counters["iter_num"], "tokens": counters["tokens"], **row}
        with open(self.metrics, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self.tracker:
            self.tracker.log(row, step=counters["iter_num"])

    def save_last(self, counters):
        """Write last_checkpoint.pt."""
        checkpoint.save(self.last, self.model, self.tokenizer, self.settings, counters, self.optimizer, self.kind)
        self.saved_at = counters["iter_num"]

    def save_if_best(self, counters, val_loss):
        """Write best_checkpoint.pt if no loss was lower before, and note the loss in counters."""
        if math.isfinite(val_loss) and val_loss < counters["best_val_loss"]:
            counters["best_val_loss"] = val_loss
            checkpoint.save(self.best, self.model, self.tokenizer, self.settings, counters, kind=self.kind)

    def plot(self):
        """Draw metrics.jsonl as loss.png."""
        plot_losses(self.metrics, self.path / "loss.png", str(self.path))

    def close(self):
        """End the log of an experiment tracker."""
        if self.tracker:
            self.tracker.finish()


def _digest(content):
    return hashlib.sha256(content).hexdigest()[:16]


def _trim(path, iter_num):
    """Drop rows written after the update that a run resumes from; a last line cut short by a kill goes, too."""
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("}\n") and json.loads(line)["iter"] <= iter_num]
    with atomic_write(path, "w") as file:
        file.writelines(kept)


def plot_losses(metrics, picture, title):
    """Draw the losses in a metrics.jsonl against the tokens trained on."""
    import matplotlib
    matplotlib.use("Agg")  # no window, and none is needed on a server
    from matplotlib import pyplot

    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for name, style in (("train_loss", {"alpha": 0.5}), ("val_loss", {"marker": "o", "markersize": 3})):
        points = [(row["tokens"], row[name]) for row in rows if row.get(name) is not None]
        if points:
            axes.plot(*zip(*points), label=name.replace("_", " "), **style)
    axes.set(xlabel="tokens trained on", ylabel="loss (nats per token)", title=title)
    axes.legend()
    axes.grid(alpha=0.3)
    with atomic_write(picture) as file:
        figure.savefig(file, format="png", dpi=110)
    pyplot.close(figure)
