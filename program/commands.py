"""
Which command makes what. Every hint at what to run next is put together here, so a script or a flag is renamed once.

    >>> train("base", "config/tales.toml", data_dir="data/mine")
    'python train_xcoax.py config/tales.toml --data-dir data/mine'
    >>> preprocess("instruct", dataset="pairs/*.jsonl", overwrite=True)
    "python preprocess_instruct.py --dataset 'pairs/*.jsonl' --overwrite"
    >>> train_on("data/mine", "mine/*.txt", tokens=1_000_000, longest=10_000)
    'python train_xcoax.py config/small.toml --data-dir data/mine --out-dir out/mine'
    >>> tune_on("data/pairs", "out/small/best_checkpoint.pt", "mine/*.jsonl", tokens=2_000_000, block_size=256)
    'python finetune_xcoax.py config/instruct_small.toml --data-dir data/pairs'
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
SERVE = "serve_xcoax.py"

OWN = object()  # as a dataset: files of one's own, of a kind that the script reads
_OWN = {"base": "texts/*.txt", "instruct": "pairs/*.jsonl"}

# Pre-training: the files of config/ that may suit a corpus, the largest model first.
NAMED = ("tinystories", "tales")  # corpora after which folders are named
_CONFIGS = {"tales": ("tales.toml",), "tinystories": ("tinystories.toml", "small.toml")}
_CONFIGS_OF_ANY = ("xcoax.toml", "small.toml")
_TUNED_BY = {"tales": "instruct_tales.toml"}
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
        config = _settings(file.name)
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
        config = _settings(name)
        updates = config["max_iters"] * config["gradient_accumulation_steps"]
        enough = _PASSES * tokens >= updates * config["batch_size"] * config["block_size"]
        if longest > config["block_size"] and (enough or name == candidates[-1]):
            folders = {"data_dir": data_dir, "out_dir": Path("out") / data_dir.resolve().name}
            if folders == {folder: Path(config[folder]) for folder in folders}:
                folders = {}
            return train("base", *([] if name in _READ_BY_DEFAULT else [f"config/{name}"]), **folders)
    return None


def tune_on(data_dir, model_path, dataset, tokens, block_size):
    """The command that fine-tunes a model of this block size on examples of so many tokens: with the settings for the
    dataset, if there are any, else with config/instruct.toml or, where blocks are shorter than the full model's,
    config/instruct_small.toml; in fewer and smaller updates where these would read the examples more than _PASSES
    times.
    """
    short = block_size < _settings("xcoax.toml")["block_size"]
    name = _TUNED_BY.get(dataset, "instruct_small.toml" if short else "instruct.toml")
    config = _settings(name)
    flags, data_dir, model_path = {}, Path(data_dir), Path(model_path)
    if data_dir != Path(config["data_dir"]):
        flags["data_dir"] = data_dir
    if model_path != Path(config["model_path"]):
        flags |= {"model_path": model_path, "out_dir": f"{model_path.parent}_{data_dir.name}"}
    updates = config["max_iters"] * config["gradient_accumulation_steps"]
    if dataset not in _TUNED_BY and _PASSES * tokens < updates * config["batch_size"] * block_size:
        batch_size = min(_SMALL_BATCH, config["batch_size"])
        wanted = max(50, _FEW_PASSES * tokens // (batch_size * block_size))
        fewer = {"batch_size": batch_size, "gradient_accumulation_steps": 1, "max_iters": wanted,
                 "warmup_iters": min(config["warmup_iters"], wanted // 10)}
        flags |= {name: value for name, value in fewer.items() if value != config[name]}
    return train("instruct", *([] if name in _READ_BY_DEFAULT else [f"config/{name}"]), **flags)


def smallest_window():
    """Tokens that the smallest model of config/ reads at once, with the one that it predicts last."""
    return 1 + min(_settings(name)["block_size"] for name in _CONFIGS_OF_ANY)


def sample(kind="base", *arguments, **flags):
    """The command that writes with a checkpoint of this kind."""
    return _command(SCRIPTS[kind]["sample"], arguments, flags)


def serve(*arguments, **flags):
    """The command that serves the page."""
    return _command(SERVE, arguments, flags)


def _settings(name):
    """What a file of config/ sets."""
    return tomllib.loads((CONFIG / name).read_text(encoding="utf-8"))


def _command(script, arguments, flags):
    """A line to paste: arguments as they are, then flags; one that is True has no value, one that is None is left
    out."""
    words = ["python", script, *map(str, arguments)]
    for name, value in flags.items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [shlex.quote(str(value))])]
    return " ".join(words)
