"""
A text in rows, as a terminal shows it: filled from the side that stands still while it is written.

A text written backward is filled from its end, so that a new word moves no other; written forward, from its beginning.
Rows are the same while a text grows and when it is done: it has only to move to the other margin.
"""

import re

from rich.cells import cell_len
from rich.text import Text

from program.streams import visible

# Styles of words by how unlikely they were, and the nats up to which: from what was to be expected to a surprise.
SURPRISE = ((1.0, "grey54"), (3.0, "default"), (6.0, "khaki3"), (9.0, "dark_orange"), (float("inf"), "bright_red"))


def wrap(text, columns, backward):
    """The rows of text, no wider than columns but for spaces at their ends, each as it stands in the text: joined, they
    are the text without its newlines. While text grows at its beginning (backward), or at its end, no row but the
    newest changes."""
    rows, turn = [], reversed if backward else iter

    def joined(row, more):
        return more + row if backward else row + more

    def fitting(row, more):
        return cell_len(joined(row, more).rstrip()) <= columns

    for line in turn(text.split("\n")):
        row = ""
        for word in turn(re.findall(r"\S+\s*|\s+", line)):
            if row and not fitting(row, word):
                rows.append(row)
                row = ""
            for part in [word] if fitting(row, word) else turn(word):  # only a word longer than a row is broken
                if row and not fitting(row, part):
                    rows.append(row)
                    row = ""
                row = joined(row, part)
        rows.append(row)
    return rows[::-1] if backward else rows


def rows_of(parts, columns, backward):
    """Parts of a text, pairs (string, style), as rows, a list of rich.text.Text no wider than columns."""
    parts = [(visible(string).replace("\t", " "), style) for string, style in parts]
    text, rows, start = "".join(string for string, _ in parts), [], 0
    whole = Text.assemble(*parts)
    for row in wrap(text, columns, backward):
        start += text.startswith("\n", start) and bool(rows) and not row.startswith("\n")
        rows.append(whole[start : start + len(row)] if row else Text())
        rows[-1].rstrip()
        start += len(row)
    return rows


def at_right(row, columns):
    """A row moved to the right margin."""
    return Text(" " * (columns - cell_len(row.plain))).append_text(row)


def beside(panels, columns, gap, backward):
    """Lists of rows as one list, each list in columns of its own, level where its text began."""
    most = max(map(len, panels))
    padded = [[Text()] * (most - len(rows)) + rows if backward else rows + [Text()] * (most - len(rows))
              for rows in panels]
    rows = []
    for row in zip(*padded):
        line = Text()
        for i, part in enumerate(row):
            line.append(" " * (i * (columns + gap) - cell_len(line.plain)))
            line.append_text(part)
        rows.append(line)
    return rows


def words(text):
    """How many words text has, the newest included though it may not be complete."""
    return len(text.split())


def shaded(text, lengths, nats, backward):
    """text in parts, (string, style), each word in the style of its surprise.

    lengths[i] is the length of what the first i + 1 ids have made of it, nats[i] how unlikely id i was.
    """
    middles, last = [], 0  # of what each id has written, counted from where the text began
    for length in lengths:
        middles.append((last + length) / 2)
        last = length
    parts = []
    for found in re.finditer(r"\S+\s*|\s+", text):
        first, end = (len(text) - found.end(), len(text) - found.start()) if backward else found.span()
        total = sum(n for middle, n in zip(middles, nats) if first <= middle < end)
        parts.append((found[0], next(style for most, style in SURPRISE if total <= most)))
    return parts
