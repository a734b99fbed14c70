"""
What "reversed" means: a text is cut into segments that lose nothing, and the segments are joined last first.

    >>> reverse("This is a test.")
    '.test a is This'

Two laws hold for every string: "".join(segments(text)) == text and reverse(reverse(text)) == text.
"""

import functools
import re

from characters import classes
from characters.seams import WORD_JOINERS


def _known(beyond):
    """A pattern of what is more than one character: a word, or what draws one glyph.

    With beyond=True it knows characters past U+FFFF. A class within the basic plane compiles to a bitmap and runs about
    five times as fast as one that reaches beyond.
    """
    def ranges(name):
        return getattr(classes, name) + (getattr(classes, name + "_BEYOND") if beyond else "")

    word, glyph = f"[{ranges('WORD')}]+", f"[{ranges('GLYPH')}]+"
    return f"{word}(?:[{WORD_JOINERS}]{word})*|{glyph}"  # an ideograph falls under "any other character"


def segment_pattern(beyond=True):
    """A pattern of one segment."""
    return f"{_known(beyond)}|[\\s\\S]"


def unit_pattern(backward, space=" ", beyond=True):
    """A pattern of one unit, in reading order or, if backward, in REVERSED text: for programs that know no other way,
    too, some of which write another sign for the space.

    >>> re.findall(unit_pattern(backward=True), ".world new  ,Hello")
    ['.', 'world ', 'new ', ' ', ',', 'Hello']
    """
    one = f"(?:{_known(beyond)}|[^{space}])"
    return f"{one}{space}?|{space}+" if backward else f"{space}?{one}|{space}+(?={space}[^{space}])|{space}+"


@functools.cache
def _patterns(beyond):
    """The patterns (segment, unit in reading order)."""
    return re.compile(segment_pattern(beyond)), re.compile(unit_pattern(backward=False, beyond=beyond))


_BEYOND = re.compile("[\U00010000-\U0010ffff]")


def _cut(text, which):
    beyond = not text.isascii() and _BEYOND.search(text) is not None
    return _patterns(beyond)[which].findall(text)


def segments(text):
    """Cut text into words, ideographs, glyphs and single other characters; joined, they are the text again.

    Runs of Thai, Lao, Khmer or Burmese stay whole: they have no spaces, and finding their words needs a dictionary.

    >>> segments("Hello, world.")
    ['Hello', ',', ' ', 'world', '.']
    """
    return _cut(text, 0)


def reverse(text):
    """Return text with its segments in reverse order; applied twice, it gives the text back.

    Reverse a whole document at once; line by line would leave its paragraphs running forward.

    >>> reverse("butterfly in the sky.")
    '.sky the in butterfly'
    """
    return "".join(segments(text)[::-1])


def reading_units(text):
    """Cut text into units in reading order: a segment with the one space before it; further spaces are one unit.

    >>> reading_units("Hello, new world.")
    ['Hello', ',', ' new', ' world', '.']
    """
    return _cut(text, 1)


def mirror(unit):
    """A unit as it stands in reversed text, where the space before a segment follows it."""
    return unit[1:] + " " if unit[0] == " " else unit


def units(text):
    """Cut reverse(text) into units, within which every token of the tokenizer stays.

    >>> units("Hello, new world.")
    ['.', 'world ', 'new ', ',', 'Hello']
    """
    return [mirror(unit) for unit in reversed(reading_units(text))]
