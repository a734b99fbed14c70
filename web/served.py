"""
What the addresses share: the models, the settings that hold where a request says nothing else, and what is asked of a
request before anything is written for it.
"""

import json
import random
from dataclasses import dataclass, replace
from typing import Any

from program.files import append
from program.streams import complain
from sampling.controls import KNOBS
from web.limits import Rate, refusal
from web.writing import Full, Writer

FIELDS = {k.command: name for name, k in KNOBS.items()}  # settings are named as at the prompt


@dataclass
class Served:
    """What the addresses share. chat and kiosk may be None: there is no instruct model, nothing hangs on a wall."""

    name: str       # of the model, for other programs
    writer: Writer
    tokenizer: Any
    controls: Any   # sampling.controls.Controls: what holds where a request says nothing else
    rate: Rate
    chat: tuple | None = None   # (Writer, Tokenizer) of an instruct model
    kiosk: dict | None = None   # {"endings": [...], "pause": seconds}
    speed: float | None = 8.0   # words a second, on the page
    longest: int = 20_000       # characters of an ending
    most_tokens: int = 1000     # of one text
    log: str | None = None      # a file

    @property
    def direction(self):
        return "backward" if self.tokenizer.direction == "reverse" else "forward"

    @property
    def writers(self):
        return [self.writer, *([self.chat[0]] if self.chat else [])]

    def checked(self, text, what):
        """A text that came from outside, or a refusal."""
        if not isinstance(text, str) or not text.strip():
            raise refusal(400, f"Expected {what} with some words, as a string.")
        if len(text) > self.longest:
            near = "last" if what != "response" and self.direction == "backward" else "first"
            raise refusal(413, f"{what} has {len(text):,} characters; {self.longest:,} are read. Give its {near} ones.")
        return text

    def begin(self, writer, request, starts, limit, filters, finish=None):
        """A Job, or a refusal."""
        self.rate.take(request.client.host if request.client else "", len(starts))
        try:
            return writer.write(starts, limit, filters, finish)
        except Full as error:
            raise refusal(503, f"Too many texts are being written. {error} Try again in a moment.",
                          retry_after="5") from None

    def controls_of(self, asked):
        """The Controls of a request, with a seed: what it says, else those of the server."""
        unknown = [name for name in asked if name not in FIELDS]
        if unknown:
            raise refusal(400, f"There is no setting {unknown[0]!r}. There are: {', '.join(FIELDS)}.")
        try:
            controls = replace(self.controls, **{FIELDS[name]: value for name, value in asked.items()})
        except ValueError as error:
            raise refusal(400, str(error)) from None
        if controls.tokens > self.most_tokens:
            raise refusal(400, f"tokens={controls.tokens} is more than one text may have here: {self.most_tokens}.")
        if controls.num_samples > self.writer.rows:
            raise refusal(400, f"n={controls.num_samples} is more than are written at a time: {self.writer.rows}.")
        seed = random.SystemRandom().randrange(2**31) if controls.seed is None else controls.seed
        return replace(controls, seed=seed)

    def keep(self, writer, controls, **record):
        """Append what a writer has written to the log, where there is one: nothing is kept elsewhere."""
        if self.log:
            line = {**record, "settings": str(controls), **writer.identity}
            try:
                append(self.log, json.dumps(line, ensure_ascii=False) + "\n")
            except OSError as error:  # a full disk is no reason to leave a wall empty
                complain(str(error))
