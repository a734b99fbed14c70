"""
What an instruction is worth as a candidate for a response; for choosing among samples and for evaluation.

    log P(instruction | response)                        how likely the instruction is
    PMI = log P(instruction | response)                  how much likelier the response makes it: an instruction
          - log P(instruction | empty response)          that would suit any response is worth nothing

Probabilities are in nats, of all that is learned after the template: the instruction and what ends it.

Of instructions that the model writes, the best is that with the highest log P per token: measured on held-out pairs, it
asks the right kind of question more often than the first sample, log P as a whole, or PMI (bench/bench_instruct.py).
PMI finds the true instruction among those of other records; but of samples it takes the long garbled ones, whose every
unlikely token adds to it.
"""

import math
from collections import Counter
from dataclasses import dataclass

from backchat.template import EMPTY_RESPONSE, encode_instruction, prompt_room
from sampling import log_probs
from sampling.decoding import decoder_of


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

    @property
    def finite(self):
        """Whether it is a number at all: broken weights give others, which say nothing."""
        return math.isfinite(self.log_prob) and math.isfinite(self.prior)


def fits(model, tokenizer, prompt, instruction):
    """Whether the block holds the prompt and the whole instruction, so that they can be scored."""
    return len(prompt) <= prompt_room(model.config.block_size, len(encode_instruction(tokenizer, instruction)))


def priors(model, tokenizer, texts):
    """Two dicts by text: its ids as an instruction, and its log_probs after an empty response."""
    ids = {text: encode_instruction(tokenizer, text) for text in texts}
    return ids, dict(zip(ids, log_probs(model, [([*EMPTY_RESPONSE], row) for row in ids.values()])))


def scores(model, tokenizer, pairs):
    """A Score for each of pairs (prompt ids, instruction as text)."""
    model = decoder_of(model)
    ids, prior = priors(model, tokenizer, [text for _, text in pairs])
    given = log_probs(model, [(prompt, ids[text]) for prompt, text in pairs])
    return [Score(log_prob, prior[text][0], tokens) for (_, text), (log_prob, tokens) in zip(pairs, given)]


@dataclass(frozen=True)
class Candidate:
    """An instruction, how many of the samples it was, and its Score."""

    instruction: str
    count: int
    score: Score


def weigh(model, tokenizer, prompts, samples):
    """For each prompt the Candidates among samples (for each prompt a list of lists of ids), best by log P per token
    first.

    Equal texts are merged; empty ones, and those too long to be scored, are left out.
    """
    counts = [Counter(text for text in (tokenizer.to_text(ids).strip() for ids in rows)
                      if text and fits(model, tokenizer, prompt, text)) for prompt, rows in zip(prompts, samples)]
    found = iter(scores(model, tokenizer, [(prompt, text) for prompt, count in zip(prompts, counts) for text in count]))
    weighed = [[Candidate(text, n, next(found)) for text, n in count.items()] for count in counts]
    return [sorted(candidates, key=_worst_last) for candidates in weighed]


def _worst_last(candidate):
    return not candidate.score.finite, -candidate.score.mean_log_prob, candidate.instruction
