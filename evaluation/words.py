"""
Kinds of words, and which words a model finds most and least surprising.
"""

import re
from collections import defaultdict

from evaluation.held_out import LN2

KINDS = ("first word of a sentence", "capitalised word", "word", "number", "line break", "space", "full stop",
         "other sign")
_STOPS = ".!?…。！？"
_SENTENCE_ENDS = re.compile(rf"[{_STOPS}\n]")
_BETWEEN = re.compile(r"[\s\"'“”‘’«»„()\[\]]+")  # may stand between a full stop and the sentence after it
ENOUGH = 5        # times that a word must be there to be spoken of
LISTED = 12


def kinds_of(units):
    """The kind, one of KINDS, of each of the reading units of a text."""
    found, begins = [], True
    for unit in units:
        word = unit.removeprefix(" ") or unit
        if word[0].isalpha():
            found.append(KINDS[0] if begins else KINDS[1] if word[0].isupper() else KINDS[2])
        elif word[0].isnumeric():
            found.append("number")
        elif word.isspace():
            found.append("line break" if "\n" in word else "space")
        else:
            found.append("full stop" if word in _STOPS else "other sign")
        if _SENTENCE_ENDS.fullmatch(word):
            begins = True
        elif not _BETWEEN.fullmatch(word):
            begins = False
    return found


def by_kind(readings):
    """{kind: (bits, units, bytes)} over readings; "end of the text" is the last id, eos, for a backward model the
    beginning."""
    found = defaultdict(lambda: [0.0, 0, 0])
    for reading in readings:
        for kind, unit, bits in [*zip(kinds_of(reading.units), reading.units, reading.unit_bits),
                                 ("end of the text", "", reading.nats[-1] / LN2)]:
            for i, value in enumerate((float(bits), 1, len(unit.encode("utf-8", "surrogatepass")))):
                found[kind][i] += value
    return {kind: tuple(found[kind]) for kind in (*KINDS, "end of the text") if kind in found}


def surprising(readings, enough=ENOUGH, listed=LISTED):
    """Two lists of (word, mean bits, times): the words that surprised the model most, and those that did least.

    Words that were there fewer than `enough` times are left out.
    """
    found = defaultdict(list)
    for reading in readings:
        for unit, kind, bits in zip(reading.units, kinds_of(reading.units), reading.unit_bits):
            if kind in KINDS[:3]:
                found[unit.strip()].append(float(bits))
    ranked = sorted(((word, sum(bits) / len(bits), len(bits)) for word, bits in found.items() if len(bits) >= enough),
                    key=lambda row: (-row[1], row[0]))
    return ranked[:listed], ranked[:-listed - 1:-1]
