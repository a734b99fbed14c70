"""
A small world that writes stories and question/answer pairs: the corpus that every clone carries with it.

    python tales.py --stories 3 --seed 1
    python tales.py --pairs 3

The texts are in plots/: world.txt lists who and what there is, questions.txt the questions, every other file
holds plots. A plot draws its facts first (who, what, where, how many) and only then its wordings, so the ending
speaks of the very things the beginning spoke of. plots/README.md explains the notation in a page.

    from tales import story, stories, pairs
    story(seed=1, index=99_999)     # any story, without writing those before it
"""
import json
import operator
import os
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import NamedTuple

PLOTS = Path(__file__).parent / "plots"
SEPARATOR = "<|endoftext|>"


@dataclass
class Settings:
    """Print stories or question/answer pairs from a small simulated world."""

    stories: int | None = None
    """how many stories to print; one if nothing else is asked for"""
    pairs: int = 0
    """how many question/answer pairs to print, one JSON object a line"""
    seed: int = 1
    """which endless series to take them from; the same seed gives the same texts"""


# ---------------------------------------------------------------------------------------------------------------
# The notation: "{a} [ran|walked] home." becomes a tree of str, Reference, list (in a row) and tuple (one of them).

class Reference(NamedTuple):
    """{a}, {a.his} or {A.his}: a field of a drawn fact, with a capital if the marks have one."""

    fact: str
    field: str
    capital: bool


TOKEN = re.compile(r"\{[^}]*\}|[\[\]|]|[^\[\]|{]+")


def parse(text: str):
    """Return the tree of a template; alternatives stand between bars, at the top or inside square brackets.

    >>> parse("{a} [ran|walked] home.")
    [Reference(fact='a', field='name', capital=False), ' ', ('ran', 'walked'), ' home.']
    """
    open_brackets = [[[]]]  # of each open bracket the alternatives so far, of each alternative its parts
    for token in TOKEN.findall(text):
        if token == "[":
            open_brackets.append([[]])
        elif token == "|":
            open_brackets[-1].append([])
        elif token == "]":
            closed = open_brackets.pop()
            open_brackets[-1][-1].append(tuple(map(simplest, closed)))
        elif token.startswith("{"):
            fact, _, field = token[1:-1].partition(".")
            lowered = (fact.lower(), field.lower() or "name")
            open_brackets[-1][-1].append(Reference(*lowered, capital=lowered != (fact, field or "name")))
        else:
            open_brackets[-1][-1].append(token)
    if len(open_brackets) != 1:
        raise ValueError(f"A square bracket is left open in: {text}")
    alternatives = tuple(map(simplest, open_brackets[0]))
    return alternatives if len(alternatives) > 1 else alternatives[0]


def simplest(parts: list):
    return "" if not parts else parts[0] if len(parts) == 1 else parts


def render(node, facts: dict, rng: random.Random) -> str:
    kind = type(node)
    if kind is str:
        return node
    if kind is Reference:
        value = facts[node.fact][node.field]
        return value[:1].upper() + value[1:] if node.capital else value
    if kind is tuple:
        return render(node[int(rng.random() * len(node))], facts, rng)
    return "".join([render(part, facts, rng) for part in node])


BEFORE_VOWEL = re.compile(r"\b([Aa]) (?=[aeiouAEIOU](?!ne\b|nce\b|se|ni[cfotv]|ur))")
SENTENCE_START = re.compile(r'(?:^"?|\n"?|[.!?:] "|[.!?] )[a-z]')


def finish(text: str) -> str:
    """Mend what no template can know: a or an, and the capital of a sentence that begins with a drawn word.

    >>> finish('a owl. "a eagle! a use for it? a dog!" it cried.')
    'An owl. "An eagle! A use for it? A dog!" it cried.'
    """
    text = BEFORE_VOWEL.sub(r"\1n ", text)
    return SENTENCE_START.sub(lambda found: found[0].upper(), text)


def capital(sentence: str) -> str:
    return sentence[:2].upper() + sentence[2:] if sentence.startswith('"') else sentence[:1].upper() + sentence[1:]


# ---------------------------------------------------------------------------------------------------------------
# The world: tables of people and things. A fact is a dict of str; its "name" is what {fact} shows.

