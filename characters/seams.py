"""
What joins words and what parts them: signs that belong to a word, and the space before an ending.

Whether running text has a space before an ending has to be known, since what a user types is the tail of a longer text.

What would run together with whatever is written before it needs one, or the words at the seam would fuse: a word, an
emoji, and one of `.,'’-` before a word. Runs of Thai, Lao, Khmer and Burmese are words here as everywhere in the
project, and what divides them in running text is a space; so they get one.
"""

import re

from characters import classes

# One of these between two word characters belongs to the word: 3.14, 1,000, don't, well-known, example.com; the
# zero-width joiners do so in Persian and in the scripts of India. Between anything else they stand alone.
JOINERS = "-.,'\u2019\u200c\u200d"
WORD_JOINERS = "\\" + JOINERS  # inside the brackets of a pattern

RUNS_TOGETHER = re.compile(f"[{WORD_JOINERS}]?[{classes.WORD}{classes.WORD_BEYOND}]"
                            f"|[{classes.GLYPH}{classes.GLYPH_BEYOND}]")
# Signs that open where a word follows directly. Which quotation marks open and which close differs between languages;
# those of Chinese and Japanese have a width of their own and are not here.
MARKS = "([{„‚“‘‛‟«‹\"'”’»›¿¡$£€#@*<"
# And without a word: brackets, low quotes, French ones with their space; others where nothing shows that they close;
# a dash with a space behind it has one before it, too.
OPENS = re.compile(r"[(\[{„‚«‹¿¡]|[“‘‛‟][^\s,.;:!?)\]]|[–—] ")


def space_before(ending):
    """Whether one space is to be put before an ending: before a word, and before a mark that opens; but not before
    Han and Kana, nor before such a mark with Han or Kana behind it.

    >>> [space_before(ending) for ending in ('the end.', '"Yes," he said.', '" asked Miss Rossi.', ', too.', '船。')]
    [True, True, False, False, False]
    """
    behind = ending.lstrip(MARKS)
    if RUNS_TOGETHER.match(behind) or RUNS_TOGETHER.match(ending):
        return True
    return not behind[:1].isalpha() and OPENS.match(ending) is not None
