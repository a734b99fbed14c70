"""
Several checkpoints side by side: what differs between them, and so what may be compared.
"""

import platform
from pathlib import Path

import torch

from checkpoint.file import BEST
from shards import read_manifest

SHAPE = ("n_layer", "n_head", "n_embd", "block_size")


def about(opened):
    """What a checkpoint is, as plain values."""
    config = opened.model.config
    return {"path": opened.path, "kind": opened.kind, "direction": opened.tokenizer.direction,
            "parameters": opened.model.num_params(), **{name: getattr(config, name) for name in SHAPE},
            "vocab_size": config.vocab_size, "tokenizer": opened.tokenizer.sha256.hex()[:16],
            "data": opened.settings.get("data"), "seed": opened.settings.get("seed"),
            "updates": opened.counters.get("iter_num"), "trained_tokens": opened.counters.get("tokens")}


def names_of(models):
    """What models are called, as short as tells them apart: by the folders of their runs, or their files."""
    paths = [Path(model["path"]) for model in models]
    paths = [path.parent if path.name == BEST and path.parent.name else path.with_suffix("") for path in paths]
    for parts in (1, 2, 3):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return list(map(str, paths))


def differences(models):
    """What differs between models, as about() gives them, in sentences; and what is not compared for that reason."""
    what = {"direction": "directions", "tokenizer": "tokenizers", "data": "shards", "block_size": "block sizes",
            "parameters": "numbers of weights", "trained_tokens": "numbers of tokens trained on"}
    found = []
    for field, words in what.items():
        groups = {}
        for model, name in zip(models, names_of(models)):
            groups.setdefault(model[field], []).append(name)
        if len(groups) > 1:
            found.append(f"Different {words}: " + "; ".join(f"{', '.join(names)} ({_in_words(value)})"
                                                            for value, names in groups.items()) + ".")
    if len({model["tokenizer"] for model in models}) > 1 or len({model["data"] for model in models}) > 1:
        found.append("They are compared in bits per byte only: nats per token are those of different tokens, or of "
                     "what one has been trained on and another has not.")
    return found


def _in_words(value):
    return f"{value:,}" if isinstance(value, int) else str(value)


def same_split(data_dir, other):
    """Whether two folders were made of the same documents, divided alike: then a model trained on one has not seen what
    the other holds out, whatever its direction and tokenizer."""
    one, two = ({name: manifest.get(name) for name in ("source", "val_fraction")} | {
        "documents": [chunk["val"]["documents"] for chunk in manifest["chunks"]]}
        for manifest in map(read_manifest, (data_dir, other)))
    return one == two


def machine(device, dtype):
    """Where the figures were computed."""
    return {"processor": _processor(), "device": torch.cuda.get_device_name(device) if device.type == "cuda" else
            device.type, "threads": torch.get_num_threads(), "numbers": str(dtype).removeprefix("torch."),
            "python": platform.python_version(), "torch": torch.__version__}


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
