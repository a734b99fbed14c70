"""
Our training beside that of smolGPT and nanoGPT: the speed of an update, and the loss after so many minutes.

    git clone https://github.com/Om-Alve/smolGPT ../smolGPT
    git clone https://github.com/karpathy/nanoGPT ../nanoGPT
    python bench/bench_others.py data/small ../smolGPT ../nanoGPT
    OMP_NUM_THREADS=1 taskset -c 1 python bench/bench_others.py data/small ../smolGPT ../nanoGPT --minutes 20

All three have the layers, heads, width, block, batch, number format and data order of --config, no dropout, one process
and one number of threads. They take turns: every round has an update of each, eager and compiled, and training goes in
slices, so that what disturbs the machine disturbs all alike. Each trains in the form that was faster. Minutes are those
of training, without compiling and evaluating; rates fall by the clock and end with it. The validation loss is computed
in float32, on the same windows for all. What compiling takes is told; torch's cache on disk makes it shorter the second
time.

Of the others are taken, unchanged, the model, configure_optimizers, and the numbers that they recommend: smolGPT's
config.py, and nanoGPT's train.py with its config/train_shakespeare_char.py, meant for small models. Their positions are
learned and their output weights tied, as both train them, so the numbers of parameters differ. Rebuilt here are an
update (autocast, forward, backward, clip, step, zero) and the rate, a cosine after a warm-up over the same share of the
run as theirs. Their scripts do not do as they are: smolGPT's goes on from a checkpoint and reads TinyStories, nanoGPT's
computes in float32 on a CPU, and both count updates, not minutes.
"""

import ast
import contextlib
import dataclasses
import importlib.util
import io
import math
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
import tyro

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from model import GPT, GPTConfig, evaluating
from program.device import autocast, pick_device, pick_dtype
from program.ranks import Ranks
from program.settings import launch, parse
from program.streams import say
from shards import Windows, read_manifest, read_split
from tokenizer import Tokenizer
from training.optimizers import make_optimizer, set_rates
from training.schedule import learning_rate_at
from training.settings import TrainSettings
from training.update import Updates

FORMS = ("eager", "compiled")
NO_END = 2**39  # updates: the minutes end a run, and nothing else


@dataclass
class BenchSettings:
    data_dir: tyro.conf.Positional[Path]
    """Shards of preprocess_xcoax.py."""
    smolgpt: tyro.conf.Positional[Path]
    """A checkout of github.com/Om-Alve/smolGPT."""
    nanogpt: tyro.conf.Positional[Path]
    """A checkout of github.com/karpathy/nanoGPT."""
    config: Path = ROOT / "config/small.toml"
    """Our settings; shape, batch, seed and number format are everybody's."""
    threads: int = 1
    """Threads of each."""
    rounds: int = 9
    """Updates that are timed, of each program in each form; the median counts."""
    minutes: float = 10.0
    """Minutes of training, of each program."""
    slice_seconds: float = 30.0
    """Seconds of training before the next one's turn."""
    smolgpt_rate: float | None = None
    """Highest rate of smolGPT; by default what it recommends. The lowest remains the same part of it."""
    nanogpt_rate: float | None = None
    """Highest rate of nanoGPT, likewise."""


# ---- the three programs


class Program:
    """A model in training. Subclasses say how its optimiser is made, how its rate goes, and what an update is."""

    def __init__(self, name, model, device, dtype):
        self.name, self.model, self.device, self.dtype = name, model.to(device).train(), device, dtype
        self.first_weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        self.forms = {"eager": model, "compiled": torch.compile(model)}
        self.parameters = sum(p.numel() for p in model.parameters())
        self.begin()

    def begin(self, form="eager", expected_updates=1000):
        """Start from the first weights, for a run of about so many updates."""
        self.model.load_state_dict(self.first_weights)
        self.optimizer, self.expected_updates = self.make_optimizer(), expected_updates
        self.seconds, self.updates = 0.0, 0
        self.take(form)

    def take(self, form):
        """Go on in this form."""
        self.form, self.fast_model = form, self.forms[form]


class Ours(Program):
    def __init__(self, config, vocab_size, device, dtype):
        self.config = config
        model = GPT(GPTConfig(vocab_size=vocab_size, **config.shape))
        model.init_weights(zero_projections=config.optimizer == "muon")
        super().__init__("ours", model, device, dtype)

    def make_optimizer(self):
        return make_optimizer(self.model, self.config, self.device)

    def take(self, form):
        super().take(form)
        self.updater = Updates(self.model, self.fast_model, self.optimizer, self.config, self.device, self.dtype,
                               Ranks())

    def rate(self, iter_num, share_of_time):
        return learning_rate_at(iter_num, self.config, share_of_time)

    def update(self, batches, rate):
        set_rates(self.optimizer, rate)
        loss = self.updater.gradients(batches)
        self.updater.step(loss)
        return loss

    @property
    def warmup_iters(self):
        return self.config.warmup_iters

    def __str__(self):
        config = self.config
        apart = "" if config.tied else ", output layer of its own"
        return (f"{config.optimizer}{apart}, {config.schedule}, {config.learning_rate:g} to {config.min_lr:g}, betas "
                f"{config.beta1:g} and {config.beta2:g}, decay {config.weight_decay:g}")


