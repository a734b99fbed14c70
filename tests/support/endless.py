"""Untrained models that write learned pieces only and never stop, if top_k is 20."""

import torch

import checkpoint
from tests.support.tiny import tiny_model
from tokenizer import FIRST_BYTE_ID, Tokenizer, train_tokenizer

TEXTS = ["The miller's daughter kept three geese and a grey cat behind the mill.",
         "Every morning she carried two pails of water up the hill, and the cat followed her.",
         "One day a stranger asked for bread; she gave him half a loaf and told him the way to the town.",
         "In the evening the wheel stood still, the geese slept, and the moon came over the water."]
TOKENIZERS = {direction: Tokenizer(train_tokenizer(TEXTS, 330, direction)) for direction in ("reverse", "forward")}


def endless_model(tokenizer):
    model = tiny_model(vocab_size=tokenizer.vocab_size)
    with torch.no_grad():
        model.norm.weight.mul_(10)
        model.wte.weight[: FIRST_BYTE_ID + 256] = 0  # never among the 20 likeliest
    return model


def save_endless(folder):
    """Write two such models to folder; returns their paths by direction."""
    paths = {}
    for direction, tokenizer in TOKENIZERS.items():
        paths[direction] = folder / f"{direction}.pt"
        checkpoint.save(paths[direction], endless_model(tokenizer), tokenizer, {}, {})
    return paths
