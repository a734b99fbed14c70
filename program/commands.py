"""
Which command makes what. Every hint at what to run next is put together here, so a script or a flag is renamed once.

    >>> train("base", "config/tales.toml", data_dir="data/mine")
    'python train_xcoax.py config/tales.toml --data-dir data/mine'
    >>> preprocess("instruct", dataset="pairs/*.jsonl", overwrite=True)
    "python preprocess_instruct.py --dataset 'pairs/*.jsonl' --overwrite"
    >>> train_on("data/mine", "mine/*.txt", tokens=1_000_000, longest=10_000)
    'python train_xcoax.py config/small.toml --data-dir data/mine --out-dir out/mine'
    >>> tune_on(10_000_000, 1024, data_dir="data/pairs")
    'python finetune_xcoax.py --data-dir data/pairs --batch-size 16 --gradient-accumulation-steps 1 --max-iters 2441 \
--warmup-iters 100'
"""

import shlex
import tomllib
from pathlib import Path

CONFIG = Path(__file__).parent.parent / "config"

# A model is of one of two kinds, and each kind has its own script for the same three steps.
SCRIPTS = {
    "base": {"preprocess": "preprocess_xcoax.py", "train": "train_xcoax.py", "sample": "sample_xcoax.py"},
    "instruct": {"preprocess": "preprocess_instruct.py", "train": "finetune_xcoax.py",
                 "sample": "sample_xcoax_instruct.py"},
}
KINDS = tuple(SCRIPTS)

OWN = object()  # as a dataset: files of one's own, of a kind that the script reads
_OWN = {"base": "texts/*.txt", "instruct": "pairs/*.jsonl"}

# Pre-training: the files of config/ that may suit a corpus, the largest model first.
NAMED = ("tinystories", "tales")  # corpora after which folders are named
_CONFIGS = {"tales": ("tales.toml",), "tinystories": ("tinystories.toml", "small.toml")}
_CONFIGS_OF_ANY = ("xcoax.toml", "small.toml")
_READ_BY_DEFAULT = ("xcoax.toml", "instruct.toml")
_PASSES = 16  # over a corpus: each further one teaches little (arXiv:2305.16264)
_FEW_PASSES, _SMALL_BATCH = 4, 16  # over few examples, which are soon known by heart


def preprocess(kind="base", *arguments, **flags):
    """The command that makes the shards from which a model of this kind is trained."""
    if flags.get("dataset") is OWN:
        flags["dataset"] = _OWN[kind]
    return _command(SCRIPTS[kind]["preprocess"], arguments, flags)


def train(kind="base", *arguments, **flags):
    """The command that makes checkpoints of this kind."""
    return _command(SCRIPTS[kind]["train"], arguments, flags)


def train_to(path, kind="base"):
    """The command that makes the checkpoint at path: with the settings of config/ that write there, if any do."""
    for file in sorted(CONFIG.glob("*.toml")):
        config = tomllib.loads(file.read_text(encoding="utf-8"))
        if Path(config["out_dir"]) == Path(path).parent and ("model_path" in config) == (kind == "instruct"):
            return train(kind, *([] if file.name in _READ_BY_DEFAULT else [f"config/{file.name}"]))
    return train(kind)


def train_on(data_dir, dataset, tokens, longest):
    """The command that trains a model on a corpus of so many tokens: the largest whose settings read it _PASSES times
    at most, else the smallest. None where even that finds no window in it.

    longest is the length of the longest shard, in the split where that is shorter: a window lies within one.
    """
    candidates, data_dir = _CONFIGS.get(dataset, _CONFIGS_OF_ANY), Path(data_dir)
    for name in candidates:
        config = tomllib.loads((CONFIG / name).read_text(encoding="utf-8"))
        updates = config["max_iters"] * config["gradient_accumulation_steps"]
        enough = _PASSES * tokens >= updates * config["batch_size"] * config["block_size"]
        if longest > config["block_size"] and (enough or name == candidates[-1]):
            folders = {"data_dir": data_dir, "out_dir": Path("out") / data_dir.resolve().name}
            if folders == {folder: Path(config[folder]) for folder in folders}:
                folders = {}
            return train("base", *([] if name in _READ_BY_DEFAULT else [f"config/{name}"]), **folders)
    return None


def tune_on(tokens, block_size, *arguments, **flags):
    """The command that fine-tunes a model of this block size on examples of so many tokens: with the settings that the
    arguments name, else with those of config/instruct.toml or, where blocks are shorter than the full model's, of
    config/instruct_small.toml; in fewer and smaller updates where these would read the examples more than _PASSES
    times.
    """
    if arguments:
        return train("instruct", *arguments, **flags)
    full, small, large = (tomllib.loads((CONFIG / name).read_text(encoding="utf-8"))
                          for name in ("xcoax.toml", "instruct_small.toml", "instruct.toml"))
    config = large
    if block_size < full["block_size"]:
        config, arguments = small, ["config/instruct_small.toml"]
    updates = config["max_iters"] * config["gradient_accumulation_steps"]
    if _PASSES * tokens < updates * config["batch_size"] * block_size:
        batch_size = min(_SMALL_BATCH, config["batch_size"])
        wanted = max(50, _FEW_PASSES * tokens // (batch_size * block_size))
        fewer = {"batch_size": batch_size, "gradient_accumulation_steps": 1, "max_iters": wanted,
                 "warmup_iters": min(config["warmup_iters"], wanted // 10)}
        flags |= {name: value for name, value in fewer.items() if value != config[name]}
    return train("instruct", *arguments, **flags)


def smallest_window():
    """Tokens that the smallest model of config/ reads at once, with the one that it predicts last."""
    return 1 + min(tomllib.loads((CONFIG / name).read_text(encoding="utf-8"))["block_size"] for name in _CONFIGS_OF_ANY)


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
