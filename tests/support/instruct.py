"""A tiny base model and the shards of RECORDS as instruction examples, for the tests of what is made of them."""

from collections import Counter
from functools import cache
from unittest.mock import patch

import checkpoint
import preprocess_instruct
from backchat.examples import Examples
from shards import read_split
from tests.support.runs import call
from tests.support.tiny import RECORDS, TEXTS, tiny_model, write_lines
from tokenizer import Tokenizer, train_tokenizer

BLOCK = 96


@cache
def instruct_tokenizer():
    return Tokenizer(train_tokenizer(TEXTS + [record["instruction"] for record in RECORDS], 400))


def save_base(path, tokenizer, seed=0, **shape):
    """Write a base model that has learned nothing; returns its path."""
    model = tiny_model(seed=seed, vocab_size=tokenizer.vocab_size, **{"block_size": BLOCK, **shape})
    checkpoint.save(path, model, tokenizer, {}, {})
    return path


def preprocess(dataset, tokenizer, folder, *more):
    """Run preprocess_instruct.py."""
    call(preprocess_instruct, "--dataset", dataset, "--tokenizer", tokenizer, "--data-dir", folder,
         "--val-fraction", "0.2", *more)


def make_examples(folder, base):
    """The data folder of RECORDS, which lie in records.jsonl beside it."""
    preprocess(write_lines(folder / "records.jsonl", RECORDS), base, folder / "data")
    return folder / "data"


def examples_of(folder, split, **options):
    return Examples(read_split(folder, split), BLOCK, **options)


def kept(found, tokenizer, counts=None, **options):
    """What preprocess_instruct.py makes of a list of records."""
    settings = preprocess_instruct.PreprocessSettings(**{"block_size": BLOCK, **options})
    with patch.object(preprocess_instruct, "read_records", lambda *_: (("here", record) for record in found)):
        return list(preprocess_instruct.examples(settings, tokenizer, Counter() if counts is None else counts))