PRONOUNS = {
    "he": dict(he="he", him="him", his="his", himself="himself", boy="boy", man="man", son="son"),
    "she": dict(he="she", him="her", his="her", himself="herself", boy="girl", man="woman", son="daughter"),
}
ONES = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
          seventeen eighteen nineteen""".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.floordiv}


@cache
def number(n: int) -> dict:
    """Return the fact of a number below a hundred: its name in letters, its digits."""
    if n < 20:
        name = ONES[n]
    else:
        name = TENS[n // 10 - 2] + ("-" + ONES[n % 10] if n % 10 else "")
    return {"name": name, "digits": str(n)}


def sections(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the title and the lines of every section that begins with '== title'; lines with # are remarks."""
    lines = [line.rstrip() for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    starts = [i for i, line in enumerate(lines) if line.startswith("== ")]
    for start, stop in zip(starts, starts[1:] + [len(lines)]):
        yield lines[start][3:], lines[start + 1 : stop]


@cache
def world() -> dict[str, list[dict]]:
    """Return the rows of every table in world.txt; 'Ann, Bea; she' is two rows."""
    tables = {}
    for title, lines in sections(PLOTS / "world.txt"):
        kind, _, columns = title.partition(": ")
        rows = tables[kind] = []
        for cells in [line.split("; ") for line in lines if line]:
            for name in cells[0].split(", "):
                row = dict(zip(["name", *columns.split("; ")], [name, *cells[1:]], strict=bool(columns)))
                rows.append(row | PRONOUNS.get(row.get("he"), {}))
    return tables


# ---------------------------------------------------------------------------------------------------------------
# Plots: facts to draw, then sentences in paragraphs.

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


class Tale(NamedTuple):
    text: str
    plot: Plot
    facts: dict[str, dict]


def parse_draw(line: str) -> Draw:
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


def draw_facts(draws: list[Draw], rng: random.Random) -> dict[str, dict]:
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


def parse_plot(title: str, theme: str, lines: list[str]) -> list[Plot]:
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
def plots() -> list[Plot]:
    """Return the plots of every story, in an order that does not depend on the file system."""
    files = sorted(path for path in PLOTS.glob("*.txt") if path.stem not in ("world", "questions"))
    return [plot for path in files for title, lines in sections(path) for plot in parse_plot(title, path.stem, lines)]


@cache
def questions() -> list[Plot]:
    path = PLOTS / "questions.txt"
    return [plot for title, lines in sections(path) for plot in parse_plot(title, "questions", lines)]


# ---------------------------------------------------------------------------------------------------------------
# Telling. Text seeds are hashed with SHA-512 by random.Random, so they are the same on every machine.

def write(rng: random.Random) -> Tale:
    plot = rng.choice(plots())
    facts = draw_facts(plot.draws, rng)
    paragraphs = []
    for sentences in plot.paragraphs:
        told = [tree for fact, value, tree in sentences if not fact or facts[fact]["name"] == value]
        paragraphs.append(" ".join([capital(render(tree, facts, rng)) for tree in told]))
    return Tale(finish("\n\n".join(paragraphs)), plot, facts)


def tale(seed: int, index: int) -> Tale:
    """Return a story with the plot and the facts it was made of."""
    return write(random.Random(f"story {seed} {index}"))


def story(seed: int, index: int) -> str:
    """Return one story, a function of seed and index alone, so that workers may share a corpus between them."""
    return tale(seed, index).text


def stories(seed: int = 1) -> Iterator[str]:
    """Yield story(seed, 0), story(seed, 1) and so on without end."""
    return (story(seed, index) for index in count())


def pair(seed: int, index: int) -> dict[str, str]:
    """Return one question/answer pair: instruction, input (may be empty), output and kind."""
    rng = random.Random(f"pair {seed} {index}")
    question = rng.choice(questions())
    facts = draw_facts(question.draws, rng)
    texts = {label: finish(render(question.labelled.get(label, ""), facts, rng))
             for label in ("instruction", "input", "output")}
    return texts | {"kind": question.name}


def pairs(seed: int = 1) -> Iterator[dict[str, str]]:
    """Yield pair(seed, 0), pair(seed, 1) and so on without end."""
    return (pair(seed, index) for index in count())


def pattern(node) -> str:
    """Return the regular expression of what a template can become; a drawn fact may be anything."""
    kind = type(node)
    if kind is str:
        return re.sub(r"\ba\\ ", r"an?\\ ", re.escape(node))
    if kind is Reference:
        return "(.+?)"
    return f"(?:{'|'.join(map(pattern, node))})" if kind is tuple else "".join(map(pattern, node))


@cache
def patterns() -> list[tuple[str, re.Pattern]]:
    return [(question.name, re.compile(pattern(question.labelled["instruction"]), re.IGNORECASE | re.DOTALL))
            for question in questions()]


def kind_of(instruction: str) -> str | None:
    """Return the kind of question that an instruction (without its input) asks, None if it is none of this world's.

    Where the words of several kinds would do, it is the one that leaves the least to be filled in.

    >>> kind_of("What is the cat doing?"), kind_of("What is a cat?"), kind_of("Cat.")
    ('doing', 'definition', None)
    """
    found = [(sum(len(part or "") for part in match.groups()), kind) for kind, expression in patterns()
             if (match := expression.fullmatch(instruction))]
    return min(found)[1] if found else None


def main():
    import tyro  # only the command line needs it

    settings = tyro.cli(Settings, description=__doc__)
    wanted = settings.stories if settings.stories is not None else 0 if settings.pairs else 1
    try:
        for index in range(wanted):
            print(story(settings.seed, index), end="\n" + SEPARATOR + "\n" if index + 1 < wanted else "\n")
        for index in range(settings.pairs):
            print(json.dumps(pair(settings.seed, index), ensure_ascii=False))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
