"""
How many tokens a second are written: our engine, llama2.c's `run` and llama.cpp, on models of one shape.

    git clone https://github.com/karpathy/llama2.c ../llama2.c
    python -m venv ../llama.cpp && ../llama.cpp/bin/pip install llama-cpp-python
    python bench/bench_sampling.py --llama2c ../llama2.c --llama-cpp ../llama.cpp/bin/python
    python bench/bench_sampling.py --before ../an-older-checkout
    python bench/bench_sampling.py --model-path out/xcoax/best_checkpoint.pt --data-dir data/xcoax

The weights are random, of the shapes of --shapes. All programs take turns, one run after another for --rounds rounds,
and the fastest run of each counts: what disturbs the machine makes a program slower, never faster. A run is --tokens
tokens after one, the likeliest each time; opening the model does not count. `run` is compiled with -Ofast -march=native
-fopenmp. All may use every core; ours takes as many threads as it finds faster. The memory's limit is how fast PyTorch
adds up 600 MB: told is which share of it a program takes for its weights, more than all where they stay in the
processor's cache. The first word is that before an ending of 60 tokens, some fifty words.

With --model-path nothing is timed: told is how many bits per byte of held-out text 16 and 8 bits cost.
"""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__" and sys.argv[1:2] == ["--before-root"]:  # one of our own runs, of another checkout
    ROOT = Path(sys.argv[2])
sys.path.insert(0, str(ROOT))

import runtimes

from backchat.use import use_of
from checkpoint import OpenModel
from model import GPT, GPTConfig
from program import commands
from program.settings import launch, parse
from program.streams import say
from tokenizer import EOS_ID

SHAPES = {"163M": (12, 16, 1024), "small": (6, 4, 288)}  # layers, heads, width
FORMS = {"float32": ("float32", "off"), "16 bits": ("bfloat16", "off"), "int8": ("bfloat16", "int8")}
ENDING = 60        # tokens: some fifty words
HELD_OUT = 10_000  # tokens of the held-out split, which are read one at a time as in writing
BYTES = {"float32": 4, "f32": 4, "16 bits": 2, "f16": 2, "int8": 1, "q8_0": 34 / 32}


@dataclass
class BenchSettings:
    """What is timed beside our engine, and on how much."""

    llama2c: Path | None = None
    """A checkout of llama2.c."""
    llama_cpp: Path | None = None
    """A Python with llama-cpp-python."""
    before: Path | None = None
    """An older checkout of this project, whose engine is timed too."""
    shapes: tuple[str, ...] = tuple(SHAPES)
    """163M, small, or both."""
    tokens: int = 200
    """Tokens of a run."""
    rows: int = 16
    """Texts in a batch."""
    rounds: int = 5
    """Runs of each program."""
    model_path: Path | None = None
    """A checkpoint, to tell what fewer bits cost."""
    data_dir: Path | None = None
    """The shards that it was trained on."""


# ---- our own engine, in a process of its own


def write(shape, form, rows, tokens):
    """Print tokens a second of our engine, in the checkout that is imported, threads, and seconds to a first token."""
    from sampling import generate_batch

    layers, heads, width = SHAPES[shape]
    torch.manual_seed(1)
    model = GPT(GPTConfig(n_layer=layers, n_head=heads, n_embd=width, block_size=512)).eval()
    dtype, quantize = FORMS[form]
    try:
        from sampling.decoding import Decoder
        from sampling.threads import settle_threads
    except ImportError:  # the engine before it had one
        with torch.autocast("cpu", getattr(torch, dtype), enabled=dtype != "float32"):
            return time_steps(generate_batch, model, rows, tokens)
    decoder = Decoder(model, getattr(torch, dtype), quantize)
    settle_threads(decoder)
    time_steps(generate_batch, decoder, rows, tokens)


def time_steps(generate_batch, model, rows, tokens):
    for n in (5, tokens):
        started = time.perf_counter()
        for _ in generate_batch(model, [[1]] * rows, n, temperature=0):
            pass
    rate, started = rows * tokens / (time.perf_counter() - started), time.perf_counter()
    next(generate_batch(model, [[1] * ENDING] * rows, 1, temperature=0))
    print(rate, torch.get_num_threads(), time.perf_counter() - started)


def ours(root, shape, form, rows, tokens):
    """A function that runs it: tokens a second, threads, seconds from an ending to the first token before it."""
    command = [sys.executable, __file__, "--before-root", str(root), shape, form, str(rows), str(tokens)]

    def run():
        rate, threads, first = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        return float(rate), int(threads), float(first)

    return run


# ---- the others


class Numbered:
    """A tokenizer in name only: the weights are random."""

    direction, vocab_size, stop_ids = "reverse", GPTConfig.vocab_size, (EOS_ID,)

    def name(self, i):
        return f"<{i}>"

    def score(self, i):
        return -float(i)

    def decode(self, ids):
        return "a"


def exported(room, folder, shape, dtype):
    """A random model of a shape, written for another program; its folder."""
    layers, heads, width = SHAPES[shape]
    folder = folder / f"{room.__name__}-{shape}-{dtype}"
    if not folder.exists():
        folder.mkdir()
        torch.manual_seed(1)
        model = GPT(GPTConfig(n_layer=layers, n_head=heads, n_embd=width, block_size=512)).eval()
        opened = OpenModel("random", "base", model, Numbered(), torch.device("cpu"), torch.float32, {}, {})
        room.write(folder, opened, dtype, use_of(opened))
    return folder


