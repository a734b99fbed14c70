"""
The notation of plots: "{a} [ran|walked] home." becomes a tree of str, Reference, list (in a row) and tuple (one of
them).
"""

import re
from typing import NamedTuple


class Reference(NamedTuple):
    """{a}, {a.his} or {A.his}: a field of a drawn fact, with a capital if the marks have one."""

    fact: str
    field: str
    capital: bool


TOKEN = re.compile(r"\{[^}]*\}|[\[\]|]|[^\[\]|{]+")


def parse(text):
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


def simplest(parts):
    return "" if not parts else parts[0] if len(parts) == 1 else parts


def render(node, facts, rng):
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


def finish(text):
    """Mend what no template can know: a or an, and the capital of a sentence that begins with a drawn word.

    >>> finish('a owl. "a eagle! a use for it? a dog!" it cried.')
    'An owl. "An eagle! A use for it? A dog!" it cried.'
    """
    text = BEFORE_VOWEL.sub(r"\1n ", text)
    return SENTENCE_START.sub(lambda found: found[0].upper(), text)


def capital(sentence):
    return sentence[:2].upper() + sentence[2:] if sentence.startswith('"') else sentence[:1].upper() + sentence[1:]
