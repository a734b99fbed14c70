"""
How llama.cpp and llama2.c cut a text into pieces: into characters, of which the two neighbours that make the piece with
the highest score are joined, again and again.

SentencePiece does the same within a unit (see reverse.py); these programs know no units, and may join across them.
"""

import heapq


def join(text, ids, scores, first_byte):
    """Ids of a text; ids is {piece: id}, scores a list by id. A character that is no piece becomes its bytes, of which
    first_byte is the id of 0."""
    found = [text[i] for i in range(len(text))]  # the piece that begins at each character, None inside of one
    after, before = [*range(1, len(text) + 1)], [*range(-1, len(text) - 1)]
    heap = []

    def weigh(i):
        """What the piece at i and the next one would make."""
        if i >= 0 and after[i] < len(text) and (piece := found[i] + found[after[i]]) in ids:
            heapq.heappush(heap, (-scores[ids[piece]], i, piece))

    for i in range(len(text)):
        weigh(i)
    while heap:
        _, i, piece = heapq.heappop(heap)
        j = after[i]
        if found[i] is None or j == len(text) or found[i] + found[j] != piece:
            continue  # one of the two has been joined with another since
        found[i], found[j], after[i] = piece, None, after[j]
        if after[i] < len(text):
            before[after[i]] = i
        weigh(before[i])
        weigh(i)
    row = []
    for piece in found:
        if piece in ids:
            row.append(ids[piece])
        elif piece is not None:
            row += [first_byte + byte for byte in piece.encode()]
    return row
