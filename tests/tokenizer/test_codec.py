"""What the tokenizer promises: every string survives, no text types a marker, an ending is cut like mid-text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from characters.seams import space_before
from reverse import reverse, segments, units
from tests.support.texts import any_text, fewer, laws, marker_text
from tests.support.tokenizers import BACKWARD, CONTROLS, CORPUS, FORWARD, MODELS, VOCAB, WARM, as_trained, pieces_of
from tokenizer import BOS_ID, DIRECTIONS, EOS_ID, EOS_PIECE, FIRST_BYTE_ID, MARKERS, SMALLEST_VOCAB, Tokenizer, codec

both_directions = pytest.mark.parametrize("direction", DIRECTIONS)


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


@laws
@given(st.lists(st.integers(0, VOCAB - 1), max_size=12), st.lists(st.integers(0, VOCAB - 1), max_size=6), st.booleans())
def test_what_is_settled_of_a_text_stays_whatever_ids_follow(ids, more, as_text):
    for tokenizer in WARM.values():
        if as_text:  # pieces that follow one another as in text
            text = tokenizer.to_text([*ids, *more]).replace("\ufffd", "")
            ids = tokenizer.encode_text(text)
            more, ids = ids[len(ids) // 2 :], ids[: len(ids) // 2]
        if any("\ud800" <= c <= "\udfff" for c in tokenizer.to_text(ids) + tokenizer.to_text(ids + more)):
            return
        settled, whole = tokenizer.settled_text(ids), tokenizer.to_text(ids + more)
        assert whole.endswith(settled) if tokenizer is BACKWARD else whole.startswith(settled)


def test_all_but_the_newest_words_of_a_text_are_settled():
    for text, backward, forward in [("We don't know it.", " don't know it.", "We don't know "),
                                    ("one 3.14", " 3.14", "one "), ("who? me!", "? me!", "who? me")]:
        assert BACKWARD.settled_text(BACKWARD.encode_text(text)) == backward
        assert FORWARD.settled_text(FORWARD.encode_text(text)) == forward


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
    monkeypatch.setattr(codec, "_CACHE_UNITS", cache_units)
    fresh = Tokenizer(MODELS["reverse"])
    assert [fresh.encode_text(text) for text in CORPUS] == [BACKWARD.encode_text(text) for text in CORPUS]
    assert len(fresh._cache) == cache_units


@pytest.mark.parametrize("text", ["x" * 100_000, " " * 100_000, "\u2581" * 1_000, "\U0001f468\u200d" * 999,
                                  "a-" * 9_999], ids=["letters", "spaces", "space marks", "emoji", "joined"])
def test_a_very_long_unit_survives(text):
    assert BACKWARD.to_text(BACKWARD.encode_text(text)) == text


# ---- ids


@both_directions
def test_ids_stand_in_their_fixed_order(direction):
    fixed = ["<unk>", "<s>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|instruction|>", "<|response|>",
             "<|system|>", "<|user|>", "<|assistant|>", *(f"<0x{byte:02X}>" for byte in range(256))]
    assert pieces_of(WARM[direction])[:len(fixed)] == fixed and len(fixed) == SMALLEST_VOCAB


def test_special_symbols_are_control_symbols():
    processor = BACKWARD._processor
    assert {i for i in range(VOCAB) if processor.is_control(i) or processor.is_unknown(i)} == CONTROLS


@both_directions
def test_a_tokenizer_knows_its_direction(direction):
    assert WARM[direction].direction == direction


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
           "(as always)", "don't", "мой зонт?", "👋🏽 bye", "3.14", "x"]
UNSPACED = [", too.", "船在哪里？", "“船在哪里？”", "<|im_end|>", "\u2581", "-", '" asked Miss Rossi.']


@fewer
@given(any_text)
def test_an_ending_comes_back_with_at_most_one_space_before_it(text):
    assert BACKWARD.to_text(BACKWARD.encode_ending(text)) == " " * space_before(text) + text


@fewer
@given(any_text, any_text)
def test_an_ending_has_the_ids_that_it_has_as_the_tail_of_a_longer_text(before, ending):
    longer = f"{before}\n" + " " * space_before(ending) + ending
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


@pytest.mark.parametrize("before", ["A story told long ago", "sie sagte", "end.", "海"])
@pytest.mark.parametrize("ending", UNSPACED)
def test_an_ending_without_a_space_before_it_has_the_ids_that_it_has_in_mid_text(before, ending):
    ids = BACKWARD.encode_ending(ending)
    assert BACKWARD.encode_document(before + ending)[:len(ids)] == ids


@pytest.mark.parametrize("ending", ["", " x", "\n\nx", "\tx", "\u3000x", "  ", *UNSPACED])
def test_an_ending_that_no_space_belongs_before_is_left_alone(ending):
    assert BACKWARD.encode_ending(ending) == [BOS_ID, *BACKWARD.encode_text(ending)]


@pytest.mark.parametrize("text", ENDINGS + UNSPACED)
def test_a_forward_model_is_given_the_beginning_as_it_is(text):
    assert FORWARD.encode_ending(text) == [BOS_ID, *FORWARD.encode_text(text)]


@pytest.mark.parametrize("written", ENDINGS + UNSPACED)
def test_the_ids_of_both_parts_decoded_together_are_the_whole_text(written):
    given = BACKWARD.encode_ending("the sea.")
    assert BACKWARD.to_text(given + BACKWARD.encode_text(written)) == f"{written} the sea."


@fewer
@given(any_text, st.lists(st.integers(0, VOCAB - 1), max_size=8))
def test_the_parts_of_a_text_joined_are_the_text_and_at_most_one_was_given(text, new):
    for tokenizer in WARM.values():
        ids = tokenizer.encode_ending(text) + new
        parts = tokenizer.parts(ids, text)
        assert "".join(part for part, _ in parts) == tokenizer.to_text(ids)
        assert [part for part, was_given in parts if was_given] in ([], [text])


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


def test_of_a_folder_the_tokenizers_in_it_are_named(tmp_path):
    (tmp_path / "tok1500.model").write_bytes(MODELS["reverse"])
    with pytest.raises(ValueError, match="is a folder. Name the tokenizer in it: .*tok1500.model"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a model", MODELS["reverse"][:5_000]],
                         ids=["empty", "foreign", "cut short"])
def test_a_damaged_file_names_itself_and_the_command_that_makes_it_anew(tmp_path, content):
    path = tmp_path / "tok1500.model"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        Tokenizer.load(path)
    assert str(path) in str(error.value) and f"--data-dir {tmp_path} --overwrite" in str(error.value)
