"""
Opening a model that was trained: the one way from a path to something that writes.
"""

from dataclasses import dataclass

import torch

from checkpoint.file import load
from model import GPT, GPTConfig
from program.device import autocast, pick_device, pick_dtype
from tokenizer import Tokenizer


@dataclass(frozen=True)
class OpenModel:
    """A model in eval mode with its tokenizer, and where and in which numbers it computes."""

    path: str
    kind: str  # "base" or "instruct"
    model: GPT
    tokenizer: Tokenizer
    device: torch.device
    dtype: torch.dtype

    def autocast(self):
        """The context in which the model computes in dtype."""
        return autocast(self.device, self.dtype)

    def __str__(self):
        numbers = str(self.dtype).removeprefix("torch.")
        return f"{self.path}: {self.model.num_params():,} weights, on {self.device} in {numbers}"


def open_model(path, kind=None, device="auto", dtype="auto", **changes):
    """An OpenModel from a checkpoint; kind, if given, is the kind it must be, changes are to fields of its GPTConfig.

    Raises FileNotFoundError or ValueError, naming the file and what is wrong with it.
    """
    device = pick_device(device)
    dtype = pick_dtype(dtype, device)
    content = load(path, kind)
    try:
        tokenizer, config = Tokenizer(content["tokenizer"]), GPTConfig(**{**content["config"], **changes})
        with torch.device("meta"):  # no time spent on first weights, nor memory on a second copy
            model = GPT(config)
        model.load_state_dict(content["model"], assign=True)
    except (RuntimeError, TypeError) as error:  # RuntimeError comes from SentencePiece and from load_state_dict
        raise ValueError(f"{path}: the parts of this checkpoint do not fit together: {error}") from error
    if tokenizer.vocab_size != config.vocab_size or tokenizer.direction != content["direction"]:
        raise ValueError(f"{path}: this checkpoint's tokenizer ({tokenizer.vocab_size:,} pieces, {tokenizer.direction})"
                         f" is not its model's ({config.vocab_size:,} pieces, {content['direction']})")
    return OpenModel(str(path), content["kind"], model.eval().to(device), tokenizer, device, dtype)


def open_tokenizer(path):
    """The tokenizer that a checkpoint holds, and the block size of its model."""
    content = load(path)
    return Tokenizer(content["tokenizer"]), content["config"]["block_size"]
