"""Models of every kind, opened, and written in the forms of other programs."""

import functools

import torch

from backchat.template import END, HEAD, MIDDLE, STOP_IDS
from checkpoint import OpenModel
from checkpoint.exporting import Use
from tests.support.checkpoints import COUNTERS, SETTINGS, TOKENIZER
from tests.support.texts import TEXTS
from tests.support.tiny import tiny_model
from tokenizer import BOS_ID, EOS_ID, Tokenizer, train_tokenizer

BASE = Use((BOS_ID,), (), EOS_ID, (EOS_ID, BOS_ID), 0.8, 200, 500)
INSTRUCT = Use(HEAD, MIDDLE, END[0], tuple(STOP_IDS), 0.8, 200, 500)


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
    return found, INSTRUCT if kind == "instruct" else BASE


IDX = [1, *range(300, 900, 25), 3, 4, 12, 2]


@torch.no_grad()
def logits(model, ids=IDX):
    """(T, vocab_size)"""
    return model(torch.tensor([ids]))[0][0]
