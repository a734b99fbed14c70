"""Text to ids and back: the codec, and how its model is learned."""

from tokenizer.codec import BOS_ID, DIRECTIONS, EOS_ID, EOS_PIECE, FIRST_BYTE_ID, MARKER_IDS, MARKERS, UNK_ID, Tokenizer
from tokenizer.learning import LARGEST_VOCAB, SMALLEST_VOCAB, check_vocab_size, train_tokenizer

__all__ = ["BOS_ID", "DIRECTIONS", "EOS_ID", "EOS_PIECE", "FIRST_BYTE_ID", "LARGEST_VOCAB", "MARKERS", "MARKER_IDS",
           "SMALLEST_VOCAB", "UNK_ID", "Tokenizer", "check_vocab_size", "train_tokenizer"]
