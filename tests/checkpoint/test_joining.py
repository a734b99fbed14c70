"""How other programs cut a text: two neighbours at a time, the best first."""

from hypothesis import given
from hypothesis import strategies as st

from checkpoint.joining import join
from tests.support.texts import fewer

PIECES = ["a", "b", "c", " ", "ab", "bc", "abc", "aa", "aaa", "ca", " a", "b ", "abcab"]
IDS = {piece: 10 + i for i, piece in enumerate(PIECES)}
SCORES = [0.0] * 10 + [-float(i) for i in range(len(PIECES))]


def joined_slowly(text):
    """The same from the description: look at all neighbours, join the best pair, the first of equal ones, again."""
    found = list(text)
    while True:
        pairs = [(SCORES[IDS[a + b]], -i) for i, (a, b) in enumerate(zip(found, found[1:])) if a + b in IDS]
        if not pairs:
            return [i for piece in found for i in ([IDS[piece]] if piece in IDS else [300 + b for b in piece.encode()])]
        at = -max(pairs)[1]
        found[at:at + 2] = [found[at] + found[at + 1]]


@fewer
@given(st.text("abc é", max_size=30))
def test_it_joins_as_the_description_says(text):
    assert join(text, IDS, SCORES, 300) == joined_slowly(text)


def test_the_pair_that_is_worth_most_comes_first_and_then_the_first_of_equals():
    assert join("abc", IDS, SCORES, 300) == [IDS["abc"]]
    assert join("aaaa", IDS, SCORES, 300) == [IDS["aa"], IDS["aa"]]
    assert join("bca", IDS, SCORES, 300) == [IDS["bc"], IDS["a"]]


def test_a_character_that_is_no_piece_becomes_its_bytes():
    assert join("aé", IDS, SCORES, 300) == [IDS["a"], 300 + 0xC3, 300 + 0xA9]
