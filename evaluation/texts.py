"""
What texts are like, whoever wrote them: how varied, how repetitive, how long, how they begin.

    >>> distinct([["a", "b", "a", "b"]], 2), repetition([["a", "b", "a", "b"]], 2)
    (0.6666666666666666, 0.3333333333333333)
"""

import itertools
from collections import Counter

from reverse import segments

REPEATED = 4     # words of which a repetition consists
OPENING = 2      # words that open a text
MOST_FREQUENT = 10


def words(text):
    """The segments of a text in lower case, without the white space."""
    return [segment for segment in segments(text.casefold()) if not segment.isspace()]


def ngrams(sequence, n):
    """All runs of n neighbours, as tuples."""
    return zip(*(itertools.islice(sequence, start, None) for start in range(n)))


def distinct(texts, n):
    """Different n-grams as a share of all, over lists of words (distinct-n, arXiv:1510.03055); None where there are
    none. It falls with the number of words, so compare equally many; see limited()."""
    found = Counter(gram for text in texts for gram in ngrams(text, n))
    return len(found) / found.total() if found else None


def limited(texts, most):
    """Lists of words up to `most` words in all, the last of them cut."""
    left = most
    for text in texts:
        if left <= 0:
            return
        yield text[:left]
        left -= len(text)


def repetition(texts, n=REPEATED):
    """The share of n-grams that their own text has had before; None where no text is so long."""
    counts = [Counter(ngrams(text, n)) for text in texts]
    total = sum(count.total() for count in counts)
    return sum(count.total() - len(count) for count in counts) / total if total else None


def openings(texts, n=OPENING, most=MOST_FREQUENT):
    """[(first n words, share of the texts), …] of those that begin the most texts, over lists of words."""
    found = Counter(" ".join(text[:n]) for text in texts if text)
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:most]
    return [(opening, count / found.total()) for opening, count in ranked]


def repeats(texts):
    """The share of texts that equal an earlier one."""
    return 1 - len(set(texts)) / len(texts) if texts else None


def portrait(texts, most_words, begun=None):
    """All of it for a list of texts; the distinct n-grams over the first most_words words, the openings over those that
    have their beginning, if begun says of each whether it has."""
    found = [words(text) for text in texts]
    cut = list(limited(found, most_words))
    shares = openings(found if begun is None else [text for text, there in zip(found, begun) if there])
    return {**{f"distinct_{n}": distinct(cut, n) for n in (1, 2, 3)}, "repetition": repetition(found),
            "words": sum(map(len, found)) / len(found) if found else None, "equal_texts": repeats(texts),
            "openings": shares, "frequent_openings": sum(share for _, share in shares)}
