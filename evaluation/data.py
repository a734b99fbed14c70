"""
What models are evaluated on: documents and pairs of a held-out split or of files, and what a model was trained on.

A document is (text, source), a pair (response, instruction, source); source is None where nothing says it.
"""

import itertools
from functools import partial
from pathlib import Path

import numpy as np

from backchat.examples import Examples
from backchat.records import full_instruction, pair, read_records
from corpus.documents import open_corpus
from corpus.tales.kinds import kind_of
from evaluation.comparing import same_split
from program import commands
from shards import fingerprint, read_manifest, read_split
from shards.manifest import MANIFEST
from tokenizer import Tokenizer

SOURCES = ("source", "dump")  # columns that are looked for where none is named


def own_folder(opened, data_dir=None, root=Path("data")):
    """The folder of the shards that a model was trained on, known by the fingerprint that its checkpoint remembers:
    data_dir, or one beside it, or one in root; None where there is none."""
    named = [] if data_dir is None else [Path(data_dir) / MANIFEST,
                                         *sorted(Path(data_dir).resolve().parent.glob(f"*/{MANIFEST}"))]
    return next((path.parent for path in [*named, *sorted(root.glob(f"*/{MANIFEST}"))]
                 if path.is_file() and fingerprint(path.parent) == opened.settings.get("data")), None)


def folder_of(opened, data_dir, own):
    """The folder whose held-out split a model is evaluated on: data_dir, if given, else its own.

    Raises FileNotFoundError or ValueError where there is none, or where it is for models of the other kind.
    """
    make = partial(commands.preprocess, opened.kind)
    if data_dir is None and own is None:
        raise FileNotFoundError(
            f"No folder in data/ holds the shards that {opened.path} was trained on, and with them its held-out split. "
            "Name it with --data-dir, or other texts with --eval-data; or make the shards again:\n"
            f"    {make(dataset=commands.OWN)}")
    manifest = read_manifest(data_dir or own, make)
    if (kind := manifest.get("kind", "base")) != opened.kind:
        raise ValueError(f"{data_dir} holds the shards of a model of the kind {kind!r}, {opened.path} is of the kind "
                         f"{opened.kind!r}. Name the folder that it was trained on with --data-dir, or other texts "
                         "with --eval-data.")
    return Path(data_dir or own)


def folders_of(opened, settings, result):
    """The folder of the held-out split, None with --eval-data, and for each model the folder of the shards that it was
    trained on, None where that is not there. Notes which models may know what is held out."""
    own = [own_folder(one, settings.data_dir) for one in opened]
    if settings.eval_data is not None:
        return None, own
    held_out = folder_of(opened[0], settings.data_dir, own[0])
    for one, folder in zip(opened, own):
        if folder is None or not same_split(held_out, folder):
            result["notes"].append(f"{one.path} was not trained on the shards of {held_out} as they are now: it may "
                                   "know some of what they hold out.")
    return held_out, [own[0] or held_out, *own[1:]]


def fits(opened, data_dir):
    """Whether the shards of a folder are those of the model's own tokenizer."""
    return read_manifest(data_dir)["tokenizer_sha256"] == opened.tokenizer.sha256.hex()


def of_tales(data_dir):
    """Whether the shards of a folder hold the embedded tales, or pairs about them."""
    return read_manifest(data_dir)["source"]["dataset"] == "tales"


# ---- documents


def documents_of_split(data_dir, most):
    """Up to `most` documents of the validation split of a corpus, spread evenly over it."""
    tokenizer = Tokenizer.load(Path(data_dir) / read_manifest(data_dir)["tokenizer"])
    places = []  # (shard, first id, end) of each document
    for shard in read_split(data_dir, "val", tokenizer):
        ends = np.flatnonzero(np.asarray(shard.tokens) == tokenizer.eos_id)
        places += [(shard, start, end) for start, end in zip([0, *ends[:-1] + 1], ends)]
    if not places:
        raise ValueError(f"{data_dir} has no held-out document. Make the shards with a larger --val-fraction and "
                         "--overwrite, or name other texts with --eval-data.")
    return [(tokenizer.to_text(shard.tokens[start:end].tolist()), None)
            for shard, start, end in (places[i] for i in spread(len(places), most))]


def documents_of_corpus(dataset, most, text_column="text", source_column=None, documents="auto", seed=1):
    """Up to `most` documents of a corpus that preprocessing reads, and how many held no text; of files spread evenly,
    of what has no end the first."""
    corpus = open_corpus(dataset, text_column, seed, documents, source_columns=[source_column] if source_column else
                         SOURCES)
    rows = ((row.pieces, row.source) for row in corpus.documents())
    if corpus.size is None:
        found = list(itertools.islice(rows, most))
    else:
        found = thinned(rows, most)
    texts = [(piece, source) for pieces, source in found for piece in pieces]
    if not texts:
        raise ValueError(f"{dataset} holds no text to evaluate on. Name other texts with --eval-data.")
    return texts, sum(not pieces for pieces, _ in found)


# ---- pairs


def pairs_of_split(data_dir, tokenizer, split="val", most=None):
    """Up to `most` pairs of a split of examples, spread evenly over it; those of the tales say the kind of question as
    their source."""
    make = partial(commands.preprocess, "instruct")
    tales = split == "val" and of_tales(data_dir)
    examples, found = Examples(read_split(data_dir, split, tokenizer, make), block_size=1), []
    for index in spread(len(examples), len(examples) if most is None else most):
        ids, first = examples.row(index)
        response, instruction = tokenizer.to_text(ids[:first].tolist()), tokenizer.to_text(ids[first:].tolist())
        found.append((response, instruction, _kind(instruction) if tales else None))
    if not found:
        raise ValueError(f"{data_dir} has no held-out pair. Make the examples with a larger --val-fraction and "
                         "--overwrite, or name a file of records with --eval-data.")
    return found


def _kind(instruction):
    """The source of a pair of the tales."""
    return kind_of(instruction) or "other"


def pairs_of_file(dataset, most, source_column=None, seed=1):
    """Up to `most` pairs of the records that preprocess_instruct.py reads, and how many were passed over for an empty
    text; of the tales the first, of files spread evenly."""
    def rows():
        for where, record in read_records(dataset, seed):
            instruction, given, output = pair(record, where)
            source = _kind(instruction) if dataset == "tales" else next(
                (str(record[name]) for name in ([source_column] if source_column else SOURCES)
                 if record.get(name) is not None), None)
            empty = not instruction.strip() or not output.strip()
            yield None if empty else (output, full_instruction(instruction, given), source)

    found = list(itertools.islice(rows(), most)) if dataset == "tales" else thinned(rows(), most)
    pairs = [row for row in found if row]
    if not pairs:
        raise ValueError(f"{dataset} holds no record that can be used: all {len(found):,} lack an instruction or a "
                         "response. Name another file with --eval-data.")
    return pairs, len(found) - len(pairs)


# ---- some of many


def spread(count, most):
    """Up to `most` numbers below count, spread evenly."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int)).tolist() if count else []


def thinned(rows, most):
    """Up to `most` of rows, spread evenly over them; never more than twice as many are held."""
    kept, stride = [], 1
    for number, row in enumerate(rows):
        if number % stride == 0:
            kept.append(row)
            if len(kept) > 2 * most:
                kept, stride = kept[::2], 2 * stride
    return [kept[i] for i in spread(len(kept), most)]
