"""Pairs of which no two share an instruction, a tokenizer for them, and probabilities as a slow loop finds them."""

import torch

from tests.support.tiny import tiny_model
from tokenizer import Tokenizer, train_tokenizer

ANIMALS = ("cat", "dog", "hen", "goat", "mouse", "owl", "horse", "wren")
DOINGS = ("sleeping", "eating", "singing", "hiding", "running", "waiting")
PAIRS = [(f"The {animal} is {doing}.", f"What is the {doing[:-3]} {animal} doing?")
         for animal in ANIMALS for doing in DOINGS]
TOKENIZER = Tokenizer(train_tokenizer([f"{response}\n{text}" for response, text in PAIRS], 330))


def tiny(loud=8):
    return tiny_model(loud, vocab_size=TOKENIZER.vocab_size)


def blind():
    """A model that sees only the last token, so that no response can matter."""
    model = tiny()
    with torch.no_grad():
        for block in model.blocks:
            block.attention.proj.weight.zero_()
    return model


def slowly(model, prompt, continuation):
    """The sum of log-probabilities, one position at a time, from all logits of the pair alone."""
    with torch.no_grad():
        p = model(torch.tensor([(prompt + continuation)[:-1]]))[0][0].log_softmax(dim=-1)
    return sum(p[len(prompt) + i - 1, token].item() for i, token in enumerate(continuation))
