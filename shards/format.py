"""
One shard: a .bin file of token ids, how it is written and checked.

A header of 256 little-endian int32, then the ids as uint16. Readers of the common 1 KiB-header format use words 0 to 2;
the rest is ours: [0] 20240520, [1] version 1, [2] token count, [3] vocabulary size, [4] direction (0 reverse, 1
forward), [5..12] SHA-256 of the tokenizer model, [13..14] 64-bit hash of the ids, [15] split (1 train, 2 val). Older
shards have zeros in the last three.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from program import commands
from program.files import atomic_write
from tokenizer import DIRECTIONS

MAGIC, VERSION, HEADER_WORDS = 20240520, 1, 256
SPLITS = ("train", "val")


@dataclass(frozen=True)
class Shard:
    """One .bin file: its ids as a read-only memory map of uint16, and its header; hash is that of the ids, in
    hexadecimal. Of an older shard hash and split are None."""

    path: Path
    tokens: np.ndarray
    vocab_size: int
    direction: str
    tokenizer_sha256: bytes
    hash: str | None
    split: str | None


def _hash(ids):
    """64 bits that another id anywhere would change."""
    return hashlib.blake2b(ids, digest_size=8).digest()


def write_shard(path, ids, tokenizer, split):
    """Write ids (uint16 array) with the header of tokenizer and split; returns the hash of the ids in hexadecimal."""
    ids = np.ascontiguousarray(ids, dtype="<u2")
    assert not len(ids) or ids.max() < tokenizer.vocab_size
    header, digest = np.zeros(HEADER_WORDS, dtype="<i4"), _hash(ids)
    header[:5] = MAGIC, VERSION, len(ids), tokenizer.vocab_size, DIRECTIONS.index(tokenizer.direction)
    header[5:13] = np.frombuffer(tokenizer.sha256, dtype="<i4")
    header[13:15] = np.frombuffer(digest, dtype="<i4")
    header[15] = 1 + SPLITS.index(split)
    with atomic_write(path) as file:
        file.write(header.tobytes())
        file.write(ids)
    return digest.hex()


def read_shard(path, made_by=commands.preprocess, verify=True):
    """Open a shard, checking every field of its header; verify reads all ids, too, and compares them with their hash.

    made_by gives the command that makes such shards, from flags (see program/commands.py).
    Raises FileNotFoundError or ValueError, each with what to run next.
    """
    path = Path(path)
    remedy = f"Make the shards anew:\n    {made_by(data_dir=path.parent, overwrite=True)}"
    if not path.is_file():
        raise FileNotFoundError(f"No shard at {path}. {remedy}")
    size = path.stat().st_size
    if size < 4 * HEADER_WORDS:
        raise ValueError(f"{path} is cut short: {size} bytes are less than a header. {remedy}")
    header = np.fromfile(path, dtype="<i4", count=HEADER_WORDS)
    if header[0] != MAGIC:
        raise ValueError(f"{path} is not a shard: it begins with {header[0]}, a shard with {MAGIC}. {remedy}")
    if header[1] != VERSION:
        raise ValueError(f"{path} has format version {header[1]}; this program reads version {VERSION}. {remedy}")
    expected = 4 * HEADER_WORDS + 2 * int(header[2])
    if size != expected:
        raise ValueError(f"{path} is {size:,} bytes long, its header promises {expected:,} "
                         f"({int(header[2]):,} tokens). {remedy}")
    if header[4] not in (0, 1) or not 0 < header[3] <= 2**16 or not 0 <= header[15] <= len(SPLITS):
        raise ValueError(f"{path} was made by something else: vocabulary {header[3]}, direction {header[4]}, split "
                         f"{header[15]}. {remedy}")
    tokens = np.memmap(path, dtype="<u2", mode="r", offset=4 * HEADER_WORDS) if header[2] else np.empty(0, "<u2")
    digest = header[13:15].tobytes() if header[13:15].any() else None
    if verify:
        _verify(path, tokens, digest, header[3], remedy)
    return Shard(path, tokens, int(header[3]), DIRECTIONS[header[4]], header[5:13].tobytes(), digest and digest.hex(),
                 SPLITS[header[15] - 1] if header[15] else None)


def _verify(path, tokens, digest, vocab_size, remedy):
    """Raise ValueError unless the ids are those that were written, and lie within the vocabulary.

    An id beyond it would end training in a device-side assertion that names nothing.
    """
    if digest and _hash(tokens) != digest:
        raise ValueError(f"{path} is damaged: its ids are not those of which its header holds the hash. {remedy}")
    if len(tokens) and (largest := int(tokens.max())) >= vocab_size:
        raise ValueError(f"{path} holds the id {largest}, beyond its vocabulary of {vocab_size}. {remedy}")
