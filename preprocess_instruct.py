"""
Turn instruction records into shards of examples: the response first, then the instruction to be written.

    python preprocess_instruct.py --vocab-size 8888                  # Open Instruct V1, streamed from the hub
    python preprocess_instruct.py --dataset tales --tokenizer out/tales/best_checkpoint.pt --data-dir data/instruct_tales
    python preprocess_instruct.py --dataset 'mine/*.jsonl,more.parquet' --data-dir data/mine

A record has the fields instruction, input and output, or others that say the same (response, context, prompt and
completion, messages); the tales are pairs about the embedded small world, for which no network is needed. Takes the
tokenizer that preprocess_xcoax.py has made, or that of the model to be fine-tuned. Writes data/instruct/train_*.bin and
val_*.bin, one pair for every 10,000 records, and last of all manifest.json, without which they count for nothing.
"""

import hashlib
import itertools
import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

import settings
from examples import PREPROCESS
from readers import expand_paths
from records import HUB, SUFFIXES, full_instruction, pair, read_records, shape_of
from shards import SPLITS, made_otherwise, read_manifest, split_of, totals, write_manifest, write_shard
from tokenizer import Tokenizer

CHUNK_RECORDS = 10_000
TALES_RECORDS = 40_000
BLOCK_SIZE = 1024
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
    """Share of the records kept for validation, chosen by a hash of instruction and input."""
    num_records: int | None = None
    """Records to read at most; by default all, and 40,000 of the tales, which have no end."""
    seed: int = 1
    """Which tales are told; the order of other records has no chance in it."""
    overwrite: bool = False
    """Throw away the shards that the folder holds and start anew."""

    def __post_init__(self):
        if self.tokenizer is None:
            self.tokenizer = Path(f"data/xcoax/tok{self.vocab_size}.model")
        if self.num_records is None and self.dataset == "tales":
            self.num_records = TALES_RECORDS
        if self.num_records is not None and self.num_records < 1 or not 0 < self.val_fraction < 1:
            raise ValueError("--num-records must be at least 1 and --val-fraction between 0 and 1")
        if self.block_size is not None and self.block_size < 32:
            raise ValueError(f"--block-size {self.block_size} has no room for an example; it must be at least 32")


def load_tokenizer(path):
    """The tokenizer of a .model file, or that of a checkpoint, and the block size that goes with it."""
    if path.suffix != ".pt":
        return Tokenizer.load(path), BLOCK_SIZE
    import checkpoint  # loads torch, which nothing else here needs
    content = checkpoint.load(path)
    return Tokenizer(content["tokenizer"]), content["config"]["block_size"]


def prepare_folder(run, tokenizer):
    """The manifest of what the folder holds, if a run with these very settings has made it, else a new one.

    Raises ValueError where it holds something else.
    """
    source = {"dataset": run.dataset, "num_records": run.num_records}
    if run.dataset == "tales":
        source["seed"] = run.seed
    elif run.dataset not in HUB and run.dataset not in [arguments["path"] for arguments in HUB.values()]:
        files = expand_paths(run.dataset, SUFFIXES, (*HUB, "tales"))
        source["files"] = {file: os.path.getsize(file) for file in files}
    wanted = {"kind": "instruct", "source": source, "direction": tokenizer.direction, "block_size": run.block_size,
              "val_fraction": run.val_fraction, "vocab_size": tokenizer.vocab_size,
              "tokenizer_sha256": tokenizer.sha256.hex()}
    path = run.data_dir / "manifest.json"
    if path.exists():
        found = read_manifest(run.data_dir, PREPROCESS)
        if found.get("kind") != "instruct":
            raise ValueError(f"{run.data_dir} holds the shards of a corpus, made by preprocess_xcoax.py. Choose "
                             "another --data-dir")
        if not run.overwrite:
            if refusal := made_otherwise(run.data_dir, found, wanted):
                raise refusal
            return found
        path.unlink()  # first of all: without it the shards count for nothing
        for shard in run.data_dir.glob("*.bin"):
            shard.unlink()
    return {**wanted, "chunks": []}


