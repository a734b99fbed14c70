"""
All that is measured of BackChats, as plain values; a figure with an interval is {"value", "low", "high"}.

Pairs are (response, instruction, source).
"""

from collections import Counter

import numpy as np

from backchat.candidates import priors
from backchat.records import normalised
from backchat.template import encode_pair, response_room
from evaluation import data, overlap, retrieval, selection
from evaluation.bootstrap import interval
from evaluation.forward import Forward
from evaluation.held_out import LN2
from evaluation.progress import bar
from evaluation.round_trip import round_trip
from evaluation.texts import portrait
from sampling import log_probs
from sampling.decoding import Decoder

SHORTEST = 16  # tokens of a shortened response: less says too little about its instruction
SHOWN = 6      # pairs that are shown whole


def evaluate(opened, settings, result):
    """Fill in result what is measured: a dict "found" in each of its "models", "overlap", and "notes"; settings are
    those of evaluate_xcoax.py."""
    held_out, folders = data.folders_of(opened, settings, result)
    pairs = _pairs(opened, held_out, settings, result)
    training = [data.pairs_of_split(folder, one.tokenizer, "train") if folder and data.fits(one, folder) else None
                for one, folder in zip(opened, folders)]
    if training[0] is not None:
        found = overlap.overlaps([pair[:2] for pair in pairs], (pair[:2] for pair in training[0]))
        result["overlap"] = {"of": len(pairs), **overlap.counts(found)}
        pairs = overlap.left(pairs, list(map(bool, found)), settings, result,
                             f"a response, an instruction or a passage of {overlap.GRAM} words", "--max-pairs")
    forward, judge = (path and Forward(path, flag, kind, settings.device, settings.dtype) for path, flag, kind in (
        (settings.forward, "--forward", None), (settings.judge, "--judge", "instruct")))
    result["candidates"] = _candidates(pairs, settings, result)
    measures = selection.likenesses()
    tales = settings.eval_data == "tales" or settings.eval_data is None and data.of_tales(held_out)
    result["sources_are"] = "kind of question" if tales else "source"
    if tales:
        measures["right kind of question"] = selection.same_kind
    for one, about, known in zip(opened, result["models"], training):
        about["found"] = _figures(one, pairs, known, result["candidates"], settings, measures, forward, judge)


def _pairs(opened, held_out, settings, result):
    """The pairs that every model has room for: of the folder of a held-out split, or of --eval-data."""
    if settings.eval_data is not None:
        pairs, empty = data.pairs_of_file(settings.eval_data, settings.max_pairs, settings.source_column, settings.seed)
        if empty:
            result["notes"].append(f"{empty:,} records of {settings.eval_data} lack an instruction or a response and "
                                   "were passed over.")
    elif data.fits(opened[0], held_out):
        pairs = data.pairs_of_split(held_out, opened[0].tokenizer, most=settings.max_pairs)
    else:
        raise ValueError(f"{held_out} was made with another tokenizer than that of {opened[0].path}. Name the folder "
                         "that it was trained on with --data-dir, or a file with --eval-data.")
    for one in opened:
        fitting = usable(one, pairs)
        if len(fitting) < len(pairs):
            result["notes"].append(f"{len(pairs) - len(fitting):,} pairs are too long for the block of {one.path} and "
                                   "were left out.")
        pairs = fitting
    return pairs


def _candidates(pairs, settings, result):
    """Among how many instructions the true one is sought."""
    candidates = min(settings.candidates, len({instruction for _, instruction, _ in pairs}) - 1)
    if candidates < 2:
        raise ValueError("All pairs have the same instruction, so none can be sought among others. Take more pairs.")
    if candidates < settings.candidates:
        result["notes"].append(f"There are {candidates + 1} different instructions, so the true one is sought among "
                               f"{candidates} (the control takes one), and chance is higher than among "
                               f"{settings.candidates}.")
    return candidates


def _figures(opened, pairs, training, candidates, settings, measures, forward, judge):
    """All that is measured of one BackChat."""
    model, tokenizer, seed = Decoder(opened.model, opened.dtype), opened.tokenizer, settings.seed
    loss = Loss(model, tokenizer, pairs)
    ranks = places(model, tokenizer, pairs, candidates, seed, forward)
    written = written_texts(model, tokenizer, pairs, settings.instructing)
    chosen, arrays = selection_figures(written, pairs, measures, settings.best_of, seed)
    found = {**loss.figures(seed), "retrieval": retrieval_figures(ranks, seed), "selection": chosen,
             "variety": variety(written, pairs, training and [text for _, text, _ in training]),
             "by_source": by_group(sources(pairs), loss, ranks, arrays, seed),
             "by_length": by_group(lengths(tokenizer, pairs), loss, ranks, arrays, seed),
             "samples": shown(written, pairs, settings.best_of)}
    if judge is not None:
        taken = [selection.taken(one, "per_token", settings.best_of) for one in written]
        found["round_trip"] = round_trip(judge, pairs, taken, seed)
    return found


def usable(opened, pairs):
    """The pairs that the model's block has room for, by the rule of preprocess_instruct.py."""
    tokenizer, block_size = opened.tokenizer, opened.model.config.block_size
    rooms = ((pair, response_room(tokenizer, pair[1], block_size)) for pair in pairs)
    return [pair for pair, room in rooms if room >= min(SHORTEST, len(tokenizer.encode_text(pair[0])))]


