"""Where an ending gets a space before it: where running text has one, and wherever words would fuse without it."""

import pytest
from hypothesis import given

from characters.seams import space_before
from corpus.languages import LANGUAGES
from reverse import segments
from tests.support.texts import any_text, fewer
from tests.support.tokenizers import BACKWARD

AFTER_A_SPACE = [
    "the end.", "3.14", "25個", "'tis done", "’tis done", "don't", "well-known", "_x_", "-5 degrees", ".5 miles",
    "мой зонт?", "ὁδός", "القارب", "שלום", "नाव", "배는", "ወደ ቤት", "é", "e\u0301", "½", "👋🏽 bye", "©",
    "กลับบ้าน", "ລາວ", "ខ្មែរ", "မြန်မာ",
    "(as always)", "[sic]", "{x}", "(…)", '"Yes," he said.', "'Yes,' he said.", "“Yes,” he said.", "‘Yes,’",
    "„Wo bleibt er?“", "«Кто взял?»", "« Je pars », dit-elle.", "«\u00a0Je pars\u00a0»", "»Wo ist er?«", "”Hej”",
    '("Yes")', '"(No)"', "“…and so”", "¿Quién?", "¡No!", '"¿Quién?"', "$4.50", "€3", "#tag", "@home", "– she said."]
WITHOUT = [
    "", " x", "\n\nx", "\tx", "\u3000x", "  ", ", too.", ".", ". The end.", "; but", ": no", "!", "?!", "…", "%", "/",
    ") said he.", "] x", '" asked Miss Rossi.', "' asked Miss Rossi.", "” asked Miss Rossi.", "’ asked she.",
    "“, fragte er.", "“ fragte er.", "» спросил он.", '"', '",', "—and then", "-", "- x", "。", "، ثم", "؟",
    "船在哪里？", "ラーメン", "か", "ー", "々", "𠀀", "“船在哪里？”", "(船)", '"船"', "「船」", "『船』",
    "（船）", "（as）", "《船》", "\u2581", "\0", "\ud800", "\u200b"]


@pytest.mark.parametrize("ending", AFTER_A_SPACE)
def test_a_space_is_put_before_words_of_scripts_that_have_spaces_and_before_opening_marks(ending):
    assert space_before(ending)


@pytest.mark.parametrize("ending", WITHOUT)
def test_none_is_put_before_white_space_closing_marks_han_and_kana(ending):
    assert not space_before(ending)


@pytest.mark.parametrize("language", LANGUAGES)
def test_running_text_has_a_space_where_the_rule_puts_one(language):
    found = segments(LANGUAGES[language])
    cuts = [i for i in range(1, len(found)) if not found[i].isspace() and found[i - 1] not in '\n("“‘„«¿¡']
    right = sum(space_before("".join(found[i:])) == found[i - 1].isspace() for i in cuts)
    assert right >= len(cuts) * 0.87


@fewer
@given(any_text, any_text)
def test_no_word_is_fused_or_split_where_what_was_written_meets_the_ending(written, ending):
    text = BACKWARD.to_text(BACKWARD.encode_ending(ending) + BACKWARD.encode_text(written))
    assert text == written + " " * space_before(ending) + ending
