"""
What is added to the records of a file: an instruction that the model writes, or the scores of the pair that is there.

A writer is called with a window of records and returns what is added to each. What a record draws depends on its number
and the seed alone, so neither the size of a batch nor an interruption changes what is written. From Python:

    opened = open_model("out/xcoax_instruct/best_checkpoint.pt", "instruct")
    write = Instructions(opened.model, opened.tokenizer, Controls(num_samples=4, tokens=200, seed=1))
    write.each([{"text": "The cat is sleeping."}])
    Scores(opened.model, opened.tokenizer).each([{"instruction": "What is it doing?", "output": "It is sleeping."}])
"""

import hashlib

import torch

from backchat import records
from backchat.candidates import fits, scores, weigh
from backchat.template import AROUND, STOP_IDS, encode_response, instruction_room, writing_room
from sampling import generate_batch
from sampling.controls import KNOBS
from sampling.decoding import decoder_of

WRITTEN_POSITIONS = 2**16  # of prompts and instructions in one batch, at most: bounds the memory of the cache
TOKENS = 200               # of an instruction, at most, unless asked otherwise
DECIMALS = 4               # of the scores: less than the rounding errors of float32


def prompt_of(model, tokenizer, text, tokens):
    """The prompt for a whole response; raises ValueError where it is empty or longer than the model can read."""
    if not text.strip():
        raise ValueError("the response is empty")
    prompt, _ = encode_response(tokenizer, text)
    room = writing_room(model.config.block_size, tokens)
    if len(prompt) > room:
        raise ValueError(f"the response has {len(prompt) - AROUND:,} tokens, the model has room for {room - AROUND:,}")
    return prompt


def response_of(record, field=None):
    """(name of the field, text) of the response in a record, in the field named or in whichever is known.

    Raises ValueError with the fields that the record has.
    """
    if field is None:
        return records.response(record, "this record")
    if not isinstance(record.get(field), str):
        found = type(record[field]).__name__ if field in record else ", ".join(map(str, record)) or "no fields"
        raise ValueError(f"this record: expected text in the field {field!r}; found {found}")
    return field, record[field]


class OfRecords:
    """What is added to records; a subclass is called with a window of them."""

    def each(self, records):
        """What is added to each of a list of records, a dict each: its fields, or an error alone."""
        return self(list(enumerate(records)), lambda n: None)


class Instructions(OfRecords):
    """Writes for every record of a window the best of controls.num_samples instructions."""

    first_field = "instruction"

    def __init__(self, model, tokenizer, controls, response_field=None, batch_size=64):
        self.model, self.tokenizer, self.controls = decoder_of(model), tokenizer, controls
        self.response_field, self.batch_size = response_field, batch_size
        self.fields = {}  # field that gave the response: in how many records
        # What decides, beside the model, what is written; see earlier.py.
        self.settings = {"adds": "instruction", "response_field": response_field,
                         **{name: getattr(controls, name) for name in KNOBS}}

    def __call__(self, window, advance):
        """What is added to each record of window, pairs (number, record); advance(n) is told of n that are done."""
        added, prompts = {}, {}
        for number, record in window:
            try:
                field, text = response_of(record, self.response_field)
                prompts[number] = prompt_of(self.model, self.tokenizer, text, self.controls.tokens)
                self.fields[field] = self.fields.get(field, 0) + 1
                # A field of another name would not be read as part of a pair, so the response is repeated.
                added[number] = {} if field in records.OUTPUT else {"output": text}
            except ValueError as error:
                added[number] = {"error": str(error)}
        advance(len(window) - len(prompts))
        samples = self.draw(prompts, advance)
        best = weigh(self.model, self.tokenizer, prompts.values(), [samples[number] for number in prompts])
        for number, candidates in zip(prompts, best):
            if candidates:
                chosen = candidates[0]
                added[number] = with_scores({"instruction": chosen.instruction, **added[number]}, chosen.score)
            else:
                added[number] = {"error": "the model wrote no instruction for this response"}
        return [added[number] for number, _ in window]

    def draw(self, prompts, advance=lambda n: None):
        """Lists of ids, controls.num_samples for each of prompts, a dict by number; nothing else decides what is drawn.

        Returns a dict by number; advance(n) is told of n prompts that are done.
        """
        if not prompts:
            return {}
        n = self.controls.num_samples
        numbers = sorted(prompts, key=lambda number: (len(prompts[number]), number))  # such as begin together are alike
        texts = [prompts[number] for number in numbers for _ in range(n)]
        limits = [instruction_room(self.model.config.block_size, self.controls.tokens, prompt) for prompt in texts]
        longest = max(len(prompt) + limit for prompt, limit in zip(texts, limits))
        rows = [[] for _ in texts]
        steps = generate_batch(
            self.model, texts, limits, batch_size=max(1, min(self.batch_size, WRITTEN_POSITIONS // longest)),
            stop_ids=STOP_IDS, uniform=torch.cat([self._uniform(number) for number in numbers]),
            **self.controls.filters())
        done = 0
        for step in steps:
            for row, token in zip(rows, step):
                if token is not None:
                    row.append(token)
            ended = sum(bool(row) and token is None for row, token in zip(rows, step)) // n
            advance(ended - done)
            done = ended
        advance(len(numbers) - done)
        return {number: rows[i * n:i * n + n] for i, number in enumerate(numbers)}

    def _uniform(self, number):
        """Numbers from 0 to below 1 for each sample and step of one record: (n, tokens)."""
        digest = hashlib.blake2b(f"{self.controls.seed}/{number}".encode(), digest_size=7).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
        tokens = min(self.controls.tokens, self.model.config.block_size)
        return torch.rand(self.controls.num_samples, tokens, generator=generator, dtype=torch.float64)


class Scores(OfRecords):
    """Scores the pair that every record of a window holds."""

    first_field = "mean_log_prob"

    def __init__(self, model, tokenizer, response_field=None):
        self.model, self.tokenizer, self.response_field = model, tokenizer, response_field
        self.fields = {}
        self.settings = {"adds": "scores", "response_field": response_field}

    def __call__(self, window, advance):
        pairs, added = {}, {}
        for number, record in window:
            try:
                field, output = response_of(record, self.response_field)
                instruction, given, _ = records.pair({**record, "output": output}, "this record")
                instruction = records.full_instruction(instruction, given)
                if not output.strip() or not instruction.strip():
                    raise ValueError(f"the {'instruction' if output.strip() else 'response'} is empty")
                prompt, _ = encode_response(self.tokenizer, output)
                if not fits(self.model, self.tokenizer, prompt, instruction):
                    raise ValueError("the pair is longer than the model's block of "
                                     f"{self.model.config.block_size:,} tokens")
                pairs[number] = prompt, instruction
                self.fields[field] = self.fields.get(field, 0) + 1
            except ValueError as error:
                added[number] = {"error": str(error)}
        for number, score in zip(pairs, scores(self.model, self.tokenizer, list(pairs.values()))):
            added[number] = with_scores({}, score)
        advance(len(window))
        return [added[number] for number, _ in window]


def with_scores(added, score):
    """Fields with the scores behind them, or an error alone: JSON knows no infinity, and it would say nothing."""
    if not score.finite:
        return {"error": "the model's scores of it are no finite numbers"}
    return {**added, "mean_log_prob": round(score.mean_log_prob, DECIMALS), "pmi": round(score.pmi, DECIMALS)}
