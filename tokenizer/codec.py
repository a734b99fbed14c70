"""
The SentencePiece model: how text becomes ids and how ids become text again.

A tokenizer knows its direction. "reverse" is the project's own: text is reversed, and the space before a word follows
it as a suffix. "forward" is the mirror image for control experiments: nothing is reversed, the space is a prefix.
Every token stays inside one unit (see reverse.py), so a text is encoded unit by unit, and a dictionary of units seen
before gives exactly what encoding anew would give.
"""

import bisect
import hashlib
import io
import itertools
import re
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from reverse import mirror, reading_units, reverse

UNK_ID, BOS_ID, EOS_ID = 0, 1, 2
EOS_PIECE = "<|endoftext|>"
MARKERS = ("<|im_start|>", "<|im_end|>", "<|instruction|>", "<|response|>", "<|system|>", "<|user|>", "<|assistant|>")
FIRST_BYTE_ID = 3 + len(MARKERS)
SMALLEST_VOCAB = FIRST_BYTE_ID + 256
LARGEST_VOCAB = 2**16  # ids are stored as uint16

DIRECTIONS = ("reverse", "forward")  # the header of a shard stores the index

# SentencePiece would take U+2581 for a space and cannot hold a lone surrogate; NUL ends its C strings. All go as bytes.
_AS_BYTES = re.compile("[\0\u2581\ud800-\udfff]")
_CACHE_UNITS = 2**18      # about 60 MB
_CACHE_UNIT_LENGTH = 64   # longer units are too rare to keep
_DELIMITER = "\x1f"       # stands between units in the trainer's input; dropped from the sample where a text holds it
_SENTENCE_BYTES = 2**14   # the trainer would silently drop sentences longer than it is told to expect


