"""
The template of an instruction example, all on ids, so that no text can close somebody else's turn:

    bos <|im_start|> <|response|> reversed response <|im_end|> <|im_start|> <|instruction|>
    reversed instruction <|im_end|> eos

So it costs six ids around the response and two behind the instruction. That, the room it leaves and what ends a text
are known here and nowhere else.

For a forward model it is the mirror image, the instruction first and then the response, which is what is learned: such
a model judges how well an instruction leads to a response.
"""

import bisect
import itertools

import numpy as np

from reverse import reading_units
from tokenizer import BOS_ID, EOS_ID, FIRST_BYTE_ID, MARKER_IDS

HEAD = (BOS_ID, MARKER_IDS["<|im_start|>"], MARKER_IDS["<|response|>"])
MIDDLE = (MARKER_IDS["<|im_end|>"], MARKER_IDS["<|im_start|>"], MARKER_IDS["<|instruction|>"])
END = (MARKER_IDS["<|im_end|>"], EOS_ID)
FORWARD_HEAD, FORWARD_MIDDLE = (*HEAD[:2], MIDDLE[-1]), (*MIDDLE[:2], HEAD[-1])

EMPTY_RESPONSE = (*HEAD, *MIDDLE)
AROUND = len(EMPTY_RESPONSE)     # ids that the template puts around a response
STOP_IDS = range(FIRST_BYTE_ID)  # whatever is special ends an instruction: <|im_end|>, eos, and what no turn may hold


def encode_response(tokenizer, response, room=None):
    """What generation of an instruction starts from: (ids up to `<|instruction|>`, whether the response was shortened).

    A response is whole, so no space is put before it. With room, the ids are at most that many: a response too long
    loses its end, the far side from the instruction.
    """
    ids, shortened = beginning(tokenizer, response, None if room is None else max(0, room - AROUND))
    return [*HEAD, *ids, *MIDDLE], shortened


def beginning(tokenizer, response, room):
    """(ids of a response, whether it was shortened): up to the last whole unit that fits into so many ids."""
    ids = tokenizer.encode_text(response)
    if room is None or len(ids) <= room:
        return ids, False
    ends = list(itertools.accumulate(len(tokenizer.encode_text(unit)) for unit in reading_units(response)))
    fitting = bisect.bisect_right(ends, room)
    size = ends[fitting - 1] if fitting else 0
    return ids[len(ids) - size:] if tokenizer.direction == "reverse" else ids[:size], True


def encode_instruction(tokenizer, instruction):
    """What is learned after encode_response: the reversed instruction and what ends it; it is never cut."""
    return [*tokenizer.encode_text(instruction), *END]


def encode_pair(tokenizer, response, instruction, block_size):
    """An example as it stands in a shard: (ids that are given, ids that are learned, whether the response was
    shortened so that both fit into the block).

    Of a backward tokenizer the instruction is learned, of a forward one the response, which then ends where it was cut.
    """
    if tokenizer.direction == "reverse":
        targets = encode_instruction(tokenizer, instruction)
        given, shortened = encode_response(tokenizer, response, prompt_room(block_size, len(targets)))
        return given, targets, shortened
    given = [*FORWARD_HEAD, *tokenizer.encode_text(instruction), *FORWARD_MIDDLE]
    ids, shortened = beginning(tokenizer, response, max(0, block_size + 1 - len(given) - len(END)))
    return given, [*ids, *END], shortened


def response_room(tokenizer, instruction, block_size):
    """How many ids a response may have beside an instruction, in either direction."""
    return prompt_room(block_size, len(encode_instruction(tokenizer, instruction))) - AROUND


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
    """Where the examples among tokens (array of ids) begin, have the marker before what is learned, and end: three
    int64 arrays.

    Raises ValueError where tokens hold something else than examples.
    """
    starts, ends = (np.flatnonzero(tokens == i) for i in (BOS_ID, EOS_ID))
    marks = np.flatnonzero(np.isin(tokens, (HEAD[-1], MIDDLE[-1])))[1::2]  # each has both, the second one counts
    if not (len(starts) == len(marks) == len(ends) and np.all(starts < marks) and np.all(marks < ends)
            and np.all(ends[:-1] + 1 == starts[1:])):
        raise ValueError("no instruction examples")
    return starts, marks, ends + 1
