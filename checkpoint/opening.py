"""
Opening a model that was trained: the one way from a path to something that writes.
"""

import copy
from dataclasses import dataclass, replace

import torch
import torch.nn as nn
import torch.nn.functional as F
from google.protobuf.message import DecodeError

from checkpoint.checking import config_of, unbuilt
from checkpoint.file import load
from model import GPT
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

    def for_sampling(self):
        """The same, for writing alone: on a CPU in bfloat16 its matrices are converted here, once, where autocast would
        convert all of them for every token. What is computed within autocast() is the same to the bit.

        The weights of self stay float32, for training and for exact scores. What is not converted is shared.
        """
        if self.device.type != "cpu" or self.dtype == torch.float32:
            return self
        shared = {id(tensor): tensor for tensor in (*self.model.parameters(), *self.model.buffers())}
        model = copy.deepcopy(self.model, shared)
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.weight = nn.Parameter(module.weight.detach().to(self.dtype), requires_grad=False)
        if model.config.tied:  # otherwise the embedding is only read
            model.wte = _ExactEmbedding(model.wte.weight.detach(), self.dtype)
        return replace(self, model=model)

    def __str__(self):
        numbers = str(self.dtype).removeprefix("torch.")
        return f"{self.path}: {self.model.num_params():,} weights, on {self.device} in {numbers}"


class _ExactEmbedding(nn.Module):
    """An embedding that is read as it was, and is converted for the output layer, which shares its weight."""

    def __init__(self, exact, dtype):
        super().__init__()
        self.exact, self.weight = exact, nn.Parameter(exact.to(dtype), requires_grad=False)

    def forward(self, idx):
        return F.embedding(idx, self.exact)


def open_model(path, kind=None, device="auto", dtype="auto", **changes):
    """An OpenModel from a checkpoint; kind, if given, is the kind it must be, changes are to fields of its GPTConfig.

    Its weights are float32, whatever it computes in. Raises what load() raises, and ValueError where the parts do not
    fit together, naming the file and what is wrong with it.
    """
    device = pick_device(device)
    dtype = pick_dtype(dtype, device)
    content = load(path, kind)
    tokenizer, config = _tokenizer(path, content), config_of(path, content, **changes)
    if tokenizer.vocab_size != config.vocab_size or tokenizer.direction != content["direction"]:
        raise ValueError(f"{path}: this checkpoint's tokenizer ({tokenizer.vocab_size:,} pieces, {tokenizer.direction})"
                         f" is not its model's ({config.vocab_size:,} pieces, {content['direction']})")
    model = unbuilt(path, config, content["model"])
    model.load_state_dict(content["model"], assign=True)
    return OpenModel(str(path), content["kind"], model.eval().to(device), tokenizer, device, dtype)


def open_tokenizer(path, flag="--tokenizer"):
    """The tokenizer of a base model, and its block size; for flag see load()."""
    content = load(path, "base", flag, tensors=False)
    return _tokenizer(path, content), config_of(path, content).block_size


def _tokenizer(path, content):
    """The Tokenizer of a checkpoint."""
    try:
        return Tokenizer(content["tokenizer"])
    except (RuntimeError, ValueError, DecodeError) as error:  # RuntimeError is how SentencePiece says "not a model"
        raise ValueError(f"{path}: the parts of this checkpoint do not fit together: its tokenizer is not one of this "
                         f"project ({str(error).splitlines()[0]})") from error
