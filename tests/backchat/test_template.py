"""The template of an instruction: no text can write its markers, and a response too long keeps its beginning."""

from hypothesis import given
from hypothesis import strategies as st

from backchat.template import encode_instruction, encode_response
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
