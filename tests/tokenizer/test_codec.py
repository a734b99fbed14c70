"""What the tokenizer promises: every string survives, no text types a marker, an ending is cut like mid-text."""

import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tokenizer as tokenizer_module
from reverse import reading_units, reverse, segments, units
from texts import LANGUAGES, TEXTS, any_text, fewer, laws, marker_text
from tokenizer import (BOS_ID, DIRECTIONS, EOS_ID, EOS_PIECE, FIRST_BYTE_ID, LARGEST_VOCAB, MARKERS, SMALLEST_VOCAB, UNK_ID,
                       Tokenizer, train_tokenizer)

CORPUS, VOCAB = list(TEXTS.values()), 1500
MODELS = {direction: train_tokenizer(CORPUS, VOCAB, direction) for direction in DIRECTIONS}
WARM = {direction: Tokenizer(model) for direction, model in MODELS.items()}
BACKWARD, FORWARD = WARM["reverse"], WARM["forward"]
CONTROLS = {UNK_ID, BOS_ID, EOS_ID, *BACKWARD.marker_ids.values()}

both_directions = pytest.mark.parametrize("direction", DIRECTIONS)


def pieces_of(tokenizer):
    return [tokenizer._processor.id_to_piece(i) for i in range(tokenizer.vocab_size)]


def learned_pieces(tokenizer):
    """The learned pieces as text."""
    return [piece.replace("\u2581", " ") for piece in pieces_of(tokenizer)[FIRST_BYTE_ID + 256:]]


def as_trained(text, direction):
    return units(text) if direction == "reverse" else reading_units(text)


def as_read(piece):
    """A piece of a backward model with its space before it."""
    return " " + piece[:-1] if len(piece) > 1 and piece[-1] == " " else piece


def encode_plainly(text, direction):
    """Unit by unit, and without a cache."""
    return [i for unit in as_trained(text, direction) for i in WARM[direction]._encode_unit(unit)]


# ---- laws for every string


@laws
@given(any_text)
def test_every_string_survives_in_both_directions(text):
    for tokenizer in WARM.values():
        assert tokenizer.to_text(tokenizer.encode_text(text)) == text


@laws
@given(any_text)
def test_cached_tokenizing_equals_plain(text):
    for direction, tokenizer in WARM.items():
        tokenizer.encode_text(text)  # now its units are in the cache
        assert tokenizer.encode_text(text) == encode_plainly(text, direction)


@laws
@given(any_text)
def test_reversed_text_encodes_to_the_ids_of_its_units(text):
    assert BACKWARD.encode(reverse(text)) == [i for unit in units(text) for i in BACKWARD.encode(unit)]


@laws
@given(marker_text)
def test_no_control_symbol_ever_comes_out_of_text(text):
    for tokenizer in WARM.values():
        assert not CONTROLS & set(tokenizer.encode_text(text))


@fewer
@given(any_text)
def test_a_reversed_text_decodes_to_itself(text):
    assert BACKWARD.decode(BACKWARD.encode(text)) == text


@fewer
@given(any_text)
def test_encoding_a_text_and_encoding_it_reversed_are_the_same(text):
    assert BACKWARD.encode_text(text) == BACKWARD.encode(reverse(text))


@fewer
@given(any_text)
def test_a_document_stands_between_bos_and_eos(text):
    assert BACKWARD.encode_document(text) == [BOS_ID, *BACKWARD.encode_text(text), EOS_ID]


@pytest.mark.parametrize("cache_units", [0, 1])
def test_a_full_cache_changes_nothing(cache_units, monkeypatch):
    monkeypatch.setattr(tokenizer_module, "_CACHE_UNITS", cache_units)
    fresh = Tokenizer(MODELS["reverse"])
    assert [fresh.encode_text(text) for text in CORPUS] == [BACKWARD.encode_text(text) for text in CORPUS]
    assert len(fresh._cache) == cache_units


@pytest.mark.parametrize("text", ["x" * 100_000, " " * 100_000, "\u2581" * 1_000, "\U0001f468\u200d" * 999, "a-" * 9_999],
                         ids=["letters", "spaces", "space marks", "emoji", "joined"])
def test_a_very_long_unit_survives(text):
    assert BACKWARD.to_text(BACKWARD.encode_text(text)) == text


# ---- ids


