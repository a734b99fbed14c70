"""
What a pair of response and instruction is worth to the model; used for choosing among candidates and for evaluation.

    log P(instruction | response)                        how likely the instruction is
    PMI = log P(instruction | response)                  how much likelier the response makes it: an instruction
          - log P(instruction | empty response)          that would suit any response is worth nothing

Probabilities are in nats, of all that is learned after the template: the instruction and what ends it.
"""

import random
from collections import Counter
from dataclasses import dataclass

import torch
import torch.nn.functional as F

POSITIONS = 2**15  # in one batch, at most: bounds the memory of the cache
_LOGIT_ROWS = 512  # in one piece: all logits of a batch would be its largest tensor


def log_probs(model, pairs, positions=POSITIONS):
    """log P(continuation | prompt) for pairs of (prompt ids, continuation ids): a list of (sum in nats, number of ids).

    Continuations of one prompt share its reading. Pairs of similar length are scored together, as many as fit into so many
    positions. The model computes as the caller's autocast says, in float32 without one; the probabilities are float32.
    """
    block_size, results = model.config.block_size, [None] * len(pairs)
    for prompt, continuation in pairs:
        if not prompt or not continuation:
            raise ValueError("a prompt or a continuation has no tokens")
        if len(prompt) + len(continuation) - 1 > block_size:  # the last id is never read
            raise ValueError(f"a pair of {len(prompt):,} and {len(continuation):,} tokens does not fit into "
                             f"block_size {block_size:,}")

    was_training = model.training
    model.eval()
    try:
        for batch in _batches(pairs, block_size, positions):
            sums = _score_batch(model, [pairs[i][0] for i in batch], [pairs[i][1] for i in batch])
            for i, total in zip(batch, sums):
                results[i] = total, len(pairs[i][1])
    finally:
        model.train(was_training)
    return results


def _batches(pairs, block_size, positions):
    """Indices of pairs in lists: of similar length, so that little is padding, and equal prompts together."""
    batch, longest = [], 0

    def octave(i):
        return len(pairs[i][1]).bit_length()

    for i in sorted(range(len(pairs)), key=lambda i: (octave(i), len(pairs[i][0]), pairs[i][0], len(pairs[i][1]))):
        longest = max(longest, len(pairs[i][1]))
        width = len(pairs[i][0]) + longest  # prompts are padded to the longest, which is the last, and so are continuations
        if batch and (octave(i) > octave(batch[0]) or 2 * len(pairs[i][0]) > 3 * len(pairs[batch[0]][0])
                      or width - 1 > block_size or width * (len(batch) + 1) > positions):
            yield batch
            batch, longest = [], len(pairs[i][1])
        batch.append(i)
    if batch:
        yield batch


@torch.inference_mode()
def _score_batch(model, prompts, continuations):
    """The sum of log-probabilities of each continuation after its prompt."""
    device, lengths = model.wte.weight.device, [len(ids) for ids in continuations]
    T = max(lengths)
    ids = torch.tensor([[*row, *[0] * (T - len(row))] for row in continuations], device=device)  # padded on the right
    counted = torch.arange(T, device=device) < torch.tensor(lengths, device=device)[:, None]  # (B, T)
    x, cache = model.prefill(prompts, max(map(len, prompts)) + T - 1)
    x = x[:, None]  # (B, 1, n_embd), from which the first id is predicted
    if T > 1:
        x = torch.cat((x, model.hidden(ids[:, :-1], cache)), dim=1)  # (B, T, n_embd)
    x, targets = x[counted], ids[counted]
    parts = []
    for start in range(0, len(targets), _LOGIT_ROWS):
        logits = F.linear(x[start:start + _LOGIT_ROWS], model.wte.weight).float()  # (at most _LOGIT_ROWS, vocab_size)
        chosen = logits.gather(1, targets[start:start + _LOGIT_ROWS, None]).squeeze(1)
        parts.append(chosen - logits.logsumexp(dim=-1))
    return [row.double().sum().item() for row in torch.cat(parts).cpu().split(lengths)]


@dataclass(frozen=True)
class Score:
    """log_prob and prior are log P(instruction | response) and log P(instruction | empty response)."""

    log_prob: float
    prior: float
    tokens: int

    @property
    def mean_log_prob(self):
        """Per token."""
        return self.log_prob / self.tokens

    @property
    def pmi(self):
        return self.log_prob - self.prior


def fits(model, tokenizer, prompt, instruction):
    """Whether the block holds the prompt and the whole instruction, so that they can be scored."""
    return len(prompt) + len(tokenizer.encode_instruction(instruction)) - 1 <= model.config.block_size


