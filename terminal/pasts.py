"""
The tree of pasts: an ending, what may have come before it, what may have come before that.

    Ending: and they all went home.     four pasts are written
    Ending: keep 2                      the second is taken, and four are written that end with it
    Ending: back                        to the fork before
"""

import base64
import functools
import json
import os
from dataclasses import dataclass, replace

from program.files import append
from terminal.samples import Sample, draw_samples, show_samples
from terminal.screen import note, send, separate, show_lines

OSC_52_BYTES = 74_994  # what terminals take at most for the clipboard


class Written:
    """The texts that were written last, and what may be done with any: subclasses write them.

    records are dicts, one for each text, with all that is needed to write it again; field names the text. model is a
    function that says which model wrote them, {"model": …, "model_sha256": …}. as_json prints records in place of
    texts.
    """

    field = "text"

    def __init__(self, model, as_json=False):
        self.model, self.as_json, self.records = functools.cache(model), as_json, []  # it may read a large file

    def lines(self):
        """What was written last, a line of JSON for each text."""
        return [json.dumps({**record, **self.model()}, ensure_ascii=False) + "\n" for record in self.records]

    def save(self, path):
        """Append what was written last to a file."""
        self.need()
        append(os.path.expanduser(path), "".join(self.lines()))
        note(f"{len(self.records)} {'text' if len(self.records) == 1 else 'texts'} appended to {path}.")

    def copy(self):
        """Put the text on the clipboard, as it is."""
        self.need()
        if len(self.records) > 1:
            raise ValueError(f"There are {len(self.records)} texts. Keep one first: keep 2")
        data = base64.b64encode(self.records[0][self.field].encode("utf-8", "replace"))
        if len(data) > OSC_52_BYTES:
            raise ValueError("This text is too long for a terminal's clipboard. Save it: save FILE")
        send(f"\x1b]52;c;{data.decode()}\x07")
        note("Copied, where the terminal allows it.")

    def obey(self, command, controls):
        """Do what a Command says: one of the methods of its name."""
        method, given = getattr(self, command.name), [] if command.value is None else [command.value]
        method(*given, *([controls] if command.name in ("keep", "back", "again") else []))

    def separate(self):
        """What stands between two texts on a pipe."""
        if not self.as_json:
            separate()

    def failed(self, message):
        """Say that a line of a pipe could not be answered; as JSON it keeps its place."""
        if self.as_json:
            show_lines([json.dumps({"error": message}, ensure_ascii=False) + "\n"])
        note(message)

    def need(self):
        if not self.records:
            raise ValueError("Nothing has been written yet.")

    def place(self, number):
        """The place of text number among those written last."""
        self.need()
        if number > len(self.records):
            raise ValueError(f"There is no text {number}: the last are 1 to {len(self.records)}.")
        return number - 1


@dataclass
class Fork:
    """A text from which several pasts go back."""

    given: str     # by the person
    ids: list      # of it
    kept: Sample   # what was taken of earlier forks, or None
    path: tuple    # the numbers of the texts taken
    samples: object = None