class Other(Program):
    """A program with the conventions of nanoGPT; `advised` are the settings that it recommends."""

    def __init__(self, name, model, advised, device, dtype):
        self.advised = advised
        super().__init__(name, model, device, dtype)

    def make_optimizer(self):
        advised = self.advised
        with contextlib.redirect_stdout(io.StringIO()):  # it tells how many parameters decay
            return self.model.configure_optimizers(advised.weight_decay, advised.learning_rate,
                                                   (advised.beta1, advised.beta2), self.device.type)

    @property
    def warmup_iters(self):
        return round(self.expected_updates * self.advised.warmup_iters / self.advised.lr_decay_iters)

    def rate(self, iter_num, share_of_time):
        """A straight line through the warm-up, counted in updates; then a cosine, by the clock."""
        highest, lowest = self.advised.learning_rate, self.advised.min_lr
        if iter_num < self.warmup_iters:
            return highest * (iter_num + 1) / (self.warmup_iters + 1)
        warm = self.advised.warmup_iters / self.advised.lr_decay_iters
        done = min(1.0, max(0.0, (share_of_time - warm) / (1 - warm)))
        return lowest + 0.5 * (1 + math.cos(math.pi * done)) * (highest - lowest)

    def update(self, batches, rate):
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        total = 0.0
        for x, y, _ in batches:
            with autocast(self.device, self.dtype):
                _, loss = self.fast_model(x.to(self.device), y.to(self.device))
            loss = loss / len(batches)
            loss.backward()
            total = total + loss.detach()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.advised.grad_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total

    def __str__(self):
        advised = self.advised
        return (f"its AdamW, cosine, {advised.learning_rate:g} to {advised.min_lr:g}, betas {advised.beta1:g} and "
                f"{advised.beta2:g}, decay {advised.weight_decay:g}")


def imported(path, name, **known):
    """The module in a file, under a name of its own: the others have a model.py as we do. `known` are modules that it
    imports by names that mean something else here."""
    if not path.is_file():
        raise FileNotFoundError(f"No {path.name} in {path.parent}: name a checkout, see --help.")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules.update({name: module, **known})
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            spec.loader.exec_module(module)
    finally:
        for name in known:
            del sys.modules[name]
    return module


def constants(path):
    """The literals that a file of Python assigns to names at its top level; nothing of it is run."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            with contextlib.suppress(ValueError):  # no literal
                found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


def advice(numbers, rate):
    """Recommended settings, with another highest rate where one is wanted."""
    advised = SimpleNamespace(**numbers)
    if rate:
        advised.min_lr, advised.learning_rate = advised.min_lr * rate / advised.learning_rate, rate
    return advised


def open_smolgpt(folder, shape, rate):
    """smolGPT's model and its recommended settings."""
    config = imported(folder / "config.py", "smolgpt_config")
    module = imported(folder / "model.py", "smolgpt_model", config=config)
    shape = {"n_embed" if name == "n_embd" else name: value for name, value in shape.items()}
    return module.GPT(config.GPTConfig(**shape)), advice(vars(config.TrainingConfig()), rate)


def open_nanogpt(folder, shape, rate):
    """nanoGPT's model and its recommended settings for small ones."""
    module = imported(folder / "model.py", "nanogpt_model")
    numbers = constants(folder / "train.py") | constants(folder / "config/train_shakespeare_char.py")
    with contextlib.redirect_stdout(io.StringIO()):  # it tells its size
        return module.GPT(module.GPTConfig(**shape, bias=numbers["bias"])), advice(numbers, rate)


# ---- measuring


