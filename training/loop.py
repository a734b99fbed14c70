"""
The training loop that pre-training and fine-tuning share: one update, the schedule, evaluation, resume, logging.

A script gives the model, the batches of an update, fixed validation batches and a sample to print; the loop does the
rest and leaves best_checkpoint.pt, last_checkpoint.pt, metrics.jsonl and loss.png in the output folder.
"""

import hashlib
import importlib.util
import json
import math
import os
import shutil
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm import tqdm

import checkpoint
from device import autocast, pick_device, pick_dtype
from shards import atomic_write

LOG_INTERVAL = 10  # updates between rows of metrics.jsonl
SAMPLE = {"base": "python sample_xcoax.py", "instruct": "python sample_xcoax_instruct.py"}  # what comes after training


@dataclass
class LoopSettings:
    """What pre-training and fine-tuning both set."""

    data_dir: Path = Path("data/xcoax")
    """Folder with the shards."""
    out_dir: Path = Path("out/xcoax")
    """Folder for checkpoints, metrics.jsonl and loss.png."""
    batch_size: int = 16
    """Sequences per forward pass; halve it (and double the accumulation) when memory runs out."""
    gradient_accumulation_steps: int = 1
    """Forward passes per update."""
    max_iters: int = 1000
    """Optimiser updates in all, never micro-steps."""
    max_minutes: float | None = None
    """Minutes of training at most: whatever the machine, the rate has decayed by then. Equal runs are then no longer
    equal to the bit, because the clock decides."""
    learning_rate: float = 3e-4
    """Highest rate, reached after the warm-up."""
    min_lr: float = 3e-5
    """Rate at the end of the decay."""
    warmup_iters: int = 100
    """Updates over which the rate rises in a straight line."""
    lr_decay_iters: int | None = None
    """Update at which the cosine decay ends; by default max_iters."""
    weight_decay: float = 0.1
    """Decay of matrices; the norms' scales have none."""
    beta1: float = 0.9
    """AdamW: memory of the gradient."""
    beta2: float = 0.95
    """AdamW: memory of its square; shorter than the usual 0.999, as is custom for language models."""
    grad_clip: float = 1.0
    """Largest norm of an update's gradient; 0 switches clipping off."""
    eval_interval: int = 250
    """Updates between evaluations; each prints the losses and a sample."""
    eval_iters: int = 20
    """Validation batches per evaluation, always the same ones."""
    save_interval: int = 250
    """Updates between writes of last_checkpoint.pt."""
    resume: bool = True
    """Go on from last_checkpoint.pt in the output folder if there is one."""
    seed: int = 1
    """Seed of the first weights, of dropout, and of the order of the data."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    dtype: str = "auto"
    """auto, bfloat16, float32: what the model computes in; weights stay float32."""
    compile: bool = True
    """Compile the model where that works (CUDA with Triton, Linux with g++); elsewhere say so and go on without."""
    wandb: bool = False
    """Log to Weights & Biases as well (WANDB_MODE=offline works)."""

    def __post_init__(self):
        if self.max_minutes is not None and self.max_minutes <= 0:
            raise ValueError(f"max_minutes is {self.max_minutes}; it must be above 0")
        for name in ("batch_size", "gradient_accumulation_steps", "max_iters", "eval_interval", "eval_iters",
                     "save_interval"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.min_lr > self.learning_rate:
            raise ValueError(f"min_lr {self.min_lr} is above learning_rate {self.learning_rate}; lower it too")


def learning_rate_at(iter_num, settings, share_of_time=0.0):
    """Linear warm-up, cosine decay to min_lr, then constant.

    share_of_time is how much of max_minutes has passed; where it is ahead of the updates, it sets the pace of the decay.
    """
    if iter_num < settings.warmup_iters:
        return settings.learning_rate * (iter_num + 1) / settings.warmup_iters
    end = settings.lr_decay_iters or settings.max_iters
    done = (iter_num - settings.warmup_iters) / max(1, end - settings.warmup_iters)
    done = min(1.0, max(done, share_of_time))
    return settings.min_lr + 0.5 * (1 + math.cos(math.pi * done)) * (settings.learning_rate - settings.min_lr)


def accumulate(model, batches, device, dtype):
    """Add the gradients of an update's batches; return the mean loss over all their counted targets, a tensor.

    batches is a list of (x, y, loss_mask): int64 (B, T) twice, and a boolean (B, T) or None. Each batch weighs as much
    as it has counted targets, so any division into micro-steps gives the gradient of one large batch.
    """
    counts = [y.numel() if mask is None else int(mask.sum()) for _, y, mask in batches]
    total = torch.zeros((), device=device)
    for (x, y, mask), count in zip(batches, counts):
        with autocast(device, dtype):
            _, loss = model(*(None if part is None else part.to(device, non_blocking=True) for part in (x, y, mask)))
        loss = loss * (count / max(1, sum(counts)))
        loss.backward()
        total += loss.detach()
    return total


@torch.no_grad()
def evaluate(model, batches, device, dtype):
    """Mean loss in nats over the counted targets of batches, with dropout off."""
    was_training, total, targets = model.training, 0.0, 0
    model.eval()
    for x, y, mask in batches:
        count = y.numel() if mask is None else int(mask.sum())
        with autocast(device, dtype):
            _, loss = model(*(None if part is None else part.to(device) for part in (x, y, mask)))
        total, targets = total + loss.item() * count, targets + count
    model.train(was_training)
    return total / max(1, targets)


class StopSignals:
    """SIGINT and SIGTERM ask the loop to finish its update; a second SIGINT ends the program at once."""

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


def _trim_metrics(path, iter_num):
    """Drop rows written after the update that a run resumes from; a last line cut short by a kill goes, too."""
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("}\n") and json.loads(line)["iter"] <= iter_num]
    with atomic_write(path, "w") as file:
        file.writelines(kept)


def plot_losses(out_dir):
    """Draw metrics.jsonl as loss.png."""
    import matplotlib
    matplotlib.use("Agg")  # no window, and none is needed on a server
    from matplotlib import pyplot

    rows = [json.loads(line) for line in (out_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for name, style in (("train_loss", {"alpha": 0.5}), ("val_loss", {"marker": "o", "markersize": 3})):
        points = [(row["tokens"], row[name]) for row in rows if row.get(name) is not None]
        if points:
            axes.plot(*zip(*points), label=name.replace("_", " "), **style)
    axes.set(xlabel="tokens trained on", ylabel="loss (nats per token)", title=str(out_dir))
    axes.legend()
    axes.grid(alpha=0.3)
    with atomic_write(out_dir / "loss.png") as file:
        figure.savefig(file, format="png", dpi=110)
    pyplot.close(figure)


def _digest(content):
    return hashlib.sha256(content).hexdigest()[:16]


def _restore(path, model, tokenizer, optimizer, kind, now):
    """Load model and optimiser from last_checkpoint.pt; return its counters and settings; now are those of this run.

    Raises ValueError where the run it comes from was not this one.
    """
    content = checkpoint.load(path, kind)
    fresh = "Choose another --out-dir, or start anew over it with --no-resume."
    config = asdict(model.config)
    differing = [f"{name} {content['config'][name]} (now {value})" for name, value in config.items()
                 if content["config"][name] != value]
    if differing:
        raise ValueError(f"{path} holds another model: {', '.join(differing)}. {fresh}")
    if content["tokenizer"] != tokenizer.model:
        raise ValueError(f"{path} was trained with another tokenizer than these shards. {fresh}")
    old = content["settings"]
    if kind == "instruct" and (old.get("data"), old.get("base")) != (now["data"], now["base"]):
        what = "other examples" if old.get("base") == now["base"] else "another base model"
        raise ValueError(f"{path} comes from {what} than this run is to have. {fresh}")
    if "optimizer" not in content:
        raise ValueError(f"{path} holds no optimiser state, so training cannot go on from it. {fresh}")
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    return content["counters"], old


def _compiled(model, device, wanted):
    """The model compiled where that works and was asked for; says why where it was asked for and is not done."""
    if not wanted:
        return model
    if device.type == "cuda":
        missing = None if importlib.util.find_spec("triton") else "Triton is not installed"
    elif device.type == "cpu" and sys.platform == "linux":
        missing = None if shutil.which("g++") or shutil.which("clang++") else "it needs a C++ compiler (g++)"
    else:
        missing = f"it is not tried on {device.type} under {sys.platform}"
    if missing:
        print(f"Not compiling the model: {missing}. Training runs the same, somewhat slower.")
        return model
    print("Compiling the model: the first update takes half a minute or more.")
    return torch.compile(model)


def train(settings, model, tokenizer, batches, val_batches, sample, kind="base", tokens_per_byte=None):
    """Train model until settings.max_iters, from the start or from where an earlier run stopped.

    batches(counters) gives the list of batches of the next update (see accumulate), from the counters alone: "iter_num"
    updates and "samples" sequences so far. val_batches is a list of batches. sample() returns a text to print.
    tokens_per_byte, if given, turns the validation loss into bits per byte.

    Raises FloatingPointError when a loss is not finite (the last checkpoint is kept), and what checkpoint.save raises.
    """
    device, out_dir = pick_device(settings.device), Path(settings.out_dir)
    dtype = pick_dtype(settings.dtype, device)
    torch.set_float32_matmul_precision("high")  # TF32 where a GPU has it
    out_dir.mkdir(parents=True, exist_ok=True)
    best_path, last_path, metrics_path = (out_dir / name for name in ("best_checkpoint.pt", "last_checkpoint.pt",
                                                                      "metrics.jsonl"))
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.optimizer_groups(settings.weight_decay), lr=settings.learning_rate,
                                  betas=(settings.beta1, settings.beta2), fused=device.type != "mps")
    counters = {"iter_num": 0, "samples": 0, "tokens": 0, "best_val_loss": math.inf}
    plain_settings = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(settings).items()
                      if name not in ("data_dir", "out_dir", "model_path", "resume", "device", "wandb")}
    plain_settings["data"] = _digest((Path(settings.data_dir) / "manifest.json").read_bytes())  # wherever it lies
    if kind == "instruct":
        plain_settings["base"] = _digest(model.wte.weight.detach().cpu().numpy().tobytes())
    resumed = settings.resume and last_path.exists()
    if resumed:
        counters, old = _restore(last_path, model, tokenizer, optimizer, kind, plain_settings)
        changed = [f"{name} {old[name]} -> {value}" for name, value in plain_settings.items()
                   if name in old and old[name] != value]
        print(f"Going on from {last_path}, update {counters['iter_num']:,}"
              + (f", with changed settings: {', '.join(changed)}" if changed else ""))
        if old.get("data") != plain_settings["data"]:
            print("The shards are not what they were, so the best validation loss is sought anew.")
            counters["best_val_loss"] = math.inf
    _trim_metrics(metrics_path, counters["iter_num"] if resumed else -1)

    run = None
    if settings.wandb:
        import wandb
        run = wandb.init(project="backward-gpt", name=out_dir.name, config=plain_settings, dir=str(out_dir))

    def log(**row):
        row = {"iter": counters["iter_num"], "tokens": counters["tokens"], **row}
        with open(metrics_path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if run:
            run.log(row, step=counters["iter_num"])

    def save(path, with_optimizer):
        checkpoint.save(path, model, tokenizer, plain_settings, counters, optimizer if with_optimizer else None, kind)

    def evaluate_and_report():
        val_loss = evaluate(model, val_batches, device, dtype)
        bits_per_byte = val_loss / math.log(2) * tokens_per_byte if tokens_per_byte else None
        log(val_loss=val_loss, bits_per_byte=bits_per_byte)
        if math.isfinite(val_loss) and val_loss < counters["best_val_loss"]:
            counters["best_val_loss"] = val_loss
            save(best_path, with_optimizer=False)
        with autocast(device, dtype):
            text = sample()
        bits = f", {bits_per_byte:.4f} bits per byte" if bits_per_byte else ""
        tqdm.write(f"\nupdate {counters['iter_num']:,}: validation loss {val_loss:.4f}{bits}\n{text}\n")
        plot_losses(out_dir)

    if counters["iter_num"] >= settings.max_iters:
        print(f"This run has had its {settings.max_iters:,} updates. Raise --max-iters to go on.")
        return counters
    if settings.max_minutes and counters.get("seconds", 0) >= 60 * settings.max_minutes:
        print(f"This run has had its {settings.max_minutes:g} minutes. Raise --max-minutes to go on.")
        return counters

    compiled = _compiled(model, device, settings.compile)
    losses, saved_at, timer, timed_tokens = [], counters["iter_num"] if resumed else None, time.monotonic(), 0
    progress = tqdm(total=settings.max_iters, initial=counters["iter_num"], unit="update", dynamic_ncols=True,
                    file=sys.stderr, smoothing=0.05)
    started, earlier_seconds = time.monotonic(), counters.get("seconds", 0.0)
    with StopSignals() as stop, progress:
        upcoming = batches(counters)
        while True:
            iter_num = counters["iter_num"]
            share_of_time = 0.0
            if settings.max_minutes:
                counters["seconds"] = earlier_seconds + time.monotonic() - started
                share_of_time = counters["seconds"] / 60 / settings.max_minutes
            rate = learning_rate_at(iter_num, settings, share_of_time)
            for group in optimizer.param_groups:
                group["lr"] = rate
            last = iter_num >= settings.max_iters or share_of_time >= 1
            if (iter_num % settings.eval_interval == 0 or last) and saved_at != iter_num:
                evaluate_and_report()
                timer, timed_tokens = time.monotonic(), 0
            if (iter_num % settings.save_interval == 0 or last or stop.received) and saved_at != iter_num:
                save(last_path, with_optimizer=True)
                saved_at = iter_num
            if last or stop.received:
                break

            torch.manual_seed(settings.seed * 1_000_003 + iter_num)  # dropout of a resumed run is that of an unbroken one
            try:
                loss = accumulate(compiled, upcoming, device, dtype)
            except torch.OutOfMemoryError as error:
                raise MemoryError(
                    f"The device ran out of memory. Half the batch gives the same updates:\n    --batch-size "
                    f"{max(1, settings.batch_size // 2)} --gradient-accumulation-steps "
                    f"{settings.gradient_accumulation_steps * 2}") from error
            used, upcoming = upcoming, batches(_after(counters, upcoming))  # read while the device is still busy
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip or math.inf)
            loss = loss.item()
            if not math.isfinite(loss) or not math.isfinite(norm):
                raise FloatingPointError(
                    f"Loss {loss}, gradient norm {norm:.3g} at update {iter_num:,}: training stops here. "
                    + (f"{last_path} holds update {saved_at:,}, which was good; " if saved_at is not None else "")
                    + f"go on with a lower rate:\n    --learning-rate {settings.learning_rate / 3:.2g}"
                    + f" --min-lr {min(settings.min_lr, settings.learning_rate / 30):.2g}")
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

            counters = _after(counters, used)
            losses.append(loss)
            timed_tokens += sum(x.numel() for x, _, _ in used)
            progress.update()
            if counters["iter_num"] % LOG_INTERVAL == 0 or counters["iter_num"] == settings.max_iters:
                speed = timed_tokens / (time.monotonic() - timer)
                log(train_loss=sum(losses) / len(losses), learning_rate=rate, grad_norm=norm.item(),
                    tokens_per_second=round(speed))
                progress.set_postfix_str(f"loss {sum(losses) / len(losses):.3f}, {speed:,.0f} tokens/s")
                losses = []
    if run:
        run.finish()
    if stop.received:
        print(f"Stopped by {stop.received} after update {counters['iter_num']:,}, saved in {last_path}. The same "
              "command goes on from there.")
    else:
        why = "the time was up" if counters["iter_num"] < settings.max_iters else "all updates are done"
        print(f"Finished after update {counters['iter_num']:,}: {why}. The best validation loss, "
              f"{counters['best_val_loss']:.4f}, is in {best_path}. Next:\n    {SAMPLE[kind]} --model-path {best_path}")
    return counters


def _after(counters, batches):
    """The counters after an update on batches."""
    return {**counters, "iter_num": counters["iter_num"] + 1,
            "samples": counters["samples"] + sum(len(x) for x, _, _ in batches),
            "tokens": counters["tokens"] + sum(x.numel() for x, _, _ in batches)}
