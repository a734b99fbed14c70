"""
Which of several instructions that a BackChat writes is the best one to take, at several temperatures.

    python bench/bench_instruct.py out/xcoax_instruct/best_checkpoint.pt data/instruct
    python bench/bench_instruct.py out/tales_instruct/best_checkpoint.pt data/instruct_tales --pairs 200

Takes pairs from all over the validation split that preprocess_instruct.py has made, and prints how like the true
instruction the one taken is (ROUGE-L and chrF), by log P(instruction | response), by the same per token, by PMI, and
where the first is taken; for pairs of the tales also how often it asks the right kind of question. Whether the model
finds the true instruction among others is told by evaluate_xcoax.py.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from checkpoint import open_model
from evaluation import data, selection
from evaluation.retrieval import ORDERS
from program.settings import launch, parse
from program.streams import say
from sampling.decoding import Decoder

NAMES = {"first": "the first", **{order: f"by {name}" for order, name in ORDERS.items()}}
TEMPERATURES, SAMPLES = (0.8, 1.0), (4, 8)  # of which the best is taken


@dataclass
class BenchSettings:
    model_path: tyro.conf.Positional[Path]
    """A checkpoint of finetune_xcoax.py."""
    data_dir: tyro.conf.Positional[Path]
    """Folder with the shards of examples."""
    pairs: int = 256
    """Pairs of the validation split, at most."""
    seed: int = 1
    """Decides what the model writes."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    dtype: str = "auto"
    """auto, bfloat16, float32."""


def main():
    settings = parse(BenchSettings, __doc__)
    measures = selection.likenesses()
    if data.of_tales(settings.data_dir):
        measures["right kind of question"] = selection.same_kind
    opened = open_model(settings.model_path, "instruct", settings.device, settings.dtype)
    pairs = data.pairs_of_split(settings.data_dir, opened.tokenizer, most=settings.pairs)
    responses, true, _ = zip(*pairs)
    say(f"{opened}; {len(pairs)} pairs of {settings.data_dir}")
    model, columns = Decoder(opened.model, opened.dtype), {}
    for temperature in TEMPERATURES:
        with tqdm(total=len(pairs), unit=" pairs", leave=False, disable=None) as bar:
            written = selection.written(model, opened.tokenizer, responses, selection.controls_of(
                max(SAMPLES), temperature, settings.seed), bar.update)
        columns |= {f"{n} at {temperature}": selection.likeness(written, true, measures, n) for n in SAMPLES}
    for measure in measures:
        say(f"\n{measure + ', 0 to 100, of the one taken, of several':<60}\n"
            f"{'':<30}" + "".join(f"{column:>12}" for column in columns))
        for order, name in NAMES.items():
            say(f"{name:<30}" + "".join(f"{np.mean(found[order][measure]):>12.1f}" for found in columns.values()))


if __name__ == "__main__":
    launch(main)