def _priors(model, tokenizer, texts):
    """The ids of each different text as an instruction, and its log_probs after an empty response: two dicts by text."""
    empty, _ = tokenizer.encode_response("")
    ids = {text: tokenizer.encode_instruction(text) for text in texts}
    return ids, dict(zip(ids, log_probs(model, [(empty, row) for row in ids.values()])))


def scores(model, tokenizer, pairs):
    """A Score for each of pairs (ids from encode_response, instruction as text)."""
    ids, priors = _priors(model, tokenizer, [text for _, text in pairs])
    given = log_probs(model, [(prompt, ids[text]) for prompt, text in pairs])
    return [Score(log_prob, priors[text][0], tokens) for (_, text), (log_prob, tokens) in zip(pairs, given)]


@dataclass(frozen=True)
class Candidate:
    """An instruction, how many of the samples it was, and its Score."""

    instruction: str
    count: int
    score: Score


def weigh(model, tokenizer, prompts, samples):
    """For each prompt the Candidates among samples (for each prompt a list of lists of ids), best by PMI first.

    Equal texts are merged; empty ones, and those too long to be scored, are left out.
    """
    counts = [Counter(text for text in (tokenizer.to_text(ids).strip() for ids in rows)
                      if text and fits(model, tokenizer, prompt, text)) for prompt, rows in zip(prompts, samples)]
    found = iter(scores(model, tokenizer, [(prompt, text) for prompt, count in zip(prompts, counts) for text in count]))
    weighed = [[Candidate(text, n, next(found)) for text, n in count.items()] for count in counts]
    return [sorted(candidates, key=lambda c: (-c.score.pmi, c.instruction)) for candidates in weighed]


def ranks(model, tokenizer, pairs, candidates=64, seed=0, shuffled=False, advance=lambda: None):
    """How well the model finds the true instruction of each response among those of other records.

    pairs are (response, instruction) as texts. Each true instruction stands among candidates - 1 different ones drawn from the
    others; a response too long for the block beside one of them loses its end, as in training. shuffled gives every record
    the response of another: the control, which must score at chance. Equal scores are put in random order. advance() is called
    after every pair.
    Returns {"raw": [...], "per_token": [...], "pmi": [...]}, the rank, 1 or above, of every pair's true instruction.
    """
    texts, rng = list(dict.fromkeys(text for _, text in pairs)), random.Random(seed)
    if len(texts) < candidates or len(pairs) < 2:
        raise ValueError(f"{len(texts)} different instructions are too few to draw {candidates} candidates from. Take more "
                         "pairs, or fewer candidates.")
    responses = [response for response, _ in pairs]
    if shuffled:
        order = rng.sample(range(len(pairs)), len(pairs))
        other = dict(zip(order, order[1:] + order[:1]))  # one ring through all records: none keeps its own
        responses = [responses[other[i]] for i in range(len(pairs))]
    ids, priors = _priors(model, tokenizer, texts)
    found = {"raw": [], "per_token": [], "pmi": []}
    for response, (_, true) in zip(responses, pairs):
        drawn = [true, *[text for text in rng.sample(texts, candidates) if text != true][: candidates - 1]]
        prompts = _prompts(model, tokenizer, response, [len(ids[text]) for text in drawn])
        values = log_probs(model, [(prompt, ids[text]) for prompt, text in zip(prompts, drawn)])
        for name, worth in (("raw", [total for total, _ in values]), ("per_token", [total / n for total, n in values]),
                            ("pmi", [total - priors[text][0] for text, (total, _) in zip(drawn, values)])):
            ties = sum(value == worth[0] for value in worth[1:])
            found[name].append(1 + sum(value > worth[0] for value in worth[1:]) + rng.randint(0, ties))
        advance()
    return found


def _prompts(model, tokenizer, response, lengths):
    """The prompt for each of several instructions of so many ids: the whole response, or what the block holds beside them."""
    whole, _ = tokenizer.encode_response(response)
    rooms = [model.config.block_size + 1 - length for length in lengths]  # the last id is never read
    return [whole if len(whole) <= room else tokenizer.encode_response(response, room)[0] for room in rooms]


def mrr(ranks):
    """Mean reciprocal rank: 1 if the true one is always first; 0.074 by chance among 64."""
    return sum(1 / rank for rank in ranks) / len(ranks)


def recall_at(ranks, k):
    """The share of ranks up to k."""
    return sum(rank <= k for rank in ranks) / len(ranks)
