"""
How long training takes to a loss: time and updates, several settings beside each other, with several seeds.

    python bench/bench_training.py data/small
    python bench/bench_training.py data/small --variants adamw default --tokens 8e6 --seeds 1 2 --output out/timed

Runs `train_xcoax.py config/small.toml` as its user would, once for every variant and seed, two at a time, each on one
core with one thread, in an order in which the variants take turns: what disturbs the machine disturbs all alike. The
target is the loss at which the first variant ends, the mean over its seeds; printed is when each run first reached it,
between two evaluations in proportion. Time is the seconds of training in metrics.jsonl: without evaluating and saving,
with compiling. Stopped, the same command goes on; `python -m training.curve out/bench_training/*` draws the curves.
"""

import itertools
import json
import os
import queue
import shutil
import statistics
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tyro

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from program.settings import launch, parse
from program.streams import say

# Flags beside config/small.toml. AdamW's are written out in full: the defaults of config/ change with what is found.
_ADAMW = ["--optimizer", "adamw", "--schedule", "cosine", "--tied", "--head-rate", "off", "--embedding-rate", "off",
          "--beta2", "0.95"]
VARIANTS = {
    "adamw": [*_ADAMW, "--batch-size", "8", "--learning-rate", "2e-3", "--min-lr", "1e-4", "--warmup-iters", "200"],
    "adamw-8192": [*_ADAMW, "--batch-size", "32", "--learning-rate", "2e-3", "--min-lr", "1e-4", "--warmup-iters",
                   "50"],
    "adamw-untied": ["--optimizer", "adamw", "--learning-rate", "2e-3"],  # all else as the default
    "default": [],
}
POINTS = 20  # evaluations of a run


@dataclass
class BenchSettings:
    data_dir: tyro.conf.Positional[Path]
    """Shards of preprocess_xcoax.py."""
    variants: tuple[str, ...] = ("adamw", "default")
    """Names in VARIANTS at the top of this file; the first sets the target."""
    tokens: float = 8.2e6
    """Tokens that each run trains on."""
    shares: tuple[float, ...] = (1.0,)
    """Parts of these tokens at which runs of all variants but the first end: each run's rate decays by its own end."""
    seeds: tuple[int, ...] = (1, 2)
    """Seeds of weights and order."""
    config: Path = ROOT / "config/small.toml"
    """Settings that all variants share."""
    jobs: int = 2
    """Runs at a time, each on a core of its own."""
    output: Path = Path("out/bench_training")
    """Folder for the runs."""


def flag(flags, name, otherwise):
    return flags[flags.index(name) + 1] if name in flags else otherwise


def train(job, settings, free):
    """Run or finish one training; return its folder."""
    name, share, seed = job
    out = settings.output / f"{name}_{share:g}_{seed}"
    flags, config = VARIANTS[name], tomllib.loads(settings.config.read_text(encoding="utf-8"))
    size = int(flag(flags, "--batch-size", config["batch_size"])) * config["block_size"]
    updates = round(settings.tokens * share / size)
    command = [sys.executable, str(ROOT / "train_xcoax.py"), str(settings.config), *flags, "--seed", str(seed),
               "--data-dir", str(settings.data_dir), "--out-dir", str(out), "--max-iters", str(updates),
               "--eval-interval", str(max(10, updates // POINTS // 10 * 10)), "--save-interval",
               str(max(1, updates // 8))]
    out.mkdir(parents=True, exist_ok=True)
    core = free.get()
    pin = ["taskset", "-c", str(core)] if shutil.which("taskset") else []
    with open(out / "log.txt", "a", encoding="utf-8") as log:
        done = subprocess.run([*pin, *command], stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
    free.put(core)
    if done.returncode:
        raise OSError(f"{out / 'log.txt'}: this run ended with status {done.returncode}")
    return out


def evaluations(out):
    """Rows (update, tokens, seconds, loss) of a run's evaluations."""
    rows = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [(row["iter"], row["tokens"], row["seconds"], row["val_loss"]) for row in rows if "val_loss" in row]


def reached(found, target):
    """When evaluations first reached a loss, in proportion between two of them: (update, tokens, seconds), or None."""
    for before, after in itertools.pairwise(found):
        if after[3] <= target:
            share = (before[3] - target) / (before[3] - after[3]) if before[3] > target else 0
            return [a + share * (b - a) for a, b in zip(before[:3], after[:3])]
    return None


def main():
    settings = parse(BenchSettings, __doc__)
    unknown = set(settings.variants) - set(VARIANTS)
    if unknown:
        raise ValueError(f"No variants of these names: {', '.join(sorted(unknown))}; there are: {', '.join(VARIANTS)}")
    first, *others = settings.variants
    jobs = [(name, share, seed) for seed in settings.seeds for name, share in
            [(first, 1.0), *itertools.product(others, settings.shares)]]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(settings.jobs)
    free = queue.SimpleQueue()
    for core in itertools.islice(itertools.cycle(cores), settings.jobs):
        free.put(core)
    with ThreadPoolExecutor(settings.jobs) as pool:
        outs = dict(zip(jobs, pool.map(lambda job: train(job, settings, free), jobs)))
    results = {job: evaluations(out) for job, out in outs.items()}
    target = statistics.mean(results[first, 1.0, seed][-1][3] for seed in settings.seeds)
    say(f"Target: {target:.4f} nats per token, where {first} ends\n")
    say("| variant | tokens | seed | updates | minutes | loss at the end | reached at update | tokens | minutes |")
    say("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for (name, _, seed), found in sorted(results.items(), key=lambda item: item[0]):
        updates, tokens, seconds, loss = found[-1]
        when = reached(found, target)
        told = [f"{when[0]:,.0f}", f"{when[1] / 1e6:.2f}M", f"{when[2] / 60:.1f}"] if when else ["–"] * 3
        say(f"| {name} | {tokens / 1e6:.2f}M | {seed} | {updates:,} | {seconds / 60:.1f} | {loss:.4f} | "
            f"{' | '.join(told)} |")


if __name__ == "__main__":
    launch(main)
