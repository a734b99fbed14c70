"""
How good a BackChat is on pairs that it was not trained on.

    python bench/bench_instruct.py out/xcoax_instruct/best_checkpoint.pt data/instruct
    python bench/bench_instruct.py out/tales_instruct/best_checkpoint.pt data/instruct_tales --pairs 200

Takes pairs from all over the validation split that preprocess_instruct.py has made, and prints

    where the true instruction of a response stands among --candidates, best first, ordered by log P(instruction |
    response), by the same per token, and by PMI: mean reciprocal rank, and how often it is the first and among the five
    first. Below it the control: every response replaced by that of another pair, which must score at chance;
    for pairs of the tales, how many of the instructions that the model writes ask the right kind of question.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import checkpoint
import settings
from backtranslate import TOKENS, Instructions, response_room
from device import autocast, pick_device, pick_dtype
from examples import PREPROCESS, Examples
from repl import Controls
from score import mrr, ranks, recall_at
from shards import read_manifest, read_split
from tales import kind_of


NAMES = {"raw": "by log P", "per_token": "by log P per token", "pmi": "by PMI"}


@dataclass
class BenchSettings:
    model_path: tyro.conf.Positional[Path]
    """A checkpoint of finetune_xcoax.py."""
    data_dir: tyro.conf.Positional[Path]
    """Folder with the shards of examples."""
    pairs: int = 256
    """Pairs of the validation split, at most."""
    candidates: int = 64
    """Instructions among which the true one is sought."""
    seed: int = 1
    """Decides which instructions stand beside the true one, and what the model writes."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    dtype: str = "auto"
    """auto, bfloat16, float32."""


def held_out(run, tokenizer):
    """Up to run.pairs pairs (response, instruction) of the validation split, evenly spread over it, as texts."""
    split = Examples(read_split(run.data_dir, "val", tokenizer.sha256, PREPROCESS), tokenizer.marker_ids, budget=1)
    for index in np.linspace(0, len(split) - 1, min(run.pairs, len(split))).astype(int):
        ids, first = split.row(index)
        yield tokenizer.to_text(ids[:first].tolist()), tokenizer.to_text(ids[first:].tolist())


def written(model, tokenizer, responses, seed, context):
    """The instruction that the model writes for each response, drawn as sample_xcoax_instruct.py does by default."""
    work = Instructions(model, tokenizer, Controls(seed=seed, tokens=TOKENS), context=context)
    room = response_room(work.controls.tokens, model.config.block_size)
    prompts = {number: tokenizer.encode_response(text, room)[0] for number, text in enumerate(responses)}
    with context(), tqdm(total=len(prompts), unit=" pairs", leave=False, dynamic_ncols=True) as bar:
        drawn = work.draw(prompts, bar.update)
    return [tokenizer.to_text(drawn[number][0]) for number in prompts]


def question_kind(text):
    return kind_of(text.split("\n")[0])  # the input of a record stands on the lines after the instruction


def main():
    run = settings.parse(BenchSettings, __doc__)
    device = pick_device(run.device)
    dtype = pick_dtype(run.dtype, device)
    model, tokenizer = checkpoint.build(checkpoint.load(run.model_path, kind="instruct"), device)

    def context():
        return autocast(device, dtype)

    pairs = list(held_out(run, tokenizer))
    print(f"{run.model_path}: {model.num_params():,} weights on {device} in {str(dtype).removeprefix('torch.')}; "
          f"{len(pairs)} pairs of {run.data_dir}")
    chance = mrr(range(1, run.candidates + 1))
    print(f"\nthe true instruction among {run.candidates} (chance: {chance:.3f})\n"
          f"{'':<30}{'MRR':>7}{'first':>9}{'in five':>9}")
    for shuffled, title in ((False, ""), (True, ", shuffled")):
        with context(), tqdm(total=len(pairs), unit=" pairs", leave=False, dynamic_ncols=True) as bar:
            found = ranks(model, tokenizer, pairs, run.candidates, run.seed, shuffled, advance=bar.update)
        for name, places in found.items():
            print(f"{NAMES[name] + title:<30}{mrr(places):>7.3f}"
                  f"{recall_at(places, 1):>9.1%}{recall_at(places, 5):>9.1%}")

    if read_manifest(run.data_dir, PREPROCESS)["source"]["dataset"] == "tales":
        texts = written(model, tokenizer, [response for response, _ in pairs], run.seed, context)
        right = sum(question_kind(text) == question_kind(true) for text, (_, true) in zip(texts, pairs))
        print(f"\nright kind of question: {right} of {len(pairs)} ({right / len(pairs):.1%})")


if __name__ == "__main__":
    settings.run(main)
