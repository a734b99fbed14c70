"""
Which command makes what. Every hint at what to run next is put together here, so a script or a flag is renamed once.

    >>> train("base", "config/tales.toml", data_dir="data/mine")
    'python train_xcoax.py config/tales.toml --data-dir data/mine'
    >>> preprocess("instruct", dataset="pairs/*.jsonl", overwrite=True)
    "python preprocess_instruct.py --dataset 'pairs/*.jsonl' --overwrite"
"""

import shlex

# A model is of one of two kinds, and each kind has its own script for the same three steps.
SCRIPTS = {
    "base": {"preprocess": "preprocess_xcoax.py", "train": "train_xcoax.py", "sample": "sample_xcoax.py"},
    "instruct": {"preprocess": "preprocess_instruct.py", "train": "finetune_xcoax.py",
                 "sample": "sample_xcoax_instruct.py"},
}
KINDS = tuple(SCRIPTS)


def preprocess(kind="base", *arguments, **flags):
    """The command that makes the shards from which a model of this kind is trained."""
    return _command(SCRIPTS[kind]["preprocess"], arguments, flags)


def train(kind="base", *arguments, **flags):
    """The command that makes checkpoints of this kind."""
    return _command(SCRIPTS[kind]["train"], arguments, flags)


def sample(kind="base", *arguments, **flags):
    """The command that writes with a checkpoint of this kind."""
    return _command(SCRIPTS[kind]["sample"], arguments, flags)


def _command(script, arguments, flags):
    """A line to paste: arguments as they are, then flags; one that is True has no value, one that is None is left
    out."""
    words = ["python", script, *map(str, arguments)]
    for name, value in flags.items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [shlex.quote(str(value))])]
    return " ".join(words)
