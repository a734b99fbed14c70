"""
manifest.json, beside the shards: how they were made, and chunk by chunk what each split holds of documents, tokens, and
UTF-8 bytes of the original text (of instruction examples: of what is learned, the instruction). What it does not name
counts for nothing, so it is written last and deleted first.
"""

import hashlib
import json
import re
from pathlib import Path

from program import commands
from program.files import atomic_write
from shards.format import SPLITS
from tokenizer import DIRECTIONS, LARGEST_VOCAB

MANIFEST = "manifest.json"


def shard_name(split, number):
    """The file of a split in chunk `number`."""
    return f"{split}_{number:06d}.bin"


def tokenizer_name(vocab_size):
    """The file of a corpus's tokenizer."""
    return f"tok{vocab_size}.model"


def kind_of(manifest):
    """What the shards are for: "base" or "instruct", as in program/commands.py."""
    return manifest.get("kind", "base")


def kind_there(data_dir):
    """The kind of the shards of a folder, as far as its manifest tells, which may be damaged; else None."""
    try:
        return kind_of(json.loads((Path(data_dir) / MANIFEST).read_text(encoding="utf-8")))
    except (ValueError, RecursionError, AttributeError):  # the last: no object
        return None


def read_manifest(data_dir, made_by=commands.preprocess):
    """The manifest of a data folder, every field of it checked; made_by gives the command that makes such folders, from
    flags.

    Raises FileNotFoundError or ValueError, each with what to run next.
    """
    path = Path(data_dir) / MANIFEST
    if not path.is_file():
        named = next((name for name in commands.NAMED if Path(data_dir).name.endswith(name)), None)
        if named:
            raise FileNotFoundError(f"No training shards in {data_dir}. Make them first:\n"
                                    f"    {made_by(dataset=named, data_dir=data_dir)}")
        raise FileNotFoundError(f"No training shards in {data_dir}. Make them from files of your own:\n"
                                f"    {made_by(dataset=commands.OWN, data_dir=data_dir)}\n"
                                "or, without a network, from the embedded corpus:\n"
                                f"    {made_by(dataset='tales', data_dir=data_dir)}\n"
                                "or from the one on the hub that is the default:\n"
                                f"    {made_by(data_dir=data_dir)}")
    remedy = ("Make the shards anew, with the flags of the first time:\n"
              f"    {made_by(data_dir=data_dir, overwrite=True)}")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}). {remedy}") from error
    if not isinstance(manifest, dict) or "chunks" not in manifest:
        raise FileNotFoundError(f"No training shards in {data_dir}: {path} lists none, so preprocessing has not made "
                                "it. Choose another --data-dir, or take that file away")
    if fault := _fault(manifest):
        raise ValueError(f"{path} is damaged: {fault}. {remedy}")
    return manifest


def _refuse_constant(name):
    raise ValueError(f"{name} is no number")


def _count(value, most=2**63):
    return type(value) is int and 0 <= value < most


def _digits(count):
    return lambda value: isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{count}}}", value) is not None


# What a field must be, and in words.
_FIELDS = {
    "source": (lambda value: isinstance(value, dict) and isinstance(value.get("dataset"), str),
               "an object with a dataset"),
    "direction": (lambda value: value in DIRECTIONS, " or ".join(DIRECTIONS)),
    "vocab_size": (lambda value: _count(value, LARGEST_VOCAB + 1), f"a whole number up to {LARGEST_VOCAB:,}"),
    "tokenizer_sha256": (_digits(64), "64 hexadecimal digits"),
    "chunks": (lambda value: isinstance(value, list), "a list"),
}
_FIELDS_OF_KIND = {
    "base": {"complete": (lambda value: isinstance(value, bool), "true or false"),
             "tokenizer": (lambda value: isinstance(value, str), "a name")},
    "instruct": {"counts": (lambda value: isinstance(value, dict) and all(map(_count, value.values())),
                            "an object of counts")},
}
_COUNTED = {"base": ("documents", "tokens", "bytes"), "instruct": ("documents", "tokens", "bytes", "targets")}


def _fault(manifest):
    """What is wrong with a manifest, or None; nothing in it has been looked at."""
    kind = kind_of(manifest)
    if kind not in commands.KINDS:
        return f"kind is {_short(kind)}, expected {' or '.join(commands.KINDS)}"
    for name, (suits, expected) in {**_FIELDS, **_FIELDS_OF_KIND[kind]}.items():
        if name not in manifest or not suits(manifest[name]):
            return f"{name} is {_short(manifest.get(name))}, expected {expected}"
    for number, chunk in enumerate(manifest["chunks"]):
        if not isinstance(chunk, dict):
            return f"chunk {number} is {_short(chunk)}, expected an object"
        noted = chunk.get("noted", {})
        if not isinstance(noted, dict) or not all(map(_count, noted.values())):
            return f"chunk {number}: noted is {_short(noted)}, expected an object of counts"
        for split in SPLITS:
            if fault := _split_fault(chunk.get(split), shard_name(split, number), _COUNTED[kind]):
                return f"chunk {number}, {split}: {fault}"
    if kind == "base":
        if manifest["tokenizer"] != (name := tokenizer_name(manifest["vocab_size"])):
            return f"tokenizer is {_short(manifest['tokenizer'])}, expected {name}"
        ends = [chunk.get("next") for chunk in manifest["chunks"]]
        if not all(isinstance(end, list) and len(end) == 2 and all(map(_count, end)) for end in ends) or (
                ends != sorted(ends)):
            return "next of its chunks are not positions in the order of the corpus"
    return None


def _split_fault(held, name, counted):
    """What is wrong with what a manifest says of one shard, or None.

    Its file has no other name than its place gives it, so that no manifest can point to somewhere else.
    """
    if not isinstance(held, dict):
        return f"{_short(held)}, expected an object"
    if held.get("file") != name:
        return f"file is {_short(held.get('file'))}, expected {name}"
    if "hash" in held and not _digits(16)(held["hash"]):
        return f"hash is {_short(held['hash'])}, expected 16 hexadecimal digits"
    for field in dict.fromkeys([*counted, *held]):
        if field not in ("file", "hash") and not _count(held.get(field)):
            return f"{field} is {_short(held.get(field))}, expected a count"
    empty = [held[field] == 0 for field in counted]
    if any(empty) != all(empty) or held["documents"] > held["tokens"] or held.get("targets", 0) > held["tokens"]:
        return f"{', '.join(f'{held[field]:,} {field}' for field in counted)} cannot be true together"
    return None


def _short(value):
    return repr(value)[:60]


def write_manifest(data_dir, manifest):
    """Write manifest.json; from now on the shards that it names count."""
    with atomic_write(Path(data_dir) / MANIFEST, "w") as file:
        json.dump(manifest, file, indent=1, ensure_ascii=False)
        file.write("\n")


def fingerprint(data_dir):
    """What a checkpoint remembers of the shards that it was trained on: it changes with anything that the manifest says
    of them, and not with where they lie."""
    return hashlib.sha256((Path(data_dir) / MANIFEST).read_bytes()).hexdigest()[:16]


def totals(manifest, split):
    """What a split holds over all chunks: {"documents", "tokens", "bytes", and what else is counted}."""
    chunks = [chunk[split] for chunk in manifest["chunks"]]
    names = dict.fromkeys(["documents", "tokens", "bytes", *(name for chunk in chunks for name in chunk)])
    return {name: sum(chunk[name] for chunk in chunks) for name in names if name not in ("file", "hash")}
