"""
How many records a second get an instruction: in batches, and one at a time.

    python bench/bench_batch.py out/xcoax_instruct/best_checkpoint.pt responses.jsonl
    python bench/bench_batch.py out/xcoax_instruct/best_checkpoint.pt responses.jsonl --records 512 --batch-size 128

Draws with the defaults of sample_xcoax_instruct.py, scores included, on the device and in the numbers that it would
take. One at a time is measured on every k-th record, so that both meet the same lengths.
"""

import contextlib
import itertools
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from backchat import records
from backchat.candidates import weigh
from backchat.pairs_file import WINDOW
from backchat.writing import TOKENS, Instructions, prompt_of, response_of
from checkpoint import open_model
from program.settings import launch, parse
from program.streams import say
from sampling.controls import Controls
from sampling.decoding import Decoder


@dataclass
class BenchSettings:
    model_path: tyro.conf.Positional[Path]
    """A checkpoint of finetune_xcoax.py."""
    input: tyro.conf.Positional[Path]
    """A file of responses: .json, .jsonl, .parquet or .txt."""
    records: int = 1024
    """How many to take."""
    singly: int = 256
    """How many of them one at a time."""
    batch_size: int = 64
    """Rows of a batch."""
    num_samples: int = 1
    """Instructions for each record."""
    tokens: int = TOKENS
    """The most tokens of an instruction."""


def measure(work, numbered):
    """Seconds for writing, seconds for scoring, and the tokens written, over numbered records."""
    writing = scoring = tokens = 0
    model, tokenizer, size = work.model, work.tokenizer, work.controls.tokens
    for first in range(0, len(numbered), WINDOW):
        started = time.perf_counter()
        prompts = {}
        for number, record in numbered[first:first + WINDOW]:
            with contextlib.suppress(ValueError):
                prompts[number] = prompt_of(model, tokenizer, response_of(record)[1], size)
        samples = work.draw(prompts)
        drawn = time.perf_counter()
        weigh(model, tokenizer, prompts.values(), [samples[number] for number in prompts])
        writing += drawn - started
        scoring += time.perf_counter() - drawn
        tokens += sum(len(row) for rows in samples.values() for row in rows)
    return writing, scoring, tokens


def main():
    settings = parse(BenchSettings, __doc__)
    opened = open_model(settings.model_path, "instruct")
    controls = Controls(tokens=settings.tokens, seed=1, num_samples=settings.num_samples)
    numbered = [(number, record) for number, (_, record) in
                enumerate(itertools.islice(records.read_file(settings.input), settings.records))]
    some = numbered[:: max(1, len(numbered) // settings.singly)]
    say(f"{opened}, {torch.get_num_threads()} threads")
    say(f"{'':>6} {'':>8} {'':>8} {'written':>10} {'':>6} {'and scored':>12}")
    say(f"{'rows':>6} {'records':>8} {'tokens':>8} {'records/s':>10} {'gain':>6} {'records/s':>12} {'gain':>6}")
    single = None
    for rows, chosen in ((1, some), (settings.batch_size, numbered)):
        work = Instructions(Decoder(opened.model, opened.dtype), opened.tokenizer, controls, None, rows)
        measure(work, chosen[:2])  # the first calls are slower
        writing, scoring, tokens = measure(work, chosen)
        rates = len(chosen) / writing, len(chosen) / (writing + scoring)
        single = single or rates
        say(f"{rows:>6} {len(chosen):>8} {tokens:>8} {rates[0]:>10.2f} {rates[0] / single[0]:>6.1f} "
            f"{rates[1]:>12.2f} {rates[1] / single[1]:>6.1f}")


if __name__ == "__main__":
    launch(main)