class Pasts(Written):
    """Writes what came before an ending, and before that.

    whole says what it means that a text has ended by itself.
    """

    def __init__(self, decoder, tokenizer, whole, model, as_json=False):
        super().__init__(model, as_json)
        self.decoder, self.tokenizer, self.whole, self.forks = decoder, tokenizer, whole, []
        self.forks_before = []  # of the ending before this one, for which there is a way back

    def answer(self, given, controls):
        """Write for a new ending; return False if Ctrl-C stopped it."""
        self.forks_before = self.forks
        self.forks = [Fork(given, self.tokenizer.encode_ending(given), None, ())]
        return self._write(controls)

    def keep(self, number, controls):
        """Take text number, and go on from its first word."""
        place = self.place(number)
        fork, sample = self.forks[-1], self.forks[-1].samples.found[place]
        if len(sample.ids) == sample.kept:
            raise ValueError(f"Text {number} has no words. Try: again")
        self.forks.append(Fork(fork.given, fork.ids, sample, (*fork.path, number)))
        if sample.whole:
            self.records = [self.records[place]]
            self.forks[-1].samples = _alone(fork.samples, sample)
            note(f"Text {number} is kept. It is whole ({self.whole}): there is nothing to go on with. For a tree, let "
                 "texts be shorter: tokens=30, and again.")
        else:
            self._write(controls)

    def again(self, controls):
        """Write anew from the same fork."""
        self.need()
        if self.forks[-1].kept is not None and self.forks[-1].kept.whole:
            del self.forks[-1]
        self._write(fresh(controls))

    def back(self, controls):
        """Return to the fork before, or from the first one to the ending before this, and show its texts."""
        if len(self.forks) < 2:
            if not self.forks_before:
                raise ValueError("This is where it began: there is no fork before it.")
            self.forks, self.forks_before = self.forks_before, []
        else:
            del self.forks[-1]
        self._show(controls)

    def tree(self):
        """Say where one is."""
        self.need()
        lines = [self.forks[0].given]
        for depth, fork in enumerate(self.forks):
            taken = self.forks[depth + 1].path[-1] if depth + 1 < len(self.forks) else None
            for i, sample in enumerate(fork.samples.found):
                words = self._words(fork, sample.ids)
                new = len(words) - len(self._words(fork, sample.ids[: sample.kept]))
                marks = ["kept"] * (taken == i + 1) + ["whole"] * sample.whole
                farthest = " ".join(words[:6]) + " …" if self.tokenizer.direction == "reverse" else (
                    "… " + " ".join(words[-6:]))
                lines.append(f"{'  ' * depth}{i + 1}. {farthest} ({', '.join([f'{new} words', *marks])})")
        note("\n".join(lines))

    # ---- behind the commands

    def parts(self, fork):
        return lambda new: self.tokenizer.parts(fork.ids + new, fork.given)

    def _words(self, fork, ids):
        """What was written of a text, in words."""
        return "".join(string for string, given in self.parts(fork)(ids) if not given).split()

    def _write(self, controls):
        """Draw and show the texts of the last fork; return False if Ctrl-C stopped it."""
        fork, block_size = self.forks[-1], self.decoder.config.block_size
        length = len(fork.ids) + len(fork.kept.ids if fork.kept else [])
        if length > block_size:
            note(f"This text has {length:,} tokens; the model reads the {block_size:,} nearest to what it writes.")
        fork.samples = self.draw(fork, controls)
        self._show(controls)
        return not fork.samples.stopped

    def draw(self, fork, controls):
        """The Samples of a fork, shown while they grow."""
        return draw_samples(self.decoder, fork.ids, controls, self.tokenizer.stop_ids, self.parts(fork), fork.kept)

    def _show(self, controls):
        fork = self.forks[-1]
        self.records = [{
            "text": "".join(string for string, _ in self.parts(fork)(sample.ids)), "given": fork.given,
            "kept": list(fork.path), "number": i + 1, "whole": sample.whole,
            "seeds": [before.samples.seed for before in self.forks], "settings": str(controls),
        } for i, sample in enumerate(fork.samples.found)]  # fmt: skip
        self.tell(controls)

    def tell(self, controls):
        """Print what was written."""
        fork = self.forks[-1]
        if self.as_json:
            show_lines(self.lines())
        else:
            show_samples(fork.samples, self.parts(fork), controls)
            note(fork.samples.summary(self.whole))


def fresh(controls):
    """The same without a seed, which would write the same once more."""
    if controls.seed is not None:
        note(f"seed={controls.seed} would write the same: a fresh one is drawn.")
    return replace(controls, seed=None)


def _alone(samples, sample):
    """Samples with one of them alone."""
    return type(samples)([sample], samples.seed, samples.stopped, samples.limit, 0.0)
