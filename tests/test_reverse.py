"""What reversal promises: nothing is lost, twice is the text again, and every language is cut at its words."""

import doctest
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

import reverse as reverse_module
from characters.seams import JOINERS
from corpus.languages import LANGUAGES
from reverse import mirror, reading_units, reverse, segments, unit_pattern, units
from tests.support.characters import CLASSES, EVERY_CHARACTER
from tests.support.texts import TEXTS, any_text, basic_text, fewer, laws

word_characters = st.sampled_from(CLASSES["WORD"].findall(EVERY_CHARACTER))
glyph_characters = st.sampled_from(CLASSES["GLYPH"].findall(EVERY_CHARACTER))


def slow_segments(text):
    """The rules as they are told, a character at a time."""
    def is_a(name, i):
        return i < len(text) and CLASSES[name].match(text[i]) is not None

    found, start = [], 0
    while start < len(text):
        end = start + 1
        if is_a("WORD", start):
            while is_a("WORD", end) or end < len(text) and text[end] in JOINERS and is_a("WORD", end + 1):
                end += 1
        elif is_a("GLYPH", start):
            while is_a("GLYPH", end):
                end += 1
        found.append(text[start:end])
        start = end
    return found


def slow_reading_units(text):
    """Each segment takes the one space before it; what is left of a run of spaces is a unit."""
    found, spaces = [], 0
    for segment in segments(text):
        if segment == " ":
            spaces += 1
        else:
            found += [" " * (spaces - 1)] * (spaces > 1) + [" " * (spaces > 0) + segment]
            spaces = 0
    return found + [" " * spaces] * (spaces > 0)


# ---- laws for every string


@laws
@given(any_text)
def test_segments_joined_are_the_text(text):
    assert "".join(segments(text)) == text


@laws
@given(any_text)
def test_reversing_twice_restores_the_text(text):
    assert reverse(reverse(text)) == text


@laws
@given(any_text)
def test_reversed_text_is_cut_at_the_same_places(text):
    assert segments(reverse(text)) == segments(text)[::-1]


@laws
@given(any_text)
def test_units_joined_are_the_reversed_text(text):
    assert "".join(units(text)) == reverse(text)


@fewer
@given(any_text)
def test_reading_units_joined_are_the_text(text):
    assert "".join(reading_units(text)) == text


@laws
@given(any_text)
def test_units_mirrored_back_are_the_reading_units(text):
    back = [" " + unit[:-1] if unit[-1] == " " else unit for unit in reversed(units(text))]
    assert back == reading_units(text)


@laws
@given(any_text)
def test_segments_are_those_of_the_rules_told_slowly(text):
    assert segments(text) == slow_segments(text)


@laws
@given(any_text)
def test_units_are_segments_with_the_space_before_them(text):
    assert reading_units(text) == slow_reading_units(text)


@laws
@given(basic_text)
def test_the_fast_patterns_cut_the_basic_plane_as_the_wide_ones_do(text):
    for fast, wide in zip(reverse_module._patterns(False), reverse_module._patterns(True)):
        assert fast.findall(text) == wide.findall(text)


@fewer
@given(any_text, any_text)
def test_what_stands_behind_a_line_break_does_not_change_the_segments_before_it(before, after):
    assert segments(before + "\n" + after) == segments(before) + ["\n"] + segments(after)


@pytest.mark.parametrize("name", TEXTS)
def test_real_text_keeps_both_laws(name):
    text = TEXTS[name]
    assert "".join(segments(text)) == text and reverse(reverse(text)) == text and "".join(units(text)) == reverse(text)


# ---- what reversed text looks like


@pytest.mark.parametrize("text, expected", [
    ("This is a test.", ".test a is This"),
    ("butterfly in the sky.", ".sky the in butterfly"),
    ("Hello, world.\n\nIt's 3.14!", "!3.14 It's\n\n.world ,Hello"),
    ("Twitter, Instagram, Telegram", "Telegram ,Instagram ,Twitter"),
    ("", ""),
    ("   ", "   "),
    ("a  b", "b  a"),
    ("„Grüß Gott“, sagte er.", ".er sagte ,“Gott Grüß„"),
    ("L’été n’est pas fini.", ".fini pas n’est L’été"),
    ("我們回家吧。", "。吧家回們我"),
    ("می‌خواهم بروم", "بروم می‌خواهم"),
    ("Hi 👨‍👩‍👧 there", "there 👨‍👩‍👧 Hi"),
])
def test_examples(text, expected):
    assert reverse(text) == expected


