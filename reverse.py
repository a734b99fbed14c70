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


@functools.cache
def _patterns(beyond):
    """The patterns (segment, unit in reading order); with beyond=True they know characters past U+FFFF.

    A class within the basic plane compiles to a bitmap and runs about five times as fast as one that reaches beyond.
    """
    def ranges(name):
        return getattr(classes, name) + (getattr(classes, name + "_BEYOND") if beyond else "")

    word, glyph = f"[{ranges('WORD')}]+", f"[{ranges('GLYPH')}]+"
    known = f"{word}(?:[{WORD_JOINERS}]{word})*|{glyph}"  # an ideograph falls under "any other character"
    return re.compile(f"{known}|[\\s\\S]"), re.compile(f" ?(?:{known}|[^ ])| +(?= [^ ])| +")


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