def llama2c(checkout, folder, shape, tokens):
    """A function that runs it: tokens a second, and what is not known of it."""
    from checkpoint import llama2c as room

    if not (folder / "run").exists():
        runtimes.build_llama2c(checkout, folder)
    path = exported(room, folder, shape, "float32")
    return lambda: (runtimes.run_llama2c(folder / "run", path / room.FILES["float32"], path / "tokenizer.bin",
                                         tokens)[1], None, None)


def llama_cpp(python, folder, shape, dtype, tokens):
    """A function that runs it: tokens a second, and what is not known of it."""
    from checkpoint import gguf as room

    path = exported(room, folder, shape, dtype) / room.FILES[dtype]
    return lambda: (runtimes.run_llama_cpp(python, path, tokens)[1], None, None)


# ---- all of them in turn


def memory_speed():
    """Bytes a second that this machine's memory gives."""
    numbers, best = torch.ones(150_000_000), 1.0
    for _ in range(5):
        started = time.perf_counter()
        numbers.sum()
        best = min(best, time.perf_counter() - started)
    return numbers.numel() * 4 / best


def compare(settings, shape, folder):
    """Time all programs on models of one shape."""
    runs = {(name, form, 1): ours(root, shape, form, 1, settings.tokens)
            for name, root in (("ours", ROOT), ("before", settings.before)) if root
            for form in FORMS if not (name == "before" and form == "int8")}
    for form in ("16 bits", "int8"):
        runs["ours", form, settings.rows] = ours(ROOT, shape, form, settings.rows, settings.tokens)
    if settings.llama2c:
        runs["llama2.c", "float32", 1] = llama2c(settings.llama2c, folder, shape, settings.tokens)
    if settings.llama_cpp:
        for kind, dtype in (("f32", "float32"), ("f16", "float16"), ("q8_0", "int8")):
            runs["llama.cpp", kind, 1] = llama_cpp(settings.llama_cpp, folder, shape, dtype, settings.tokens)
    found = {}
    for _ in range(settings.rounds):
        for key, run in runs.items():
            found[key] = max(found.get(key, (0,)), run())
    layers, _, width = SHAPES[shape]
    config = GPTConfig(n_layer=layers, n_embd=width, n_head=SHAPES[shape][1])
    weights = layers * (4 * width**2 + 3 * width * config.hidden_dim) + config.vocab_size * width
    limit = memory_speed()
    say(f"\n{shape}: {layers} layers, {width} wide, {weights / 1e6:.0f} million weights in matrices; the memory gives "
        f"{limit / 1e9:.0f} GB/s")
    say(f"{'':<11}{'':<9}{'texts':>6}{'tokens/s':>10}{'threads':>9}{'of the memory’s limit':>23}{'first word':>12}")
    for (name, form, rows), (rate, threads, first) in found.items():
        share, first = rate / rows * weights * BYTES[form] / limit, "" if first is None else f"{first * 1000:.0f} ms"
        say(f"{name:<11}{form:<9}{rows:>6}{rate:>10.0f}{threads or '':>9}{share:>23.0%}{first:>12}")


# ---- what fewer bits cost


def cost(settings):
    """Print bits per byte of held-out text in each form."""
    from checkpoint import open_model
    from sampling.decoding import Decoder
    from sampling.threads import settle_threads
    from shards import Windows, read_manifest, read_split
    from shards import totals as split_totals

    opened = open_model(settings.model_path, "base", "cpu")
    totals, held_out = {}, split_totals(read_manifest(settings.data_dir, commands.preprocess), "val")
    windows = Windows(read_split(settings.data_dir, "val", opened.tokenizer), opened.model.config.block_size,
                      split="val")
    rows = [(x[0], y[0]) for x, y in windows.fixed_batches(HELD_OUT, 1)]
    for form, (dtype, quantize) in FORMS.items():
        decoder, total = Decoder(opened.model, getattr(torch, dtype), quantize), 0.0
        settle_threads(decoder)
        for x, y in rows:
            cache = decoder.cache(1, len(x))
            for token, target in zip(torch.from_numpy(x), y):
                logits = decoder.logits(decoder.read(token.view(1, 1), cache)[0, -1:])[0]
                total += (logits.logsumexp(dim=0) - logits[target]).item()
        totals[form] = total / sum(len(y) for _, y in rows) / np.log(2) * held_out["tokens"] / held_out["bytes"]
        say(f"{form:<9} {totals[form]:.4f} bits per byte  {totals[form] / totals['float32'] - 1:+.3%}")


def main():
    settings = parse(BenchSettings, __doc__)
    if settings.model_path:
        return cost(settings)
    with tempfile.TemporaryDirectory() as folder:
        for shape in settings.shapes:
            compare(settings, shape, Path(folder))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--before-root"]:
        write(sys.argv[3], sys.argv[4], int(sys.argv[5]), int(sys.argv[6]))
    else:
        launch(main)
