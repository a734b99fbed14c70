"""What learning a tokenizer promises: pieces within units, as many as asked for, the same bytes, nothing dropped."""

import re

import pytest

from corpus.languages import LANGUAGES
from reverse import reading_units, units
from tests.support.tokenizers import BACKWARD, CORPUS, MODELS, VOCAB, WARM, as_trained, learned_pieces
from tokenizer import DIRECTIONS, LARGEST_VOCAB, SMALLEST_VOCAB, Tokenizer, learning, train_tokenizer

both_directions = pytest.mark.parametrize("direction", DIRECTIONS)


def as_read(piece):
    """A piece of a backward model with its space before it."""
    return " " + piece[:-1] if len(piece) > 1 and piece[-1] == " " else piece


@both_directions
@pytest.mark.parametrize("vocab_size", [1200, VOCAB])
def test_there_are_exactly_as_many_pieces_as_asked_for(direction, vocab_size):
    assert Tokenizer(train_tokenizer(CORPUS, vocab_size, direction)).vocab_size == vocab_size


def test_white_space_is_a_suffix_in_reverse_and_a_prefix_in_forward():
    word = re.compile(r"\w{2,}")
    backward, forward = (set(learned_pieces(WARM[direction])) for direction in DIRECTIONS)
    assert [p for p in backward if p.endswith(" ") and word.match(p)]
    assert not [p for p in backward if re.match(r" \S", p)]
    assert [p for p in forward if p.startswith(" ") and word.search(p)]
    assert not [p for p in forward if re.search(r"\S $", p)]


@both_directions
def test_every_learned_piece_lies_within_one_unit_of_some_text(direction):
    within = "\0".join(unit for text in CORPUS for unit in as_trained(text, direction))
    assert not [piece for piece in learned_pieces(WARM[direction]) if piece not in within]


def test_pairs_that_always_stand_together_are_not_joined_across_units():
    model = Tokenizer(train_tokenizer(["(yes), no! 中文 (yes), no! 中文" * 20], 284))
    assert all(len(reading_units(as_read(piece))) == 1 for piece in learned_pieces(model))


def test_digits_are_learned_one_by_one():
    assert not [piece for piece in learned_pieces(BACKWARD) if re.search("[0-9]{2}", piece)]


@both_directions
def test_the_same_texts_give_the_same_bytes(direction):
    assert train_tokenizer(iter(CORPUS), VOCAB, direction) == MODELS[direction]


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
    sentences = list(learning._sentences([line], "reverse"))
    assert [unit for sentence in sentences for unit in sentence.split(learning._DELIMITER)] == units(line)
    assert max(len(sentence.encode()) for sentence in sentences) <= learning._SENTENCE_BYTES


@pytest.mark.parametrize("mark", ["\x1f", "\0", "\u2581", "\ud800"])
@both_directions
def test_what_the_trainer_must_not_see_parts_words_and_drops_none(mark, direction):
    text = f"zug{mark}zwang kept{mark} {mark}whole"
    sentences = list(learning._sentences([text], direction))
    found = [unit.strip() for sentence in sentences for unit in sentence.split(learning._DELIMITER)]
    assert sorted(filter(None, found)) == ["kept", "whole", "zug", "zwang"]
    assert not any("zug" in sentence and "zwang" in sentence for sentence in sentences)


TOO_SMALL = [[LANGUAGES["english"]], [LANGUAGES["chinese"]], ["中文"], CORPUS]


@both_directions
@pytest.mark.parametrize("corpus", [*TOO_SMALL, ["aaaa"]],
                         ids=["english", "chinese", "two characters", "all", "one word"])
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
