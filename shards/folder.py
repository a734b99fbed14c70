"""
A folder of shards: manifest.json lists them chunk by chunk, with what each split holds of documents, tokens, and UTF-8
bytes of the original text (of instruction examples: of what is learned, the instruction). What the manifest does not
name counts for nothing, so it is written last and deleted first.
"""

import hashlib
import json
from functools import partial
from pathlib import Path

from tqdm import tqdm

from characters import utf8
from program import commands
from program.files import atomic_write
from shards.format import read_shard, write_shard

SPLITS = ("train", "val")
MANIFEST = "manifest.json"
MADE = {"base": ("*.bin", "tok*.model"), "instruct": ("*.bin",)}  # by preprocessing, besides the manifest


def split_of(text, val_fraction):
    """"val" or "train" by a hash of the text, so that the split never depends on order, workers or machines."""
    digest = hashlib.blake2b(utf8.encode(text), digest_size=8).digest()
    return "val" if int.from_bytes(digest, "big") < val_fraction * 2**64 else "train"


def read_manifest(data_dir, made_by=commands.preprocess):
    """The manifest of a data folder; made_by gives the command that makes such folders, from flags.

    Raises FileNotFoundError or ValueError, each with what to run next.
    """
    path = Path(data_dir) / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"No training shards in {data_dir}. Make them first:\n"
                                f"    {made_by(data_dir=data_dir)}\n"
                                "or, without a network, from the embedded corpus:\n"
                                f"    {made_by(dataset='tales', data_dir=data_dir)}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}). Make the shards anew:\n"
                         f"    {made_by(data_dir=data_dir, overwrite=True)}") from error


def write_manifest(data_dir, manifest):
    """Write manifest.json; from now on the shards that it names count."""
    with atomic_write(Path(data_dir) / MANIFEST, "w") as file:
        json.dump(manifest, file, indent=1, ensure_ascii=False)
        file.write("\n")


def prepare(data_dir, wanted, kind="base", overwrite=False):
    """The manifest of a run with the settings wanted (a dict), which this one continues; or a new one.

    overwrite throws away what the folder holds. Raises ValueError if the folder holds something else.
    """
    data_dir = Path(data_dir)
    manifest = None
    if (data_dir / MANIFEST).exists():
        try:
            manifest = read_manifest(data_dir, partial(commands.preprocess, kind))
        except ValueError:
            if not overwrite:
                raise
    if manifest and kind == "instruct" and manifest.get("kind") != "instruct":
        raise ValueError(f"{data_dir} holds the shards of a corpus, made by preprocess_xcoax.py. Choose another "
                         "--data-dir")
    if overwrite:
        for path in [data_dir / MANIFEST, *(path for pattern in MADE[kind] for path in data_dir.glob(pattern))]:
            path.unlink(missing_ok=True)
    elif manifest:
        differing = [f"{name}: {manifest.get(name)} there, {value} now" for name, value in wanted.items()
                     if manifest.get(name) != value]
        if not differing:
            return manifest
        if manifest.get("chunks"):
            raise ValueError(f"{data_dir} holds shards made otherwise ({'; '.join(differing)}). Choose another "
                             "--data-dir, or replace them with --overwrite")
    return {**wanted, "chunks": []}


def add_chunk(data_dir, manifest, tokenizer, held, **position):
    """Write the shards of one chunk and note them in manifest, which the caller writes.

    held is {split: (uint16 ids, {"documents": …, "bytes": …, and what else is counted})}.
    """
    chunk = position
    for split in SPLITS:
        ids, counts = held[split]
        name = f"{split}_{len(manifest['chunks']):06d}.bin"
        write_shard(Path(data_dir) / name, ids, tokenizer)
        chunk[split] = {"file": name, "documents": counts["documents"], "tokens": len(ids), **counts}
    manifest["chunks"].append(chunk)


def totals(manifest, split):
    """What a split holds over all chunks: {"documents", "tokens", "bytes", and what else is counted}."""
    chunks = [chunk[split] for chunk in manifest["chunks"]]
    names = dict.fromkeys(["documents", "tokens", "bytes", *(name for chunk in chunks for name in chunk)])
    return {name: sum(chunk[name] for chunk in chunks) for name in names if name != "file"}


def read_split(data_dir, split, tokenizer_sha256=None, made_by=commands.preprocess):
    """All shards of a split that the manifest lists.

    Raises ValueError where they do not belong together, or not to the tokenizer given by its hash.
    """
    manifest, data_dir = read_manifest(data_dir, made_by), Path(data_dir)
    shards = [read_shard(data_dir / chunk[split]["file"], made_by)
              for chunk in tqdm(manifest["chunks"], desc=f"checking {split} shards", delay=2)]
    known = tokenizer_sha256 or bytes.fromhex(manifest["tokenizer_sha256"])
    for shard in shards:
        if shard.tokenizer_sha256 != known:
            raise ValueError(f"{shard.path} was made with another tokenizer than "
                             f"{'the one given' if tokenizer_sha256 else data_dir / MANIFEST}. "
                             f"Make the shards anew:\n    {made_by(data_dir=data_dir, overwrite=True)}")
    return shards
