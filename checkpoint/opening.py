"""
Opening a model that was trained: the one way from a path to something that writes.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from google.protobuf.message import DecodeError

from checkpoint.checking import config_of, unbuilt
from checkpoint.exporting import WEIGHTS
from checkpoint.file import load
from model import GPT
from program.device import pick_device, pick_dtype
from tokenizer import Tokenizer


@dataclass(frozen=True)
class OpenModel:
    """A model in eval mode with its tokenizer, and where and in which numbers it is to compute; its weights are
    float32."""

    path: str
    kind: str  # "base" or "instruct"
    model: GPT
    tokenizer: Tokenizer
    device: torch.device
    dtype: torch.dtype
    settings: dict  # of the run that made it
    counters: dict  # where that run was

    def __str__(self):
        return self.described(str(self.dtype).removeprefix("torch."))

    def described(self, numbers):
        """What it is, in a line; numbers names those in which it computes."""
        return f"{self.path}: {self.model.num_params():,} weights, on {self.device} in {numbers}"


def open_model(path, kind=None, device="auto", dtype="auto", **changes):
    """An OpenModel from a checkpoint (see load); kind, if given, is the kind it must be, changes are to fields of its
    GPTConfig.

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
    return OpenModel(str(path), content["kind"], model.eval().to(device), tokenizer, device, dtype,
                     content["settings"], content["counters"])


def open_tokenizer(path, flag="--tokenizer"):
    """The tokenizer of a base model, and its block size; for flag see load()."""
    content = load(path, "base", flag, tensors=False)
    return _tokenizer(path, content), config_of(path, content).block_size


def identity(path):
    """What tells this model from others in a record: {"model": path, "model_sha256": digest of its weights' file}."""
    with open(Path(path) / WEIGHTS if Path(path).is_dir() else path, "rb") as file:
        return {"model": str(path), "model_sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _tokenizer(path, content):
    """The Tokenizer of a checkpoint."""
    try:
        return Tokenizer(content["tokenizer"])
    except (RuntimeError, ValueError, DecodeError) as error:  # RuntimeError is how SentencePiece says "not a model"
        raise ValueError(f"{path}: the parts of this checkpoint do not fit together: its tokenizer is not one of this "
                         f"project ({str(error).splitlines()[0]})") from error
