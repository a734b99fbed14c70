"""
How fast text is cut, reversed and tokenized on one core.

    python bench/bench_text.py texts.parquet
    python bench/bench_text.py a.txt b.txt --megabytes 5 --tokenizer data/xcoax/tok8888.model

Reads .parquet, .jsonl and .txt files as preprocess_xcoax.py does. A rate is megabytes of UTF-8 of the original text per
second, the best of --rounds. "Cold" begins with an empty cache of units, "warm" with all units of the text in it.
Without --tokenizer one is trained on the text itself.
"""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from characters import utf8
from corpus.documents import open_corpus
from program.settings import launch, parse
from program.streams import say
from reverse import reverse, segments, units
from tokenizer import Tokenizer, train_tokenizer


@dataclass
class BenchSettings:
    paths: tyro.conf.Positional[tuple[Path, ...]]
    """.parquet and text files."""
    megabytes: float = 10.0
    """Megabytes of text to take of each file."""
    text_column: str = "text"
    """Column of a Parquet file that holds the text."""
    tokenizer: Path | None = None
    """A .model file; None trains one on the text."""
    vocab_size: int = 8888
    """Pieces of the tokenizer that is trained."""
    rounds: int = 3
    """Runs of each measurement; the fastest counts."""


def documents(path, text_column):
    """The documents of a file, one after the other."""
    return (piece for row in open_corpus(path, text_column).documents() for piece in row.pieces)


def read(settings, path):
    """Documents from the beginning of a file, and how many megabytes they are."""
    texts, size = [], 0
    for text in documents(path, settings.text_column):
        if size >= settings.megabytes * 1e6:
            break
        texts.append(text)
        size += utf8.length(text)
    if not size:
        raise ValueError(f"{path} holds no text")
    return texts, size / 1e6


def import_seconds(module):
    """How long a fresh interpreter takes to import a module, beyond starting."""
    code = f"import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout)


def seconds(function, texts, rounds, prepare=lambda: None):
    """The shortest time that function takes for all texts."""
    taken = []
    for _ in range(rounds):
        prepare()
        start = time.perf_counter()
        for text in texts:
            function(text)
        taken.append(time.perf_counter() - start)
    return min(taken)


def main():
    settings = parse(BenchSettings, __doc__)
    if not settings.paths or settings.rounds < 1:
        raise ValueError("name at least one file, and at least one round: python bench/bench_text.py texts.parquet")
    corpus = {path: read(settings, path) for path in settings.paths}
    if settings.tokenizer:
        tokenizer = Tokenizer.load(settings.tokenizer)
    else:
        sample = (text for texts, _ in corpus.values() for text in texts)
        tokenizer = Tokenizer(train_tokenizer(sample, settings.vocab_size))
    took = min(import_seconds("reverse") for _ in range(settings.rounds))
    say(f"import reverse {1000 * took:.0f} ms; {tokenizer.vocab_size:,} pieces; rates in MB/s\n")
    columns = ("segments", "reverse", "units", "encode cold", "encode warm", "bytes/token", "MB")
    width = max(len(path.name) for path in settings.paths)
    say(" ".join([" " * width, *(f"{name:>11}" for name in columns)]))
    for path, (texts, size) in corpus.items():
        rates = [size / seconds(function, texts, settings.rounds) for function in (segments, reverse, units)]
        rates.append(size / seconds(tokenizer.encode_text, texts, settings.rounds, prepare=tokenizer._cache.clear))
        rates.append(size / seconds(tokenizer.encode_text, texts, settings.rounds))
        tokens = sum(len(tokenizer.encode_text(text)) for text in texts)
        say(" ".join([f"{path.name:<{width}}", *(f"{rate:>11.1f}" for rate in rates),
                      f"{1e6 * size / tokens:>11.2f}", f"{size:>11.1f}"]))


if __name__ == "__main__":
    launch(main)
