"""
Samples for one text: drawn while they are shown growing, and printed.
"""

import math
import random
import time
from dataclasses import dataclass, field

import torch
from rich.text import Text

from sampling.controls import Controls, knob
from sampling.engine import Batch
from terminal.layout import at_right, beside, rows_of, shaded, words
from terminal.live import SECONDS_BETWEEN, Keys, Region
from terminal.screen import OUT, note, separate, show, show_rows

NARROWEST, GAP = 28, 3  # columns of one of several texts side by side, and between them
NEAREST = 4000          # characters of a long given part: the rest would not be seen


@dataclass
class ShownControls(Controls):
    """How samples are drawn, and shown in a terminal."""

    speed: float | None = knob(
        8.0, "speed", float, lambda v: 0 < v < math.inf, "a number above 0, or off", ("off", "0"))
    """Words a second that appear in a terminal; off shows every word as soon as it is written."""
    colour: str | None = knob(None, "colour", str, lambda v: v == "surprise", "surprise, or off", ("off",))
    """surprise shades each word by how unlikely the model found it, from grey to red."""


@dataclass
class Sample:
    """One text while it is written, and then."""

    ids: list = field(default_factory=list)
    words: list = field(default_factory=list)    # how many there are after each id, the newest perhaps a half
    lengths: list = field(default_factory=list)  # of the text after each id, in characters
    nats: list = field(default_factory=list)     # how unlikely each id was
    kept: int = 0                                # so many ids were there before it
    whole: bool = False                          # it has ended by itself

    def branch(self):
        """One that goes on from here."""
        return Sample(list(self.ids), list(self.words), list(self.lengths), list(self.nats), len(self.ids))

    def shown(self, words):
        """How many ids may be shown where so many new words may."""
        words += self.words[self.kept - 1] if self.kept else 0
        count = len(self.ids)
        while count > self.kept and self.words[count - 1] > words:
            count -= 1
        return count


@dataclass
class Samples:
    """What was drawn for one text, and how it went."""

    found: list     # a Sample each
    seed: int
    stopped: bool   # by Ctrl-C
    limit: int
    seconds: float  # of drawing

    def summary(self, whole):
        """In a few words; whole says what it means that a sample ended by itself."""
        n, count = len(self.found), sum(len(sample.ids) - sample.kept for sample in self.found)
        wholes = sum(sample.whole for sample in self.found)
        end = f"cut at tokens={self.limit}" if not wholes else whole if n == 1 else f"{whole} in {wholes} of {n}"
        speed = count / max(self.seconds, 1e-9)
        return (f"{count} tokens, {self.seconds:.1f} s, {speed:.0f} tokens/s, seed={self.seed}, "
                + ("stopped by Ctrl-C" if self.stopped else end))


