"""
Telling: a plot draws its facts first (who, what, where, how many) and only then its wordings, so the ending speaks of
the very things the beginning spoke of. Text seeds are hashed with SHA-512 by random.Random, so they are the same
everywhere.
"""

import operator
import random
from itertools import count
from typing import NamedTuple

from corpus.tales.notation import capital, finish, render
from corpus.tales.plots import Plot, plots, questions
from corpus.tales.world import number

SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.floordiv}


class Tale(NamedTuple):
    text: str
    plot: Plot
    facts: dict[str, dict]


def draw_facts(draws, rng):
    """Draw a plot's facts in order; no two of them are the same row, and opposites differ in their pronouns."""
    facts = {}
    for names, how, source in draws:
        if how == "number":
            facts[names[0]] = number(rng.randint(*source))
        elif how == "sum":
            left, sign, right = source
            left, right = (int(facts[x]["digits"] if x in facts else x) for x in (left, right))
            facts[names[0]] = number(SIGNS[sign](left, right))
        elif how == "choice":
            for name, tree in zip(names, rng.choice(source), strict=True):
                facts[name] = {"name": render(tree, facts, rng)}
        elif how == "story":
            text, plot, told = write(rng)
            first, *_, last = text.split("\n\n")
            facts[names[0]] = {"name": text, "first": first, "last": last,
                               "gist": finish(render(plot.labelled["gist"], told, rng))}
        else:
            rows, other = source
            row = rng.choice(rows)
            while row in facts.values() or (other and row["he"] == facts[other]["he"]):
                row = rng.choice(rows)
            facts[names[0]] = row
    return facts


def write(rng):
    plot = rng.choice(plots())
    facts = draw_facts(plot.draws, rng)
    paragraphs = []
    for sentences in plot.paragraphs:
        told = [tree for fact, value, tree in sentences if not fact or facts[fact]["name"] == value]
        paragraphs.append(" ".join([capital(render(tree, facts, rng)) for tree in told]))
    return Tale(finish("\n\n".join(paragraphs)), plot, facts)


def tale(seed, index):
    """Return a story with the plot and the facts it was made of."""
    return write(random.Random(f"story {seed} {index}"))


def story(seed, index):
    """Return one story, a function of seed and index alone, so that workers may share a corpus between them."""
    return tale(seed, index).text


def stories(seed=1):
    """Yield story(seed, 0), story(seed, 1) and so on without end."""
    return (story(seed, index) for index in count())


def pair(seed, index):
    """Return one question/answer pair: instruction, input (may be empty), output and kind."""
    rng = random.Random(f"pair {seed} {index}")
    question = rng.choice(questions())
    facts = draw_facts(question.draws, rng)
    texts = {label: finish(render(question.labelled.get(label, ""), facts, rng))
             for label in ("instruction", "input", "output")}
    return texts | {"kind": question.name}


def pairs(seed=1):
    """Yield pair(seed, 0), pair(seed, 1) and so on without end."""
    return (pair(seed, index) for index in count())
