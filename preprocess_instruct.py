"""
Turn instruction records into shards of examples: the response first, then the instruction to be written; for a
forward model the instruction first.

    python preprocess_instruct.py --vocab-size 8888          # Open Instruct V1, streamed from the hub
    python preprocess_instruct.py --dataset tales --tokenizer out/tales/best_checkpoint.pt
    python preprocess_instruct.py --dataset 'mine/*.jsonl,more.parquet' --data-dir data/mine

A record has the fields instruction, input and output, or others that say the same (response, context, prompt and
completion, messages); the tales are pairs about the embedded small world, for which no network is needed. Takes the
tokenizer that preprocess_xcoax.py has made, or that of the model to be fine-tuned. Writes data/instruct/train_*.bin and
val_*.bin, one pair for every 10,000 records, and last of all manifest.json, without which they count for nothing.
"""

import hashlib
import itertools
import json
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from backchat.records import files_of, full_instruction, normalised, pair, read_records, shape_of
from backchat.template import encode_pair, response_room
from characters import utf8
from corpus import hub
from corpus.files import identity
from program import commands
from program.files import locked_folder
from program.settings import launch, parse, show
from program.streams import say
from shards import SPLITS, split_of, totals, write_manifest
from shards.folder import MOST_VAL_FRACTION, add_chunk, check, check_val_fraction, prepare, replacing
from tokenizer import Tokenizer, check_vocab_size

CHUNK_RECORDS = 10_000
TALES_RECORDS = 40_000
BLOCK_SIZE = 1024
SAID = {"bad": "dropped: bad by themselves", "kept": "kept as examples"}  # of counts that do not say it themselves
SHORTEST_RESPONSE = 16  # tokens; less of a longer response says too little about its instruction


@dataclass
class PreprocessSettings:
    """Records, tokenizer, and where to put the examples."""

    dataset: str = "open-instruct"
    """open-instruct (from the hub), tales (embedded), or paths: .json, .jsonl, .parquet files, folders and globs,
    divided by commas."""
    vocab_size: int = 8888
    """Pieces of the tokenizer; with it goes the path data/xcoax/tok8888.model."""
    tokenizer: Path | None = None
    """The tokenizer: a .model file, or a checkpoint, which holds one; by default data/xcoax/tok{vocab_size}.model."""
    data_dir: Path = Path("data/instruct")
    """Folder to write to."""
    block_size: int | None = None
    """Tokens that the model to be fine-tuned sees at once: a response that makes an example longer loses its end. By
    default that of the model where --tokenizer is a checkpoint, else 1,024."""
    val_fraction: float = 0.02
    """Share of the records kept for validation, chosen by a hash of the response's words: the same response never
    stands in both splits."""
    num_records: int | None = None
    """Records to read at most; by default all, and 40,000 of the tales, which have no end."""
    seed: int = 1
    """Which tales are told; the order of other records has no chance in it."""
    skip_bad_records: bool = False
    """Pass over records that are bad by themselves (no JSON, no such fields, no text, not UTF-8) and count them."""
    overwrite: bool = False
    """Start anew, and throw away the shards that the folder holds once there are new examples."""
    check: bool = False
    """Only read every token of the shards that the folder holds, and say whether they are as they were written."""

    def __post_init__(self):
        check_vocab_size(self.vocab_size)
        if self.num_records is not None and self.num_records < 1:
            raise ValueError("--num-records must be at least 1")
        check_val_fraction(self.val_fraction)
        if self.block_size is not None and self.block_size < 32:
            raise ValueError(f"--block-size {self.block_size} has no room for an example; it must be at least 32")

    def derive(self):
        if self.tokenizer is None:
            self.tokenizer = Path(f"data/xcoax/tok{self.vocab_size}.model")
        if self.num_records is None and self.dataset == "tales":
            self.num_records = TALES_RECORDS


def load_tokenizer(path):
    """The tokenizer of a .model file, or that of a checkpoint, and the block size that goes with it."""
    if path.suffix != ".pt":
        return Tokenizer.load(path), BLOCK_SIZE
    from checkpoint import open_tokenizer  # loads torch, which nothing else here needs
    return open_tokenizer(path)


def prepare_folder(settings, tokenizer):
    """The manifest of what the folder holds, if a run with these very settings has made it, else a new one.

    Raises ValueError where it holds something else.
    """
    source = {"dataset": settings.dataset, "num_records": settings.num_records}
    if settings.dataset == "tales":
        source["seed"] = settings.seed
    elif not hub.find_records(settings.dataset):
        source["files"] = {file: identity(file) for file in files_of(settings.dataset)}
    return prepare(settings.data_dir, {
        "kind": "instruct", "source": source, "direction": tokenizer.direction, "block_size": settings.block_size,
        "val_fraction": settings.val_fraction, "vocab_size": tokenizer.vocab_size,
        "tokenizer_sha256": tokenizer.sha256.hex()}, "instruct", settings.overwrite)


