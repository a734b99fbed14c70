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
from functools import partial
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from backchat.examples import Examples
from backchat.template import encode_response, writing_room
from backchat.writing import TOKENS, Instructions
from checkpoint import open_model
from corpus.tales.kinds import kind_of
from evaluation.retrieval import mrr, ranks, recall_at
from program import commands
from program.settings import launch, parse
from sampling.controls import Controls
from shards import read_manifest, read_split

MAKE = partial(commands.preprocess, "instruct")
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


def held_out(settings, tokenizer):
    """Up to settings.pairs pairs (response, instruction) of the validation split, evenly spread over it, as texts."""
    split = Examples(read_split(settings.data_dir, "val", tokenizer, MAKE), block_size=1)
    for index in np.linspace(0, len(split) - 1, min(settings.pairs, len(split))).astype(int):
        ids, first = split.row(index)
        yield tokenizer.to_text(ids[:first].tolist()), tokenizer.to_text(ids[first:].tolist())


def written(opened, responses, seed):
    """The instruction that the model writes for each response, drawn as sample_xcoax_instruct.py does by default."""
    model, tokenizer = opened.model, opened.tokenizer
    work = Instructions(model, tokenizer, Controls(seed=seed, tokens=TOKENS))
    room = writing_room(model.config.block_size, work.controls.tokens)
    prompts = {number: encode_response(tokenizer, text, room)[0] for number, text in enumerate(responses)}
    with opened.autocast(), tqdm(total=len(prompts), unit=" pairs", leave=False, dynamic_ncols=True) as bar:
        drawn = work.draw(prompts, bar.update)
    return [tokenizer.to_text(drawn[number][0]) for number in prompts]


def question_kind(text):
    return kind_of(text.split("\n")[0])  # the input of a record stands on the lines after the instruction


def main():
    settings = parse(BenchSettings, __doc__)
    opened = open_model(settings.model_path, "instruct", settings.device, settings.dtype)
    pairs = list(held_out(settings, opened.tokenizer))
    print(f"{opened}; {len(pairs)} pairs of {settings.data_dir}")
    chance = mrr(range(1, settings.candidates + 1))
    print(f"\nthe true instruction among {settings.candidates} (chance: {chance:.3f})\n"
          f"{'':<30}{'MRR':>7}{'first':>9}{'in five':>9}")
    for shuffled, title in ((False, ""), (True, ", shuffled")):
        with opened.autocast(), tqdm(total=len(pairs), unit=" pairs", leave=False, dynamic_ncols=True) as bar:
            places = ranks(opened.model, opened.tokenizer, pairs, settings.candidates, settings.seed, shuffled,
                           advance=bar.update)
        for name, found in places.items():
            print(f"{NAMES[name] + title:<30}{mrr(found):>7.3f}"
                  f"{recall_at(found, 1):>9.1%}{recall_at(found, 5):>9.1%}")

    if read_manifest(settings.data_dir, MAKE)["source"]["dataset"] == "tales":
        texts = written(opened, [response for response, _ in pairs], settings.seed)
        right = sum(question_kind(text) == question_kind(true) for text, (_, true) in zip(texts, pairs))
        print(f"\nright kind of question: {right} of {len(pairs)} ({right / len(pairs):.1%})")


if __name__ == "__main__":
    launch(main)
