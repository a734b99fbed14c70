"""
Turn a corpus into a tokenizer and shards of token ids.

    python preprocess_xcoax.py --vocab-size 8888 --num-chunks 1000     # FineWeb's sample-100BT, streamed from the hub
    python preprocess_xcoax.py --dataset tales --vocab-size 4096       # the embedded corpus: no network needed
    python preprocess_xcoax.py --dataset 'texts/*.txt,more.parquet' --data-dir data/mine

Writes data/xcoax/tok8888.model (the number is the vocabulary size), train_*.bin and val_*.bin, one pair for every chunk
of 10,000 documents, and manifest.json. Stopped at any moment, the same command goes on after the last whole chunk (or
begins anew, while there is no tokenizer); more --num-chunks lengthen what is there. --check reads what is there.
"""

import os
import signal
import sys
from collections import Counter
from concurrent.futures import wait
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from characters import utf8
from corpus.documents import open_corpus
from program import commands
from program.files import atomic_write, locked_folder
from program.processes import children
from program.settings import launch, parse, show
from program.streams import say
from reverse import reading_units
from shards import SPLITS, totals, write_manifest
from shards.folder import MOST_VAL_FRACTION, add_chunk, check, check_val_fraction, clear, prepare
from shards.manifest import tokenizer_name
from shards.tokenizing import chunks, workers
from tokenizer import Tokenizer, check_vocab_size, train_tokenizer

SAMPLE_BYTES = 40_000_000  # of text that the tokenizer is trained on
VARIED_CHARACTERS = 12_000_000
FEW_DOCUMENTS = 10        # no share of so few gives both splits some
NOTED = {"cut": "documents of over a million characters were cut",
         "empty": "rows were passed over: null, empty, or white space",
         "bad": "rows were passed over: bad by themselves (--skip-bad-records)"}
MOST_WORKERS = 8          # by default: each takes about 100 MB, and one reader cannot feed many more


@dataclass
class PreprocessSettings:
    """Corpus, tokenizer, and where to put them."""

    dataset: str = "fineweb"
    """fineweb, tinystories (both from the hub), tales (embedded), or paths: .parquet, .jsonl, .txt files, folders and
    globs, divided by commas."""
    text_column: str = "text"
    """Column of a table, or field of a .jsonl record, that holds the text."""
    documents: Literal["auto", "files", "paragraphs", "lines"] = "auto"
    """What is a document of a .txt file: all of it (files), what stands between blank lines (paragraphs), or each line;
    auto divides a file at its <|endoftext|> lines, and takes one that has none whole."""
    skip_bad_records: bool = False
    """Pass over records that are bad by themselves (no JSON, no such field, no text, not UTF-8) and count them."""
    vocab_size: int = 8888
    """Pieces of the tokenizer, special ones included. Too many for the corpus is an error that names what fits."""
    tokenizer: Path | None = None
    """A .model file made before, for a corpus that a model of another one is to go on with; by default a tokenizer is
    trained."""
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
    """Start anew, and throw away the tokenizer and the shards that the folder holds once there is a new tokenizer."""
    check: bool = False
    """Only read every token of the shards that the folder holds, and say whether they are as they were written."""

    def __post_init__(self):
        check_vocab_size(self.vocab_size)
        numbers = [number for number in (self.num_chunks, self.chunk_documents, self.num_workers) if number is not None]
        if min(numbers) < 1:
            raise ValueError("--num-chunks, --chunk-documents and --num-workers must be at least 1")
        check_val_fraction(self.val_fraction)

    def derive(self):
        if self.num_chunks is None:
            self.num_chunks = 4 if self.dataset == "tales" else 1000
        if self.tokenizer:
            given = Tokenizer.load(self.tokenizer)
            self.vocab_size = given.vocab_size
            if given.direction != self.direction:
                raise ValueError(f"{self.tokenizer} is a tokenizer of {given.direction} text. Read the corpus so, too: "
                                 f"--direction {given.direction}")
        if self.num_workers is None:
            self.num_workers = min(MOST_WORKERS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity")
                                   else os.cpu_count() or 1)

    def corpus(self):
        """What open_corpus takes."""
        return self.dataset, self.text_column, self.seed, self.documents, self.skip_bad_records


