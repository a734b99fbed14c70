"""Choosing among written instructions: each response is answered by its own samples, and texts are alike or not."""

import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import CHRF

from backchat.candidates import Score
from evaluation import selection
from tests.support.pairs import PAIRS, TOKENIZER, learned_model

CONTROLS = selection.controls_of(8, 1.0, seed=1)


def test_of_the_samples_of_each_response_every_order_takes_its_own_and_no_bar_reaches_a_pipe(capfd):
    responses = [a * n for n in (3, 1, 2) for a, _ in PAIRS[:4]]  # drawn in another order than they stand
    found = selection.written(learned_model(), TOKENIZER, responses, CONTROLS)
    [alone] = selection.written(learned_model(), TOKENIZER, responses[:1], CONTROLS)
    assert alone[0] == found[0][0] and len({tuple(texts) for texts, _ in found}) > 6
    for texts, scores in found:
        assert selection.taken((texts, scores), "first", 8) == texts[0]
        for n in (1, 4, 8):
            for order, worth in selection.WORTH.items():
                best = selection.taken((texts, scores), order, n)
                assert best in texts[:n]
                assert all(worth(scores[best]) >= worth(scores[text]) for text in texts[:n] if text in scores)
    assert capfd.readouterr() == ("", "")


def test_the_orders_take_what_they_say():
    scores = {"short": Score(-2.0, -2.5, 1), "long": Score(-6.0, -20.0, 6)}
    found = ["none", "short", "long"], scores
    assert [selection.taken(found, order, 3) for order in ("first", "raw", "per_token", "pmi")] == [
        "none", "short", "long", "long"]
    assert selection.taken((["", " "], {}), "pmi", 2) == ""


def test_a_text_is_like_itself_and_less_like_others():
    for likeness in selection.likenesses().values():
        assert likeness("What is it?", "What is it?") == pytest.approx(100)
        near, far = likeness("What is the cat doing?", "What is the dog doing?"), likeness("Add.", "What is it doing?")
        assert 100 > near > far
    assert selection.likenesses()["chrF"]("船在哪里？", "船在哪里？") == 100


def test_the_likenesses_are_those_of_the_libraries_and_rouge_l_is_what_a_hand_finds():
    text, true = "where is the cat", "where was the big cat"  # three words in a row of four and of five
    found = {name: likeness(text, true) for name, likeness in selection.likenesses().items()}
    precision, recall = 3 / 4, 3 / 5
    assert found["ROUGE-L"] == pytest.approx(100 * 2 * precision * recall / (precision + recall))
    assert found["ROUGE-L"] == 100 * RougeScorer(["rougeL"]).score(true, text)["rougeL"].fmeasure
    assert found["chrF"] == CHRF().sentence_score(text, [true]).score


def test_the_right_kind_of_question_is_told_by_the_first_line():
    assert selection.same_kind("What is the cat doing?", "What is the dog doing?\nSay it briefly.") == 100
    assert selection.same_kind("Why is the cat sad?", "What is the dog doing?") == 0
