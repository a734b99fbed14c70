"""
One shard: a .bin file of token ids, how it is written and checked.

A header of 256 little-endian int32, then the ids as uint16. Readers of the common 1 KiB-header format use words 0 to 2;
the rest is ours: [0] 20240520, [1] version 1, [2] token count, [3] vocabulary size, [4] direction (0 reverse, 1
forward), [5..12] SHA-256 of the tokenizer model.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from program import commands
from program.files import atomic_write
from tokenizer import DIRECTIONS

MAGIC, VERSION, HEADER_WORDS = 20240520, 1, 256


@dataclass(frozen=True)
class Shard:
    """One .bin file: its ids as a read-only memory map of uint16, and its header."""

    path: Path
    tokens: np.ndarray
    vocab_size: int
    direction: str
    tokenizer_sha256: bytes


def write_shard(path, ids, tokenizer):
    """Write ids (uint16 array) with the header of tokenizer."""
    ids = np.ascontiguousarray(ids, dtype="<u2")
    header = np.zeros(HEADER_WORDS, dtype="<i4")
    header[:5] = MAGIC, VERSION, len(ids), tokenizer.vocab_size, DIRECTIONS.index(tokenizer.direction)
    header[5:13] = np.frombuffer(tokenizer.sha256, dtype="<i4")
    with atomic_write(path) as file:
        file.write(header.tobytes())
        file.write(ids.tobytes())


def read_shard(path, made_by=commands.preprocess):
    """Open a shard, checking every field of its header and that the ids lie within the vocabulary.

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
    if header[4] not in (0, 1) or not 0 < header[3] <= 2**16:
        raise ValueError(f"{path} was made by something else: vocabulary {header[3]}, direction {header[4]}. {remedy}")
    tokens = np.memmap(path, dtype="<u2", mode="r", offset=4 * HEADER_WORDS) if header[2] else np.empty(0, "<u2")
    # A look at every id costs a gigabyte a second or more; an id beyond the vocabulary would end training in a
    # device-side assertion that names nothing.
    if len(tokens) and (largest := int(tokens.max())) >= header[3]:
        raise ValueError(f"{path} holds the id {largest}, beyond its vocabulary of {header[3]}. {remedy}")
    return Shard(path, tokens, int(header[3]), DIRECTIONS[header[4]], header[5:13].tobytes())