def examples(settings, tokenizer, counts):
    """Yield (split, ids of the example, how many of them are targets, bytes of the text that these are).

    counts gathers what was read, dropped and shortened, and why.
    """
    def on_bad(error):
        if not settings.skip_bad_records:
            raise ValueError(f"{error}\nTo go on without what is bad by itself: --skip-bad-records") from error
        if not counts["bad"]:
            say(f"Passed over, as the first of the bad: {error}")
        counts["read"] += 1
        counts["bad"] += 1

    seen = set()
    for where, record in itertools.islice(read_records(settings.dataset, settings.seed, on_bad), settings.num_records):
        try:
            instruction, given, output = pair(record, where)
        except ValueError as error:
            on_bad(error)
            continue
        counts["read"] += 1
        counts[f"with {shape_of(record)}"] += 1
        if not instruction.strip() or not output.strip():
            counts["dropped: empty instruction" if not instruction.strip() else "dropped: empty output"] += 1
            continue
        key = json.dumps([instruction, given if given.strip() else ""], ensure_ascii=False)
        digest = hashlib.blake2b(utf8.encode(key), digest_size=8).digest()
        if digest in seen:
            counts["dropped: same instruction and input as an earlier one"] += 1
            continue
        seen.add(digest)
        text = full_instruction(instruction, given)
        ids, targets, shortened = encode_pair(tokenizer, output, text, settings.block_size)
        if shortened and response_room(tokenizer, text, settings.block_size) < SHORTEST_RESPONSE:
            counts[f"dropped: instruction leaves less than {SHORTEST_RESPONSE} tokens of the response"] += 1
            continue
        counts["shortened: response lost its end"] += shortened
        counts["kept"] += 1
        yield (split_of(normalised(output), settings.val_fraction), np.array([*ids, *targets], dtype=np.uint16),
               len(targets), utf8.length(tokenizer.to_text(targets)))


def joined(examples):
    """The examples of a chunk as add_chunk takes them: {split: (ids, counts)}."""
    held = {}
    for split in SPLITS:
        part = [example for where, *example in examples if where == split]
        held[split] = (np.concatenate([np.empty(0, np.uint16), *(ids for ids, _, _ in part)]), {
            "documents": len(part), "targets": sum(targets for _, targets, _ in part),
            "bytes": sum(size for _, _, size in part)})
    return held


def make_examples(settings, tokenizer):
    """Make the shards of a folder that is locked, unless they are there; returns its manifest."""
    manifest = prepare_folder(settings, tokenizer)
    if manifest["chunks"]:
        say(f"{settings.data_dir} is complete; --overwrite makes it anew.")
        return manifest
    with replacing(settings.data_dir, "instruct") as folder:
        manifest["counts"] = write_examples(settings, tokenizer, manifest, folder)
    write_manifest(settings.data_dir, manifest)
    return manifest


def write_examples(settings, tokenizer, manifest, folder):
    """Write all shards to a folder, note them in manifest, and return the counts of records by what became of them.

    Raises ValueError where no record can be used.
    """
    counts = Counter()
    with tqdm(examples(settings, tokenizer, counts), unit=" records", desc="examples", dynamic_ncols=True,
              disable=None) as progress:
        stream = iter(progress)
        while chunk := list(itertools.islice(stream, CHUNK_RECORDS)):
            add_chunk(folder, manifest, tokenizer, joined(chunk))
            if progress.disable:
                say(f"{counts['read']:,} records read, {counts['kept']:,} kept")
    if not counts["kept"]:
        why = ", ".join(f"{SAID.get(name, name)} ({count:,})" for name, count in counts.items()
                        if SAID.get(name, name).startswith("dropped"))
        raise ValueError(f"{settings.dataset} holds no record that can be used: {why or 'it is empty'}. Name another "
                         "with --dataset, or try --dataset tales")
    return {name: count for name, count in counts.items() if count}


def main():
    settings = parse(PreprocessSettings, __doc__)
    if settings.check:
        return say(check(settings.data_dir, partial(commands.preprocess, "instruct", tokenizer=settings.tokenizer)))
    tokenizer, block_size = load_tokenizer(settings.tokenizer)
    settings.block_size = settings.block_size or block_size
    settings.vocab_size = tokenizer.vocab_size
    show(settings)
    with locked_folder(settings.data_dir):
        report(settings, make_examples(settings, tokenizer))


def report(settings, manifest):
    """Print what was read, dropped and shortened, what each split holds, and the next command."""
    for begins in ("read", "with", "bad", "dropped", "shortened", "kept"):
        for name, count in manifest["counts"].items():
            if name.startswith(begins):
                say(f"{count:>12,} records {SAID.get(name, name)}")
    learned = "instructions" if manifest["direction"] == "reverse" else "responses"
    for split in SPLITS:
        held = totals(manifest, split)
        say(f"{split:>6}: {held['documents']:>10,} examples {held['tokens']:>12,} tokens, {held['targets']:>11,} of "
              f"them in {learned} of {held['bytes']:>11,} bytes")
    if not all(totals(manifest, split)["documents"] for split in SPLITS):
        larger = min(MOST_VAL_FRACTION, 10 * settings.val_fraction)
        say("All records fell to one split, and fine-tuning needs some to train on and some to validate with: "
            + ("more records are needed." if settings.val_fraction >= MOST_VAL_FRACTION else
               f"run the same command again, with\n    --overwrite --val-fraction {larger:g}"))
        return
    suits = settings.tokenizer  # its own, if it is that of a model
    if suits.suffix != ".pt":
        suits = Path("out", suits.resolve().parent.name, "best_checkpoint.pt")  # as preprocess_xcoax.py recommends it
    if not suits.exists():
        say(f"There is no base model {suits} yet: train one with this tokenizer first.")
    elif suits != settings.tokenizer and load_tokenizer(suits)[0].sha256.hex() != manifest["tokenizer_sha256"]:
        say(f"{suits} has another tokenizer: train a base model with this one first, or name that file as --tokenizer.")
    tokens, block_size = totals(manifest, "train")["tokens"], manifest["block_size"]
    say(f"Next:\n    {commands.tune_on(settings.data_dir, suits, settings.dataset, tokens, block_size)}")


if __name__ == "__main__":
    launch(main)
