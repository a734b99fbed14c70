"""
All that is measured of a base model, as plain values; a figure with an interval is {"value", "low", "high"}.
"""

from evaluation import samples, words
from evaluation.bootstrap import interval
from evaluation.copies import copied
from evaluation.held_out import by_context, read
from evaluation.overlap import GRAM
from evaluation.progress import bar
from sampling.decoding import Decoder


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