class Loss:
    """What the model makes of the true instruction of each pair: arrays of nats, also without the response, of tokens,
    and of bytes."""

    def __init__(self, model, tokenizer, pairs):
        examples = [encode_pair(tokenizer, response, instruction, model.config.block_size)
                    for response, instruction, _ in pairs]
        given = log_probs(model, [(prompt, targets) for prompt, targets, _ in examples])
        _, alone = priors(model, tokenizer, dict.fromkeys(text for _, text, _ in pairs))
        self.nats, self.tokens = (np.array(part) for part in zip(*((-total, n) for total, n in given)))
        self.alone = np.array([-alone[text][0] for _, text, _ in pairs])
        self.bytes = np.array([len(text.encode("utf-8", "surrogatepass")) for _, text, _ in pairs])

    def figures(self, seed):
        return {"nats_per_token": interval(self.nats, self.tokens, seed),
                "bits_per_byte": interval(self.nats / LN2, self.bytes, seed),
                "bits_per_byte_without_response": interval(self.alone / LN2, self.bytes, seed),
                "pairs": len(self.nats), "tokens": int(self.tokens.sum()), "bytes": int(self.bytes.sum())}


def places(model, tokenizer, pairs, candidates, seed, forward=None):
    """The places of the true instructions by every order: {"raw", "per_token", "pmi", the same with "shuffled"
    responses, "bm25", and "forward" where such a model is given}."""
    asked = retrieval.questions([pair[:2] for pair in pairs], candidates, seed)
    with bar(len(pairs), "pairs", "retrieval") as progress:
        worth = retrieval.backward(model, tokenizer, asked, progress.update)
    found = {order: retrieval.ranks(values, seed) for order, values in worth.items()}
    found |= {f"{order}, shuffled": retrieval.ranks(values, seed, control=True) for order, values in worth.items()}
    found["bm25"] = retrieval.ranks(retrieval.bm25(asked), seed)
    if forward is not None:
        with bar(len(pairs), "pairs", "retrieval by the forward model") as progress:
            found["forward"] = retrieval.ranks(retrieval.forward(forward, asked, progress.update), seed)
    return found


def retrieval_figures(places, seed):
    """Mean reciprocal rank, how often it is the first and among the five first, by order."""
    return {order: {"mrr": interval(1 / ranks, seed=seed), "first": interval(ranks <= 1, seed=seed),
                    "in_five": interval(ranks <= 5, seed=seed)} for order, ranks in places.items()}


def written_texts(model, tokenizer, pairs, controls):
    """What selection.written() gives for the responses of pairs."""
    with bar(len(pairs), "pairs", "writing instructions") as progress:
        return selection.written(model, tokenizer, [response for response, _, _ in pairs], controls, progress.update)


def selection_figures(found, pairs, measures, n, seed):
    """How like the true instruction is the one taken, by order and measure, and the arrays that this is of."""
    true = [instruction for _, instruction, _ in pairs]
    arrays = selection.likeness(found, true, measures, n)
    return {order: {name: interval(values, seed=seed) for name, values in by_measure.items()}
            for order, by_measure in arrays.items()}, arrays


def variety(found, pairs, training=None):
    """What the instructions are like beside the true ones: a portrait of both, and where the instructions of the
    training pairs are given, the share of those that equal one."""
    texts = {"written": [texts[0] for texts, _ in found], "true": [instruction for _, instruction, _ in pairs]}
    words = min(sum(len(text.split()) for text in some) for some in texts.values())
    known = None if training is None else {normalised(text) for text in training}
    return {name: {**portrait(some, words), **({} if known is None else {
        "copied": sum(normalised(text) in known for text in some) / len(some)})} for name, some in texts.items()}


def by_group(groups, loss, places, arrays, seed):
    """Figures by group, {name: whether each pair is in it}: bits per byte, MRR by PMI, and how like the true
    instruction is the one taken by log P per token."""
    found = {}
    for name, here in groups.items():
        found[name] = {"pairs": int(here.sum()),
                       "bits_per_byte": interval(loss.nats[here] / LN2, loss.bytes[here], seed),
                       "mrr": interval(1 / places["pmi"][here], seed=seed),
                       **{measure: interval(values[here], seed=seed)
                          for measure, values in arrays["per_token"].items()}}
    return found


def sources(pairs):
    """The groups of pairs by their source, the largest first."""
    named = [source for *_, source in pairs]
    return {name: np.array([source == name for source in named])
            for name, _ in Counter(filter(None, named)).most_common()}


def lengths(tokenizer, pairs):
    """Three groups of pairs by the length of the response, where they differ in it."""
    sizes = np.array([len(tokenizer.encode_text(response)) for response, _, _ in pairs])
    low, high = (int(size) for size in np.quantile(sizes, (1 / 3, 2 / 3)))
    groups = ((low, sizes <= low), (high, (low < sizes) & (sizes <= high)), (sizes.max(), sizes > high))
    return {f"up to {most:,} tokens": here for most, here in groups if here.any()}


def shown(found, pairs, n):
    """Some pairs with what was written for them, spread evenly."""
    return [{"response": pairs[i][0], "true": pairs[i][1], "first": found[i][0][0],
             "taken": selection.taken(found[i], "per_token", n)}
            for i in np.unique(np.linspace(0, len(pairs) - 1, SHOWN).astype(int)).tolist()]
