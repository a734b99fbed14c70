"""
A file of responses becomes a file of pairs: records in, the same records with an instruction and its scores out.

Records are worked on in windows: within one many are generated together, others beginning as some end, and they are
written in their order when the window is whole. What a record draws depends on its number and the seed alone, and
windows begin at fixed records. So a run that was stopped reads over what is written, compares it with the input, and
goes on; the file it ends with is the same, byte for byte, as that of an unbroken run.
"""

import contextlib
import hashlib
import itertools
import json
import os
from pathlib import Path

import torch
from tqdm import tqdm

import records
from score import fits, scores, weigh
from tokenizer import FIRST_BYTE_ID

STOP_IDS = range(FIRST_BYTE_ID)  # whatever is special ends the instruction: <|im_end|>, eos, and what no turn may hold
WINDOW = 512                     # records worked on and written together; what a kill can cost
POSITIONS = 2**16                # of prompts and instructions in one batch, at most: bounds the memory of the cache
TOKENS = 200                     # of an instruction, at most, unless asked otherwise
DECIMALS = 4                     # of the scores: less than the rounding errors of float32


def response_room(tokens, block_size):
    """The most ids that the prompt may have: the rest of the block is for an instruction of up to `tokens` ids.

    A quarter of the block is enough for that: in a small one there would else be no room for a response. Two more ids
    end the instruction.
    """
    return block_size - min(tokens, block_size // 4) - 2


def instruction_room(tokens, block_size, prompt):
    """How many ids the instruction may get after this prompt."""
    return min(tokens, block_size - len(prompt) - 2)


def prompt_of(model, tokenizer, text, tokens):
    """The prompt for a whole response; raises ValueError where it is empty or longer than the model can read."""
    if not text.strip():
        raise ValueError("the response is empty")
    prompt, _ = tokenizer.encode_response(text)
    room = response_room(tokens, model.config.block_size)
    if len(prompt) > room:
        template = len(tokenizer.encode_response("")[0])
        raise ValueError(f"the response has {len(prompt) - template:,} tokens, the model has room for {room - template:,}")
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


class Instructions:
    """Writes for every record of a window the best of controls.n instructions, within context() (see device.autocast)."""

    first_field = "instruction"

    def __init__(self, model, tokenizer, controls, response_field=None, batch_size=64,
                 context=contextlib.nullcontext):
        self.model, self.tokenizer, self.controls, self.context = model, tokenizer, controls, context
        self.response_field, self.batch_size = response_field, batch_size
        self.fields = {}  # field that gave the response: in how many records

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
        with self.context():
            samples = self.draw(prompts, advance)
            best = weigh(self.model, self.tokenizer, prompts.values(), [samples[number] for number in prompts])
        for number, candidates in zip(prompts, best):
            if candidates:
                chosen = candidates[0]
                added[number] = {"instruction": chosen.instruction, **added[number], **score_fields(chosen.score)}
            else:
                added[number] = {"error": "the model wrote no instruction for this response"}
        return [added[number] for number, _ in window]

    def draw(self, prompts, advance=lambda n: None):
        """Lists of ids, controls.n for each of prompts (a dict by number), drawn with numbers that depend on nothing else.

        Returns a dict by number; advance(n) is told of n prompts that are done.
        """
        if not prompts:
            return {}
        n, c = self.controls.n, self.controls
        numbers = sorted(prompts, key=lambda number: (len(prompts[number]), number))  # such as begin together are alike
        texts = [prompts[number] for number in numbers for _ in range(n)]
        limits = [instruction_room(c.tokens, self.model.config.block_size, prompt) for prompt in texts]
        longest = max(len(prompt) + limit for prompt, limit in zip(texts, limits))
        rows = [[] for _ in texts]
        steps = self.model.generate_batch(
            texts, limits, batch_size=max(1, min(self.batch_size, POSITIONS // longest)), temperature=c.temp,
            top_k=c.top_k, top_p=c.top_p, min_p=c.min_p, stop_ids=STOP_IDS,
            uniform=torch.cat([self._uniform(number) for number in numbers]))
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
        return torch.rand(self.controls.n, tokens, generator=generator, dtype=torch.float64)


class Scores:
    """Scores the pair that every record of a window holds."""

    first_field = "mean_log_prob"

    def __init__(self, model, tokenizer, response_field=None):
        self.model, self.tokenizer, self.response_field = model, tokenizer, response_field
        self.fields = {}

    def __call__(self, window, advance):
        pairs, added = {}, {}
        for number, record in window:
            try:
                field, output = response_of(record, self.response_field)
                instruction, given, _ = records.pair({**record, "output": output}, "this record")
                instruction = records.full_instruction(instruction, given)
                if not output.strip() or not instruction.strip():
                    raise ValueError(f"the {'instruction' if output.strip() else 'response'} is empty")
                prompt, _ = self.tokenizer.encode_response(output)
                if not fits(self.model, self.tokenizer, prompt, instruction):
                    raise ValueError(f"the pair is longer than the model's block of {self.model.config.block_size:,} tokens")
                pairs[number] = prompt, instruction
                self.fields[field] = self.fields.get(field, 0) + 1
            except ValueError as error:
                added[number] = {"error": str(error)}
        for number, score in zip(pairs, scores(self.model, self.tokenizer, list(pairs.values()))):
            added[number] = score_fields(score)
        advance(len(window))
        return [added[number] for number, _ in window]


def score_fields(score):
    return {"mean_log_prob": round(score.mean_log_prob, DECIMALS), "pmi": round(score.pmi, DECIMALS)}


def _json(value):
    """One line of JSON; what JSON does not know (dates and bytes of a Parquet file) becomes a string."""
    line = json.dumps(value, ensure_ascii=False, default=str)
    try:
        return line.encode()
    except UnicodeEncodeError:  # half of a surrogate pair has no UTF-8
        return json.dumps(value, default=str).encode()


def _free(name, record):
    """The name under which something is added: every field of the input is kept."""
    while name in record:
        name = f"new_{name}"
    return name


def _line(record, added):
    return _json({**record, **{_free(name, record): value for name, value in added.items()}}) + b"\n"


def _added_part(line, record):
    """What stands in line after the fields of record; None where line does not begin with them.

    A line cut short belongs to the record if it begins as one does; then nothing was added yet.
    """
    for head in (_json(record)[:-1], json.dumps(record, default=str).encode()[:-1]):
        n = min(len(head), len(line))
        if line[:n] == head[:n]:
            return line[len(head):].lstrip(b", ")
    return None


def count_records(path):
    """How many records a file has, or None where finding out would mean reading it twice."""
    path = Path(path)
    if path.suffix == ".parquet":
        import pyarrow.parquet
        return pyarrow.parquet.read_metadata(path).num_rows
    if path.suffix == ".json":
        return None
    with open(path, "rb") as file:
        return sum(not line.isspace() for line in file)


def run(work, input_path, output_path, progress=True):
    """Write every record of input_path with what work adds to it to output_path, a .jsonl file; go on where it ends.

    work(window, advance) is Instructions or Scores. Returns (records, of these with an error, records there before).
    Raises ValueError where the output belongs to another input, OSError where it cannot be written.
    """
    output_path = Path(output_path)
    next(records.read_file(input_path), None)  # an input that cannot be read makes no output
    if output_path.exists() and not output_path.is_file():
        raise ValueError(f"{output_path} is no file. --output is read again when a run goes on, so it must be one.")
    if output_path.exists() and output_path.samefile(input_path):
        raise ValueError(f"--input and --output are both {output_path}. Name another file to write to.")
    output_path.parent.mkdir(parents=True, exist_ok=True)
    stream = ((number, record) for number, (_, record) in enumerate(records.read_file(input_path)))
    errors = kept = total = end = 0
    going_on = True
    # Unbuffered: what could not be written must not be tried again on closing.
    with (open(output_path, "ab", buffering=0) as file, open(output_path, "rb") as written,
          tqdm(total=count_records(input_path), unit=" records", disable=not progress, smoothing=0.05) as bar):
        while window := list(itertools.islice(stream, WINDOW)):
            lines = list(itertools.islice(written, len(window))) if going_on else []
            for line, (number, record) in zip(lines, window):
                _check_belongs(line, record, number, work, input_path, output_path)
            if lines and not lines[-1].endswith(b"\n"):
                lines.pop()
            end += sum(map(len, lines))
            kept += len(lines)
            bar.update(len(lines))
            if len(lines) < len(window):
                if going_on:
                    going_on = False
                    file.truncate(end)  # a last line cut short goes
                most = total + len(window)  # a window done in part is done again, but counted once
                added = work(window, lambda n: bar.update(min(n, most - bar.n)))
                new = [_line(record, fields) for (_, record), fields in zip(window, added)][len(lines):]
                _append(file, new, output_path, total + len(lines))
                lines += new
            errors += sum(_added_part(line, record).startswith(_name("error", record))
                          for line, (_, record) in zip(lines, window))
            total += len(window)
        if going_on and written.read(1):
            raise ValueError(_another(output_path, input_path, f"it has more records than the input's {total:,}"))
    return total, errors, kept


def _append(file, lines, path, done):
    """Write whole lines; raises OSError with how many records there are where that fails."""
    try:
        for line in lines:
            rest = memoryview(line)
            while rest:
                rest = rest[file.write(rest):]
            done += 1
        os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, f"could not write {path} ({error.strerror}). Its first {done:,} records are whole; "
                                   "make room and run the same command again: it goes on from there") from error


def _name(name, record):
    """How JSON writes the name under which something is added to record."""
    return json.dumps(_free(name, record)).encode()


def _check_belongs(line, record, number, work, input_path, output_path):
    added, whole = _added_part(line, record), line.endswith(b"\n")
    if added is None or whole and len(added) < 3:
        raise ValueError(_another(output_path, input_path, f"record {number + 1:,} of the two differs"))
    names = [_name(name, record) for name in (work.first_field, "error")]
    if not any(added[:len(name)] == name[:len(added)] for name in names):
        raise ValueError(_another(output_path, input_path,
                                  f"record {number + 1:,} does not go on with {names[0].decode()}"))


def _another(output_path, input_path, why):
    return (f"{output_path} is there already and was not made from {input_path} in this way: {why}. "
            "Name another --output, or delete it to begin anew.")