def wait(device):
    """Until the device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize()


def time_update(program, form, batches):
    """Seconds of one update."""
    program.take(form)
    wait(program.device)
    started = time.perf_counter()
    program.update(batches, program.rate(0, 0.0))
    wait(program.device)
    return time.perf_counter() - started


def time_updates(programs, batches, rounds):
    """{(name, form): seconds of an update, the median of the rounds}, and {name: seconds that compiling took}."""
    jobs = [(program, form) for program in programs for form in FORMS]
    first = {(program.name, form): time_update(program, form, batches) for program, form in jobs}
    taken = {key: [] for key in first}
    for turn in range(rounds):
        turned = turn % len(jobs)
        for program, form in jobs[turned:] + jobs[:turned]:
            taken[program.name, form].append(time_update(program, form, batches))
    medians = {key: statistics.median(values) for key, values in taken.items()}
    return medians, {program.name: first[program.name, "compiled"] - medians[program.name, "compiled"]
                     for program in programs}


def train_slice(program, batches_at, until, limit):
    """Train until the program has had so many seconds; the rate ends at `limit`. Returns the last loss."""
    loss, started = None, time.perf_counter() - program.seconds
    while program.seconds < until:
        rate = program.rate(program.updates, program.seconds / limit)
        loss = program.update(batches_at(program.updates), rate)
        program.updates += 1
        program.seconds = time.perf_counter() - started
    wait(program.device)
    program.seconds = time.perf_counter() - started
    return loss


def train_in_turns(programs, batches_at, limit, slice_seconds):
    """Train each program for `limit` seconds, a slice at a time."""
    turns = math.ceil(limit / slice_seconds)
    for turn in range(turns):
        first, until = turn % len(programs), min(limit, (turn + 1) * slice_seconds)
        losses = {}
        for program in programs[first:] + programs[:first]:
            loss = train_slice(program, batches_at, until, limit)
            losses[program.name] = "–" if loss is None else f"{loss.item():.3f}"
        say(f"{until / 60:.1f} minutes, training loss: "
            + ", ".join(f"{program.name} {losses[program.name]}" for program in programs))


@torch.no_grad()
def validation_loss(model, batches, device):
    """Mean loss in nats per token over batches of (x, y, None), in float32."""
    total = count = 0
    with evaluating(model):
        for x, y, _ in batches:
            _, loss = model(x.to(device), y.to(device))
            total, count = total + loss.item() * y.numel(), count + y.numel()
    return total / count


def main():
    settings = parse(BenchSettings, __doc__)
    if settings.rounds < 1 or settings.minutes <= 0 or settings.slice_seconds <= 0:
        raise ValueError("--rounds, --minutes and --slice-seconds must be above zero")
    config = parse(TrainSettings, __doc__, [str(settings.config)])
    config = dataclasses.replace(config, dropout=0.0, max_iters=NO_END, lr_decay_iters=None)
    torch.set_num_threads(settings.threads)
    torch.set_float32_matmul_precision("high")  # all three ask for TF32 where a GPU has it
    device = pick_device(config.device)
    dtype = pick_dtype(config.dtype, device)

    tokenizer = Tokenizer.load(settings.data_dir / read_manifest(settings.data_dir)["tokenizer"])
    train_windows, val_windows = (
        Windows(read_split(settings.data_dir, split, tokenizer), config.block_size, config.seed, split)
        for split in ("train", "val"))
    size, steps = config.batch_size, config.gradient_accumulation_steps

    def tensors(pair):
        return (*(torch.from_numpy(rows).contiguous() for rows in pair), None)  # the others take views of them

    def batches_at(update):
        return [tensors(train_windows.batch((update * steps + step) * size, size)) for step in range(steps)]

    shape = {"vocab_size": tokenizer.vocab_size, **config.shape}
    del shape["tied"]  # theirs always are
    programs = []
    for name, opened in (("ours", None), ("smolGPT", lambda: open_smolgpt(settings.smolgpt, shape,
                                                                           settings.smolgpt_rate)),
                         ("nanoGPT", lambda: open_nanogpt(settings.nanogpt, shape, settings.nanogpt_rate))):
        torch.manual_seed(config.seed)
        programs.append(Other(name, *opened(), device, dtype) if opened else
                        Ours(config, tokenizer.vocab_size, device, dtype))

    update_tokens = size * steps * config.block_size
    say(f"{device}, {torch.get_num_threads()} threads, {dtype}, torch {torch.__version__}; {update_tokens:,} tokens an "
        f"update; vocabulary {tokenizer.vocab_size:,}\nCompiling and timing …")
    seconds, compiling = time_updates(programs, batches_at(0), settings.rounds)

    limit = 60 * settings.minutes
    for program in programs:
        form = min(FORMS, key=lambda form: seconds[program.name, form])
        program.begin(form, expected_updates=limit / seconds[program.name, form])
        if program.warmup_iters > program.expected_updates / 2:
            say(f"{program.name}: the warm-up takes {program.warmup_iters:,} updates of about "
                f"{program.expected_updates:,.0f}. Take a --config with a shorter one, or more --minutes.")
    train_in_turns(programs, batches_at, limit, settings.slice_seconds)

    val_batches = [tensors(pair) for pair in val_windows.fixed_batches(config.eval_tokens, size)]
    say(f"\n| program | parameters | optimiser | tokens/s eager | tokens/s compiled | seconds to compile | trained | "
        f"warm-up | updates | tokens | loss after {settings.minutes:g} min |")
    say("| --- " * 11 + "|")
    for program in programs:
        eager, fast = (f"{update_tokens / seconds[program.name, form]:,.0f}" for form in FORMS)
        loss = validation_loss(program.model, val_batches, device)
        say(f"| {program.name} | {program.parameters:,} | {program} | {eager} | {fast} | {compiling[program.name]:.0f} "
            f"| {program.form} | {program.warmup_iters:,} | {program.updates:,} | "
            f"{program.updates * update_tokens / 1e6:.2f}M | {loss:.4f} |")


if __name__ == "__main__":
    launch(main)
