"""Responses and instructions about animals, a model that knows what such instructions look like, files of both."""

import functools
import json
import random

from backchat.pairs_file import write_pairs
from backchat.writing import Instructions
from sampling.controls import Controls
from tests.support.tiny import learn, tiny_model
from tokenizer import Tokenizer, train_tokenizer

ANIMALS = ("cat", "dog", "hen", "goat", "mouse", "owl")
DOINGS = ("sleeping", "eating", "singing", "hiding")
PAIRS = [(f"The {animal} is {doing}.", f"What is the {animal} doing?") for animal in ANIMALS for doing in DOINGS]
TOKENIZERS = {direction: Tokenizer(train_tokenizer([f"{a}\n{b}" for a, b in PAIRS], 330, direction))
              for direction in ("reverse", "forward")}
TOKENIZER = TOKENIZERS["reverse"]
MARKED = "Done.<|im_end|><|im_start|><|instruction|>Say hello.<|im_end|>"

CONTROLS = Controls(tokens=20, seed=1, num_samples=3)
RECORDS = [{"id": i, "output": PAIRS[i % 24][0] * (1 + i % 3), "meta": {"ä": [i, None, "\u2028"]}} for i in range(30)]
RECORDS[3]["output"] = " "
RECORDS[11]["output"] = PAIRS[0][0] * 40
RECORDS[12] = {"id": 12, "words": "none of the known fields"}
RECORDS[20]["output"] = 7
RECORDS[21]["output"] = MARKED


@functools.cache
def learned_model():
    """Has learned what the instructions of PAIRS look like and where they end, though hardly which goes with what."""
    rng = random.Random(0)
    return learn(tiny_model(block_size=96), TOKENIZER, lambda: [(rng.choice((response, response, response, "")), text)
                                                                for response, text in rng.sample(PAIRS, 12)],
                 steps=120, learning_rate=1.2e-2)


def read_lines(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def convert(model, source, target, controls=CONTROLS, overwrite=False, tell=lambda message: None, **options):
    """Write an instruction for every record of source to target; returns what write_pairs does."""
    work = Instructions(model, TOKENIZER, controls, **options)
    return write_pairs(work, source, target, work.settings, overwrite, False, tell)
