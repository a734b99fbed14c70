"""
Turn a corpus into a tokenizer and shards of token ids.

    python preprocess_xcoax.py --vocab-size 8888 --num-chunks 1000     # FineWeb's sample-100BT, streamed from the hub
    python preprocess_xcoax.py --dataset tales --vocab-size 4096       # the embedded corpus: no network needed
    python preprocess_xcoax.py --dataset 'texts/*.txt,more.parquet' --data-dir data/mine

Writes data/xcoax/tok8888.model (the number is the vocabulary size), train_*.bin and val_*.bin, one pair for every chunk
of 10,000 documents, and manifest.json. Stopped at any moment, the same command goes on after the last whole chunk; more
--num-chunks lengthen what is there.
"""

import multiprocessing
import os
import signal
import sys
from collections import deque
from concurrent.futures import wait
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

import settings
from corpus import open_corpus
from readers import MAX_DOCUMENT_BYTES, cut, text_bytes
from reverse import reading_units
from shards import SPLITS, atomic_write, made_otherwise, read_manifest, split_of, totals, write_manifest, write_shard
from tokenizer import Tokenizer, train_tokenizer
from workers import children, result_of

TASK_BYTES = 500_000      # of text: what a worker is given at a time
CHUNK_BYTES = 300_000_000  # of text: a chunk of documents as long as books ends here, so that it fits in memory
SAMPLE_BYTES = 40_000_000
VARIED_CHARACTERS = 12_000_000
MOST_WORKERS = 8          # by default: each takes about 100 MB, and one reader cannot feed many more


@dataclass
class PreprocessSettings:
    """Corpus, tokenizer, and where to put them."""

    dataset: str = "fineweb"
    """fineweb, tinystories (both from the hub), tales (embedded), or paths: .parquet, .jsonl, .txt files, folders and
    globs, divided by commas. In a .txt file <|endoftext|> lines divide the documents, or else blank lines."""
    text_column: str = "text"
    """Column of a table, or field of a .jsonl record, that holds the text."""
    vocab_size: int = 8888
    """Pieces of the tokenizer, special ones included. Too many for the corpus is an error that names what fits."""
    num_chunks: int | None = None
    """Chunks to take at most; by default 1000, and 4 of tales. Raise it later to lengthen what is there."""
    chunk_documents: int = 10_000
    """Documents in a chunk (fewer where 300 MB of text are reached before). An interruption loses at most one chunk."""
    data_dir: Path = Path("data/xcoax")
    """Folder to write to."""
    direction: Literal["reverse", "forward"] = "reverse"
    """forward builds the mirror image for control experiments: nothing is reversed."""
    val_fraction: float = 0.01
    """Share of the documents kept for validation, chosen by a hash of their text."""
    num_workers: int | None = None
    """Processes that tokenize; by default one per processor, at most 8. The shards do not depend on it."""
    seed: int = 1
    """Which tales are told; the order of any other corpus has no chance in it."""
    overwrite: bool = False
    """Throw away what the folder holds and start anew."""

    def __post_init__(self):
        if self.num_chunks is None:
            self.num_chunks = 4 if self.dataset == "tales" else 1000
        if self.num_workers is None:
            self.num_workers = min(MOST_WORKERS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity")
                                   else os.cpu_count() or 1)
        if min(self.num_chunks, self.chunk_documents, self.num_workers) < 1 or not 0 < self.val_fraction < 1:
            raise ValueError("--num-chunks, --chunk-documents and --num-workers must be at least 1, and --val-fraction "
                             "between 0 and 1")


def prepare_folder(run, corpus):
    """The manifest of an interrupted or shorter run that this one continues, or a new one.

    Raises ValueError if the folder holds something else.
    """
    wanted = {"source": corpus.source, "direction": run.direction, "val_fraction": run.val_fraction,
              "tokenizer": f"tok{run.vocab_size}.model", "vocab_size": run.vocab_size,
              "chunk_documents": run.chunk_documents}
    if run.overwrite:  # the manifest first: without it the shards count for nothing
        for path in [run.data_dir / "manifest.json", *run.data_dir.glob("*.bin"), *run.data_dir.glob("tok*.model")]:
            path.unlink(missing_ok=True)
    if (run.data_dir / "manifest.json").exists():
        manifest = read_manifest(run.data_dir)
        refusal = made_otherwise(run.data_dir, manifest, wanted)
        if not refusal:
            return manifest
        if manifest.get("chunks"):
            raise refusal
    return {**wanted, "complete": False, "chunks": []}


_sample = None  # of the child that trains the tokenizer


def take_sample(dataset, text_column, seed):
    global _sample
    _sample = open_corpus(dataset, text_column, seed).sample(SAMPLE_BYTES)
    while len(_sample) > 1 and too_varied(_sample):
        _sample = _sample[::2]
    return sum(map(text_bytes, _sample)) if any(text.strip() for text in _sample) else 0


