"""
All that is measured of base models, as plain values; a figure with an interval is {"value", "low", "high"}.
"""

from evaluation import data, samples, words
from evaluation.arrow import along_training, arrow, paired
from evaluation.bootstrap import interval
from evaluation.copies import copied
from evaluation.held_out import by_context, read
from evaluation.overlap import GRAM, left
from evaluation.progress import bar
from sampling.decoding import Decoder
from shards import read_split


def evaluate(opened, settings, result, rows_of):
    """Fill in result what is measured: a dict "found" in each of its "models", "overlap", "arrow", and "notes".

    settings are those of evaluate_xcoax.py; rows_of(path) gives the rows of the metrics.jsonl beside a checkpoint.
    """
    held_out, folders = data.folders_of(opened, settings, result)
    documents = _documents(held_out, settings, result)
    shards = [read_split(folder, "train", one.tokenizer) if folder and data.fits(one, folder) else None
              for one, folder in zip(opened, folders)]
    documents = _without_overlap(opened[0].tokenizer, documents, shards[0], settings, result)
    models = []
    for one, about, own in zip(opened, result["models"], shards):
        readings = read_documents(one, documents)
        about["found"] = {**loss(readings, settings.seed), **parts(readings, settings.seed)}
        if settings.num_samples:
            about["found"]["texts"] = texts(one, documents, settings.controls, settings.num_samples, own)
        models.append({**about, "readings": readings})
    if {model["direction"] for model in models} == {"forward", "reverse"}:
        result["arrow"] = _arrow(models, settings, result, rows_of)


def _documents(held_out, settings, result):
    """The documents that are read: of the folder of a held-out split, or of --eval-data."""
    if settings.eval_data is None:
        return data.documents_of_split(held_out, settings.max_documents)
    documents, empty = data.documents_of_corpus(settings.eval_data, settings.max_documents, settings.text_column,
                                                settings.source_column, settings.documents, settings.seed)
    if empty:
        result["notes"].append(f"{empty:,} documents of {settings.eval_data} hold no text and were passed over.")
    return documents


def _without_overlap(tokenizer, documents, shards, settings, result):
    """Count the documents that share a passage with the training data; leave them out where that is wished."""
    if shards is None:
        result["notes"].append("Overlap with the training data and copies from it were not looked for: its shards are "
                               "not there.")
        return documents
    shared = passages(tokenizer, documents, shards)
    result["overlap"] = {"of": len(documents), "passage": sum(shared)}
    return left(documents, shared, settings, result, f"a run of {GRAM} tokens", "--max-documents")


def _arrow(models, settings, result, rows_of):
    """What is compared of models of both directions, result["models"] with their "readings"."""
    pairs = paired(models)
    if 2 * len(pairs) < len(models):
        result["notes"].append(f"Only {2 * len(pairs)} of the {len(models)} models are of both directions and the "
                               "same seed; the arrow of time is theirs.")
    curves = [along_training(*(rows_of(model["path"]) for model in pair)) for pair in pairs]
    return arrow([tuple(model["readings"] for model in pair) for pair in pairs], settings.seed,
                 list(filter(None, curves)))


def read_documents(opened, documents):
    """A Reading of each of documents, pairs (text, source)."""
    tokens = sum(len(opened.tokenizer.encode_text(text)) + 1 for text, _ in documents)
    with bar(tokens, "tokens", "reading") as progress:
        return read(Decoder(opened.model, opened.dtype), opened.tokenizer, documents, progress.update)


def loss(readings, seed):
    """Bits per byte and nats per token of readings, over documents, and how much was read."""
    nats, tokens = [reading.nats.sum() for reading in readings], [len(reading.nats) for reading in readings]
    return {"bits_per_byte": bits_per_byte(readings, seed), "nats_per_token": interval(nats, tokens, seed),
            "documents": len(readings), "tokens": sum(tokens), "bytes": sum(reading.bytes for reading in readings)}


def bits_per_byte(readings, seed):
    return interval([reading.bits for reading in readings], [reading.bytes for reading in readings], seed)


def parts(readings, seed):
    """The same by what is read: by source, by the tokens that were seen before, by kind of word; and single words."""
    sources = sorted({reading.source for reading in readings if reading.source is not None})
    most, least = words.surprising(readings)
    return {
        "by_source": {source: {"documents": len(some), **bits_per_byte(some, seed)} for source in sources
                      if (some := [reading for reading in readings if reading.source == source])},
        "by_context": [{"tokens_seen": seen, "bits_per_byte": bits / size, "bytes": size}
                       for seen, bits, size, _ in by_context(readings) if size],
        "by_kind": {kind: {"bits_per_word": bits / count, "share_of_bits": bits / sum(r.bits for r in readings),
                           "words": count} for kind, (bits, count, _) in words.by_kind(readings).items()},
        "most_surprising": most, "least_surprising": least}


def texts(opened, documents, controls, count, shards):
    """So many texts that it writes out of nothing, beside as many that it has not seen; shards are those that it was
    trained on, or None."""
    tokenizer, decoder = opened.tokenizer, Decoder(opened.model, opened.dtype)
    written = samples.write(decoder, tokenizer, controls, count)
    true = samples.held_out(tokenizer, [text for text, _ in documents][:count], controls.tokens)
    return {**samples.compare(tokenizer, written, true, shards),
            "samples": [tokenizer.to_text(row) for row, _ in written[:samples.SHOWN]]}


def passages(tokenizer, documents, shards):
    """For each of documents, whether a run of GRAM tokens of it stands in the shards that a model was trained on."""
    rows = [tokenizer.encode_text(text) for text, _ in documents]
    with bar(sum(len(shard.tokens) for shard in shards), "tokens", "looking for overlap") as progress:
        return [bool(marked.any()) for marked in copied(rows, shards, GRAM, progress.update)]

