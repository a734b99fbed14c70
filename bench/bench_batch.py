"""
How many records a second get an instruction: in batches, and one at a time.

    python bench/bench_batch.py out/xcoax_instruct/best_checkpoint.pt responses.jsonl
    python bench/bench_batch.py out/xcoax_instruct/best_checkpoint.pt responses.jsonl --records 512 --batch-size 128

Draws with the defaults of sample_xcoax_instruct.py, scores included, on the device and in the numbers that it would take.
One at a time is measured on every k-th record, so that both meet the same lengths.
"""

import argparse
import contextlib
import itertools
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

import checkpoint
import records
from backtranslate import TOKENS, WINDOW, Instructions, prompt_of, response_of
from device import autocast, pick_device, pick_dtype
from repl import Controls
from score import weigh


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
        with work.context():
            samples = work.draw(prompts)
            drawn = time.perf_counter()
            weigh(model, tokenizer, prompts.values(), [samples[number] for number in prompts])
        writing += drawn - started
        scoring += time.perf_counter() - drawn
        tokens += sum(len(row) for rows in samples.values() for row in rows)
    return writing, scoring, tokens


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="of finetune_xcoax.py")
    parser.add_argument("input", help="a file of responses: .json, .jsonl, .parquet or .txt")
    parser.add_argument("--records", type=int, default=1024, help="how many to take (default 1024)")
    parser.add_argument("--singly", type=int, default=256, help="how many of them one at a time (default 256)")
    parser.add_argument("--batch-size", type=int, default=64, help="rows of a batch (default 64)")
    parser.add_argument("--num-samples", type=int, default=1, help="instructions for each record (default 1)")
    parser.add_argument("--tokens", type=int, default=TOKENS, help=f"the most tokens of an instruction (default {TOKENS})")
    args = parser.parse_args()
    device = pick_device("auto")
    dtype = pick_dtype("auto", device)
    model, tokenizer = checkpoint.build(checkpoint.load(args.checkpoint, kind="instruct"), device)
    controls = Controls(tokens=args.tokens, seed=1, n=args.num_samples)
    numbered = [(number, record) for number, (_, record) in
                enumerate(itertools.islice(records.read_file(args.input), args.records))]
    some = numbered[:: max(1, len(numbered) // args.singly)]
    print(f"{model.num_params():,} weights on {device}, {torch.get_num_threads()} threads, {str(dtype).removeprefix('torch.')}")
    print(f"{'':>6} {'':>8} {'':>8} {'written':>10} {'':>6} {'and scored':>12}")
    print(f"{'rows':>6} {'records':>8} {'tokens':>8} {'records/s':>10} {'gain':>6} {'records/s':>12} {'gain':>6}")
    single = None
    for rows, chosen in ((1, some), (args.batch_size, numbered)):
        work = Instructions(model, tokenizer, controls, None, rows, lambda: autocast(device, dtype))
        measure(work, chosen[:2])  # the first calls are slower
        writing, scoring, tokens = measure(work, chosen)
        rates = len(chosen) / writing, len(chosen) / (writing + scoring)
        single = single or rates
        print(f"{rows:>6} {len(chosen):>8} {tokens:>8} {rates[0]:>10.2f} {rates[0] / single[0]:>6.1f} "
              f"{rates[1]:>12.2f} {rates[1] / single[1]:>6.1f}")


if __name__ == "__main__":
    main()
