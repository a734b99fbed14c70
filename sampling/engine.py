"""
From prompts to what follows them, all in ids: one text or many at a time, and others that join while they are written.

    for token in generate(model, [1, 42], 100): ...      # a list of ids in, ids out one at a time
"""

import torch

from sampling.choosing import sample_next
from sampling.controls import check
from sampling.decoding import decoder_of


def generate(model, idx, max_new_tokens, **options):
    """Continue ONE prompt, a list of ids; an iterator of ints. For everything else see generate_batch."""
    return (step[0] for step in generate_batch(model, [idx], max_new_tokens, **options))


def generate_batch(
    model, prompts, max_new_tokens, *, batch_size=None,
    temperature=1.0, top_k=None, top_p=None, min_p=None, generator=None, uniform=None, stop_ids=(),
):  # fmt: skip
    """Continue prompts, a list of lists of ids that may differ in length; an iterator over steps.

    model is a GPT, or a Decoder of one: its weights are made ready once, and it may compute in fewer bits.

    A step is a list with one new id per prompt, None for one that has ended, or that waits: at most batch_size (all, if
    it is None) are continued at the same time, and as they end others begin, in the order given. A text ends BEFORE its
    stop id, which is never yielded, or after max_new_tokens, a number or a list with one for each prompt; the iteration
    ends when all have. For the other options see choosing.sample_next; uniform is (prompts, steps) here, as many steps
    as the longest text may take, so that what a text draws does not depend on the others.

    A prompt longer than block_size keeps its last block_size tokens. A text that has filled the block goes on from its
    last block_size // 2 tokens, which are read in anew: one reading per half block, so the price per token stays level.
    What a text reads does not depend on the others. Equal prompts are read once, so n samples are generate_batch([idx]
    * n, ...).
    """
    prompts = [list(prompt) for prompt in prompts]
    limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else list(max_new_tokens)
    assert len(limits) == len(prompts) and (uniform is None or uniform.size(1) >= max(limits))
    block_size = model.config.block_size
    batch = Batch(decoder_of(model), batch_size or len(prompts),
                  max([min(block_size, len(prompt) + n) for prompt, n in zip(prompts, limits)], default=1),
                  stop_ids=stop_ids, generator=generator, temperature=temperature, top_k=top_k, top_p=top_p,
                  min_p=min_p)  # fmt: skip
    if not prompts:
        raise ValueError("There are no prompts.")
    for i, (prompt, limit) in enumerate(zip(prompts, limits)):
        batch.add(prompt, limit, None if uniform is None else uniform[i])

    def steps():
        while batch.unfinished:
            new = batch.step()
            if new:
                yield [new.get(i) for i in range(len(prompts))]

    return steps()


class Text:
    """What a Batch knows of one text: the ids that the model can still see, how many it was given, and may be; and how
    it is drawn, where that is not as the others are."""

    def __init__(self, ids, limit, uniform, generator, filters):
        self.ids, self.limit, self.uniform, self.drawn = ids, limit, uniform, 0
        self.generator, self.filters = generator, filters


