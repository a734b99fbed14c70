"""
Token shards on disk: how they are written, checked, and read as batches.

A .bin file is a header of 256 little-endian int32, then the ids as uint16. Readers of the common 1 KiB-header format
use words 0 to 2; the rest is ours: [0] 20240520, [1] version 1, [2] token count, [3] vocabulary size,
[4] direction (0 reverse, 1 forward), [5..12] SHA-256 of the tokenizer model. Beside the shards, manifest.json lists
them chunk by chunk with what each split holds: documents, tokens, and UTF-8 bytes of the original text.
"""

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tokenizer import DIRECTIONS

MAGIC, VERSION, HEADER_WORDS = 20240520, 1, 256
SPLITS = ("train", "val")
PREPROCESS = "python preprocess_xcoax.py"
REBUILD = "Make the shards anew:\n    {} --data-dir {} --overwrite"


@contextlib.contextmanager
def atomic_write(path, mode="wb"):
    """Open a file beside path and move it over path when all went well: what exists is complete.

    A failure leaves the old file whole, removes the new one, and says which file could not be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".partial")
    try:
        with open(beside, mode, **({} if "b" in mode else {"encoding": "utf-8"})) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise OSError(f"could not write {path} ({error.strerror or error}); what it held before is untouched. "
                      "Make room and run the same command again: it goes on from there.") from error
    finally:
        beside.unlink(missing_ok=True)


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


def read_shard(path, what=PREPROCESS):
    """Open a shard, checking every field of its header and that the ids lie within the vocabulary.

    what is the command that makes such shards.

    Raises FileNotFoundError or ValueError, each with what to run next.
    """
    path = Path(path)
    remedy = REBUILD.format(what, path.parent)
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


def read_manifest(data_dir, what=PREPROCESS):
    """The manifest of a data folder.

    Raises FileNotFoundError or ValueError, each with what to run next.
    """
    path = Path(data_dir) / "manifest.json"
    if not path.is_file():
        raise FileNotFoundError(f"No training shards in {data_dir}. Make them first:\n    {what} --data-dir {data_dir}\n"
                                "or, without a network, from the embedded corpus:\n"
                                f"    {what} --dataset tales --data-dir {data_dir}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}). {REBUILD.format(what, data_dir)}") from error


def made_otherwise(data_dir, manifest, wanted):
    """A ValueError that says where the settings of a manifest are not those wanted, a dict; None where they are."""
    differing = [f"{name}: {manifest.get(name)} there, {value} now" for name, value in wanted.items()
                 if manifest.get(name) != value]
    return ValueError(f"{data_dir} holds shards made otherwise ({'; '.join(differing)}). Choose another --data-dir, or "
                      "replace them with --overwrite") if differing else None


def write_manifest(data_dir, manifest):
    with atomic_write(Path(data_dir) / "manifest.json", "w") as file:
        json.dump(manifest, file, indent=1, ensure_ascii=False)
        file.write("\n")


def totals(manifest, split):
    """{"documents", "tokens", "bytes"} of a split over all chunks."""
    return {key: sum(chunk[split][key] for chunk in manifest["chunks"]) for key in ("documents", "tokens", "bytes")}


def read_split(data_dir, split, tokenizer_sha256=None, what=PREPROCESS):
    """All shards of a split that the manifest lists.

    Raises ValueError where they do not belong together, or not to the tokenizer given by its hash.
    """
    manifest, data_dir = read_manifest(data_dir, what), Path(data_dir)
    shards = [read_shard(data_dir / chunk[split]["file"], what)
              for chunk in tqdm(manifest["chunks"], desc=f"checking {split} shards", delay=2)]
    known = tokenizer_sha256 or bytes.fromhex(manifest["tokenizer_sha256"])
    for shard in shards:
        if shard.tokenizer_sha256 != known:
            raise ValueError(f"{shard.path} was made with another tokenizer than "
                             f"{'the one given' if tokenizer_sha256 else data_dir / 'manifest.json'}. "
                             + REBUILD.format(what, data_dir))
    return shards


def split_of(text, val_fraction):
    """"val" or "train" by a hash of the text, so that the split never depends on order, workers or machines."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return "val" if int.from_bytes(digest, "big") < val_fraction * 2**64 else "train"


def keyed_permutation(index, length, key):
    """Where index goes under a pseudo-random bijection of range(length): a Feistel network with cycle walking.

    Constant memory and time, so visiting a corpus of any size without replacement needs no state but a counter.
    """
    half = max(1, ((length - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for turn in range(4):
            mixed = hashlib.blake2b(f"{key}/{turn}/{right}".encode(), digest_size=8).digest()
            left, right = right, left ^ (int.from_bytes(mixed, "big") & mask)
        index = left << half | right
        if index < length:
            return index


class Windows:
    """The windows of block_size + 1 tokens of a split; neighbours share one token, so that every token is a target."""

    def __init__(self, shards, block_size, seed=0, split="train"):
        self.block_size, self.seed = block_size, seed
        self.tokens = [shard.tokens for shard in shards]
        self.ends = np.cumsum([max(0, len(tokens) - 1) // block_size for tokens in self.tokens], dtype=np.int64)
        if not len(self.ends) or self.ends[-1] == 0:
            found = sum(map(len, self.tokens))
            more = "more text" if split == "train" else "with a larger --val-fraction and --overwrite"
            raise ValueError(f"{found:,} tokens in the {split} split are too few for one window of {block_size:,} + 1. "
                             f"Preprocess {more}, or train with a smaller --block-size.")

    def __len__(self):
        return int(self.ends[-1])

    def window(self, index):
        """Window number index in corpus order: int64 (block_size + 1,)."""
        shard = int(np.searchsorted(self.ends, index, side="right"))
        start = (index - (int(self.ends[shard - 1]) if shard else 0)) * self.block_size
        return self.tokens[shard][start:start + self.block_size + 1].astype(np.int64)

    def batch(self, first, batch_size):
        """The windows at positions first to first + batch_size of an endless reading: inputs and targets, each int64
        (batch_size, block_size).

        Each epoch visits every window once, in an order of its own. A position is the number of windows drawn before,
        by all processes together, so neither a resumed run nor one with another batch size repeats or skips any.
        """
        rows = []
        for position in range(first, first + batch_size):
            epoch, index = divmod(position, len(self))
            rows.append(self.window(keyed_permutation(index, len(self), f"{self.seed}/{epoch}")))
        rows = np.stack(rows)
        return rows[:, :-1], rows[:, 1:]

    def fixed_batches(self, batches, batch_size):
        """Up to `batches` batches of windows spread evenly over the split, the same ones at every call."""
        count = min(len(self), batches * batch_size)
        chosen = [i * len(self) // count for i in range(count)]
        for first in range(0, count, batch_size):
            rows = np.stack([self.window(i) for i in chosen[first:first + batch_size]])
            yield rows[:, :-1], rows[:, 1:]
