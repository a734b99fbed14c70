"""
Texts that a base model writes out of nothing, beside held-out ones: are they as varied, as long, and its own?
"""

import torch

from evaluation.copies import COPIED, copied, share
from evaluation.progress import bar
from evaluation.texts import portrait, words
from sampling import generate_batch

SHOWN = 6         # samples that are kept whole
_ROWS = 64        # texts written at the same time


def write(decoder, tokenizer, controls, count):
    """So many texts, from bos alone: pairs (ids, whether the text was finished)."""
    generator = torch.Generator(decoder.device).manual_seed(controls.seed)
    rows, ended = [[] for _ in range(count)], set()
    with bar(len(rows), "texts", "writing") as progress:
        for step in generate_batch(decoder, [[tokenizer.bos_id]] * len(rows), controls.tokens, batch_size=_ROWS,
                                   stop_ids=tokenizer.stop_ids, generator=generator, **controls.filters()):
            for number, token in enumerate(step):
                if token is not None:
                    rows[number].append(token)
            done = {number for number, token in enumerate(step) if token is None and rows[number]}
            progress.update(len(done - ended))
            ended |= done
    return [(row, len(row) < controls.tokens) for row in rows]


def held_out(tokenizer, texts, tokens):
    """The same of texts that are there: as many ids as a sample may get, from the side where the model begins."""
    rows = [tokenizer.encode_text(text) for text in texts]
    return [(row[:tokens], len(row) < tokens) for row in rows]


def compare(tokenizer, written, true, shards=None):
    """{"written": …, "held_out": …}: a portrait of each, the share that is finished, tokens of a text, and of runs of
    COPIED tokens the share that stands in the training shards, if these are given."""
    texts = {name: [tokenizer.to_text(row) for row, _ in found] for name, found in (
        ("written", written), ("held_out", true))}
    most_words = min(sum(len(words(text)) for text in some) for some in texts.values())
    found = {}
    for name, rows in (("written", written), ("held_out", true)):
        begun = [finished for _, finished in rows] if tokenizer.direction == "reverse" else None
        found[name] = {**portrait(texts[name], most_words, begun), "texts": len(rows),
                       "finished": sum(finished for _, finished in rows) / len(rows),
                       "tokens": sum(len(row) for row, _ in rows) / len(rows)}
    if shards:
        with bar(sum(len(shard.tokens) for shard in shards), "tokens", "looking for copies") as progress:
            marked = copied([row for row, _ in written + true], shards, COPIED, progress.update)
        found["written"]["copied"] = share(marked[:len(written)])
        found["held_out"]["copied"] = share(marked[len(written):])
    return found
