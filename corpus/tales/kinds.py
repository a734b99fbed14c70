"""
Which kind of question an instruction asks, told by the templates themselves: for judging what a model writes.
"""

import re
from functools import cache

from corpus.tales.notation import Reference
from corpus.tales.plots import questions


def pattern(node):
    """Return the regular expression of what a template can become; a drawn fact may be anything."""
    kind = type(node)
    if kind is str:
        return re.sub(r"\ba\\ ", r"an?\\ ", re.escape(node))
    if kind is Reference:
        return "(.+?)"
    return f"(?:{'|'.join(map(pattern, node))})" if kind is tuple else "".join(map(pattern, node))


@cache
def patterns():
    return [(question.name, re.compile(pattern(question.labelled["instruction"]), re.IGNORECASE | re.DOTALL))
            for question in questions()]


def kind_of(instruction):
    """Return the kind of question that an instruction asks in its first line, None if it is none of this world's.

    Its input may follow on further lines. Where the words of several kinds would do, it is the one that leaves the
    least to be filled in.

    >>> kind_of("What is the cat doing?"), kind_of("What is a cat?"), kind_of("Cat.")
    ('doing', 'definition', None)
    """
    question = instruction.partition("\n")[0]
    found = [(sum(len(part or "") for part in match.groups()), kind) for kind, expression in patterns()
             if (match := expression.fullmatch(question))]
    return min(found)[1] if found else None
