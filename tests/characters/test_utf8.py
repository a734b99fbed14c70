"""Strings as bytes and back: nothing is lost, half of a surrogate pair included, and no bytes are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from characters.utf8 import decode, encode, length
from tests.support.characters import EVERY_CHARACTER
from tests.support.texts import TEXTS, any_text, laws


@laws
@given(any_text)
def test_every_string_comes_back_from_its_bytes(text):
    assert decode(encode(text)) == text


@laws
@given(any_text)
def test_the_length_of_a_text_is_that_of_its_bytes(text):
    assert length(text) == len(encode(text))


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_without_halves_of_pairs_has_the_bytes_of_utf8(name):
    text = "".join(char for char in TEXTS[name] if not "\ud800" <= char <= "\udfff")
    assert encode(text) == text.encode("utf-8")


def test_every_character_comes_back_and_has_the_length_of_its_bytes():
    assert decode(encode(EVERY_CHARACTER)) == EVERY_CHARACTER
    assert length(EVERY_CHARACTER) == len(encode(EVERY_CHARACTER)) == sum(map(length, EVERY_CHARACTER))


@pytest.mark.parametrize("text", ["\ud83d", "\udc00", "\udc00\ud83d", "\ud83d\udc00", "word\ud800word"])
def test_each_half_of_a_pair_takes_three_bytes(text):
    halves = sum("\ud800" <= char <= "\udfff" for char in text)
    assert length(text) == 3 * halves + len(text) - halves


@laws
@given(st.binary(max_size=20))
def test_bytes_that_no_text_makes_are_decoded_with_replacement_characters(data):
    text = decode(data)
    assert encode(text) == data or "\ufffd" in text