def too_varied(texts):
    """Whether the different units of texts come to so many characters that training would take over a gigabyte.

    The trainer needs about 64 bytes for each; English has 3 million in 64 MB, random letters 40 million.
    """
    seen, size = set(), 0
    for text in texts:
        new = set(reading_units(text)) - seen
        seen |= new
        size += sum(map(len, new))
        if size > VARIED_CHARACTERS:
            return True
    return False


def train_on_sample(vocab_size, direction):
    return train_tokenizer(_sample, vocab_size, direction)


def make_tokenizer(run, manifest, path):
    """Train the tokenizer on a sample of the corpus, or load the one that an earlier run has written.

    The sample is drawn from the whole corpus whatever --num-chunks, so that a run lengthened later equals a long one.
    A child does it: its memory is given back, and Ctrl-C need not wait for the trainer.
    """
    if "tokenizer_sha256" in manifest and path.exists():
        tokenizer = Tokenizer.load(path)
    else:
        print(f"Reading a sample of {run.dataset} for the tokenizer …", flush=True)
        with children(1) as executor:
            try:
                size = result_of(executor.submit(take_sample, run.dataset, run.text_column, run.seed))
                if not size:
                    raise ValueError(f"{run.dataset} holds no text. Name another corpus, or try --dataset tales")
                print(f"Training a tokenizer of {run.vocab_size:,} pieces on {size / 1e6:,.1f} MB …", flush=True)
                training = executor.submit(train_on_sample, run.vocab_size, run.direction)
                with tqdm(desc="training the tokenizer", bar_format="{desc}: {elapsed}", leave=False) as progress:
                    while not wait([training], timeout=1).done:
                        progress.refresh()
                tokenizer = Tokenizer(result_of(training))
            except (KeyboardInterrupt, SystemExit):
                multiprocessing.active_children()[0].kill()  # the trainer cannot be asked to stop
                raise
        if not manifest["chunks"]:
            with atomic_write(path) as file:
                file.write(tokenizer.model)
    if manifest.setdefault("tokenizer_sha256", tokenizer.sha256.hex()) != tokenizer.sha256.hex():
        raise ValueError(f"{path} is not the tokenizer that the shards in {run.data_dir} were made with. Put that one "
                         "back, or replace all with --overwrite")
    if not path.exists():
        with atomic_write(path) as file:
            file.write(tokenizer.model)
    write_manifest(run.data_dir, manifest)
    return tokenizer


_tokenizer = None  # of a worker process


def start_worker(model):
    global _tokenizer
    _tokenizer = Tokenizer(model)


def tokenize(pieces, val_fraction):
    """Token ids and counts of a list of (text, split or None): {split: (uint16 array, documents, bytes)}."""
    ids = {split: [] for split in SPLITS}
    counts = {split: [0, 0] for split in SPLITS}
    for text, split in pieces:
        split = split or split_of(text, val_fraction)
        if text:
            ids[split] += _tokenizer.encode_document(text)
            counts[split][0] += 1
            counts[split][1] += text_bytes(text)
    return {split: (np.array(ids[split], dtype=np.uint16), *counts[split]) for split in SPLITS}


@dataclass
class Task:
    pieces: list               # (text, split or None), see tokenize
    chunk_ends: bool = False
    position: tuple = (0, 0)   # after the last document
    documents: int = 0
    cut: int = 0               # documents that were cut


def tasks(documents, chunk_documents, val_fraction):
    """Group ((part, row), text) into tasks; where chunks end depends on the documents alone."""
    task, size, chunk_rows, chunk_size = Task([]), 0, 0, 0
    for task.position, text in documents:
        if len(text) > MAX_DOCUMENT_BYTES:  # the pieces of a text stay in one split
            split, task.cut = split_of(text, val_fraction), task.cut + 1
            for piece in cut(text):
                task.pieces.append((piece, split))
                size += text_bytes(piece)
                if size >= TASK_BYTES:
                    yield task
                    chunk_size += size
                    task, size = Task([], position=task.position), 0
        else:
            task.pieces.append((text, None))
            size += text_bytes(text)
        task.documents += 1
        chunk_rows += 1
        task.chunk_ends = chunk_rows == chunk_documents or chunk_size + size >= CHUNK_BYTES
        if size >= TASK_BYTES or task.chunk_ends:
            yield task
            chunk_rows, chunk_size = (0, 0) if task.chunk_ends else (chunk_rows, chunk_size + size)
            task, size = Task([], position=task.position), 0
    if task.documents or chunk_rows:
        task.chunk_ends = True
        yield task


