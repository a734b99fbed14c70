"""
Do other programs write what we write, and how fast? The exports of a checkpoint beside our engine.

    git clone https://github.com/karpathy/llama2.c ../llama2.c
    python -m venv ../llama.cpp && ../llama.cpp/bin/pip install llama-cpp-python
    pip install transformers
    python bench/bench_export.py --model-path out/xcoax/best_checkpoint.pt --llama2c ../llama2.c \\
        --llama-cpp ../llama.cpp/bin/python

The model is written in every form, and every program writes the likeliest token each time, after the same ids; those of
llama2.c have its space in front. Told is after how many tokens its text is no longer that of our engine in float32, and
tokens a second, the fastest of --rounds runs in turn. A program that ends a text by itself is compared up to there.
"""

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import runtimes

from backchat.use import use_of
from checkpoint import gguf, huggingface, llama2c, open_model
from program.settings import launch, parse
from program.streams import say
from sampling import generate
from sampling.decoding import Decoder
from sampling.threads import settle_threads
from tokenizer import BOS_ID


@dataclass
class BenchSettings:
    """Which model is written, and for which programs."""

    model_path: Path
    """A checkpoint, base or instruct."""
    llama2c: Path | None = None
    """A checkout of llama2.c."""
    llama_cpp: Path | None = None
    """A Python with llama-cpp-python."""
    text: str = "and they lived happily ever after."
    """The ending, or the response."""
    tokens: int = 200
    """Tokens of a run."""
    rounds: int = 3
    """Runs of each program."""


def prompts(opened, text):
    """(how the model is used, ids that our engine is given, the prompt of llama2.c, the ids that it reads)."""
    tokenizer, space, use = opened.tokenizer, opened.tokenizer.encode(" "), use_of(opened)
    if opened.kind == "instruct":
        ids = tokenizer.encode_text(text)
        around = [llama2c.spelled(part).encode().decode("unicode_escape") for part in (use.head[1:], use.middle)]
        return (use, [*use.head, *ids, *use.middle], around[0] + tokenizer.decode(ids) + around[1],
                [BOS_ID, *space, *use.head[1:], *ids, *use.middle])
    ids = tokenizer.encode_ending(text)
    return use, ids, tokenizer.decode(ids), [BOS_ID, *space, *ids[1:]]


def ours(opened, prompt, use, tokens, form):
    """A function that runs our engine: (text, tokens a second)."""
    dtype, quantize = {"float32": (torch.float32, "off"), "16 bits": (torch.bfloat16, "off"),
                       "int8": (torch.bfloat16, "int8")}[form]
    decoder = Decoder(opened.model, dtype, quantize)
    settle_threads(decoder)

    def run():
        started = time.perf_counter()
        ids = list(generate(decoder, prompt, tokens, temperature=0, stop_ids=use.stop_ids))
        return ids, len(ids) / (time.perf_counter() - started)

    return run


def transformers(opened, folder, prompt, use, tokens):
    """A function that runs Hugging Face's transformers."""
    from transformers import AutoModelForCausalLM

    huggingface.write(folder, opened, "float32", use)
    model = AutoModelForCausalLM.from_pretrained(folder)

    def run():
        started = time.perf_counter()
        ids = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=tokens, temperature=None,
                             top_k=None, top_p=None)[0, len(prompt):].tolist()
        return ids, len(ids) / (time.perf_counter() - started)

    return run


def until_special(ids, use):
    """ids before the first that ends a text."""
    return ids[:next((at for at, i in enumerate(ids) if i in use.stop_ids), len(ids))]


def agreement(text, right):
    """How many characters two texts have in common at their beginning, and whether one is the other."""
    same = next((at for at, (a, b) in enumerate(zip(text, right)) if a != b), min(len(text), len(right)))
    return "the same text" if text == right else f"{same:,} of {len(right):,} characters"


def main():
    settings = parse(BenchSettings, __doc__)
    opened = open_model(settings.model_path, device="cpu", dtype="float32")
    decode, (use, prompt, spelled, prefixed) = opened.tokenizer.decode, prompts(opened, settings.text)
    say(f"{opened}\n{len(prompt)} ids of a prompt, {settings.tokens} tokens at most")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "hf").mkdir()
        runs = {("ours", form): ours(opened, prompt, use, settings.tokens, form)
                for form in ("float32", "16 bits", "int8")}
        runs["transformers", "float32"] = transformers(opened, folder / "hf", prompt, use, settings.tokens)
        if settings.llama_cpp:
            for dtype in gguf.FILES:
                gguf.write(folder, opened, dtype, use)
                path = folder / gguf.FILES[dtype]
                runs["llama.cpp", dtype] = lambda path=path: runtimes.run_llama_cpp(
                    settings.llama_cpp, path, settings.tokens, prompt)
        if settings.llama2c:
            runtimes.build_llama2c(settings.llama2c, folder)
            for dtype, file in llama2c.FILES.items():
                llama2c.write(folder, opened, dtype, use)
                runs["llama2.c", dtype] = lambda file=file: runtimes.run_llama2c(
                    folder / llama2c.PROGRAMS[file], folder / file, folder / "tokenizer.bin",
                    len(prefixed) + settings.tokens - 1, spelled)
        compare(runs, {"ours": decode(ours(opened, prompt, use, settings.tokens, "float32")()[0]),
                       "llama2.c": decode(prefixed[1:]).lstrip(" ") + "\v" * (opened.kind == "instruct") + decode(
                           ours(opened, prefixed, use, settings.tokens, "float32")()[0])},
                settings.rounds, decode, use)


def compare(runs, right, rounds, decode, use):
    """Let all programs write in turn, and print how far they write what is right, and how fast."""
    found = {}
    for _ in range(rounds):
        for key, run in runs.items():
            written, rate = run()
            found[key] = written, max(found.get(key, (None, 0))[1], rate)
    say(f"{'':<14}{'':<10}{'tokens/s':>10}  beside our engine in float32")
    for (name, form), (written, rate) in found.items():
        if name == "llama2.c":
            told = agreement(written.lstrip(" "), right[name])
        else:
            told = agreement(decode(until_special(written, use)), right["ours"])
        say(f"{name:<14}{form:<10}{rate:>10,.0f}  {told}")


if __name__ == "__main__":
    launch(main)
