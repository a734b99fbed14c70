"""
How likely a model finds a text after another, in nats.
"""

import numpy as np
import torch

from sampling.choosing import NOT_FINITE
from sampling.decoding import decoder_of

SCORED_POSITIONS = 2**15  # in one batch, at most: bounds the memory of the cache
_LOGIT_ROWS = 512         # in one piece: all logits of a batch would be its largest tensor


def log_probs(model, pairs, positions=SCORED_POSITIONS):
    """log P(continuation | prompt) for pairs of (prompt ids, continuation ids): a list of (sum in nats, number of ids).

    Raises what token_log_probs() raises.
    """
    return [(float(row.sum()), len(row)) for row in token_log_probs(model, pairs, positions)]


def token_log_probs(model, pairs, positions=SCORED_POSITIONS):
    """log P of every id of a continuation after its prompt and those before it, for pairs of (prompt ids, continuation
    ids): a list of float64 arrays, in nats.

    Continuations of one prompt share its reading. Pairs of similar length are scored together, as many as fit into so
    many positions. model is a GPT, which computes in float32, or a Decoder of one; the probabilities are float32.
    Raises FloatingPointError where one is not finite.
    """
    decoder, block_size, results = decoder_of(model), model.config.block_size, [None] * len(pairs)
    for prompt, continuation in pairs:
        if not prompt or not continuation:
            raise ValueError("a prompt or a continuation has no tokens")
        if len(prompt) + len(continuation) - 1 > block_size:  # the last id is never read
            raise ValueError(f"a pair of {len(prompt):,} and {len(continuation):,} tokens does not fit into "
                             f"block_size {block_size:,}")

    for batch in _batches(pairs, block_size, positions):
        rows = _score_batch(decoder, [pairs[i][0] for i in batch], [pairs[i][1] for i in batch])
        for i, row in zip(batch, rows):
            if not np.isfinite(row).all():
                raise FloatingPointError(NOT_FINITE)
            results[i] = row
    return results


def _batches(pairs, block_size, positions):
    """Indices of pairs in lists: of similar length, so that little is padding, and equal prompts together."""
    batch, longest = [], 0

    def octave(i):
        return len(pairs[i][1]).bit_length()

    for i in sorted(range(len(pairs)), key=lambda i: (octave(i), len(pairs[i][0]), pairs[i][0], len(pairs[i][1]))):
        longest = max(longest, len(pairs[i][1]))
        width = len(pairs[i][0]) + longest  # both are padded to the longest, which is the last prompt
        if batch and (octave(i) > octave(batch[0]) or 2 * len(pairs[i][0]) > 3 * len(pairs[batch[0]][0])
                      or width - 1 > block_size or width * (len(batch) + 1) > positions):
            yield batch
            batch, longest = [], len(pairs[i][1])
        batch.append(i)
    if batch:
        yield batch


@torch.inference_mode()
def _score_batch(decoder, prompts, continuations):
    """The log-probabilities of the ids of each continuation after its prompt, float64 arrays."""
    device, lengths = decoder.device, [len(ids) for ids in continuations]
    T = max(lengths)
    ids = torch.tensor([[*row, *[0] * (T - len(row))] for row in continuations], device=device)  # padded on the right
    counted = torch.arange(T, device=device) < torch.tensor(lengths, device=device)[:, None]  # (B, T)
    x, cache = decoder.prefill(prompts, max(map(len, prompts)) + T - 1)
    x = x[:, None]  # (B, 1, n_embd), from which the first id is predicted
    if T > 1:
        x = torch.cat((x, decoder.read(ids[:, :-1], cache, counted[:, 1:])), dim=1)  # (B, T, n_embd)
    x, targets = x[counted], ids[counted]
    parts = []
    for start in range(0, len(targets), _LOGIT_ROWS):
        logits = decoder.logits(x[start:start + _LOGIT_ROWS])  # (at most _LOGIT_ROWS, vocab_size)
        chosen = logits.gather(1, targets[start:start + _LOGIT_ROWS, None]).squeeze(1)
        parts.append(chosen - logits.logsumexp(dim=-1))
    return [row.numpy() for row in torch.cat(parts).cpu().double().split(lengths)]