class Growing:
    """Samples on the screen while they are drawn: at a pace at which one can read along, whatever the model's.

    parts(ids) gives the text of a sample as pairs (string, was it given); of several, as many are shown as there is
    room for, side by side or one under the other.
    """

    def __init__(self, samples, parts, controls):
        self.samples, self.parts, self.controls = samples, parts, controls
        self.region, self.began, self.rushed = Region(), time.monotonic(), False
        self.backward = is_backward(parts)

    def may_show(self):
        """How many words may be seen by now."""
        if self.rushed or self.controls.speed is None or not self.region.on:
            return float("inf")
        return 1 + (time.monotonic() - self.began) * self.controls.speed

    def rush(self):
        """Show all there is, at once, from now on."""
        self.rushed = True

    def near(self, parts):
        """The same without what is too far from the new words to be seen."""
        cut = [(s[:NEAREST] if self.backward else s[-NEAREST:]) if style == "bold" else s for s, style in parts]
        return [(string, style) for string, (_, style) in zip(cut, parts)]

    def paint(self, counts):
        """Show the first counts[i] ids of every sample i."""
        region, n = self.region, len(self.samples)
        room = region.rows - 1
        columns = abreast(n, region.columns)
        shown = n if columns else max(1, min(n, room // 4))
        each = room if columns else room // shown
        panels = [self.panel(i, counts[i], columns or region.columns, each) for i in range(shown)]
        rows = beside(panels, columns, GAP, self.backward) if columns else [row for panel in panels for row in panel]
        told = ["Ctrl-C stops"] + ["Enter shows all at once"] * (self.may_show() < float("inf"))
        told = [f"{shown} of {n} shown"] * (shown < n) + told
        new = sum(count - sample.kept for count, sample in zip(counts, self.samples))
        status = f"{new} tokens"
        for part in told:  # as many as fit, whole
            status += f", {part}" if len(status) + len(part) + 2 <= region.columns else ""
        region.paint([*rows, Text(status, style="dim")])

    def panel(self, i, count, columns, most):
        """The rows of sample i, no more than most: the newest, and a mark where others are out of sight."""
        several = len(self.samples) > 1
        rows = rows_of(self.near(styled(self.samples[i], count, self.parts, self.controls)), columns, self.backward)
        most -= several
        hidden = len(rows) - most
        if hidden > 0:
            mark = Text(f"… {hidden + 1} rows more"[:columns], style="dim")
            rows = [*rows[: most - 1], mark] if self.backward else [mark, *rows[len(rows) - most + 1:]]
        if self.backward:
            rows = [at_right(row, columns) for row in rows]
        return [Text(self.head(i), style="dim"), *rows] if several else rows

    def head(self, i):
        """What stands above sample i of several."""
        return numbered(i, len(self.samples))


def abreast(n, columns):
    """How many columns each of n samples has where they stand side by side; None where there is no room for that."""
    each = (columns + GAP) // n - GAP
    return each if n > 1 and each >= NARROWEST else None


def numbered(i, n):
    """What is written above sample i of n."""
    return f"{i + 1} of {n}"


def is_backward(parts):
    """Whether what is given stands at the end of a text."""
    return not parts([])[0][1]


def styled(sample, count, parts, controls):
    """The first count ids of a sample as pairs (string, style): what was given bold, words in the colour asked for."""
    pairs, backward = parts(sample.ids[:count]), is_backward(parts)
    if controls.colour != "surprise":
        return [(string, "bold" if given else "") for string, given in pairs]
    found = []
    for string, given in pairs:
        found += [(string, "bold")] if given else shaded(string, sample.lengths[:count], sample.nats, backward)
    return found


def draw_samples(decoder, idx, controls, stop_ids, parts, kept=None, growing=None, keys=Keys):
    """Generate samples from the ids idx, shown while they grow as parts(ids of a sample); Ctrl-C stops all, and keeps
    what was shown. kept is a Sample from which all go on; growing and keys are classes that show them otherwise."""
    n, limit, block_size = controls.num_samples, controls.tokens, decoder.config.block_size
    seed = random.SystemRandom().randrange(2**31) if controls.seed is None else controls.seed
    samples = [kept.branch() if kept else Sample() for _ in range(n)]
    prompt = idx + samples[0].ids
    batch = Batch(decoder, n, min(block_size, len(prompt) + limit), stop_ids=stop_ids, **controls.filters(),
                  generator=torch.Generator().manual_seed(seed), surprise=controls.colour == "surprise")
    for _ in samples:
        batch.add(prompt, limit)
    growing = (growing or Growing)(samples, parts, controls)
    stopped, started, seconds = False, time.monotonic(), 0.0
    counts = [sample.kept for sample in samples]
    measured = growing.region.on and growing.controls.speed is not None or growing.controls.colour is not None
    for sample in samples if measured and kept else []:  # which may not have been measured when it was written
        text = _new_text(sample, parts)
        sample.words[-1], sample.lengths[-1] = words(text), len(text)
    with keys(back=growing.region.elsewhere) as keys, growing.region as region:
        try:
            while batch.unfinished or counts != [len(sample.ids) for sample in samples]:
                if batch.unfinished:
                    _take(batch, samples, parts, measured)
                    seconds = time.monotonic() - started
                if not region.on:
                    counts = [len(sample.ids) for sample in samples]
                elif region.due:
                    if {b"\r", b"\n"} & {bytes([key]) for key in keys.pressed()}:
                        growing.rush()
                    before, counts = counts, [sample.shown(growing.may_show()) for sample in samples]
                    if counts != before or region.size != OUT.size:
                        growing.paint(counts)
                if region.on and not batch.unfinished:
                    time.sleep(SECONDS_BETWEEN / 2)
        except KeyboardInterrupt:
            stopped = True
    for sample, count in zip(samples, counts):
        sample.whole = not stopped and len(sample.ids) - sample.kept < limit
        del sample.ids[count:]
    return Samples(samples, seed, stopped, limit, seconds)


def _new_text(sample, parts):
    return "".join(string for string, given in parts(sample.ids) if not given)


def _take(batch, samples, parts, measured):
    """One more id for every sample that has not ended; the text that it makes is measured only where that decides what
    is shown, for it is made anew each time."""
    for number, token in batch.step().items():
        sample = samples[number]
        sample.ids.append(token)
        new = _new_text(sample, parts) if measured else ""
        sample.words.append(words(new))
        sample.lengths.append(len(new))
        sample.nats.append(batch.nats.get(number, 0.0))


def show_samples(samples, parts, controls):
    """Print what was drawn, where it grew."""
    found, n = samples.found, len(samples.found)
    region, backward = Region(), is_backward(parts)
    if region.on and (columns := abreast(n, region.columns)):
        panels = [[Text(numbered(i, n), style="dim"),
                   *rows_of(styled(sample, len(sample.ids), parts, controls), columns, backward)]
                  for i, sample in enumerate(found)]
        return show_rows(beside(panels, columns, GAP, backward))
    for i, sample in enumerate(found):
        if OUT.is_terminal and n > 1:
            note(numbered(i, n))
        elif i:
            separate()
        show(parts(sample.ids), styled(sample, len(sample.ids), parts, controls))
