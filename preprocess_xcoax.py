"""
Turn a corpus into a tokenizer and shards of token ids.

    python preprocess_xcoax.py --vocab-size 8888 --num-chunks 1000     # FineWeb's sample-100BT, streamed from the hub
    python preprocess_xcoax.py --dataset tales --vocab-size 4096       # the embedded corpus: no network needed
    python preprocess_xcoax.py --dataset 'texts/*.txt,more.parquet' --data-dir data/mine

Writes data/xcoax/tok8888.model (the number is the vocabulary size), train_*.bin and val_*.bin, one pair for every chunk
of 10,000 documents, and manifest.json. Stopped at any moment, the same command goes on after the last whole chunk; more
--num-chunks lengthen what is there.
"""

import itertools
import os
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

import settings
from corpus import cut, open_corpus
from shards import SPLITS, atomic_write, read_manifest, split_of, totals, write_manifest, write_shard
from tokenizer import Tokenizer, train_tokenizer

CHUNK_DOCUMENTS = 10_000
TASK_CHARACTERS = 500_000    # what a worker is given at a time
SAMPLE_CHARACTERS = 40_000_000


@dataclass
class PreprocessSettings:
    """Corpus, tokenizer, and where to put them."""

    dataset: str = "fineweb"
    """fineweb, tinystories (both from the hub), tales (embedded), or paths: .parquet, .jsonl, .txt files, folders and
    globs, divided by commas."""
    text_column: str = "text"
    """Column of a table, or field of a .jsonl record, that holds the text."""
    vocab_size: int = 8888
    """Pieces of the tokenizer, special ones included."""
    num_chunks: int | None = None
    """Chunks of 10,000 documents to take at most; by default 1000, and 4 of tales."""
    data_dir: Path = Path("data/xcoax")
    """Folder to write to."""
    direction: Literal["reverse", "forward"] = "reverse"
    """forward builds the mirror image for control experiments: nothing is reversed."""
    val_fraction: float = 0.01
    """Share of the documents kept for validation, chosen by a hash of their text."""
    num_workers: int | None = None
    """Processes that tokenize; by default one per processor. The shards do not depend on it."""
    seed: int = 1
    """Which tales are told; the order of any other corpus has no chance in it."""
    overwrite: bool = False
    """Throw away what the folder holds and start anew."""

    def __post_init__(self):
        self.num_chunks = self.num_chunks or (4 if self.dataset == "tales" else 1000)
        if self.num_chunks < 1 or not 0 < self.val_fraction < 1:
            raise ValueError("--num-chunks must be at least 1 and --val-fraction between 0 and 1")


def prepare_folder(run, corpus):
    """The manifest of an interrupted or shorter run that this one continues, or a new one.

    Raises ValueError if the folder holds something else.
    """
    wanted = {"source": corpus.source, "direction": run.direction, "val_fraction": run.val_fraction,
              "tokenizer": f"tok{run.vocab_size}.model", "vocab_size": run.vocab_size}
    if run.overwrite:  # the manifest first: without it the shards count for nothing
        for path in [run.data_dir / "manifest.json", *run.data_dir.glob("*.bin"), *run.data_dir.glob("tok*.model")]:
            path.unlink(missing_ok=True)
    if not (run.data_dir / "manifest.json").exists():
        return {**wanted, "complete": False, "chunks": []}
    manifest = read_manifest(run.data_dir)
    differing = [f"{name}: {manifest.get(name)} there, {value} now" for name, value in wanted.items()
                 if manifest.get(name) != value]
    if differing:
        raise ValueError(f"{run.data_dir} holds shards made otherwise ({'; '.join(differing)}). Choose another "
                         "--data-dir, or replace them with --overwrite")
    return manifest


def make_tokenizer(run, corpus, path):
    """Train the tokenizer on a sample of the corpus, or load the one that an earlier run has written."""
    if path.exists():
        return Tokenizer.load(path)
    print(f"Reading a sample of {corpus.source['dataset']} for the tokenizer …", flush=True)
    sample = corpus.sample(SAMPLE_CHARACTERS, run.num_chunks * CHUNK_DOCUMENTS)
    size = sum(map(len, sample))
    if not any(text.strip() for text in sample):
        raise ValueError(f"{corpus.source['dataset']} holds no text. Name another corpus, or try --dataset tales")
    print(f"Training a tokenizer of {run.vocab_size:,} pieces on {size / 1e6:,.1f} million characters …", flush=True)
    model = train_tokenizer(sample, run.vocab_size, run.direction)
    with atomic_write(path) as file:
        file.write(model)
    return Tokenizer(model)


_tokenizer = None  # of a worker process


def start_worker(model):
    global _tokenizer
    _tokenizer = Tokenizer(model)


