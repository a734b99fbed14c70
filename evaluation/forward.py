"""
What a model that writes forward makes of a pair: P(response | instruction), the other way round than BackChat.

A base model has never seen an instruction as such: it reads instruction and response as one text, a newline between
them. A judge was fine-tuned on pairs (finetune_xcoax.py with a forward model), whose template is the mirror image.
"""

from backchat.template import END, FORWARD_HEAD, FORWARD_MIDDLE, beginning
from checkpoint import open_model
from program import commands
from sampling import log_probs
from sampling.decoding import Decoder


class Forward:
    """A forward model, opened from a checkpoint; raises ValueError where that is a backward one, or of another kind."""

    def __init__(self, path, flag, kind=None, device="auto", dtype="auto"):
        self.opened = opened = open_model(path, kind, device, dtype)
        self.tokenizer, self.block_size = opened.tokenizer, opened.model.config.block_size
        if self.tokenizer.direction != "forward":
            raise ValueError(f"{flag} {path} is a backward model, and a forward one is needed. Make one from shards of "
                             f"the same texts:\n    {commands.preprocess(direction='forward')}")
        self.model = Decoder(opened.model, opened.dtype)
        between = (self.tokenizer.encode_text("\n"), (self.tokenizer.eos_id,))
        self.before, self.between, self.end = ((FORWARD_HEAD, FORWARD_MIDDLE, END) if opened.kind == "instruct" else
                                               ((self.tokenizer.bos_id,), *between))

    def pairs(self, response, instructions):
        """(prompt ids, ids of the response) for each of several instructions, as sampling.log_probs takes them.

        The response is the same in all: where the block is too small beside one, it keeps its beginning, half a block
        of it at least, and an instruction then its end, which stands next to the response.
        """
        rows = [self.tokenizer.encode_text(text) for text in instructions]
        around = len(self.before) + len(self.between)
        room = max(self.block_size // 2, self.block_size + 1 - around - len(self.end) - max(map(len, rows)))
        ids, shortened = beginning(self.tokenizer, response, room)
        ids = ids if shortened else [*ids, *self.end]
        left = self.block_size + 1 - around - len(ids)
        return [([*self.before, *row[max(0, len(row) - left):], *self.between], ids) for row in rows]

    def scores(self, questions):
        """[[(log P(response | instruction), tokens), …], …] for questions, pairs (response, instructions)."""
        found = [self.pairs(*question) for question in questions]
        values = iter(log_probs(self.model, [pair for pairs in found for pair in pairs]))
        return [[next(values) for _ in pairs] for pairs in found]
