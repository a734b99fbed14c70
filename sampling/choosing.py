"""
From logits to the next id.
"""

import torch

from sampling.controls import check

SMALLEST, LARGEST = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max
NOT_FINITE = ("The model computes NaN or infinity instead of probabilities: its weights are damaged, or too large for "
              "the numbers it computes in. Try --dtype float32, or take an earlier checkpoint.")


def sample_next(logits, temperature=1.0, top_k=None, top_p=None, min_p=None, generator=None, uniform=None):
    """Draw one id per row from logits (B, vocab_size); return ids (B,) on the same device.

    Temperature 0 takes the likeliest id. Otherwise logits are divided by the temperature, then top_k keeps the k
    likeliest ids (a k above the vocabulary keeps all), top_p keeps of these the fewest likeliest ids whose
    probabilities sum to at least p (arXiv:1904.09751), min_p drops ids less than p times as likely as the likeliest
    (arXiv:2407.01082). The likeliest id always survives. The draw is in float32 on the device of generator, on that of
    logits if it is None; a list of generators, one for each row, draws every row as if it were alone. uniform, numbers
    (B,) from 0 to below 1, decides the draws in place of a generator, in float64 and on its device. Raises
    FloatingPointError where the largest of the logits is not finite: nothing is likeliest.
    """
    check(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    logits = logits.float()
    highest = logits.amax(dim=-1, keepdim=True)  # NaN if one of them is
    if not highest.isfinite().all():
        raise FloatingPointError(NOT_FINITE)
    if temperature == 0:
        return logits.argmax(dim=-1)
    # The likeliest is at 0: no overflow. A temperature that is no float32 would make 0 / 0 or -inf / inf of it.
    logits = (logits - highest) / min(max(temperature, SMALLEST), LARGEST)
    order = None
    if top_k is not None or top_p is not None or min_p is not None:
        logits, order = logits.topk(min(top_k or logits.size(-1), logits.size(-1)), dim=-1)  # likeliest first
    p = logits.softmax(dim=-1)
    if top_p is not None and top_p < 1:  # at 1 rounding must not cut the tail
        before = p.cumsum(dim=-1) - p  # what the likelier ids already sum to: exactly 0 for the first
        p = p.masked_fill((before >= top_p) & (before > 0), 0.0)
    if min_p is not None:
        p = p.masked_fill(p < min_p * p[:, :1], 0.0)
    if uniform is not None:
        total = p.to(uniform.device).double().cumsum(dim=-1)
        point = (1 - uniform[:, None].double()) * total[:, -1:]  # above 0, up to the sum: never where p is 0
        choice = torch.searchsorted(total, point).to(logits.device)  # (B, 1)
    elif isinstance(generator, list):
        choice = torch.cat([_drawn(row[None], own) for row, own in zip(p, generator)]).to(logits.device)  # (B, 1)
    else:
        choice = _drawn(p, generator).to(logits.device)  # (B, 1)
    return (choice if order is None else order.gather(-1, choice)).squeeze(-1)


def _drawn(p, generator):
    """A place in each row of p (B, n), with this probability: (B, 1), on the device of the generator."""
    if generator is not None and generator.device.type != p.device.type:
        p = p.to(generator.device)
    return torch.multinomial(p, 1, generator=generator)