def results_in_order(executor, run, documents, chunks):
    """Tokenize so many chunks with a few tasks in flight, so that memory stays level; yield (task, result) in order."""
    waiting = deque()
    for task in tasks(documents, run.chunk_documents, run.val_fraction):
        waiting.append((task, executor.submit(tokenize, task.pieces, run.val_fraction)))
        task.pieces = None
        chunks -= task.chunk_ends
        if not chunks:
            break
        if len(waiting) > 2 * run.num_workers:
            task, future = waiting.popleft()
            yield task, result_of(future)
    for task, future in waiting:
        yield task, result_of(future)


class Chunk:
    """What the results of one chunk add up to."""

    def __init__(self):
        self.ids = {split: bytearray() for split in SPLITS}
        self.counts = {split: np.zeros(2, dtype=np.int64) for split in SPLITS}

    def add(self, result):
        for split, (ids, *counts) in result.items():
            self.ids[split] += ids.tobytes()
            self.counts[split] += counts

    def write(self, run, manifest, tokenizer, position):
        """Write the shards, then the manifest that makes them count."""
        chunk = {"next": list(position)}
        for split in SPLITS:
            name = f"{split}_{len(manifest['chunks']):06d}.bin"
            ids = np.frombuffer(self.ids[split], dtype=np.uint16)
            write_shard(run.data_dir / name, ids, tokenizer)
            documents, size = self.counts[split].tolist()
            chunk[split] = {"file": name, "documents": documents, "tokens": len(ids), "bytes": size}
        manifest["chunks"].append(chunk)
        write_manifest(run.data_dir, manifest)


def make_shards(run, corpus, manifest, tokenizer):
    """Tokenize and write all chunks that are wanted and not yet there."""
    done = len(manifest["chunks"])
    start = tuple(manifest["chunks"][-1]["next"]) if done else (0, 0)
    size = sum(totals(manifest, split)["bytes"] for split in SPLITS)
    rows, row_bytes, cut_documents, chunk = 0, 0, 0, Chunk()
    with (children(run.num_workers, start_worker, (tokenizer.model,)) as executor,
          tqdm(unit="B", unit_scale=True, desc="tokenizing", initial=size, dynamic_ncols=True) as progress):
        for task, result in results_in_order(executor, run, corpus.documents(start), run.num_chunks - done):
            chunk.add(result)
            added = sum(size for _, _, size in result.values())
            rows, row_bytes, cut_documents = rows + task.documents, row_bytes + added, cut_documents + task.cut
            expected = size + row_bytes * run.chunk_documents * (run.num_chunks - done) // max(1, rows)
            progress.total = max(progress.n, min(expected, corpus.size or expected))
            progress.update(added)
            if task.chunk_ends:
                chunk.write(run, manifest, tokenizer, task.position)
                chunk = Chunk()
                progress.set_postfix_str(f"chunk {len(manifest['chunks'])} of at most {run.num_chunks}")
    manifest["complete"] = len(manifest["chunks"]) < run.num_chunks  # the corpus ended first: no more to be had
    write_manifest(run.data_dir, manifest)
    if cut_documents:
        print(f"{cut_documents} documents of over a million characters were cut.")


def main():
    run = settings.parse(PreprocessSettings, __doc__)
    settings.show(run)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        run.data_dir.mkdir(parents=True, exist_ok=True)
        corpus = open_corpus(run.dataset, run.text_column, run.seed)
        manifest = prepare_folder(run, corpus)
        done = len(manifest["chunks"])
        if manifest["complete"] or done >= run.num_chunks:
            print(f"{run.data_dir} is complete with {done} chunk{'s' * (done != 1)}; --overwrite makes it anew.")
        else:
            tokenizer = make_tokenizer(run, manifest, run.data_dir / manifest["tokenizer"])
            if done:
                print(f"Going on after chunk {done} of at most {run.num_chunks}.")
            make_shards(run, corpus, manifest, tokenizer)
        report(run, manifest)
    except (KeyboardInterrupt, SystemExit) as stop:
        print(f"\nStopped. Whole chunks are kept in {run.data_dir}; the same command goes on after them.")
        raise SystemExit(getattr(stop, "code", 130)) from None


def report(run, manifest):
    """Print what each split holds, and the next command."""
    for split in SPLITS:
        held = totals(manifest, split)
        print(f"{split:>6}: {held['documents']:>12,} documents {held['tokens']:>16,} tokens {held['bytes']:>16,} bytes"
              + (f"   {held['bytes'] / held['tokens']:.2f} bytes per token" if held["tokens"] else ""))
    if not totals(manifest, "val")["tokens"]:
        print("No document fell to validation, and training needs some. Run the same command again, with\n"
              f"    --overwrite --val-fraction {min(0.5, 10 * run.val_fraction):g}")
        return
    folder = f" --data-dir {run.data_dir}" if run.data_dir != Path("data/xcoax") else ""
    print(f"Next:\n    python train_xcoax.py{' config/tales.toml' if run.dataset == 'tales' else ''}{folder}")


if __name__ == "__main__":
    settings.run(main)
