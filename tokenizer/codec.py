"""
Text to ids and back, by a SentencePiece model.

A tokenizer knows its direction. "reverse" is the project's own: text is reversed, and the space before a word follows
it as a suffix. "forward" is the mirror image for control experiments: nothing is reversed, the space is a prefix.
Every token stays inside one unit (see reverse.py), so a text is encoded unit by unit, and a dictionary of units seen
before gives exactly what encoding anew would give.
"""

import hashlib
import re
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from characters import utf8
from characters.seams import JOINERS, space_before
from program import commands
from reverse import mirror, reading_units, reverse, segments

UNK_ID, BOS_ID, EOS_ID = 0, 1, 2
EOS_PIECE = "<|endoftext|>"
MARKERS = ("<|im_start|>", "<|im_end|>", "<|instruction|>", "<|response|>", "<|system|>", "<|user|>", "<|assistant|>")
MARKER_IDS = {marker: 3 + i for i, marker in enumerate(MARKERS)}
FIRST_BYTE_ID = 3 + len(MARKERS)  # the ids below are special: no text can spell them

DIRECTIONS = ("reverse", "forward")  # the header of a shard stores the index

# SentencePiece would take U+2581 for a space and cannot hold a lone surrogate; NUL ends its C strings. All go as bytes.
AS_BYTES = re.compile("[\0\u2581\ud800-\udfff]")
_CACHE_UNITS = 2**18      # about 60 MB
_CACHE_UNIT_LENGTH = 64   # longer units are too rare to keep


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
        self.stop_ids = (EOS_ID, BOS_ID)  # where a document ends
        expected = {EOS_PIECE: EOS_ID, **MARKER_IDS}
        if any(self._processor.piece_to_id(piece) != i for piece, i in expected.items()):
            raise ValueError("this SentencePiece model was not made by preprocess_xcoax.py: its special ids differ")
        self._bytes = [self._piece_bytes(i) for i in range(self.vocab_size)]
        self._cache = {}

    @classmethod
    def load(cls, path):
        """Read a .model file.

        Raises FileNotFoundError or ValueError, each with what to run next.
        """
        path = Path(path)
        if path.is_dir() and (found := sorted(path.glob("tok*.model"))):
            raise ValueError(f"{path} is a folder. Name the tokenizer in it: {', '.join(map(str, found))}")
        if not path.is_file():
            raise FileNotFoundError(f"No tokenizer at {path}. Make it first:\n"
                                    f"    {commands.preprocess(data_dir=path.parent)}")
        try:
            return cls(path.read_bytes())
        except (RuntimeError, ValueError) as error:  # RuntimeError is how SentencePiece says "not a model"
            raise ValueError(f"{path} is not a tokenizer of this project ({error}). Make it anew:\n"
                             f"    {commands.preprocess(data_dir=path.parent, overwrite=True)}") from error

    def _piece_bytes(self, i):
        if self._processor.is_control(i) or self._processor.is_unknown(i):
            return b""
        if self._processor.is_byte(i):
            return bytes([i - FIRST_BYTE_ID])
        return self._processor.id_to_piece(i).replace("\u2581", " ").encode()

    def name(self, i):
        """A piece as SentencePiece writes it: U+2581 for a space, <0x0A> for a byte; and a special one with U+2581
        behind it, which other programs take for no text: a space is a space to them."""
        return self._processor.id_to_piece(i) + ("\u2581" if i < FIRST_BYTE_ID else "")

    def score(self, i):
        """How early a piece was learned: of two pieces the one with the higher score is made first."""
        return self._processor.get_score(i)

    def _encode_unit(self, unit):
        """Ids of one unit as it stands in the trained text, without the cache."""
        if not AS_BYTES.search(unit):
            return self._processor.encode(unit)
        ids = []
        for part in re.split(f"({AS_BYTES.pattern})", unit):
            if AS_BYTES.match(part):
                ids += [FIRST_BYTE_ID + byte for byte in utf8.encode(part)]
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
        return utf8.decode(b"".join([self._bytes[i] for i in ids]))

    def to_text(self, ids):
        """The text of ids as a person reads it: decode in one piece, then restore the reading order."""
        text = self.decode(ids)
        return reverse(text) if self.direction == "reverse" else text

    def settled_text(self, ids):
        """What of to_text(ids) stays as it is whatever ids follow: all but the newest segment, which may still become
        longer, and the one before it where a sign between them may join it to the next.

        Broken UTF-8 at the growing side is taken for a character that is not complete yet. It holds for text without
        halves of surrogate pairs.
        """
        found = segments(self.decode(ids).rstrip("\ufffd"))
        del found[-2 if found and found[-1] in JOINERS else -1 :]
        return "".join(reversed(found) if self.direction == "reverse" else found)

    def parts(self, ids, given):
        """The text of ids cut at the seam: pairs (string, was it given), in reading order; given is the text it grew
        from.

        Decoded in one piece, so that no word is fused or split where the parts meet; one pair that was not given, where
        broken UTF-8 was replaced across the seam.
        """
        text = self.to_text(ids)
        if self.direction == "reverse" and text.endswith(given):
            return [(text[: len(text) - len(given)], False), (given, True)]
        if self.direction == "forward" and text.startswith(given):
            return [(given, True), (text[len(given) :], False)]
        return [(text, False)]

    def encode_document(self, text):
        """A whole text: bos, its ids, eos."""
        return [BOS_ID, *self.encode_text(text), EOS_ID]

    def encode_ending(self, text):
        """What generation starts from: bos and the ids of the tail of a longer text.

        A space is put before it where running text has one (see characters/seams.py): whether one stands there decides
        the first word's last piece, and without it the model believes that the text begins with this word, and stops at
        once.
        For a forward model the text given is the beginning, and nothing is added.
        """
        if self.direction == "reverse" and space_before(text):
            text = " " + text
        return [BOS_ID, *self.encode_text(text)]
