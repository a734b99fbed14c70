"""
Retrieval: where the true instruction of a response stands among those of other records.
"""

import random

from backchat.candidates import priors
from backchat.template import encode_response, prompt_room
from sampling import log_probs
from sampling.decoding import decoder_of


def ranks(model, tokenizer, pairs, candidates=64, seed=0, shuffled=False, advance=lambda: None):
    """How well the model finds the true instruction of each response among those of other records.

    pairs are (response, instruction) as texts. Each true instruction stands among candidates - 1 different ones drawn
    from the others; a response too long for the block beside one of them loses its end, as in training. shuffled gives
    every record the response of another: the control, which must score at chance. Equal scores are put in random order.
    advance() is called after every pair. Returns {"raw": [...], "per_token": [...], "pmi": [...]}, the rank, 1 or
    above, of every pair's true instruction.
    """
    texts, rng = list(dict.fromkeys(text for _, text in pairs)), random.Random(seed)
    if len(texts) < candidates or len(pairs) < 2:
        raise ValueError(f"{len(texts)} different instructions are too few to draw {candidates} candidates from. Take "
                         "more pairs, or fewer candidates.")
    responses = [response for response, _ in pairs]
    if shuffled:
        order = rng.sample(range(len(pairs)), len(pairs))
        other = dict(zip(order, order[1:] + order[:1]))  # one ring through all records: none keeps its own
        responses = [responses[other[i]] for i in range(len(pairs))]
    model = decoder_of(model)
    ids, prior = priors(model, tokenizer, texts)
    found = {"raw": [], "per_token": [], "pmi": []}
    for response, (_, true) in zip(responses, pairs):
        drawn = [true, *[text for text in rng.sample(texts, candidates) if text != true][: candidates - 1]]
        prompts = _prompts(model, tokenizer, response, [len(ids[text]) for text in drawn])
        values = log_probs(model, [(prompt, ids[text]) for prompt, text in zip(prompts, drawn)])
        for name, worth in (("raw", [total for total, _ in values]), ("per_token", [total / n for total, n in values]),
                            ("pmi", [total - prior[text][0] for text, (total, _) in zip(drawn, values)])):
            ties = sum(value == worth[0] for value in worth[1:])
            found[name].append(1 + sum(value > worth[0] for value in worth[1:]) + rng.randint(0, ties))
        advance()
    return found


def _prompts(model, tokenizer, response, lengths):
    """The prompt for each of several instructions of so many ids: the whole response, or what the block holds beside
    them."""
    whole, _ = encode_response(tokenizer, response)
    rooms = [prompt_room(model.config.block_size, length) for length in lengths]
    return [whole if len(whole) <= room else encode_response(tokenizer, response, room)[0] for room in rooms]


def mrr(ranks):
    """Mean reciprocal rank: 1 if the true one is always first; 0.074 by chance among 64."""
    return sum(1 / rank for rank in ranks) / len(ranks)


def recall_at(ranks, k):
    """The share of ranks up to k."""
    return sum(rank <= k for rank in ranks) / len(ranks)
