"""
Which of several instructions that the model writes is the best one to take, and how like the true one it is.
"""

import numpy as np

from backchat.candidates import weigh
from backchat.template import encode_response, writing_room
from backchat.writing import TOKENS, Instructions
from corpus.tales.kinds import kind_of
from sampling.controls import Controls
from sampling.decoding import decoder_of

WORTH = {"per_token": lambda score: score.mean_log_prob, "pmi": lambda score: score.pmi,
         "raw": lambda score: score.log_prob}
ORDERS = ("first", *WORTH)  # "first" takes the first that was drawn


def written(model, tokenizer, responses, controls, advance=lambda n: None):
    """What the model writes for each response, drawn as sample_xcoax_instruct.py draws it for a file, and scored as
    there: for each the texts in the order in which they were drawn, and a Score by text.

    Texts without words, or too long to be scored, have no Score.
    """
    model = decoder_of(model)
    room = writing_room(model.config.block_size, controls.tokens)
    prompts = {number: encode_response(tokenizer, text, room)[0] for number, text in enumerate(responses)}
    drawn = Instructions(model, tokenizer, controls).draw(prompts, advance)  # in an order of its own
    drawn = [drawn[number] for number in prompts]
    weighed = weigh(model, tokenizer, prompts.values(), drawn)
    return [([tokenizer.to_text(row).strip() for row in rows],
             {candidate.instruction: candidate.score for candidate in candidates})
            for rows, candidates in zip(drawn, weighed, strict=True)]


def taken(found, order, n):
    """The text that an order takes of the first n of what written() gives for one response."""
    texts, scores = found
    if order == "first":
        return texts[0]
    return max((text for text in texts[:n] if text in scores), key=lambda text: WORTH[order](scores[text]), default="")


def controls_of(n, temperature, seed):
    """How instructions are drawn."""
    return Controls(temperature, seed=seed, tokens=TOKENS, num_samples=n)


def likenesses():
    """Functions, by name, that say how like the true instruction another is, from 0 to 100.

    ROUGE-L weighs what is missing and what is too much alike, in words of English; chrF knows every script, but counts
    what is missing four times as much, so that longer texts fare better.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer  # they take a second to load
        from sacrebleu.metrics import CHRF
    except ImportError as error:
        raise ValueError(f"{error.name} is not installed. Install what the project needs:\n"
                         "    .venv/bin/python -m pip install -r requirements.txt") from None
    rouge, chrf = RougeScorer(["rougeL"]), CHRF()
    return {"ROUGE-L": lambda text, true: 100 * rouge.score(true, text)["rougeL"].fmeasure,
            "chrF": lambda text, true: chrf.sentence_score(text, [true]).score}


def same_kind(text, true):
    """100 where both ask the same kind of question of the tales, else 0."""
    return 100.0 * (kind_of(text) == kind_of(true))


def likeness(found, true, measures, n):
    """{order: {measure: array, a number for each response}} for what written() gives, by the first n of it."""
    texts = {order: [taken(one, order, n) for one in found] for order in ORDERS}
    return {order: {name: np.array([measure(text, other) for text, other in zip(texts[order], true)])
                    for name, measure in measures.items()} for order in ORDERS}