@pytest.mark.parametrize("word", [
    "don't", "l’homme", "well-known", "mother-in-law", "3.14", "1,000,000.00", "example.com", "O'Neill", "snake_case",
    "x²", "2021-05-06", "می‌خواهم", "क्‍ष", "शान्ति", "வீட்டிற்குப்",
    "שָׁלוֹם", "e\u0301te\u0301", "Z\u0351\u032b", "각", "ก็ดี", "𝔊𝔬𝔱𝔥", "Ⅻ",
])
def test_a_word_stays_whole(word):
    assert segments(f"({word} {word})") == ["(", word, " ", word, ")"]


@fewer
@given(st.lists(st.text(word_characters, min_size=1, max_size=3), min_size=2, max_size=5), st.sampled_from(JOINERS))
def test_one_joiner_between_word_characters_belongs_to_the_word(words, joiner):
    assert segments(joiner.join(words)) == [joiner.join(words)]


@fewer
@given(st.text(word_characters, min_size=1, max_size=3), st.text(word_characters, min_size=1, max_size=3),
       st.sampled_from(".,'’-"), st.sampled_from(".,'’-"))
def test_two_joiners_in_a_row_join_nothing(left, right, first, second):
    assert segments(left + first + second + right) == [left, first, second, right]


@pytest.mark.parametrize("joiner", ".,'’-")
def test_a_joiner_at_the_edge_of_a_word_stands_alone(joiner):
    assert segments(f"{joiner}word{joiner} {joiner}") == [joiner, "word", joiner, " ", joiner]


def test_each_han_hiragana_and_katakana_character_stands_alone():
    names = re.compile("CJK (UNIFIED|COMPATIBILITY) IDEOGRAPH|HIRAGANA LETTER|(HALFWIDTH )?KATAKANA LETTER")
    found = [char for char in EVERY_CHARACTER if names.match(unicodedata.name(char, ""))]
    assert len(found) > 90_000 and segments("".join(found)) == found


def test_a_latin_word_or_a_number_between_ideographs_stays_whole():
    assert segments("用iPhone15拍了3.5张") == ["用", "iPhone15", "拍", "了", "3.5", "张"]


@pytest.mark.parametrize("glyph", ["👨‍👩‍👧‍👦", "👋🏽", "🇩🇪", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "🏳️‍🌈", "❤️‍🔥", "☕︎", "™️", "㊗️", "🫨"])
def test_what_draws_one_glyph_stays_whole(glyph):
    assert segments(f"a {glyph}, 中{glyph}.") == ["a", " ", glyph, ",", " ", "中", glyph, "."]


@fewer
@given(st.text(glyph_characters, min_size=1, max_size=6))
def test_any_run_of_glyph_characters_is_one_segment(glyphs):
    assert segments(glyphs) == [glyphs]


def test_every_other_character_is_a_segment_of_its_own():
    others = CLASSES["GLYPH"].sub("", CLASSES["WORD"].sub("", EVERY_CHARACTER))
    assert segments(others) == list(others)


@pytest.mark.parametrize("name", LANGUAGES)
def test_no_mark_is_parted_from_its_letter_in_the_languages_here(name):
    starts = [segment[0] for segment in segments(unicodedata.normalize("NFC", LANGUAGES[name]))]
    assert not [char for char in starts if unicodedata.category(char)[0] == "M"]


@pytest.mark.parametrize("unit, as_trained", [
    (" word", "word "), ("word", "word"), (" ", " "), ("   ", "   "), (" \n", "\n ")])
def test_a_unit_mirrored_has_its_space_behind_it(unit, as_trained):
    assert mirror(unit) == as_trained


def test_no_word_joiner_is_a_word_character():
    assert not CLASSES["WORD"].findall(JOINERS)


def test_the_examples_in_the_docstrings_hold():
    outcome = doctest.testmod(reverse_module)
    assert outcome.attempted >= 5 and not outcome.failed


@laws
@given(any_text)
def test_one_pattern_cuts_reversed_text_into_its_units(text):
    assert re.findall(unit_pattern(backward=True), reverse(text)) == units(text)


@fewer
@given(any_text.filter(lambda text: "\u2581" not in text))
def test_it_does_so_where_another_sign_stands_for_the_space(text):
    pattern = unit_pattern(backward=True, space="\u2581")
    assert re.findall(pattern, reverse(text).replace(" ", "\u2581")) == [u.replace(" ", "\u2581") for u in units(text)]
    forward = unit_pattern(backward=False, space="\u2581")
    assert re.findall(forward, text.replace(" ", "\u2581")) == [u.replace(" ", "\u2581") for u in reading_units(text)]
