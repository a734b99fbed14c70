"""
Sampling: from logits the next id, and from prompts whole texts, many at a time.

The model's methods generate and generate_batch are how this is called; they say what may be asked for.
"""

import math

import torch
import torch.nn.functional as F


def check_filters(temperature=1.0, top_k=None, top_p=None, min_p=None):
    """Raise ValueError for settings that sample_next cannot follow."""
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature is {temperature}; set it to 0 (always the likeliest token) or above.")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is {top_k}; set it to at least 1, or leave it out to keep every token.")
    for name, p in (("top_p", top_p), ("min_p", min_p)):
        if p is not None and not 0 <= p <= 1:
            raise ValueError(f"{name} is {p}; set it between 0 and 1, or leave it out to keep every token.")


def sample_next(logits, temperature=1.0, top_k=None, top_p=None, min_p=None, generator=None, uniform=None):
    """Draw one id per row from logits (B, vocab_size); return ids (B,) on the same device.

    Temperature 0 takes the likeliest id. Otherwise logits are divided by the temperature, then
    top_k keeps the k likeliest ids (a k above the vocabulary keeps all),
    top_p keeps of these the fewest likeliest ids whose probabilities sum to at least p (arXiv:1904.09751),
    min_p drops ids less than p times as likely as the likeliest (arXiv:2407.01082).
    The likeliest id always survives. The draw is in float32 on the device of generator, on that of logits if it is None.
    uniform, numbers (B,) from 0 to below 1, decides the draws in place of a generator, in float64 and on its device.
    """
    check_filters(temperature, top_k, top_p, min_p)
    if temperature == 0:
        return logits.argmax(dim=-1)
    logits = logits.float()
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / temperature  # the likeliest is at 0: no temperature overflows
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
    else:
        if generator is not None and generator.device.type != p.device.type:
            p = p.to(generator.device)
        choice = torch.multinomial(p, 1, generator=generator).to(logits.device)  # (B, 1)
    return (choice if order is None else order.gather(-1, choice)).squeeze(-1)


class Batch:
    """Texts that a model continues together, each in a row of its key/value cache; as some end, waiting ones take their rows.

    texts[i] is what the model can still see of text i, and drawn[i] how many ids it has been given; held[b] is the text in
    row b of the cache, None in a free row, and last[b] its last id, which has been drawn and not yet read.
    """

    def __init__(self, model, prompts, limits, size):
        self.model, self.limits, self.size, self.block_size = model, limits, size, model.config.block_size
        self.texts = [prompt[-self.block_size :] for prompt in prompts]
        self.drawn = [0] * len(prompts)
        self.waiting = [i for i, limit in enumerate(limits) if limit > 0][::-1]  # the next one last
        self.max_len = min(self.block_size, max(len(text) + limit for text, limit in zip(self.texts, limits)))
        self.held, self.cache, self.last = [], None, None

    def generate(self, uniform, options, stop_ids):
        """Yield, step by step, a list with the new id of each text, None for one that has ended or waits."""
        was_training = self.model.training
        self.model.eval()
        try:
            while self.waiting or any(i is not None for i in self.held):
                with torch.inference_mode():  # closed before each yield, or the consumer would run in it
                    logits = F.linear(self.read(), self.model.wte.weight)
                    numbers = None
                    if uniform is not None:  # any number will do for a free row
                        numbers = uniform[[i or 0 for i in self.held], [0 if i is None else self.drawn[i] for i in self.held]]
                    self.last = sample_next(logits, **options, uniform=numbers)  # (rows,)
                    new = {i: token for i, token in zip(self.held, self.last.tolist())
                           if i is not None and token not in stop_ids}
                for i, token in new.items():
                    self.texts[i].append(token)
                    self.drawn[i] += 1
                if new:
                    yield [new.get(i) for i in range(len(self.texts))]
                self.held = [i if i in new and self.drawn[i] < self.limits[i] else None for i in self.held]
        finally:
            self.model.train(was_training)

    def read(self):
        """Read the last id of every text in the cache, and the whole of those that are new there.

        Returns what the output layer reads, (rows, n_embd).
        """
        going_on = [b for b, i in enumerate(self.held) if i is not None]
        if not self.waiting and 0 < 2 * len(going_on) <= len(self.held):  # free rows are computed for nothing
            going_on = self.shrink(going_on)
        anew = [b for b in going_on if self.cache.lengths[b] == self.block_size]
        for b in anew:
            text = self.texts[self.held[b]]
            del text[: len(text) - max(1, self.block_size // 2)]
        going_on = [b for b in going_on if b not in anew]
        if not going_on:
            return self.begin([self.held[b] for b in anew])
        free = [b for b, i in enumerate(self.held) if i is None]
        if 8 * len(free) >= len(self.held):  # reading fewer at a time would be slower
            for b in free[: len(self.waiting)]:
                self.held[b] = self.waiting.pop()
                anew.append(b)
        self.cache.lengths = [n if b in going_on else 0 for b, n in enumerate(self.cache.lengths)]
        x = self.model.hidden(self.last[:, None], self.cache)[:, -1]
        if anew:
            x[anew], others = self.model.prefill([self.texts[self.held[b]] for b in anew], self.max_len)
            self.cache.replace(anew, others)
        return x

    def begin(self, texts):
        """Read texts, and as many waiting ones as there is room for, into a new cache."""
        self.held = texts
        while self.waiting and len(self.held) < self.size:
            self.held.append(self.waiting.pop())
        x, self.cache = self.model.prefill([self.texts[i] for i in self.held], self.max_len)
        return x

    def shrink(self, rows):
        """Keep only these rows; return where they stand now."""
        self.cache.select(rows)
        self.last = self.last[torch.tensor(rows, device=self.last.device)]
        self.held = [self.held[b] for b in rows]
        return list(range(len(rows)))