def prepare_folder(settings, corpus):
    """The manifest of an interrupted or shorter run that this one continues, or a new one.

    Raises ValueError if the folder holds something else.
    """
    manifest = prepare(settings.data_dir, {
        "source": corpus.source, "direction": settings.direction, "val_fraction": settings.val_fraction,
        "tokenizer": tokenizer_name(settings.vocab_size), "vocab_size": settings.vocab_size,
        "chunk_documents": settings.chunk_documents}, overwrite=settings.overwrite)
    manifest.setdefault("complete", False)
    if settings.tokenizer and manifest.get("tokenizer_sha256"):
        given = Tokenizer.load(settings.tokenizer)
        if given.sha256.hex() != manifest["tokenizer_sha256"]:
            raise ValueError(f"{settings.data_dir} holds shards of another tokenizer than {settings.tokenizer}. Choose "
                             "another --data-dir, or replace all with --overwrite")
    return manifest


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


def take_sample(*corpus):
    """Texts to train the tokenizer on, from all over the corpus that open_corpus makes of these arguments."""
    sample = open_corpus(*corpus).sample(SAMPLE_BYTES)
    while len(sample) > 1 and too_varied(sample):
        sample = sample[::2]
    return sample


def learn_tokenizer(settings):
    """Train a tokenizer on a sample of the corpus.

    A child does it: its memory is given back, and Ctrl-C need not wait for the trainer, which cannot be asked to stop.
    """
    say(f"Reading a sample of {settings.dataset} for the tokenizer …")
    with children(1) as executor:
        sample = executor.submit(take_sample, *settings.corpus()).result()
        if not any(text.strip() for text in sample):
            but = (" but records that are bad by themselves; without --skip-bad-records the first is named"
                   if settings.skip_bad_records else "")
            raise ValueError(f"{settings.dataset} holds no text{but}. Name another corpus, or try --dataset tales")
        size = sum(map(utf8.length, sample)) / 1e6
        say(f"Training a tokenizer of {settings.vocab_size:,} pieces on {size:,.1f} MB …")
        training = executor.submit(train_tokenizer, sample, settings.vocab_size, settings.direction)
        with tqdm(desc="training the tokenizer", bar_format="{desc}: {elapsed}", leave=False, disable=None) as progress:
            while not wait([training], timeout=1).done:
                progress.refresh()
        return Tokenizer(training.result())


def make_tokenizer(settings, manifest, path):
    """Load the tokenizer that is given or that an earlier run has written, or train one on a sample of the corpus.

    The sample is drawn from the whole corpus whatever --num-chunks, so that a run lengthened later equals a long one.
    A run that ends before the tokenizer is written leaves nothing of the sample: the next one draws the same again.
    """
    if "tokenizer_sha256" in manifest and path.exists():
        tokenizer = Tokenizer.load(path)
    else:
        tokenizer = Tokenizer.load(settings.tokenizer) if settings.tokenizer else learn_tokenizer(settings)
        if settings.overwrite:
            clear(settings.data_dir)
        if not manifest["chunks"]:
            write_tokenizer(path, tokenizer)
    if manifest.setdefault("tokenizer_sha256", tokenizer.sha256.hex()) != tokenizer.sha256.hex():
        raise ValueError(f"{path} is not the tokenizer that the shards in {settings.data_dir} were made with. Put that "
                         "one back, or replace all with --overwrite")
    if not path.exists():
        write_tokenizer(path, tokenizer)
    write_manifest(settings.data_dir, manifest)
    return tokenizer


def write_tokenizer(path, tokenizer):
    with atomic_write(path) as file:
        file.write(tokenizer.model)


def make_shards(settings, corpus, manifest, tokenizer):
    """Tokenize and write all chunks that are wanted and not yet there."""
    done, data_dir, fault = len(manifest["chunks"]), settings.data_dir, None
    start = tuple(manifest["chunks"][-1]["next"]) if done else (0, 0)
    earlier, documents, size = sum(totals(manifest, split)["bytes"] for split in SPLITS), 0, 0

    def advance(more_documents, more_bytes):
        nonlocal documents, size
        documents, size = documents + more_documents, size + more_bytes
        expected = earlier + size * settings.chunk_documents * (settings.num_chunks - done) // max(1, documents)
        progress.total = max(progress.n, min(expected, corpus.size or expected))
        progress.update(more_bytes)

    with (workers(settings.num_workers, data_dir / manifest["tokenizer"]) as executor,
          tqdm(unit="B", unit_scale=True, desc="tokenizing", initial=earlier, dynamic_ncols=True,
               disable=None) as progress):
        for chunk in chunks(executor, corpus.documents(start), settings.num_chunks - done, settings.chunk_documents,
                            settings.val_fraction, 2 * settings.num_workers, advance):
            add_chunk(data_dir, manifest, tokenizer, chunk.held(), next=list(chunk.position), noted=chunk.noted)
            write_manifest(data_dir, manifest)
            fault = fault or chunk.fault
            there = f"chunk {len(manifest['chunks']):,} of at most {settings.num_chunks:,}"
            progress.set_postfix_str(there)
            if progress.disable:
                say(f"{there} is written")
    manifest["complete"] = len(manifest["chunks"]) < settings.num_chunks  # the corpus ended first: no more to be had
    write_manifest(data_dir, manifest)
    if fault:
        say(f"Passed over, as the first of the bad: {fault}")