class Batch:
    """Texts that a model continues together, each in a row of its key/value cache; as some end, waiting ones take their
    rows, and new ones may be added at any time.

    At most size texts of at most max_len tokens stand in the cache. With surprise, nats tells after each step how
    unlikely the model found each new id, -log P at temperature 1, by number. For the other options see
    choosing.sample_next.
    """

    def __init__(self, decoder, size, max_len=None, *, stop_ids=(), generator=None, surprise=False, **filters):
        check(**filters)
        self.surprise, self.nats = surprise, {}
        self.decoder, self.size, self.block_size = decoder, size, decoder.config.block_size
        self.max_len = min(max_len or self.block_size, self.block_size)
        self.stop_ids, self.options = frozenset(stop_ids), dict(filters, generator=generator)
        self.unfinished = {}  # Text by number, in the order in which they were added
        self.waiting = []     # numbers of those that have no row yet, the next one first
        self.held = []        # the number of the text in each row of the cache, None in a free row
        self.added, self.cache, self.last = 0, None, None  # last[b] has been drawn for row b and not yet read

    def add(self, prompt, limit, uniform=None, generator=None, **filters):
        """Let a text begin, as soon as there is a row for it; return its number: 0, 1, 2, …

        prompt is a list of ids, limit the most that it is given; uniform, numbers (limit,) or more, decides its draws.
        A text with a generator of its own has filters of its own, too, and becomes what it would become alone, whatever
        the others are; in one batch all have one, or none has. Raises ValueError for a prompt that the model cannot
        read.
        """
        check(**filters)
        prompt = [int(i) for i in prompt]
        if not prompt:
            raise ValueError("A prompt has no tokens. Begin it with the tokenizer's bos_id.")
        for i in prompt:
            if not 0 <= i < self.decoder.config.vocab_size:
                raise ValueError(f"Token {i} is outside the model's vocabulary of {self.decoder.config.vocab_size:,}.")
        prompt = prompt[-self.block_size :]
        number, self.added = self.added, self.added + 1
        if limit > 0:
            self.unfinished[number] = Text(prompt, limit, uniform, generator, filters)
            self.waiting.append(number)
        return number

    def drop(self, number):
        """Forget a text, finished or not; its row becomes free."""
        self.unfinished.pop(number, None)
        self.waiting = [i for i in self.waiting if i != number]
        self.held = [None if i == number else i for i in self.held]

    @torch.inference_mode()
    def step(self):
        """Give every text in the cache its next id: a dict by number. Texts that have ended are not in it, nor in
        unfinished; one that has just had its last id is in it."""
        if not self.unfinished:
            return {}
        logits = self.decoder.logits(self.read())  # (rows, vocab_size)
        texts = [self.unfinished.get(i) for i in self.held]
        each = any(text is not None and text.generator is not None for text in texts)
        self.last = self.draw_each(logits, texts) if each else self.draw(logits, texts)  # (rows,)
        if self.surprise:
            nats = (logits.logsumexp(dim=-1) - logits.gather(1, self.last[:, None]).squeeze(1)).tolist()
            self.nats = {i: nats[b] for b, i in enumerate(self.held) if i is not None}
        new = {}
        for b, (text, token) in enumerate(zip(texts, self.last.tolist())):
            if text is None:
                continue
            ended = token in self.stop_ids
            if not ended:
                new[self.held[b]] = token
                text.ids.append(token)
                text.drawn += 1
            if ended or text.drawn == text.limit:
                del self.unfinished[self.held[b]]
                self.held[b] = None
        return new

    def draw(self, logits, texts):
        """The next id of every row, all drawn alike."""
        numbers = None
        if any(text is not None and text.uniform is not None for text in texts):  # any number will do for a free row
            numbers = torch.stack([torch.zeros((), dtype=torch.float64) if text is None else text.uniform[text.drawn]
                                   for text in texts])
        return sample_next(logits, **self.options, uniform=numbers)

    def draw_each(self, logits, texts):
        """The next id of every row, each drawn by its own generator: at one time those that have the same filters. A
        free row gets any."""
        groups, drawn = {}, torch.zeros(len(texts), dtype=torch.long, device=logits.device)
        for b, text in enumerate(texts):
            if text is not None:
                groups.setdefault(tuple(sorted(text.filters.items())), []).append(b)
        for filters, rows in groups.items():
            drawn[rows] = sample_next(logits[rows], **dict(filters), generator=[texts[b].generator for b in rows])
        return drawn

    def read(self):
        """Read the last id of every text in the cache, and the whole of those that are new there.

        Returns what the output layer reads, (rows, n_embd).
        """
        going_on = [b for b, i in enumerate(self.held) if i is not None]
        if not self.waiting and 0 < 2 * len(going_on) <= len(self.held):  # free rows are computed for nothing
            going_on = self.keep_rows(going_on)
        anew = [b for b in going_on if self.cache.lengths[b] == self.block_size]
        for b in anew:
            ids = self.unfinished[self.held[b]].ids
            del ids[: len(ids) - max(1, self.block_size // 2)]
        going_on = [b for b in going_on if b not in anew]
        if not going_on:
            return self.begin([self.held[b] for b in anew])
        room = self.size - len(going_on) - len(anew)
        if room >= min(len(self.waiting), self.size / 8):  # reading fewer at a time would be slower
            anew += self.place(room)
        kept = set(going_on)
        self.cache.lengths = [n if b in kept else 0 for b, n in enumerate(self.cache.lengths)]
        x = self.decoder.read(self.last[:, None], self.cache)[:, -1]
        if anew:
            x[anew], others = self.prefill(anew)
            self.cache.replace(anew, others)
        return x

    def place(self, room):
        """Give rows to the next waiting texts, at most room of them; return these rows."""
        room = min(room, len(self.waiting))
        free = [b for b, i in enumerate(self.held) if i is None]
        if room > len(free):
            more = room - len(free)
            free += range(len(self.held), len(self.held) + more)
            self.keep_rows([*range(len(self.held)), *[0] * more])
        for b in free[:room]:
            self.held[b] = self.waiting.pop(0)
        return free[:room]

    def prefill(self, rows):
        return self.decoder.prefill([self.unfinished[self.held[b]].ids for b in rows], self.max_len)

    def begin(self, numbers):
        """Read texts, and as many waiting ones as there is room for, into a new cache."""
        self.held = numbers + self.waiting[: self.size - len(numbers)]
        del self.waiting[: len(self.held) - len(numbers)]
        x, self.cache = self.prefill(range(len(self.held)))
        return x

    def keep_rows(self, rows):
        """Keep only these rows, or several of one; return where they stand now."""
        self.cache.select(rows)
        self.last = self.last[torch.tensor(rows, device=self.last.device)]
        self.held = [self.held[b] for b in rows]
        return list(range(len(rows)))
