"""The template of an instruction: no text can write its markers, and a response too long keeps its beginning."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from backchat.template import borders, encode_instruction, encode_pair, encode_response, response_room
from reverse import reading_units
from tests.support.texts import any_text, fewer, marker_text
from tests.support.tokenizers import BACKWARD, FORWARD
from tokenizer import BOS_ID, EOS_ID, MARKER_IDS


@fewer
@given(marker_text)
def test_a_response_stands_between_markers_that_no_text_can_write(response):
    ids, shortened = encode_response(BACKWARD, response)
    marks = [MARKER_IDS[f"<|{name}|>"] for name in ("im_start", "response", "im_end", "im_start", "instruction")]
    assert ids == [BOS_ID, *marks[:2], *BACKWARD.encode_text(response), *marks[2:]] and not shortened


@fewer
@given(any_text, st.integers(0, 40))
def test_a_response_too_long_keeps_as_much_of_its_beginning_as_fits_in_whole_units(response, room):
    for tokenizer in (BACKWARD, FORWARD):
        whole, marks = tokenizer.encode_text(response), 6
        ids, shortened = encode_response(tokenizer, response, room)
        kept = tokenizer.to_text(ids)
        assert shortened == (len(whole) > max(0, room - marks)) and response.startswith(kept)
        assert len(ids) == marks + len(tokenizer.encode_text(kept)) and len(ids) <= max(room, marks)
        if shortened:
            following = reading_units(response)[len(reading_units(kept))]
            assert len(ids) + len(tokenizer.encode_text(following)) > room


def test_an_instruction_ends_with_its_marker_and_eos():
    assert encode_instruction(BACKWARD, "Why?") == [*BACKWARD.encode_text("Why?"), MARKER_IDS["<|im_end|>"], EOS_ID]


def test_the_example_of_a_forward_model_is_the_mirror_image_whose_response_is_learned():
    given, learned, shortened = encode_pair(FORWARD, "In the barn.", "Where is the cat?", 64)
    im_start, im_end, instruction, response = (MARKER_IDS[f"<|{name}|>"] for name in (
        "im_start", "im_end", "instruction", "response"))
    assert given == [BOS_ID, im_start, instruction, *FORWARD.encode_text("Where is the cat?"), im_end, im_start,
                     response]
    assert learned == [*FORWARD.encode_text("In the barn."), im_end, EOS_ID] and not shortened


@fewer
@given(any_text, any_text, st.integers(32, 90))
def test_in_both_directions_a_pair_fits_the_block_by_the_same_rule_and_is_found_again(
        response, instruction, block_size):
    for tokenizer in (BACKWARD, FORWARD):
        room = response_room(tokenizer, instruction, block_size)
        given, learned, shortened = encode_pair(tokenizer, response, instruction, block_size)
        first, second = tokenizer.to_text(given), tokenizer.to_text(learned)
        kept, whole = (first, second) if tokenizer is BACKWARD else (second, first)
        assert whole == instruction and response.startswith(kept)
        assert shortened == (len(tokenizer.encode_text(response)) > max(0, room))
        assert room < 0 or len(given) + len(learned) <= block_size + 1
        starts, marks, ends = borders(np.array([*given, *learned] * 2))
        assert marks.tolist() == [len(given) - 1, len(given) - 1 + ends[0]] and starts.tolist() == [0, ends[0]]
