"""
How good a BackChat is on pairs that it was not trained on.

    python bench/bench_instruct.py out/xcoax_instruct/best_checkpoint.pt data/instruct
    python bench/bench_instruct.py out/tales_instruct/best_checkpoint.pt data/instruct_tales --pairs 200

Takes pairs from all over the validation split that preprocess_instruct.py has made, and prints

    where the true instruction of a response stands among --candidates, best first, ordered by log P(instruction |
    response), by the same per token, and by PMI: mean reciprocal rank, and how often it is the first and among the five
    first. Below it the control: every response replaced by that of another pair, which must score at chance;
    which of several instructions that the model writes is the best one to take, by each of these orders: how like the
    true instruction the one taken is (ROUGE-L and chrF), and for pairs of the tales, how often it asks
    the right kind of question.
"""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from backchat.candidates import weigh
from backchat.examples import Examples
from backchat.template import encode_response, writing_room
from backchat.writing import TOKENS, Instructions
from checkpoint import open_model
from corpus.tales.kinds import kind_of
from evaluation.retrieval import mrr, ranks, recall_at
from program import commands
from program.settings import launch, parse
from program.streams import say
from sampling.controls import Controls
from sampling.decoding import Decoder
from shards import read_manifest, read_split

MAKE = partial(commands.preprocess, "instruct")
NAMES = {"raw": "by log P", "per_token": "by log P per token", "pmi": "by PMI"}
WORTH = {"raw": lambda score: score.log_prob, "per_token": lambda score: score.mean_log_prob,
         "pmi": lambda score: score.pmi}
TEMPERATURES, SAMPLES = (0.8, 1.0), (4, 8)  # of which the best is taken


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


def chosen(opened, responses, settings, temperature):
    """What stands first among the instructions written for each response: lists of texts, by (order, n).

    Drawn as sample_xcoax_instruct.py draws them for a file, and scored as there. The order "first" takes the first
    that was drawn; n says among how many the choice was.
    """
    model, tokenizer = Decoder(opened.model, opened.dtype), opened.tokenizer
    work = Instructions(model, tokenizer, Controls(temperature, seed=settings.seed, tokens=TOKENS,
                                                   num_samples=max(SAMPLES)))
    room = writing_room(model.config.block_size, work.controls.tokens)
    prompts = {number: encode_response(tokenizer, text, room)[0] for number, text in enumerate(responses)}
    with tqdm(total=len(prompts), unit=" pairs", leave=False, disable=None) as bar:
        drawn = work.draw(prompts, bar.update)  # in an order of its own
        drawn = [drawn[number] for number in prompts]
        weighed = weigh(model, tokenizer, prompts.values(), drawn)
    found = {(order, n): [] for order in ("first", *WORTH) for n in SAMPLES}
    for rows, candidates in zip(drawn, weighed, strict=True):
        texts = [tokenizer.to_text(row).strip() for row in rows]
        scores = {candidate.instruction: candidate.score for candidate in candidates}
        for n in SAMPLES:
            found["first", n].append(texts[0])
            scored = [text for text in texts[:n] if text in scores]
            for order, worth in WORTH.items():
                found[order, n].append(max(scored, key=lambda text: worth(scores[text]), default=""))
    return found


def likenesses():
    """Functions, by name, that say how like the true instruction another is, from 0 to 100.

    ROUGE-L weighs what is missing and what is too much alike, in words of English; chrF knows every script, but counts
    what is missing four times as much, so that longer texts fare better.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer  # only benchmarks need them, so requirements.txt has neither
        from sacrebleu.metrics import CHRF
    except ImportError as error:
        raise ValueError(f"{error.name} is not installed. Install what tests and benchmarks need:\n"
                         "    .venv/bin/python -m pip install -r requirements-dev.txt") from None
    return {"ROUGE-L": lambda text, true: 100 * RougeScorer(["rougeL"]).score(true, text)["rougeL"].fmeasure,
            "chrF": lambda text, true: CHRF().sentence_score(text, [true]).score}


def same_kind(text, true):
    """100 where both ask the same kind of question, else 0; the input of a record stands on the lines after it."""
    return 100 * (kind_of(text.split("\n")[0]) == kind_of(true.split("\n")[0]))


def print_retrieval(opened, pairs, settings):
    chance = mrr(range(1, settings.candidates + 1))
    say(f"\nthe true instruction among {settings.candidates} (chance: {chance:.3f})\n"
        f"{'':<30}{'MRR':>7}{'first':>9}{'in five':>9}")
    decoder = Decoder(opened.model, opened.dtype)
    for shuffled, title in ((False, ""), (True, ", shuffled")):
        with tqdm(total=len(pairs), unit=" pairs", leave=False, disable=None) as bar:
            places = ranks(decoder, opened.tokenizer, pairs, settings.candidates, settings.seed, shuffled,
                           advance=bar.update)
        for name, found in places.items():
            say(f"{NAMES[name] + title:<30}{mrr(found):>7.3f}"
                f"{recall_at(found, 1):>9.1%}{recall_at(found, 5):>9.1%}")


def print_selection(opened, pairs, settings, measures):
    """measures are functions of (text, true instruction) by what they are called."""
    found = {(order, temperature, n): texts for temperature in TEMPERATURES
             for (order, n), texts in chosen(opened, [r for r, _ in pairs], settings, temperature).items()}
    columns = [(temperature, n) for temperature in TEMPERATURES for n in SAMPLES]
    for title, measure in measures.items():
        say(f"\n{title + ' of the one taken, of several':<60}\n"
            f"{'':<30}" + "".join(f"{f'{n} at {temperature}':>12}" for temperature, n in columns))
        for order, name in {"first": "the first", **NAMES}.items():
            means = (np.mean([measure(text, true) for text, (_, true) in zip(found[order, *column], pairs)])
                     for column in columns)
            say(f"{name:<30}" + "".join(f"{mean:>12.1f}" for mean in means))


def main():
    settings = parse(BenchSettings, __doc__)
    measures = {f"{name}, 0 to 100,": measure for name, measure in likenesses().items()}
    if read_manifest(settings.data_dir, MAKE)["source"]["dataset"] == "tales":
        measures["right kind of question, %,"] = same_kind
    opened = open_model(settings.model_path, "instruct", settings.device, settings.dtype)
    pairs = list(held_out(settings, opened.tokenizer))
    say(f"{opened}; {len(pairs)} pairs of {settings.data_dir}")
    print_retrieval(opened, pairs, settings)
    print_selection(opened, pairs, settings, measures)


if __name__ == "__main__":
    launch(main)
