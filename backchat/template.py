"""
The template of an instruction example, all on ids, so that no text can close somebody else's turn:

    bos <|im_start|> <|response|> reversed response <|im_end|> <|im_start|> <|instruction|>
    reversed instruction <|im_end|> eos

So it costs six ids around the response and two behind the instruction. That, the room it leaves and what ends a text
are known here and nowhere else.
"""

import bisect
import itertools

import numpy as np

from reverse import reading_units
from tokenizer import BOS_ID, EOS_ID, FIRST_BYTE_ID, MARKER_IDS

HEAD = (BOS_ID, MARKER_IDS["<|im_start|>"], MARKER_IDS["<|response|>"])
MIDDLE = (MARKER_IDS["<|im_end|>"], MARKER_IDS["<|im_start|>"], MARKER_IDS["<|instruction|>"])
END = (MARKER_IDS["<|im_end|>"], EOS_ID)

EMPTY_RESPONSE = (*HEAD, *MIDDLE)
AROUND = len(EMPTY_RESPONSE)     # ids that the template puts around a response
STOP_IDS = range(FIRST_BYTE_ID)  # whatever is special ends an instruction: <|im_end|>, eos, and what no turn may hold


def encode_response(tokenizer, response, room=None):
    """What generation of an instruction starts from: (ids up to `<|instruction|>`, whether the response was shortened).

    A response is whole, so no space is put before it. With room, the ids are at most that many: a response too long
    loses its end, the far side from the instruction.
    """
    ids = tokenizer.encode_text(response)
    free = len(ids) if room is None else max(0, room - AROUND)
    shortened = len(ids) > free
    if shortened:  # after the last whole unit that fits, so that what is kept is the beginning of the response
        ends = list(itertools.accumulate(len(tokenizer.encode_text(unit)) for unit in reading_units(response)))
        fitting = bisect.bisect_right(ends, free)
        size = ends[fitting - 1] if fitting else 0
        ids = ids[len(ids) - size:] if tokenizer.direction == "reverse" else ids[:size]
    return [*HEAD, *ids, *MIDDLE], shortened


def encode_instruction(tokenizer, instruction):
    """What is learned after encode_response: the reversed instruction and what ends it; it is never cut."""
    return [*tokenizer.encode_text(instruction), *END]


def prompt_room(block_size, targets):
    """The most ids that a prompt may have beside so many targets that are there, the last of which is never read."""
    return block_size + 1 - targets


def writing_room(block_size, tokens):
    """The most ids that a prompt may have where an instruction of up to `tokens` ids is to be written.

    A quarter of the block is enough for that: in a small one there would else be no room for a response.
    """
    return block_size - min(tokens, block_size // 4) - len(END)


def instruction_room(block_size, tokens, prompt):
    """How many of `tokens` ids an instruction may get that is written after this prompt."""
    return min(tokens, block_size - len(prompt) - len(END))


def borders(tokens):
    """Where the examples among tokens (array of ids) begin, have their `<|instruction|>`, and end: three int64 arrays.

    Raises ValueError where tokens hold something else than examples.
    """
    starts, marks, ends = (np.flatnonzero(tokens == i) for i in (BOS_ID, MIDDLE[-1], EOS_ID))
    if not (len(starts) == len(marks) == len(ends) and np.all(starts < marks) and np.all(marks < ends)
            and np.all(ends[:-1] + 1 == starts[1:])):
        raise ValueError("no instruction examples")
    return starts, marks, ends + 1
