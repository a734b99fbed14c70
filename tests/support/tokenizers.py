"""Two small tokenizers, one a direction, learned from the texts of all languages; and what stands in their models."""

from reverse import reading_units, units
from tests.support.texts import TEXTS
from tokenizer import BOS_ID, DIRECTIONS, EOS_ID, FIRST_BYTE_ID, MARKER_IDS, UNK_ID, Tokenizer, train_tokenizer

CORPUS, VOCAB = list(TEXTS.values()), 1500
MODELS = {direction: train_tokenizer(CORPUS, VOCAB, direction) for direction in DIRECTIONS}
WARM = {direction: Tokenizer(model) for direction, model in MODELS.items()}
BACKWARD, FORWARD = WARM["reverse"], WARM["forward"]
CONTROLS = {UNK_ID, BOS_ID, EOS_ID, *MARKER_IDS.values()}


def pieces_of(tokenizer):
    return [tokenizer._processor.id_to_piece(i) for i in range(tokenizer.vocab_size)]


def learned_pieces(tokenizer):
    """The learned pieces as text."""
    return [piece.replace("\u2581", " ") for piece in pieces_of(tokenizer)[FIRST_BYTE_ID + 256:]]


def as_trained(text, direction):
    return units(text) if direction == "reverse" else reading_units(text)
