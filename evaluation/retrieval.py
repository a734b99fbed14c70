"""
Retrieval: where the true instruction of a response stands among those of other records, by what each is worth.

    found = questions(pairs, candidates=64)
    worth = backward(model, tokenizer, found)["pmi"]
    ranks(worth), ranks(worth, control=True)             # 1 is the first place

A worth is an array (questions, 1 + candidates): of the true instruction, of the one that stands for it in the control,
and of the others among which each of the two is to be found; the higher, the better. In the control every response is
that of another record, so it must score at chance; the others are the same, so it costs a single candidate more.
"""

import random
import re
from typing import NamedTuple

import numpy as np

from backchat.candidates import priors
from backchat.template import encode_response, prompt_room
from sampling import log_probs
from sampling.decoding import decoder_of

CANDIDATES = 64
ORDERS = {"raw": "log P", "per_token": "log P per token", "pmi": "PMI"}  # what backward() gives
_TOGETHER = 16  # questions that are scored at once


class Question(NamedTuple):
    """A response, and instructions: its own, that of the record whose response it is in the control, and others."""

    response: str
    instructions: list


def questions(pairs, candidates=CANDIDATES, seed=0):
    """A Question for each of pairs (response, instruction), as texts: candidates - 1 others are drawn from the
    different instructions of the other records.

    Raises ValueError where there are too few different instructions.
    """
    texts, rng = list(dict.fromkeys(text for _, text in pairs)), random.Random(seed)
    if len(texts) <= candidates:
        raise ValueError(f"{len(texts)} different instructions are too few to draw {candidates} candidates from, and "
                         "one more for the control. Take more pairs, or fewer candidates.")
    order = rng.sample(texts, len(texts))
    next_one = dict(zip(order, order[1:] + order[:1]))  # one ring through all: each stands once for another
    found = []
    for response, true in pairs:
        drawn = [text for text in rng.sample(texts, candidates + 1) if text not in (true, next_one[true])]
        found.append(Question(response, [true, next_one[true], *drawn[:candidates - 1]]))
    return found


def backward(model, tokenizer, questions, advance=lambda n: None):
    """What a BackChat finds the instructions worth: {"raw", "per_token", "pmi"}, by log P(instruction | response).

    A response too long for the block beside an instruction loses its end, as in training. advance(n) is told of n
    questions that are done.
    """
    model = decoder_of(model)
    ids, prior = priors(model, tokenizer, dict.fromkeys(text for _, texts in questions for text in texts))

    def scores(some):
        pairs = [(prompt, ids[text]) for response, texts in some for prompt, text in zip(
            _prompts(model, tokenizer, response, [len(ids[text]) for text in texts]), texts)]
        values = iter(log_probs(model, pairs))
        return [[next(values) for _ in texts] for _, texts in some]

    scored = _in_turn(scores, questions, advance)
    before = np.array([[prior[text][0] for text in texts] for _, texts in questions])
    return {"raw": scored[..., 0], "per_token": scored[..., 0] / scored[..., 1], "pmi": scored[..., 0] - before}


def forward(model, questions, advance=lambda n: None):
    """What a Forward model finds the instructions worth: log P(response | instruction). It needs no prior, for the
    response is the same."""
    return _in_turn(model.scores, questions, advance)[..., 0]


def _in_turn(scores, questions, advance):
    """What scores() gives for all questions, a few at a time: an array (questions, candidates, 2)."""
    found = []
    for first in range(0, len(questions), _TOGETHER):
        some = questions[first:first + _TOGETHER]
        found += scores(some)
        advance(len(some))
    return np.array(found)


def _prompts(model, tokenizer, response, lengths):
    """The prompt for each of several instructions of so many ids: the whole response, or what the block holds beside
    them."""
    whole, _ = encode_response(tokenizer, response)
    rooms = [prompt_room(model.config.block_size, length) for length in lengths]
    return [whole if len(whole) <= room else encode_response(tokenizer, response, room)[0] for room in rooms]


def bm25(questions):
    """What a search engine finds the instructions worth that knows nothing but their words: BM25 (Okapi)."""
    try:
        from rank_bm25 import BM25Okapi
    except ImportError:
        raise ValueError("rank-bm25 is not installed. Install what the project needs:\n"
                         "    .venv/bin/python -m pip install -r requirements.txt") from None

    def terms(text):
        return re.findall(r"\w+", text.casefold())

    def scores(question):
        documents = [terms(text) for text in question.instructions]
        if not any(documents):
            return np.zeros(len(documents))
        return BM25Okapi(documents).get_scores(terms(question.response))

    return np.array([scores(question) for question in questions])


def ranks(worth, seed=0, control=False):
    """The place, 1 or above, of the true instruction in every question, or of the one that stands for it in the
    control; those of equal worth are put in random order."""
    rng, worth = np.random.default_rng(seed), np.asarray(worth)
    true, others = worth[:, int(control), None], worth[:, 2:]
    return 1 + (others > true).sum(axis=1) + rng.integers(0, (others == true).sum(axis=1), endpoint=True)


def mrr(ranks):
    """Mean reciprocal rank: 1 if the true one is always first; 0.074 by chance among 64."""
    return float(np.mean(1 / np.asarray(ranks)))


def recall_at(ranks, k):
    """The share of ranks up to k."""
    return float(np.mean(np.asarray(ranks) <= k))