def tokenize(texts, val_fraction):
    """Ids and counts per split of a list of texts: {split: (uint16 array, documents, bytes)}, and how many were cut."""
    ids = {split: [] for split in SPLITS}
    counts = {split: [0, 0] for split in SPLITS}
    long = 0
    for text in texts:
        pieces = [piece for piece in cut(text) if piece]
        long += len(pieces) > 1
        split = split_of(text, val_fraction)
        for piece in pieces:
            ids[split] += _tokenizer.encode_document(piece)
            counts[split][0] += 1
            counts[split][1] += len(piece.encode("utf-8", "surrogatepass"))
    return {split: (np.array(ids[split], dtype=np.uint16), *counts[split]) for split in SPLITS}, long


def tasks(documents):
    """Group ((part, row), text) into (position after the last, texts, whether a chunk ends here)."""
    texts, size = [], 0
    for number, (position, text) in enumerate(documents, 1):
        texts.append(text)
        size += len(text)
        if size >= TASK_CHARACTERS or number % CHUNK_DOCUMENTS == 0:
            yield position, texts, number % CHUNK_DOCUMENTS == 0
            texts, size = [], 0
    if texts:
        yield position, texts, False


def results_in_order(executor, workers, documents, val_fraction):
    """Tokenize with a few tasks in flight, so that memory stays level; yield (position, result, chunk ends) in order."""
    waiting = deque()
    for position, texts, chunk_ends in tasks(documents):
        waiting.append((position, executor.submit(tokenize, texts, val_fraction), chunk_ends))
        if len(waiting) > 2 * workers:
            position, future, chunk_ends = waiting.popleft()
            yield position, future.result(), chunk_ends
    for position, future, chunk_ends in waiting:
        yield position, future.result(), chunk_ends


def write_chunk(run, manifest, tokenizer, parts, position):
    """Write the shards of one chunk, then the manifest that makes them count."""
    chunk = {"next": list(position)}
    for split in SPLITS:
        name = f"{split}_{len(manifest['chunks']):06d}.bin"
        arrays, documents, sizes = zip(*(part[split] for part in parts))
        ids = np.concatenate(arrays)
        write_shard(run.data_dir / name, ids, tokenizer)
        chunk[split] = {"file": name, "documents": sum(documents), "tokens": len(ids), "bytes": sum(sizes)}
    manifest["chunks"].append(chunk)
    write_manifest(run.data_dir, manifest)


def main():
    run = settings.parse(PreprocessSettings, __doc__)
    settings.show(run)
    corpus = open_corpus(run.dataset, run.text_column, run.seed)
    manifest = prepare_folder(run, corpus)
    done = len(manifest["chunks"])
    if manifest["complete"] or done >= run.num_chunks:
        print(f"{run.data_dir} is complete with {done} chunk{'s' * (done != 1)}; --overwrite makes it anew.")
        return report(run, manifest)
    tokenizer = make_tokenizer(run, corpus, run.data_dir / manifest["tokenizer"])
    manifest["tokenizer_sha256"] = tokenizer.sha256.hex()
    if done:
        print(f"Going on after chunk {done} of at most {run.num_chunks}.")

    limit = run.num_chunks * CHUNK_DOCUMENTS
    start = tuple(manifest["chunks"][-1]["next"]) if done else (0, 0)
    documents = itertools.islice(corpus.documents(limit, start), (run.num_chunks - done) * CHUNK_DOCUMENTS)
    workers = run.num_workers or os.cpu_count() or 1
    parts, long, position = [], 0, start
    with (ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=start_worker,
                              initargs=(tokenizer.model,)) as executor,
          tqdm(unit="B", unit_scale=True, desc="tokenizing", dynamic_ncols=True) as progress):
        for position, (result, cut_here), chunk_ends in results_in_order(executor, workers, documents, run.val_fraction):
            parts.append(result)
            long += cut_here
            progress.update(sum(size for _, _, size in result.values()))
            if chunk_ends:
                write_chunk(run, manifest, tokenizer, parts, position)
                parts = []
                progress.set_postfix_str(f"chunk {len(manifest['chunks'])} of at most {run.num_chunks}")
        if parts:
            write_chunk(run, manifest, tokenizer, parts, position)
    if not sum(totals(manifest, split)["documents"] for split in SPLITS):
        raise ValueError(f"{run.dataset} holds no text. Name another corpus, or try --dataset tales")
    manifest["complete"] = len(manifest["chunks"]) < run.num_chunks  # the corpus ended first: no more to be had
    write_manifest(run.data_dir, manifest)
    if long:
        print(f"{long} documents of over a million characters were cut.")
    report(run, manifest)


def report(run, manifest):
    """Print what each split holds, and the next command."""
    for split in SPLITS:
        held = totals(manifest, split)
        print(f"{split:>6}: {held['documents']:>12,} documents {held['tokens']:>16,} tokens {held['bytes']:>16,} bytes"
              + (f"   {held['bytes'] / held['tokens']:.2f} bytes per token" if held["tokens"] else ""))
    if not totals(manifest, "val")["tokens"]:
        print("No document fell to validation, and training needs some: --overwrite with a larger --val-fraction.")
    folder = f" --data-dir {run.data_dir}" if run.data_dir != Path("data/xcoax") else ""
    print(f"Next:\n    python train_xcoax.py{' config/tales.toml' if run.dataset == 'tales' else ''}{folder}")


if __name__ == "__main__":
    settings.run(main)
