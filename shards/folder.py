"""
A folder of shards: what a run of preprocessing finds in one and puts there, and what is read from it.
"""

import contextlib
import hashlib
import os
import re
import shutil
from pathlib import Path

from tqdm import tqdm

from characters import utf8
from program import commands
from shards.format import SPLITS, read_shard, write_shard
from shards.manifest import MANIFEST, kind_of, kind_there, read_manifest, shard_name, totals
from tokenizer import Tokenizer

MOST_VAL_FRACTION = 0.5  # that is recommended where little fell to validation
SMALL_BYTES = 2**28  # of ids in a folder: read through each time it is opened, in less than a second
_MADE = {"base": r"(train|val)_\d{6,}\.bin|tok\d+\.model", "instruct": r"(train|val)_\d{6,}\.bin"}  # by preprocessing


def check_val_fraction(val_fraction):
    """Raise ValueError unless val_fraction leaves something to both splits."""
    if not 0 < val_fraction < 1:
        raise ValueError(f"--val-fraction is {val_fraction:g}; it must be between 0 and 1")


def split_of(text, val_fraction):
    """"val" or "train" by a hash of the text, so that the split never depends on order, workers or machines."""
    digest = hashlib.blake2b(utf8.encode(text), digest_size=8).digest()
    return "val" if int.from_bytes(digest, "big") < val_fraction * 2**64 else "train"


def prepare(data_dir, wanted, kind="base", overwrite=False):
    """The manifest of a run with the settings wanted (a dict), which this one continues; or a new one.

    With overwrite it is new, and clear() takes away what is there once the run is known to work. Raises ValueError if
    the folder holds something else; shards of the other kind are never written over.
    """
    new, found = {**wanted, "chunks": []}, None
    if (Path(data_dir) / MANIFEST).exists():
        if (other := kind_there(data_dir)) != kind and other in commands.KINDS:
            holds = {"base": "the shards of a corpus", "instruct": "instruction examples"}[other]
            raise ValueError(f"{data_dir} holds {holds}, made by {commands.SCRIPTS[other]['preprocess']}. Choose "
                             "another --data-dir")
        try:
            found = read_manifest(data_dir, lambda **flags: commands.preprocess(kind, **flags))
        except ValueError:
            if not overwrite:
                raise
    if not found or overwrite:
        return new
    differing = _differing({name: found.get(name) for name in wanted}, wanted)
    if not differing:
        return found
    if found["chunks"]:
        more = f"; and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise ValueError(f"{data_dir} holds shards made otherwise ({'; '.join(differing[:3])}{more}). Choose another "
                         "--data-dir, or replace them with --overwrite")
    return new


def _differing(there, now, name=""):
    """What differs in two settings, each difference in words; of objects, in which of their fields."""
    if isinstance(there, dict) and isinstance(now, dict):
        return [words for field in {**there, **now}
                for words in _differing(there.get(field), now.get(field), f"{name} {field}".strip())]
    if type(there) is int and isinstance(now, dict) and there == now.get("bytes"):
        return []  # older manifests know no more of a file than its size
    if isinstance(there, dict) and now is None:
        return [f"{name} is gone"]
    if isinstance(now, dict) and there is None:
        return [f"{name} is new"]
    return [] if there == now else [f"{name}: {there} there, {now} now"]


def clear(data_dir, kind="base"):
    """Take away what preprocessing has made in a folder, known by its names; the manifest first."""
    data_dir = Path(data_dir)
    (data_dir / MANIFEST).unlink(missing_ok=True)
    for path in data_dir.iterdir():
        if re.fullmatch(_MADE[kind], path.name) and path.is_file():
            path.unlink()


@contextlib.contextmanager
def replacing(data_dir, kind):
    """A folder for shards that take the place of all in data_dir when the context is left without an error; until then
    what is there stays as it is. The caller has locked data_dir and writes the manifest."""
    data_dir, new = Path(data_dir), Path(data_dir) / ".new"
    shutil.rmtree(new, ignore_errors=True)  # of a run that was killed
    new.mkdir()
    try:
        yield new
        clear(data_dir, kind)
        for path in new.iterdir():
            os.replace(path, data_dir / path.name)
    finally:
        shutil.rmtree(new)


