"""
What of the records that a model is evaluated on it has been trained on.
"""

from backchat.records import normalised
from evaluation.texts import ngrams

GRAM = 13  # words in a row that are taken for the same passage
KINDS = {"response": "the same response", "instruction": "the same instruction",
         "passage": f"a passage of {GRAM} words"}


def overlaps(pairs, training, advance=lambda n=1: None):
    """For each of pairs (response, instruction) the set of KINDS in which it stands among the pairs of training.

    Texts are compared by their words in lower case. advance() is called after every pair of training.
    """
    own = [tuple(map(normalised, pair)) for pair in pairs]
    found, holders = [set() for _ in pairs], {}
    for number, (response, instruction) in enumerate(own):
        holders.setdefault(("response", response), []).append(number)
        holders.setdefault(("instruction", instruction), []).append(number)
        for gram in {gram for text in (response, instruction) for gram in ngrams(text.split(), GRAM)}:
            holders.setdefault(gram, []).append(number)
    for texts in training:
        response, instruction = map(normalised, texts)
        keys = [("response", response), ("instruction", instruction),
                *(gram for text in (response, instruction) for gram in ngrams(text.split(), GRAM))]
        for key in keys:
            for number in holders.get(key, ()):
                found[number].add(key[0] if len(key) == 2 else "passage")
        advance()
    return found


def left(some, shared, settings, result, what, flag):
    """What is left of some documents or pairs; raises ValueError where that is not enough. flag takes more of them."""
    found = f"{sum(shared):,} of {len(some):,} share {what} with the training data"
    if settings.overlap:
        result["notes"].append(f"{found} and are kept.")
        return some
    kept = [one for one, known in zip(some, shared) if not known]
    if len(kept) < 2:
        raise ValueError(f"{found}: --no-overlap leaves {len(kept)}, and two are needed. Take more with {flag}, name "
                         "others with --eval-data, or leave --no-overlap out; what is shared is then counted and kept.")
    result["notes"].append(f"{found} and are left out.")
    return kept


def counts(found):
    """{kind: how many records} of what overlaps() gives, with "any" for those in which there is any."""
    return {**{kind: sum(kind in kinds for kinds in found) for kind in KINDS}, "any": sum(map(bool, found))}