def examples(run, tokenizer, counts):
    """Yield (split, ids of the example, how many of them are targets, bytes of the instruction).

    counts gathers what was read, dropped and shortened, and why.
    """
    seen = set()
    template = len(tokenizer.encode_response("")[0])
    for where, record in itertools.islice(read_records(run.dataset, run.seed), run.num_records):
        instruction, given, output = pair(record, where)
        counts["read"] += 1
        counts[f"with {shape_of(record)}"] += 1
        if not instruction.strip() or not output.strip():
            counts["dropped: empty instruction" if not instruction.strip() else "dropped: empty output"] += 1
            continue
        key = json.dumps([instruction, given if given.strip() else ""], ensure_ascii=False)
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        if digest in seen:
            counts["dropped: same instruction and input as an earlier one"] += 1
            continue
        seen.add(digest)
        text = full_instruction(instruction, given)
        targets = tokenizer.encode_instruction(text)
        # Inputs and targets are the example without its last and without its first id: block_size + 1 ids fit.
        room = run.block_size + 1 - len(targets)
        ids, shortened = tokenizer.encode_response(output, room)
        if shortened and room - template < SHORTEST_RESPONSE:
            counts[f"dropped: instruction leaves less than {SHORTEST_RESPONSE} tokens of the response"] += 1
            continue
        counts["shortened: response lost its end"] += shortened
        counts["kept"] += 1
        yield (split_of(key, run.val_fraction), np.array([*ids, *targets], dtype=np.uint16), len(targets),
               len(text.encode("utf-8", "surrogatepass")))


def write_chunk(run, manifest, tokenizer, held):
    """Write the shards of one chunk and note them in the manifest."""
    chunk = {}
    for split in SPLITS:
        name = f"{split}_{len(manifest['chunks']):06d}.bin"
        part = [example for where, *example in held if where == split]
        ids = np.concatenate([np.empty(0, np.uint16), *(ids for ids, _, _ in part)])
        write_shard(run.data_dir / name, ids, tokenizer)
        chunk[split] = {"file": name, "documents": len(part), "tokens": len(ids),
                        "targets": sum(targets for _, targets, _ in part), "bytes": sum(size for _, _, size in part)}
    manifest["chunks"].append(chunk)


def main():
    run = settings.parse(PreprocessSettings, __doc__)
    tokenizer, block_size = load_tokenizer(run.tokenizer)
    run.block_size = run.block_size or block_size
    run.vocab_size = tokenizer.vocab_size
    settings.show(run)
    manifest = prepare_folder(run, tokenizer)
    if manifest["chunks"]:
        print(f"{run.data_dir} is complete; --overwrite makes it anew.")
        return report(run, manifest)
    counts, held = Counter(), []
    with tqdm(examples(run, tokenizer, counts), unit=" records", desc="examples", dynamic_ncols=True) as progress:
        for example in progress:
            held.append(example)
            if len(held) == CHUNK_RECORDS:
                write_chunk(run, manifest, tokenizer, held)
                held = []
    if not counts["kept"]:
        why = ", ".join(f"{name} ({count:,})" for name, count in counts.items() if name.startswith("dropped"))
        raise ValueError(f"{run.dataset} holds no record that can be used: {why or 'it is empty'}. Name another with "
                         "--dataset, or try --dataset tales")
    if held:
        write_chunk(run, manifest, tokenizer, held)
    manifest["counts"] = {name: count for name, count in counts.items() if count}
    write_manifest(run.data_dir, manifest)
    report(run, manifest)


def report(run, manifest):
    """Print what was read, dropped and shortened, what each split holds, and the next command."""
    for name, count in manifest["counts"].items():
        print(f"{count:>12,} records {name}" if name != "kept" else f"{count:>12,} records kept as examples")
    for split in SPLITS:
        held = totals(manifest, split)
        targets = sum(chunk[split]["targets"] for chunk in manifest["chunks"])
        print(f"{split:>6}: {held['documents']:>10,} examples {held['tokens']:>12,} tokens, {targets:>11,} of them in "
              f"instructions of {held['bytes']:>11,} bytes")
    if not totals(manifest, "val")["documents"]:
        print("No record fell to validation, and fine-tuning needs some: --overwrite with a larger --val-fraction.")
    config, data_dir, model = (" config/instruct_tales.toml", "data/instruct_tales", "out/tales/best_checkpoint.pt") if (
        run.dataset == "tales") else ("", "data/instruct", "out/xcoax/best_checkpoint.pt")
    flags = f" --data-dir {run.data_dir}" if run.data_dir != Path(data_dir) else ""
    if run.tokenizer.suffix == ".pt" and run.tokenizer != Path(model):
        flags += f" --model-path {run.tokenizer} --out-dir {run.tokenizer.parent}_{run.data_dir.name}"
    print(f"Next:\n    python finetune_xcoax.py{config}{flags}")


if __name__ == "__main__":
    settings.run(main)