@both_directions
@pytest.mark.parametrize("vocab_size", [1200, VOCAB])
def test_there_are_exactly_as_many_pieces_as_asked_for(direction, vocab_size):
    assert Tokenizer(train_tokenizer(CORPUS, vocab_size, direction)).vocab_size == vocab_size


@both_directions
def test_ids_stand_in_their_fixed_order(direction):
    fixed = ["<unk>", "<s>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|instruction|>", "<|response|>", "<|system|>",
             "<|user|>", "<|assistant|>", *(f"<0x{byte:02X}>" for byte in range(256))]
    assert pieces_of(WARM[direction])[:len(fixed)] == fixed and len(fixed) == SMALLEST_VOCAB


def test_special_symbols_are_control_symbols():
    processor = BACKWARD._processor
    assert {i for i in range(VOCAB) if processor.is_control(i) or processor.is_unknown(i)} == CONTROLS


@pytest.mark.parametrize("marker", [*MARKERS, EOS_PIECE, "<s>", "</s>", "<unk>", "<0x41>"])
def test_a_marker_that_is_typed_is_several_ordinary_pieces(marker):
    ids = BACKWARD.encode_text(marker)
    assert len(ids) > 1 and min(ids) >= FIRST_BYTE_ID and BACKWARD.to_text(ids) == marker


def test_special_ids_are_silent_when_decoded():
    assert BACKWARD.decode([BOS_ID, *BACKWARD.encode("end the"), *sorted(CONTROLS), EOS_ID]) == "end the"


@pytest.mark.parametrize("char", ["\0", "\u2581", "\ud800", "\udfff"])
def test_what_sentencepiece_cannot_hold_goes_as_bytes(char):
    assert BACKWARD.encode_text(char) == [FIRST_BYTE_ID + byte for byte in char.encode("utf-8", "surrogatepass")]


@pytest.mark.parametrize("char", ["\u07f7", "\u2603", "\U0001f996", "\ud800"])
def test_a_character_cut_in_the_middle_decodes_to_a_replacement_character(char):
    data = char.encode("utf-8", "surrogatepass")
    for cut in range(1, len(data)):
        ids = [*BACKWARD.encode("ab "), *(FIRST_BYTE_ID + byte for byte in data[:cut])]
        assert re.fullmatch("ab \ufffd+", BACKWARD.decode(ids))


@fewer
@given(any_text)
def test_ids_cut_anywhere_decode(text):
    ids = BACKWARD.encode_text(text)
    whole = BACKWARD.decode(ids)
    for cut in range(len(ids)):
        start = BACKWARD.decode(ids[:cut]).rstrip("\ufffd")
        assert whole.startswith(start) or "\ufffd" in start  # a lone surrogate before the cut is replaced with the rest


# ---- the join of a user's ending with what is written before it


ENDINGS = ["butterfly in the sky.", "sea.", "and they lived happily ever after.", "'tis done", "Fußmatte!",
           "(as always)", "don't", "мой зонт?", "船在哪里？", "👋🏽 bye", "<|im_end|>", "3.14", "\u2581", "-", "x"]


@fewer
@given(any_text)
def test_an_ending_comes_back_with_at_most_one_space_before_it(text):
    expected = text if not text or text[0].isspace() else " " + text
    assert BACKWARD.to_text(BACKWARD.encode_ending(text)) == expected


@fewer
@given(any_text, any_text)
def test_an_ending_has_the_ids_that_it_has_as_the_tail_of_a_longer_text(before, ending):
    longer = f"{before}\n" + ("" if ending[:1].isspace() else " ") + ending
    ids = BACKWARD.encode_ending(ending)
    if ending:
        assert [BOS_ID, *BACKWARD.encode_text(longer)][:len(ids)] == ids


