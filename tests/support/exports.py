"""Models of every kind, opened, and written in the forms of other programs."""

import functools

import torch

from backchat.use import use_of
from checkpoint import OpenModel
from tests.support.checkpoints import COUNTERS, SETTINGS, TOKENIZER
from tests.support.texts import TEXTS
from tests.support.tiny import tiny_model
from tokenizer import Tokenizer, train_tokenizer


@functools.cache
def forward_tokenizer():
    return Tokenizer(train_tokenizer(TEXTS.values(), 1000, "forward"))


@functools.cache
def opened(kind="base", tied=True, tokenizer=TOKENIZER, **shape):
    """An OpenModel whose logits depend on every weight, and how it is used."""
    model = tiny_model(loud=3, tied=tied, **{"vocab_size": 1000, "block_size": 256, "n_embd": 64, **shape})
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name:
                p.uniform_(0.5, 1.5)
    found = OpenModel("tiny.pt", kind, model, tokenizer, torch.device("cpu"), torch.float32, SETTINGS, COUNTERS)
    return found, use_of(found)


IDX = [1, *range(300, 900, 25), 3, 4, 12, 2]


@torch.no_grad()
def logits(model, ids=IDX):
    """(T, vocab_size)"""
    return model(torch.tensor([ids]))[0][0]


INSTRUCT = opened("instruct")[1]
