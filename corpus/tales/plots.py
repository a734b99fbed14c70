"""
Plots and questions, as they stand in plots/: facts to draw, then sentences in paragraphs.
"""

import re
from functools import cache
from typing import NamedTuple

from corpus.tales.notation import parse
from corpus.tales.world import PLOTS, sections, world


class Draw(NamedTuple):
    """One line above a plot's first paragraph: the facts it sets, and how they are found."""

    names: list[str]
    how: str       # "number", "sum", "choice", "story" or "row"
    source: object


class Sentence(NamedTuple):
    fact: str      # told only if this fact has the value; always, if empty
    value: str
    tree: object


class Plot(NamedTuple):
    name: str
    theme: str
    draws: list[Draw]
    paragraphs: list[list[Sentence]]
    labelled: dict[str, object]     # gist of a story; instruction, input, output of a pair


def parse_draw(line):
    left, _, right = map(str.strip, line.partition("="))
    names = left.split(", ")
    if found := re.fullmatch(r"(\d+)\.\.(\d+)", right):
        return Draw(names, "number", (int(found[1]), int(found[2])))
    if found := re.fullmatch(r"(\w+) ([-+*/]) (\w+)", right):
        return Draw(names, "sum", found.groups())
    if "|" in right or "{" in right or " / " in right:
        rows = [row.split(" / ") for row in right.split(" | ")]
        return Draw(names, "choice", [[parse(part.strip()) for part in row] for row in rows])
    if right == "story":
        return Draw(names, "story", None)
    kind, *traits = right.partition(" opposite ")[0].split()
    rows = [row for row in world()[kind] if set(traits) <= set(row.get("traits", "").split())]
    if not rows:
        raise ValueError(f"Nothing in world.txt answers to: {right}")
    return Draw(names, "row", (rows, right.partition(" opposite ")[2]))


def parse_plot(title, theme, lines):
    """Return the plot in a section, as often as its title says ('== where * 3')."""
    name, _, times = title.partition(" * ")
    blocks = "\n".join(lines).replace("\n|", " |").strip("\n").split("\n\n")
    draws, paragraphs, labelled = [], [], {}
    for line in blocks[0].splitlines():
        draws.append(parse_draw(line))
    for block in blocks[1:]:
        sentences = []
        for line in block.strip().splitlines():
            if found := re.match(r"(gist|instruction|input|output): (.*)", line):
                labelled[found[1]] = parse(re.sub(r" \| ", "|", found[2]))
                continue
            fact, value, text = re.fullmatch(r"(?:if (\w+) is (\w+): )?(.*)", line).groups()
            sentences.append(Sentence(fact or "", value or "", parse(re.sub(r" \| ", "|", text))))
        if sentences:
            paragraphs.append(sentences)
    return [Plot(name, theme, draws, paragraphs, labelled)] * int(times or 1)


@cache
def plots():
    """Return the plots of every story, in an order that does not depend on the file system."""
    files = sorted(path for path in PLOTS.glob("*.txt") if path.stem not in ("world", "questions"))
    return [plot for path in files for title, lines in sections(path) for plot in parse_plot(title, path.stem, lines)]


@cache
def questions():
    path = PLOTS / "questions.txt"
    return [plot for title, lines in sections(path) for plot in parse_plot(title, "questions", lines)]
