"""
How a model of either kind is used, for programs that know nothing but its weights.
"""

from typing import NamedTuple

from backchat.template import END, HEAD, MIDDLE, STOP_IDS
from sampling.controls import Controls
from tokenizer import BOS_ID, EOS_ID


class Use(NamedTuple):
    """How a model is to be used, which its weights do not tell."""

    head: tuple      # ids before the text that is given: how a document begins, or the template
    middle: tuple    # ids behind it, none for a base model
    end: int         # id that ends what is written
    stop_ids: tuple  # and all that do so
    temperature: float
    top_k: int
    tokens: int      # the most that are written

    def spelled(self, tokenizer, ids):
        """The names of ids, as other programs read them."""
        return "".join(tokenizer.name(i) for i in ids)

    def chat_template(self, tokenizer):
        """In Jinja: the last message, which is to be reversed text, becomes a prompt."""
        head, middle = (self.spelled(tokenizer, ids) for ids in (self.head, self.middle))
        return f"{head}{{{{ messages[-1]['content'] }}}}{middle}"


def use_of(opened):
    """How an OpenModel is used by default."""
    controls = Controls()
    around = ((HEAD, MIDDLE, END[0], tuple(STOP_IDS)) if opened.kind == "instruct" else
              ((BOS_ID,), (), EOS_ID, opened.tokenizer.stop_ids))
    return Use(*around, controls.temperature, controls.top_k, controls.tokens)