class Tokenizer:
    """A trained SentencePiece model with its direction; make one with `load(path)`, or from `model` bytes."""

    def __init__(self, model):
        self.model = model
        self.sha256 = hashlib.sha256(model).digest()
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        spec = sentencepiece_model_pb2.ModelProto.FromString(model).trainer_spec
        self.direction = "reverse" if spec.treat_whitespace_as_suffix else "forward"
        self.vocab_size = self._processor.get_piece_size()
        self.bos_id, self.eos_id = BOS_ID, EOS_ID
        self.marker_ids = {marker: self._processor.piece_to_id(marker) for marker in MARKERS}
        expected = {marker: 3 + i for i, marker in enumerate(MARKERS)}
        if self.marker_ids != expected or self._processor.piece_to_id(EOS_PIECE) != EOS_ID:
            raise ValueError("this SentencePiece model was not made by preprocess_xcoax.py: its special ids differ")
        self._bytes = [self._piece_bytes(i) for i in range(self.vocab_size)]
        self._cache = {}

    @classmethod
    def load(cls, path):
        """Read a .model file.

        Raises FileNotFoundError or ValueError, each with what to run next.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"No tokenizer at {path}. Make it first:\n"
                                    f"    python preprocess_xcoax.py --data-dir {path.parent}")
        try:
            return cls(path.read_bytes())
        except (RuntimeError, ValueError) as error:  # RuntimeError is how SentencePiece says "not a model"
            raise ValueError(f"{path} is not a tokenizer of this project ({error}). Make it anew:\n"
                             f"    python preprocess_xcoax.py --data-dir {path.parent} --overwrite") from error

    def _piece_bytes(self, i):
        if self._processor.is_control(i) or self._processor.is_unknown(i):
            return b""
        if self._processor.is_byte(i):
            return bytes([i - FIRST_BYTE_ID])
        return self._processor.id_to_piece(i).replace("\u2581", " ").encode()

    def _encode_unit(self, unit):
        """Ids of one unit as it stands in the trained text, without the cache."""
        if not _AS_BYTES.search(unit):
            return self._processor.encode(unit)
        ids = []
        for part in re.split(f"({_AS_BYTES.pattern})", unit):
            if _AS_BYTES.match(part):
                ids += [FIRST_BYTE_ID + byte for byte in part.encode("utf-8", "surrogatepass")]
            else:
                ids += self._processor.encode(part)
        return ids

    def encode_text(self, text):
        """Ids of text as read, in the order in which the model sees them; no bos, no eos."""
        backward = self.direction == "reverse"
        found = reading_units(text)
        if backward:
            found.reverse()
        cache, ids = self._cache, []
        for unit in found:
            unit_ids = cache.get(unit)
            if unit_ids is None:
                unit_ids = self._encode_unit(mirror(unit) if backward else unit)
                if len(cache) < _CACHE_UNITS and len(unit) <= _CACHE_UNIT_LENGTH:
                    cache[unit] = unit_ids
            ids += unit_ids
        return ids

    def encode(self, reversed_text):
        """Ids of text in the order of training: reversed text, or text as read if the direction is forward."""
        return self.encode_text(reverse(reversed_text) if self.direction == "reverse" else reversed_text)

    def decode(self, ids):
        """The text of ids in the order of training; special ids are silent, broken UTF-8 becomes U+FFFD.

        Decode a whole text in one piece: a character may be spread over several ids.
        """
        data = b"".join([self._bytes[i] for i in ids])
        try:
            return data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return data.decode("utf-8", "replace")

    def to_text(self, ids):
        """The text of ids as a person reads it: decode in one piece, then restore the reading order."""
        text = self.decode(ids)
        return reverse(text) if self.direction == "reverse" else text

    def encode_document(self, text):
        """A whole text: bos, its ids, eos."""
        return [BOS_ID, *self.encode_text(text), EOS_ID]

    def encode_ending(self, text):
        """What generation starts from: bos and the ids of the tail of a longer text.

        A space is put before it unless it begins with white space: whether one stands there decides the first word's
        last piece, and without it the model believes that the text begins with this word, and stops at once.
        For a forward model the text given is the beginning, and nothing is added.
        """
        if self.direction == "reverse" and text and not text[0].isspace():
            text = " " + text
        return [BOS_ID, *self.encode_text(text)]

    def encode_response(self, response, room=None):
        """What generation of an instruction starts from: the template up to `<|instruction|>`, put together from ids.

            bos <|im_start|> <|response|> reversed response <|im_end|> <|im_start|> <|instruction|>

        A response is whole, so no space is put before it. With room, the ids are at most that many: a response too long
        loses its end, the far side from the instruction.
        Returns (ids, whether the response was shortened).
        """
        start, end, instruction, given = (self.marker_ids[f"<|{name}|>"] for name in (
            "im_start", "im_end", "instruction", "response"))
        head, tail, ids = [BOS_ID, start, given], [end, start, instruction], self.encode_text(response)
        free = len(ids) if room is None else max(0, room - len(head) - len(tail))
        shortened = len(ids) > free
        if shortened:  # after the last whole unit that fits, so that what is kept is the beginning of the response
            ends = list(itertools.accumulate(len(self.encode_text(unit)) for unit in reading_units(response)))
            fitting = bisect.bisect_right(ends, free)
            size = ends[fitting - 1] if fitting else 0
            ids = ids[len(ids) - size:] if self.direction == "reverse" else ids[:size]
        return head + ids + tail, shortened

    def encode_instruction(self, instruction):
        """What is learned after encode_response: the reversed instruction, `<|im_end|>`, eos; it is never cut."""
        return [*self.encode_text(instruction), self.marker_ids["<|im_end|>"], EOS_ID]


def _sentences(texts, direction):
    """Units of each line of texts joined by the delimiter, cut between units where a line is long."""
    for text in texts:
        text = _AS_BYTES.sub("", text.replace(_DELIMITER, ""))
        for line in text.split("\n"):
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


def train_tokenizer(texts, vocab_size, direction="reverse"):
    """Train on an iterable of texts as read; return the model's bytes, with exactly vocab_size pieces.

    Deterministic: the same texts give the same bytes on every machine.
    Raises ValueError naming the largest (or smallest) size that fits when vocab_size does not suit the texts.
    """
    if not SMALLEST_VOCAB < vocab_size <= LARGEST_VOCAB:
        raise ValueError(f"--vocab-size {vocab_size:,} must lie above {SMALLEST_VOCAB} (special ids and bytes) "
                         f"and not above {LARGEST_VOCAB:,} (ids are stored in 16 bits)")
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