def add_chunk(data_dir, manifest, tokenizer, held, **position):
    """Write the shards of one chunk and note them in manifest, which the caller writes.

    held is {split: (uint16 ids, {"documents": …, "bytes": …, and what else is counted})}.
    """
    chunk = position
    for split in SPLITS:
        ids, counts = held[split]
        name = shard_name(split, len(manifest["chunks"]))
        digest = write_shard(Path(data_dir) / name, ids, tokenizer, split)
        chunk[split] = {"file": name, "hash": digest, "documents": counts["documents"], "tokens": len(ids), **counts}
    manifest["chunks"].append(chunk)


def read_split(data_dir, split, tokenizer=None, made_by=commands.preprocess, verify=None):
    """All shards of a split that the manifest lists, each as the manifest describes it.

    verify reads every id and compares them with their hash; by default that of a folder of SMALL_BYTES at most, since
    larger ones would take minutes at every start. Raises ValueError where shards and manifest do not belong together,
    or not to the tokenizer given.
    """
    manifest, data_dir = read_manifest(data_dir, made_by), Path(data_dir)
    if verify is None:
        verify = 2 * sum(totals(manifest, split)["tokens"] for split in SPLITS) <= SMALL_BYTES

    def anew(**flags):
        return made_by(**flags, **_flags_of(manifest))

    shards = []
    for chunk in tqdm(manifest["chunks"], desc=f"checking {split} shards", unit=" shards", delay=2, leave=False,
                      dynamic_ncols=True, disable=None):
        shards.append(read_shard(data_dir / chunk[split]["file"], anew, verify))
        if fault := _foreign(shards[-1], manifest, chunk[split], split, data_dir / MANIFEST, tokenizer):
            raise ValueError(f"{shards[-1].path} {fault}. Make the shards anew:\n"
                             f"    {anew(data_dir=data_dir, overwrite=True)}")
    return shards


def _flags_of(manifest):
    """The flags of preprocessing with which the shards of a manifest were made, but for where they lie and by which
    tokenizer; None for what was not set."""
    source, of_base = manifest["source"], kind_of(manifest) == "base"
    names = ("vocab_size", "chunk_documents", "val_fraction") if of_base else ("block_size", "val_fraction")
    noted = [*(chunk.get("noted", {}) for chunk in manifest["chunks"]), manifest.get("counts", {})]
    return {"dataset": source["dataset"],
            **{name: source.get(name) for name in ("text_column", "documents", "num_records", "seed")},
            **{name: manifest.get(name) for name in names},
            "direction": "forward" if of_base and manifest["direction"] == "forward" else None,
            "skip_bad_records": True if any("bad" in counts for counts in noted) else None}


def _foreign(shard, manifest, listed, split, manifest_path, tokenizer):
    """In which way a shard is not the one that the manifest lists, in words; None if it is."""
    for sha256, name in ((bytes.fromhex(manifest["tokenizer_sha256"]), manifest_path),
                         (tokenizer and tokenizer.sha256, "the one given")):
        if sha256 and shard.tokenizer_sha256 != sha256:
            return f"was made with another tokenizer than {name}"
    digest = listed.get("hash")  # an older manifest has none, and neither have its shards, which do not say their split
    for field, found, expected in (
            ("split", shard.split, split if digest else None), ("tokens", len(shard.tokens), listed["tokens"]),
            ("hash of the ids", shard.hash, digest), ("direction", shard.direction, manifest["direction"]),
            ("vocabulary size", shard.vocab_size, manifest["vocab_size"]),
            ("vocabulary size", shard.vocab_size, tokenizer.vocab_size if tokenizer else shard.vocab_size)):
        if found != expected:
            return f"is not the shard that {manifest_path} lists: its {field} is {found}, expected {expected}"
    return None


def check(data_dir, made_by=commands.preprocess):
    """Read every id of every shard of a folder, and its tokenizer; a line that says what was found.

    Raises what read_split and Tokenizer.load do.
    """
    name = read_manifest(data_dir, made_by).get("tokenizer")  # examples have none in their folder
    tokenizer = Tokenizer.load(Path(data_dir) / name) if name else None
    shards = [shard for split in SPLITS for shard in read_split(data_dir, split, tokenizer, made_by, verify=True)]
    older = sum(shard.hash is None for shard in shards)
    return (f"{data_dir} is whole: {len(shards):,} shards, {sum(len(shard.tokens) for shard in shards):,} tokens"
            + (f"; {older:,} of the shards are of an older version and hold no hash of their ids" if older else ""))
