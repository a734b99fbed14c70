"""
Whether the parts of a checkpoint are what they should be, and fit together: asked before anything is built from them.

A file may come from a stranger, or from a disk that forgets: no number in it is believed before it has been compared
with the tensors that are there.
"""

import hashlib
import math
from dataclasses import fields

import torch
from torch.overrides import TorchFunctionMode

from model import GPT, GPTConfig


def check_values(path, what, values):
    """Raise ValueError unless values, a dict, holds short plain values under names."""
    for name, value in values.items():
        plain = value is None or type(value) in (bool, float) or (
            type(value) is int and abs(value) < 2**63) or (type(value) is str and len(value) < 10_000)
        if type(name) is not str or not plain:
            what_for = f"{name} in its {what}" if type(name) is str else f"a name in its {what}"
            raise ValueError(f"{path} was not written by this project: {what_for} is not a plain value")


def named_tensors(path, content):
    """Yield (name, tensor) for the weights, and for the optimiser's state if there is one.

    Raises ValueError where they are not dicts of names; what stands under the names is not looked at.
    """
    state = content.get("optimizer", {}).get("state", {})
    if not isinstance(state, dict) or not all(type(number) is int and 0 <= number < 2**31 for number in state):
        raise ValueError(f"{path} is incomplete: the optimiser's state has no numbered weights")
    for number, entry in [(None, content["model"]), *state.items()]:
        if not isinstance(entry, dict) or not all(type(name) is str for name in entry):
            raise ValueError(f"{path} is incomplete: the "
                             f"{'model' if number is None else 'optimizer'} is not a dict of tensors with names")
        for name, tensor in entry.items():
            yield name if number is None else f"the optimiser's {name} of weight {number}", tensor


def check_tensors(path, content, size):
    """Raise ValueError unless the tensors are dense float32, finite, and no more than a file of size bytes can hold."""
    total = 0
    for name, tensor in named_tensors(path, content):
        if type(tensor) is not torch.Tensor or tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise ValueError(f"{path}: {name} is not a dense tensor")
        if tensor.dtype != torch.float32:
            raise ValueError(f"{path}: {name} has the type {tensor.dtype}, float32 is needed")
        total += tensor.nbytes
        if not tensor.is_contiguous() or total > size:
            raise ValueError(f"{path}: {name} has the shape {tuple(tensor.shape)}, for which there are not so many "
                             "numbers in the file")
        if tensor.numel() and not all(map(math.isfinite, torch.aminmax(tensor.detach()))):
            raise ValueError(f"{path}: {name} holds NaN or infinity. Take an earlier checkpoint, or train anew.")


def digest(path, content):
    """The SHA-256 of names, shapes and numbers of all tensors."""
    found = hashlib.sha256()
    for name, tensor in named_tensors(path, content):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        found.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def config_of(path, content, **changes):
    """The GPTConfig of a checkpoint, with changes; a field that it does not have yet takes its default."""
    known = {field.name for field in fields(GPTConfig)}
    unknown = [name for name in content["config"] if name not in known]
    if unknown:
        raise ValueError(f"{path} is from a newer version of this project: {', '.join(unknown)} in its model's shape "
                         "means nothing to this one. Update the project (git pull).")
    try:
        return GPTConfig(**{**content["config"], **changes})
    except ValueError as error:
        raise ValueError(f"{path}: there is no model of the shape it names. {error}") from error


def unbuilt(path, config, weights):
    """A GPT on the meta device, whose weights have the names and shapes of these; else raises ValueError.

    On that device no time is spent on first weights, nor memory on a second copy.
    """
    numbers = sum(tensor.numel() for tensor in weights.values())
    at_least = (config.vocab_size + 3 * config.n_layer * config.hidden_dim) * config.n_embd  # a block has more yet
    if at_least > numbers:
        raise ValueError(f"{path}: the parts of this checkpoint do not fit together: n_layer {config.n_layer:,}, "
                         f"n_embd {config.n_embd:,} and vocab_size {config.vocab_size:,} are more than its "
                         f"{len(weights):,} tensors make")
    with torch.device("meta"), _WithoutFirstWeights():
        model = GPT(config)
    check_weights(path, weights, model)
    return model


class _WithoutFirstWeights(TorchFunctionMode):
    """Tensors without memory have no values; still, to draw these PyTorch would load its compiler, for a second."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def check_weights(path, weights, model):
    """Raise ValueError unless weights have the names and shapes of the model's."""
    needed, found = ({name: tuple(tensor.shape) for name, tensor in tensors.items()}
                     for tensors in (model.state_dict(), weights))
    wrong = [f"{name} is {found.get(name, 'missing')}, needed is {needed.get(name, 'nothing')}"
             for name in {**needed, **found} if found.get(name) != needed.get(name)]
    if wrong:
        raise ValueError(f"{path}: the parts of this checkpoint do not fit together: {'; '.join(wrong[:3])}"
                         + (f"; {len(wrong) - 3:,} more" if len(wrong) > 3 else ""))
