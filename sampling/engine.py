"""
From prompts to what follows them, all in ids: generation with a key/value cache, one text or many at a time.

    for token in generate(model, [1, 42], 100): ...      # a list of ids in, ids out one at a time
"""

import torch

from model import KVCache, evaluating
from sampling.choosing import sample_next
from sampling.controls import check


def generate(model, idx, max_new_tokens, **options):
    """Continue ONE prompt, a list of ids; an iterator of ints. For everything else see generate_batch."""
    return (step[0] for step in generate_batch(model, [idx], max_new_tokens, **options))


def generate_batch(
    model, prompts, max_new_tokens, *, batch_size=None,
    temperature=1.0, top_k=None, top_p=None, min_p=None, generator=None, uniform=None, stop_ids=(),
):  # fmt: skip
    """Continue prompts, a list of lists of ids that may differ in length; an iterator over steps.

    A step is a list with one new id per prompt, None for one that has ended, or that waits: at most batch_size (all, if
    it is None) are continued at the same time, and as they end others begin, in the order given. A text ends BEFORE its
    stop id, which is never yielded, or after max_new_tokens, a number or a list with one for each prompt; the iteration
    ends when all have. For the other options see choosing.sample_next; uniform is (prompts, steps) here, as many steps
    as the longest text may take, so that what a text draws does not depend on the others.

    The model is in eval mode from the first step to the end of the iterator, then in its former mode again.

    A prompt longer than block_size keeps its last block_size tokens. A text that has filled the block goes on from its
    last block_size // 2 tokens, which are read in anew: one reading per half block, so the price per token stays level.
    What a text reads does not depend on the others. Equal prompts are read once, so n samples are generate_batch([idx]
    * n, ...).
    """
    prompts = [[int(i) for i in prompt] for prompt in prompts]
    if not prompts or not all(prompts):
        raise ValueError("A prompt has no tokens. Begin it with the tokenizer's bos_id.")
    for i in (i for prompt in prompts for i in prompt):
        if not 0 <= i < model.config.vocab_size:
            raise ValueError(f"Token {i} is outside the model's vocabulary of {model.config.vocab_size:,}.")
    limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else list(max_new_tokens)
    assert len(limits) == len(prompts) and (uniform is None or uniform.size(1) >= max(limits))
    filters = dict(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    check(**filters)
    batch = Batch(model, prompts, limits, batch_size or len(prompts))
    return batch.generate(uniform, dict(filters, generator=generator), frozenset(stop_ids))


def prefill(model, prompts, max_len):
    """Read prompts, lists of ids, into a new cache of max_len positions.

    Returns what the output layer reads for the last id of each, (B, n_embd), and the cache. Equal prompts are read
    once.
    """
    row_of = {}  # prompt: its row among the different ones
    order = [row_of.setdefault(tuple(prompt), len(row_of)) for prompt in prompts]
    device, longest = model.wte.weight.device, max(map(len, row_of))
    idx = torch.tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in row_of], device=device)
    cache = KVCache(model.config, max_len)
    x = model.hidden(idx, cache)
    cache.lengths = [len(prompt) for prompt in row_of]  # without the padding on the right, which nothing has seen
    x = x[torch.arange(len(row_of), device=device), torch.tensor(cache.lengths, device=device) - 1]
    if len(row_of) < len(order):
        cache.select(order)
        x = x[torch.tensor(order, device=device)]
    return x, cache


class Batch:
    """Texts that a model continues together, each in a row of its key/value cache; as some end, waiting ones take their
    rows.

    texts[i] is what the model can still see of text i, and drawn[i] how many ids it has been given; held[b] is the text
    in row b of the cache, None in a free row, and last[b] its last id, which has been drawn and not yet read.
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
        with evaluating(self.model):
            while self.waiting or any(i is not None for i in self.held):
                new = self.draw(uniform, options, stop_ids)
                for i, token in new.items():
                    self.texts[i].append(token)
                    self.drawn[i] += 1
                if new:
                    yield [new.get(i) for i in range(len(self.texts))]
                self.held = [i if i in new and self.drawn[i] < self.limits[i] else None for i in self.held]

    @torch.inference_mode()
    def draw(self, uniform, options, stop_ids):
        """The next id of every text in the cache that does not end here: a dict by text."""
        logits, numbers = self.model.logits(self.read()), None  # (rows, vocab_size)
        if uniform is not None:  # any number will do for a free row
            steps = [0 if i is None else self.drawn[i] for i in self.held]
            numbers = uniform[[i or 0 for i in self.held], steps]
        self.last = sample_next(logits, **options, uniform=numbers)  # (rows,)
        return {i: token for i, token in zip(self.held, self.last.tolist()) if i is not None and token not in stop_ids}

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
            x[anew], others = prefill(self.model, [self.texts[self.held[b]] for b in anew], self.max_len)
            self.cache.replace(anew, others)
        return x

    def begin(self, texts):
        """Read texts, and as many waiting ones as there is room for, into a new cache."""
        self.held = texts
        while self.waiting and len(self.held) < self.size:
            self.held.append(self.waiting.pop())
        x, self.cache = prefill(self.model, [self.texts[i] for i in self.held], self.max_len)
        return x

    def shrink(self, rows):
        """Keep only these rows; return where they stand now."""
        self.cache.select(rows)
        self.last = self.last[torch.tensor(rows, device=self.last.device)]
        self.held = [self.held[b] for b in rows]
        return list(range(len(rows)))
