"""What a candidate is worth: PMI is what the response adds, equal candidates count as one, the best stands first."""

import math

import pytest

from backchat import candidates
from backchat.candidates import Score, fits, scores, weigh
from backchat.template import encode_instruction, encode_response
from tests.support.weighing import PAIRS, TOKENIZER, blind, slowly, tiny


def test_pmi_is_the_gain_over_an_empty_response():
    model = tiny()
    pairs = [(encode_response(TOKENIZER, response)[0], text) for response, text in PAIRS[:10]]
    empty, _ = encode_response(TOKENIZER, "")
    for (prompt, text), score in zip(pairs, scores(model, TOKENIZER, pairs)):
        ids = encode_instruction(TOKENIZER, text)
        assert score.tokens == len(ids)
        assert score.pmi == pytest.approx(slowly(model, prompt, ids) - slowly(model, empty, ids), abs=1e-3)
        assert score.mean_log_prob * len(ids) == pytest.approx(slowly(model, prompt, ids), abs=1e-3)
    [alone] = scores(model, TOKENIZER, [(empty, PAIRS[0][1])])
    assert alone.pmi == pytest.approx(0, abs=1e-4)


def test_where_the_response_cannot_matter_every_pmi_is_zero():
    pairs = [(encode_response(TOKENIZER, response)[0], text) for response, text in PAIRS]
    assert all(abs(score.pmi) < 1e-4 for score in scores(blind(), TOKENIZER, pairs))


def test_candidates_are_merged_sorted_by_log_p_per_token_and_those_of_no_words_or_too_long_left_out():
    model, (prompt, _) = tiny(), encode_response(TOKENIZER, "The cat is sleeping.")
    a, b, c = (TOKENIZER.encode_text(text) for text in ("What is it?", "Who sleeps?", "Why?"))
    [found] = weigh(model, TOKENIZER, [prompt], [[a, b, a, [], c, TOKENIZER.encode_text("  "), a, b * 20]])
    assert sorted((candidate.instruction, candidate.count) for candidate in found) == [
        ("What is it?", 3), ("Who sleeps?", 1), ("Why?", 1)]
    assert [x.score.mean_log_prob for x in found] == sorted((x.score.mean_log_prob for x in found), reverse=True)
    [score] = scores(model, TOKENIZER, [(prompt, found[0].instruction)])
    assert found[0].score.pmi == pytest.approx(score.pmi, abs=1e-3)
    assert not fits(model, TOKENIZER, prompt, "Who sleeps?" * 20)


def test_a_long_candidate_that_the_response_makes_much_likelier_does_not_win_by_its_length(monkeypatch):
    """Of what a model writes, PMI prefers long garbled texts: each of their unlikely tokens adds to it."""
    found = {"What is it?": Score(-1.0, -4.0, 4), "Who it what is?": Score(-9.0, -30.0, 6)}
    monkeypatch.setattr(candidates, "scores", lambda model, tokenizer, pairs: [found[text] for _, text in pairs])
    prompt, _ = encode_response(TOKENIZER, "The cat is sleeping.")
    [[first, second]] = weigh(tiny(), TOKENIZER, [prompt], [[TOKENIZER.encode_text(text) for text in found]])
    assert (first.instruction, second.instruction) == tuple(found) and second.score.pmi > first.score.pmi


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_finite_number_stands_last(monkeypatch, bad):
    found = {"What is it?": Score(bad, -4.0, 4), "Why?": Score(-1.0, bad, 4), "Who?": Score(-9.0, -30.0, 6)}
    monkeypatch.setattr(candidates, "scores", lambda model, tokenizer, pairs: [found[text] for _, text in pairs])
    prompt, _ = encode_response(TOKENIZER, "The cat is sleeping.")
    [[first, *rest]] = weigh(tiny(), TOKENIZER, [prompt], [[TOKENIZER.encode_text(text) for text in found]])
    assert first.instruction == "Who?" and first.score.finite and not any(x.score.finite for x in rest)