def preprocess(settings):
    """Make what is wanted and not yet there of a folder that is locked; returns its manifest."""
    corpus = open_corpus(*settings.corpus())
    if corpus.divided:
        say(f"{corpus.divided} (--documents {settings.documents}).")
    manifest = prepare_folder(settings, corpus)
    done = len(manifest["chunks"])
    if manifest["complete"] or done >= settings.num_chunks:
        say(f"{settings.data_dir} is complete with {done} chunk{'s' * (done != 1)}; --overwrite makes it anew.")
        return manifest
    tokenizer = make_tokenizer(settings, manifest, settings.data_dir / manifest["tokenizer"])
    if done:
        say(f"Going on after chunk {done} of at most {settings.num_chunks}.")
    make_shards(settings, corpus, manifest, tokenizer)
    return manifest


def main():
    settings = parse(PreprocessSettings, __doc__)
    if settings.check:
        return say(check(settings.data_dir))
    show(settings)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with locked_folder(settings.data_dir):
            report(settings, preprocess(settings))
    except (KeyboardInterrupt, SystemExit) as stop:
        say(f"\nStopped. Whole chunks are kept in {settings.data_dir}; the same command goes on after them.")
        raise SystemExit(getattr(stop, "code", 130)) from None


def report(settings, manifest):
    """Print what each split holds, and the next command, or what is missing for it."""
    held = {split: totals(manifest, split) for split in SPLITS}
    for split, counts in held.items():
        say(f"{split:>6}: {counts['documents']:>12,} documents {counts['tokens']:>16,} tokens "
            f"{counts['bytes']:>16,} bytes"
            + (f"   {counts['bytes'] / counts['tokens']:.2f} bytes per token" if counts["tokens"] else ""))
    noted = sum((Counter(chunk.get("noted")) for chunk in manifest["chunks"]), Counter())
    for name, meaning in NOTED.items():
        if noted[name]:
            say(f"{noted[name]:>14,} {meaning}")
    longest = {split: max((chunk[split]["tokens"] for chunk in manifest["chunks"]), default=0) for split in SPLITS}
    if min(longest.values()) < commands.smallest_window():
        say(what_is_missing(settings, manifest["source"], held, longest))
    else:
        tokens = held["train"]["tokens"]
        say(f"Next:\n    {commands.train_on(settings.data_dir, settings.dataset, tokens, min(longest.values()))}")


def what_is_missing(settings, source, held, longest):
    """What a corpus needs, in whose longest chunks a split has no window: held and longest are counts by split."""
    needed, documents = commands.smallest_window(), sum(counts["documents"] for counts in held.values())
    finer = {"auto": "paragraphs", "files": "paragraphs", "paragraphs": "lines"}.get(source.get("documents"))
    if documents < FEW_DOCUMENTS and finer:
        return (f"{documents} document{'s are' * (documents != 1) or ' is'} too few to train on some and validate with "
                "others. A text file without <|endoftext|> lines is one document: put such lines between its chapters, "
                "or say what else divides it, lines or paragraphs (blank lines):\n"
                f"    --overwrite --val-fraction 0.1 --documents {finer}")
    if longest["train"] < needed:
        return (f"Training needs a chunk of {needed} tokens at least, the longest has {longest['train']}: more text is "
                "needed.")
    too_short = f"Validation needs {needed} tokens of one chunk at least, the most are {longest['val']}"
    if settings.val_fraction >= MOST_VAL_FRACTION:
        return f"{too_short}: more documents are needed."
    share = 4 * needed / sum(counts["tokens"] for counts in held.values())
    larger = min(MOST_VAL_FRACTION, max(share, 10 * settings.val_fraction))
    return f"{too_short}. Run the same command again, with\n    --overwrite --val-fraction {larger:.2g}"


if __name__ == "__main__":
    launch(main)
