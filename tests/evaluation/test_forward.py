"""Models that write forward: what they find an instruction worth, and the round trip that a judge makes of it."""

import numpy as np
import pytest

import checkpoint
from evaluation.forward import Forward
from evaluation.retrieval import forward, questions
from evaluation.round_trip import round_trip
from tests.support.pairs import PAIRS, TOKENIZERS
from tests.support.tiny import tiny_model
from tests.support.weighing import slowly
from tokenizer import EOS_ID, MARKER_IDS

TOKENIZER, BLOCK = TOKENIZERS["forward"], 64


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A Forward of either kind, neither of which has learned anything, and the GPT that both are."""
    folder, model = tmp_path_factory.mktemp("forward"), tiny_model(8, block_size=BLOCK)
    found = {}
    for kind in ("base", "instruct"):
        checkpoint.save(folder / f"{kind}.pt", model, TOKENIZER, {}, {}, kind=kind)
        found[kind] = Forward(folder / f"{kind}.pt", "--judge", kind, "cpu", "float32")
    return found, model


def test_a_base_model_reads_a_pair_as_one_text_and_a_judge_by_its_template(models):
    instruction, response = "Where is the cat?", "In the barn."
    [(prompt, ids)] = models[0]["base"].pairs(response, [instruction])
    assert [*prompt, *ids] == TOKENIZER.encode_document(f"{instruction}\n{response}")
    [(prompt, ids)] = models[0]["instruct"].pairs(response, [instruction])
    assert prompt[2] == MARKER_IDS["<|instruction|>"] and prompt[-1] == MARKER_IDS["<|response|>"]
    assert TOKENIZER.to_text(prompt) == instruction and TOKENIZER.to_text(ids) == response and ids[-1] == EOS_ID


@pytest.mark.parametrize("kind", ["base", "instruct"])
def test_the_response_is_the_same_for_all_candidates_and_everything_fits_the_block(models, kind):
    for response in ("It sleeps.", "The cat is sleeping in the barn. " * 20):
        for instructions in (["Why?", "What is the cat doing?"], ["Why?", "Tell me all about the cat. " * 30]):
            found = models[0][kind].pairs(response, instructions)
            assert len({tuple(ids) for _, ids in found}) == 1
            assert all(len(prompt) + len(ids) - 1 <= BLOCK for prompt, ids in found)
            assert response.startswith(TOKENIZER.to_text(found[0][1]))
            assert all(text.endswith(TOKENIZER.to_text(prompt).strip("\n")) for text, (prompt, _) in
                       zip(instructions, found))


def test_what_an_instruction_is_worth_is_what_a_slow_loop_finds(models):
    (found, model), asked = models, questions(PAIRS, 4)[:3]
    worth = forward(found["base"], asked)
    for row, question in enumerate(asked):
        for column, pair in enumerate(found["base"].pairs(*question)):
            assert worth[row, column] == pytest.approx(slowly(model, *pair), abs=2e-3)


def test_a_round_trip_over_the_true_instructions_is_as_good_as_the_truth(models):
    pairs = [(response, instruction, None) for response, instruction in PAIRS]
    found = round_trip(models[0]["instruct"], pairs, [instruction for _, instruction in PAIRS], seed=1)
    assert found["written"] == found["true"] and found["better_than_true"]["value"] == 0
    assert found["pairs"] == len(PAIRS) and found["random"]["value"] != found["true"]["value"]


def test_a_round_trip_counts_what_leads_to_the_response_better_and_leaves_out_what_was_not_written():
    class Judge:
        """Finds a response likelier the longer the instruction; each has two tokens."""
        def scores(self, questions):
            return [[(float(len(text)) - 100, 2) for text in texts] for _, texts in questions]

    pairs = [("a", "12345", None), ("b", "12345", None), ("c", "12345", None), ("d", "12345", None)]
    found = round_trip(Judge(), pairs, ["1234567", "123", "", "12345"], seed=1)
    assert found["pairs"] == 3 and found["better_than_true"]["value"] == pytest.approx(1 / 3)
    nats = np.array([93, 97, 95])
    assert found["written"]["value"] == pytest.approx(nats.sum() / np.log(2) / 6)
    assert round_trip(Judge(), pairs, ["", "1", " ", ""], seed=1) is None


def test_a_backward_model_is_no_forward_one(tmp_path):
    checkpoint.save(tmp_path / "b.pt", tiny_model(), TOKENIZERS["reverse"], {}, {})
    with pytest.raises(ValueError, match="--forward .*b.pt is a backward model(.|\n)*--direction forward"):
        Forward(tmp_path / "b.pt", "--forward", None, "cpu", "float32")
