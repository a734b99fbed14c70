"""A small model and its checkpoint, for the tests of what a checkpoint keeps."""

import torch

import checkpoint
from model import GPT, GPTConfig
from tests.support.texts import TEXTS
from tokenizer import Tokenizer, train_tokenizer

TOKENIZER = Tokenizer(train_tokenizer(TEXTS.values(), 1000))
SETTINGS = {"learning_rate": 1e-3, "max_iters": 10, "data_dir": "data/xcoax", "seed": None, "compile": False}
COUNTERS = {"iter_num": 3, "samples": 48, "tokens": 384, "best_val_loss": 2.5}
IDX = torch.tensor([[1, 400, 500, 600, 700]])


def small_model(seed=0, **shape):
    torch.manual_seed(seed)
    model = GPT(GPTConfig(**{"block_size": 8, "vocab_size": 1000, "n_layer": 1, "n_head": 2, "n_embd": 8, **shape}))
    with torch.no_grad():
        for p in model.parameters():
            p.normal_()  # nothing at zero, so that every weight shows in the logits
    return model.eval()


def stepped(model):
    """An optimiser with state, after one step of model."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(IDX[:, :-1], IDX[:, 1:])[1].backward()
    optimizer.step()
    return optimizer


def save_small(path, **model):
    """Write the checkpoint of a small model; returns its path."""
    checkpoint.save(path, small_model(**model), TOKENIZER, SETTINGS, COUNTERS)
    return path


def rewrite(path, **changes):
    """Change fields of a checkpoint; None takes a field out. It is like an older one: no checksum of its tensors."""
    content = {**checkpoint.load(path), "sha256": None, **changes}
    torch.save({name: value for name, value in content.items() if value is not None}, path)
