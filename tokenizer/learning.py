"""
Training the SentencePiece model, on a sample of the corpus as it will be encoded: reversed, and cut into units.
"""

import io
import re

import sentencepiece

from reverse import mirror, reading_units
from tokenizer.codec import AS_BYTES, BOS_ID, EOS_ID, EOS_PIECE, FIRST_BYTE_ID, MARKERS, UNK_ID

SMALLEST_VOCAB = FIRST_BYTE_ID + 256
LARGEST_VOCAB = 2**16     # ids are stored as uint16

_DELIMITER = "\x1f"       # stands between units in the trainer's input
_BORDER = re.compile(f"{AS_BYTES.pattern}|[\n{_DELIMITER}]")  # where a text holds one, it stands in no sentence
_SENTENCE_BYTES = 2**14   # the trainer would silently drop sentences longer than it is told to expect


def _sentences(texts, direction):
    """Units of each line of texts joined by the delimiter, cut between units where a line is long.

    A line ends, too, at a character that the trainer must not see; left out within a line, it would join its
    neighbours to a word that no text holds.
    """
    for text in texts:
        for line in _BORDER.split(text):
            sentence, size = [], 0
            found = reading_units(line)
            for unit in found[::-1] if direction == "reverse" else found:
                unit_size = len(unit.encode()) + 1
                if size + unit_size > _SENTENCE_BYTES:
                    if sentence:
                        yield _DELIMITER.join(sentence)
                    sentence, size = [], 0
                if unit_size <= _SENTENCE_BYTES:
                    sentence.append(mirror(unit) if direction == "reverse" else unit)
                    size += unit_size
            if sentence:
                yield _DELIMITER.join(sentence)


def check_vocab_size(vocab_size):
    """Raise ValueError for a number of pieces that no tokenizer can have."""
    if not SMALLEST_VOCAB < vocab_size <= LARGEST_VOCAB:
        raise ValueError(f"--vocab-size {vocab_size:,} must lie above {SMALLEST_VOCAB} (special ids and bytes) "
                         f"and not above {LARGEST_VOCAB:,} (ids are stored in 16 bits)")


def train_tokenizer(texts, vocab_size, direction="reverse"):
    """Train on an iterable of texts as read; return the model's bytes, with exactly vocab_size pieces.

    Deterministic: the same texts give the same bytes on every machine.
    Raises ValueError naming the largest (or smallest) size that fits when vocab_size does not suit the texts.
    """
    check_vocab_size(vocab_size)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_sentences(texts, direction), model_writer=model, model_type="bpe", vocab_size=vocab_size,
            normalization_rule_name="identity", byte_fallback=True, split_digits=True, character_coverage=0.9995,
            add_dummy_prefix=False, remove_extra_whitespaces=False, allow_whitespace_only_pieces=True,
            treat_whitespace_as_suffix=direction == "reverse", pretokenization_delimiter=_DELIMITER,
            max_sentence_length=2 * _SENTENCE_BYTES, unk_id=UNK_ID, bos_id=BOS_ID, eos_id=EOS_ID, pad_id=-1,
            eos_piece=EOS_PIECE, control_symbols=list(MARKERS), minloglevel=2,
            num_threads=16)  # recorded in the model: a number of this machine's would change its hash
    except RuntimeError as error:
        if fits := re.search(r"too high.*<= (\d+)", str(error)):
            raise ValueError(f"--vocab-size {vocab_size:,} is more than this corpus can fill; "
                             f"the largest that fits is --vocab-size {fits[1]}") from error
        if needs := re.search(r"smaller than required_chars\D*(\d+) vs (\d+)", str(error)):
            raise ValueError(f"--vocab-size {vocab_size:,} cannot hold the characters of this corpus; "
                             f"the smallest that fits is --vocab-size {needs[2]}") from error
        if "sentences_.empty()" in str(error):
            raise ValueError("there is no text to train a tokenizer on. Name another corpus with --dataset") from error
        raise
    return model.getvalue()
