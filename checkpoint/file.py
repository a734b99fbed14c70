"""
What a checkpoint holds, how it is written, and how it is checked on loading.

best_checkpoint.pt   weights, model shape, tokenizer, direction, settings, counters: all that sampling needs
last_checkpoint.pt   the same and the optimiser's state: all that resuming needs

Plain values and tensors only, loaded with weights_only=True: a file from a stranger runs no code. No path goes in, and
no clock but that of --max-minutes, so equal runs write equal bytes.
"""

import contextlib
import pickle
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from program import commands
from program.files import atomic_write
from tokenizer import DIRECTIONS

FORMAT = "backward-gpt-1"
FIELDS = {"format": str, "kind": str, "config": dict, "direction": str, "tokenizer": bytes, "settings": dict,
          "counters": dict, "model": dict}


def _plain(value):
    """A copy in which equal strings are one object, so that pickling depends on values alone.

    Pickle writes the second use of the same object as a reference, and whether two equal strings are one object differs
    between a fresh run and a resumed one.
    """
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_plain(item) for item in value])
    return sys.intern(value) if isinstance(value, str) else value


def save(path, model, tokenizer, settings, counters, optimizer=None, kind="base"):
    """Write a checkpoint atomically; settings and counters are dicts of plain values, optimizer only for resuming.

    Raises OSError naming the file where it cannot be written; the old one is then whole.
    """
    content = {
        "format": FORMAT, "kind": kind, "config": asdict(model.config), "direction": tokenizer.direction,
        "tokenizer": tokenizer.model, "settings": settings, "counters": counters,
        "model": {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()},
    }
    if optimizer is not None:
        content["optimizer"] = optimizer.state_dict()
    with atomic_write(path) as file:
        try:
            torch.save(_plain(content), file)
        except RuntimeError as error:  # how torch reports that the file system refused
            raise OSError(str(error).splitlines()[0]) from error


def _others(kind):
    """Paths of the checkpoints in out/ that would do instead."""
    for path in sorted(Path("out").glob("*/best_checkpoint.pt")):
        with contextlib.suppress(ValueError):  # damaged, or of the other kind: then it would not do
            load(path, kind)
            yield str(path)


def load(path, kind=None):
    """Read a checkpoint into the CPU's memory: a dict with the FIELDS, and "optimizer" in last_checkpoint.pt.

    kind, if given, is the kind it must be. Raises FileNotFoundError or ValueError, each with what to run next.
    """
    path = Path(path)
    if not path.is_file():
        found = list(_others(kind))
        raise FileNotFoundError(f"No checkpoint at {path}. Train first:\n    {commands.train(kind or 'base')}\n"
                                + (f"or pass --model-path; there are: {', '.join(found)}" if found else ""))
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path} holds more than tensors and plain values, so it was not loaded (loading it could run "
                         "a stranger's code). Take a checkpoint that this project wrote.") from error
    except Exception as error:  # by where the damage lies RuntimeError, EOFError, OSError, KeyError …
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} is damaged or cut short ({path.stat().st_size:,} bytes): {why}. "
                         "Copy it again, or delete it and train on.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is not a checkpoint of this project. Train one:\n"
                         f"    {commands.train(kind or 'base')}")
    wrong = [name for name, kind_of in FIELDS.items() if not isinstance(content.get(name), kind_of)]
    if wrong or content["direction"] not in DIRECTIONS or content["kind"] not in commands.KINDS:
        raise ValueError(f"{path} is incomplete: {', '.join(wrong) or 'direction or kind'} missing or of a wrong type")
    if kind and content["kind"] != kind:
        make = commands.train(kind, model_path=path if kind == "instruct" else None)
        raise ValueError(f"{path} holds a model of the kind {content['kind']!r}, and {kind!r} is needed here. Make "
                         f"one:\n    {make}")
    return content