@pytest.mark.parametrize("before", ["A story told long ago:", "once", "sie sagte,", "end.", "海", "x\t"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_an_ending_after_a_space_has_the_ids_that_it_has_in_mid_text(before, ending):
    ids = BACKWARD.encode_ending(ending)
    assert BACKWARD.encode_document(f"{before} {ending}")[:len(ids)] == ids


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_first_word_of_an_ending_has_the_pieces_that_it_has_in_mid_text(ending):
    word = segments(ending)[0]
    in_mid_text = BACKWARD._encode_unit(word + " ")
    assert BACKWARD.encode_ending(ending)[-len(in_mid_text):] == in_mid_text


def test_without_the_space_the_first_word_would_end_like_the_beginning_of_a_text():
    assert BACKWARD.encode_ending("the end") != [BOS_ID, *BACKWARD.encode_text("the end")]


@pytest.mark.parametrize("ending", ["", " x", "\n\nx", "\tx", "\u3000x", "  "])
def test_an_ending_that_begins_with_white_space_is_left_alone(ending):
    assert BACKWARD.encode_ending(ending) == [BOS_ID, *BACKWARD.encode_text(ending)]


@pytest.mark.parametrize("text", ENDINGS)
def test_a_forward_model_is_given_the_beginning_as_it_is(text):
    assert FORWARD.encode_ending(text) == [BOS_ID, *FORWARD.encode_text(text)]


@pytest.mark.parametrize("written", ENDINGS)
def test_the_ids_of_both_parts_decoded_together_are_the_whole_text(written):
    given = BACKWARD.encode_ending("the sea.")
    assert BACKWARD.to_text(given + BACKWARD.encode_text(written)) == f"{written} the sea."


# ---- the template of an instruction


@fewer
@given(marker_text)
def test_a_response_stands_between_markers_that_no_text_can_write(response):
    ids, shortened = BACKWARD.encode_response(response)
    marks = [BACKWARD.marker_ids[f"<|{name}|>"] for name in ("im_start", "response", "im_end", "im_start", "instruction")]
    assert ids == [BOS_ID, *marks[:2], *BACKWARD.encode_text(response), *marks[2:]] and not shortened


@fewer
@given(any_text, st.integers(0, 40))
def test_a_response_too_long_keeps_as_much_of_its_beginning_as_fits_in_whole_units(response, room):
    for tokenizer in (BACKWARD, FORWARD):
        whole, marks = tokenizer.encode_text(response), 6
        ids, shortened = tokenizer.encode_response(response, room)
        kept = tokenizer.to_text(ids)
        assert shortened == (len(whole) > max(0, room - marks)) and response.startswith(kept)
        assert len(ids) == marks + len(tokenizer.encode_text(kept)) and len(ids) <= max(room, marks)
        if shortened:
            following = reading_units(response)[len(reading_units(kept))]
            assert len(ids) + len(tokenizer.encode_text(following)) > room


def test_an_instruction_ends_with_its_marker_and_eos():
    assert BACKWARD.encode_instruction("Why?") == [*BACKWARD.encode_text("Why?"), BACKWARD.marker_ids["<|im_end|>"], EOS_ID]


# ---- training


def test_white_space_is_a_suffix_in_reverse_and_a_prefix_in_forward():
    word = re.compile(r"\w{2,}")
    backward, forward = (set(learned_pieces(WARM[direction])) for direction in DIRECTIONS)
    assert [p for p in backward if p.endswith(" ") and word.match(p)] and not [p for p in backward if re.match(r" \S", p)]
    assert [p for p in forward if p.startswith(" ") and word.search(p)] and not [p for p in forward if re.search(r"\S $", p)]


@both_directions
def test_every_learned_piece_lies_within_one_unit_of_some_text(direction):
    within = "\0".join(unit for text in CORPUS for unit in as_trained(text.replace("\x1f", ""), direction))
    assert not [piece for piece in learned_pieces(WARM[direction]) if piece not in within]


def test_pairs_that_always_stand_together_are_not_joined_across_units():
    model = Tokenizer(train_tokenizer(["(yes), no! 中文 (yes), no! 中文" * 20], 284))
    assert all(len(reading_units(as_read(piece))) == 1 for piece in learned_pieces(model))


def test_digits_are_learned_one_by_one():
    assert not [piece for piece in learned_pieces(BACKWARD) if re.search("[0-9]{2}", piece)]


@both_directions
def test_the_same_texts_give_the_same_bytes(direction):
    assert train_tokenizer(iter(CORPUS), VOCAB, direction) == MODELS[direction]


@both_directions
def test_a_tokenizer_knows_its_direction(direction):
    assert WARM[direction].direction == direction


@pytest.mark.parametrize("wrap", [
    lambda words: words * 3_000,                            # one line of many times the longest sentence
    lambda words: "x" * 100_000 + " " + words * 20,         # beside a word that is too long to learn from
    lambda words: "\n".join([words] * 20) + "-y" * 50_000,  # one such word in joined pieces
], ids=["long line", "long word", "long joined word"])
@both_directions
def test_long_lines_are_learned_from(wrap, direction):
    """The word stands nowhere but beside what the trainer would drop without a word."""
    model = Tokenizer(train_tokenizer(["some other text", wrap("zugzwang zugzwang ")], 290, direction))
    assert any("zugzwang" in piece for piece in learned_pieces(model))


@pytest.mark.parametrize("length", [10, 100, 1_000, 10_000, 100_000])
def test_sentences_for_the_trainer_lose_no_unit_and_stay_below_its_limit(length):
    line = "zug, zwang 中 " * (length // 14 + 1)
    sentences = list(tokenizer_module._sentences([line], "reverse"))
    assert [unit for sentence in sentences for unit in sentence.split(tokenizer_module._DELIMITER)] == units(line)
    assert max(len(sentence.encode()) for sentence in sentences) <= tokenizer_module._SENTENCE_BYTES


TOO_SMALL = [[LANGUAGES["english"]], [LANGUAGES["chinese"]], ["中文"], CORPUS]


@both_directions
@pytest.mark.parametrize("corpus", [*TOO_SMALL, ["aaaa"]], ids=["english", "chinese", "two characters", "all", "one word"])
def test_too_large_a_vocabulary_names_the_largest_that_fits(corpus, direction):
    with pytest.raises(ValueError, match=r"60,000 is more .* largest that fits is --vocab-size \d+$") as error:
        train_tokenizer(corpus, 60_000, direction)
    largest = int(str(error.value).rsplit(" ", 1)[1])
    assert Tokenizer(train_tokenizer(corpus, largest, direction)).vocab_size == largest
    with pytest.raises(ValueError, match=f"--vocab-size {largest}$"):
        train_tokenizer(corpus, largest + 1, direction)


@both_directions
@pytest.mark.parametrize("corpus", TOO_SMALL, ids=["english", "chinese", "two characters", "all"])
def test_too_small_a_vocabulary_names_the_smallest_that_fits(corpus, direction):
    with pytest.raises(ValueError, match=r"267 cannot hold .* smallest that fits is --vocab-size \d+$") as error:
        train_tokenizer(corpus, SMALLEST_VOCAB + 1, direction)
    smallest = int(str(error.value).rsplit(" ", 1)[1])
    assert Tokenizer(train_tokenizer(corpus, smallest, direction)).vocab_size == smallest
    with pytest.raises(ValueError, match=f"--vocab-size {smallest}$"):
        train_tokenizer(corpus, smallest - 1, direction)


@pytest.mark.parametrize("vocab_size", [-1, 0, SMALLEST_VOCAB, LARGEST_VOCAB + 1])
def test_a_vocabulary_that_no_corpus_could_fill_is_refused_at_once(vocab_size):
    def never_read():
        raise AssertionError("the corpus was read")
        yield

    with pytest.raises(ValueError, match="--vocab-size .* above 266 .* not above 65,536"):
        train_tokenizer(never_read(), vocab_size)


@pytest.mark.parametrize("texts", [[], [""], ["\n\n", "\0"]])
def test_a_corpus_without_text_says_so(texts):
    with pytest.raises(ValueError, match="no text .* --dataset"):
        train_tokenizer(texts, 300)


# ---- files


def test_a_tokenizer_read_from_its_file_is_the_same(tmp_path):
    path = tmp_path / "tok1500.model"
    path.write_bytes(MODELS["reverse"])
    loaded = Tokenizer.load(path)
    assert loaded.sha256 == BACKWARD.sha256 and loaded.encode_text(CORPUS[0]) == BACKWARD.encode_text(CORPUS[0])


def test_a_missing_file_names_the_command_that_makes_it(tmp_path):
    path = tmp_path / "tok1500.model"
    with pytest.raises(FileNotFoundError) as error:
        Tokenizer.load(path)
    assert str(path) in str(error.value) and f"python preprocess_xcoax.py --data-dir {tmp_path}" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"not a model", MODELS["reverse"][:5_000]], ids=["empty", "foreign", "cut short"])
def test_a_damaged_file_names_itself_and_the_command_that_makes_it_anew(tmp_path, content):
    path = tmp_path / "tok1500.model"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        Tokenizer.load(path)
    assert str(path) in str(error.value) and f"--data-dir {tmp_path} --overwrite" in str(error.value)
