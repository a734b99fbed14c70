"""
What a checkpoint holds, how it is written, and how it is checked on loading.

best_checkpoint.pt   weights, model shape, tokenizer, direction, settings, counters: all that sampling needs
last_checkpoint.pt   the same and the optimiser's state: all that resuming needs

Plain values and tensors only, loaded with weights_only=True: a file from a stranger runs no code. No path goes in, and
no clock but that of --max-minutes, so equal runs write equal bytes. A SHA-256 of all tensors goes in, too.
"""

import contextlib
import math
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from checkpoint import archive
from checkpoint.checking import check_tensors, check_values, digest
from checkpoint.exporting import CONFIG
from program import commands
from program.files import atomic_write
from tokenizer import DIRECTIONS

FORMAT = "backward-gpt-1"
BEST = "best_checkpoint.pt"  # of a run's folder
FIELDS = {"format": str, "kind": str, "config": dict, "direction": str, "tokenizer": bytes, "settings": dict,
          "counters": dict, "model": dict}
OPTIONAL = {"optimizer": dict, "sha256": str}  # the one in last_checkpoint.pt only, the other not in older files


def _plain(value):
    """A copy on the CPU in which equal strings are one object, so that pickling depends on values alone.

    Pickle writes the second use of the same object as a reference, and whether two equal strings are one object differs
    between a fresh run and a resumed one.
    """
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_plain(item) for item in value])
    if isinstance(value, torch.Tensor):
        return value.cpu()
    return sys.intern(value) if isinstance(value, str) else value


def content_of(model, tokenizer, settings, counters, optimizer=None, kind="base"):
    """What a checkpoint holds of these; its tensors are those of model and optimiser themselves."""
    content = {
        "format": FORMAT, "kind": kind, "config": asdict(model.config), "direction": tokenizer.direction,
        "tokenizer": tokenizer.model, "settings": settings, "counters": counters,
        "model": {name: tensor.detach() for name, tensor in model.state_dict().items()},
    }
    if optimizer is not None:
        content["optimizer"] = optimizer.state_dict()
    return content


def write(path, content):
    """Write what content_of() has made, with its digest, atomically. Raises what save() raises."""
    content = _plain(content)
    content["sha256"] = digest(path, content)
    with atomic_write(path) as file:
        kept = _FirstError(file)
        try:
            torch.save(content, kept)
        except RuntimeError as error:  # how torch reports that it could not write
            raise kept.error or error from None


def save(path, model, tokenizer, settings, counters, optimizer=None, kind="base"):
    """Write a checkpoint atomically; settings and counters are dicts of plain values, optimizer only for resuming.

    Raises OSError naming the file where it cannot be written; the old one is then whole.
    """
    write(path, content_of(model, tokenizer, settings, counters, optimizer, kind))


class _FirstError:
    """A file that remembers why it could not be written: torch tells only where in its own source it noticed."""

    def __init__(self, file):
        self.file, self.flush, self.error = file, file.flush, None

    def write(self, data):
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise


def _others(kind):
    """Paths of the checkpoints in out/ that would do instead."""
    for path in sorted(Path("out").glob(f"*/{BEST}")):
        with contextlib.suppress(ValueError, OSError, MemoryError):  # damaged, or of the other kind: it would not do
            if path.is_file():
                _read(path, kind, tensors=False)
                yield str(path)


def load(path, kind=None, flag="--model-path", tensors=True):
    """Read a checkpoint into the CPU's memory: a dict with the FIELDS, and "optimizer" in last_checkpoint.pt. A folder
    that export_xcoax.py has written for transformers is one, too.

    kind, if given, is the kind it must be; flag is the one with which another file is named. Every byte is compared
    with its checksums; if tensors is False, theirs are not. Raises FileNotFoundError or ValueError,
    each with what to run next, and what archive.read raises.
    """
    path = Path(path)
    if (path / BEST).is_file():
        raise FileNotFoundError(f"{path} is a folder. Name the checkpoint in it: {flag} {path / BEST}")
    if not path.is_file() and not (path / CONFIG).is_file():
        if (path / "tokenizer.bin").is_file() or any(path.glob("*.gguf")):
            raise FileNotFoundError(f"{path} was exported for another program. Of exported folders only those of "
                                    "--format hf can be opened.")
        found = list(_others(kind))
        make = commands.train_to(path, kind or "base")
        raise FileNotFoundError(f"No checkpoint at {path}. Train first:\n    {make}\n"
                                + (f"or pass {flag}; there are: {', '.join(found)}" if found else ""))
    return _read(path, kind, tensors)


def _read(path, kind, tensors):
    """What load() returns, of a file or folder that is there."""
    if path.is_dir():
        from checkpoint import huggingface  # its libraries take a while to load, and are seldom needed
        content = {"format": FORMAT, **huggingface.load(path)}
    else:
        content = archive.read(path, tensors)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is not a checkpoint of this project. Train one:\n"
                         f"    {commands.train(kind or 'base')}")
    wrong = [name for name, kind_of in FIELDS.items() if not isinstance(content.get(name), kind_of)]
    wrong += [name for name, kind_of in OPTIONAL.items() if not isinstance(content.get(name, kind_of()), kind_of)]
    if wrong or content["direction"] not in DIRECTIONS or content["kind"] not in commands.KINDS:
        raise ValueError(f"{path} is incomplete: {', '.join(wrong) or 'direction or kind'} missing or of a wrong type")
    if kind and content["kind"] != kind:
        make = commands.train(kind, model_path=path if kind == "instruct" else None)
        raise ValueError(f"{path} holds a model of the kind {content['kind']!r}, and {kind!r} is needed here. Make "
                         f"one:\n    {make}")
    for name in ("config", "settings", "counters"):
        check_values(path, name, content[name])
    if tensors:
        check_tensors(path, content, path.stat().st_size if path.is_file() else math.inf)
        if content.get("sha256") not in (None, digest(path, content)):
            raise ValueError(f"{path} is damaged: its tensors are not those that were written. Copy it again, or "
                             "make it anew (in training: --overwrite).")
    return content
