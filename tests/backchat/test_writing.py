"""What is added to a record: the best instruction of several, the same in any company, or why there is none."""

import copy
import re

import pytest
import torch

from backchat import records
from backchat.pairs_file import write_pairs
from backchat.template import encode_response
from backchat.writing import Instructions, Scores
from sampling.controls import Controls
from tests.support.pairs import CONTROLS, MARKED, PAIRS, TOKENIZER, convert, read_lines
from tests.support.tiny import tiny_model, write_lines
from tokenizer import MARKER_IDS

MESSAGES = [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "The cat is sleeping."}]


def test_a_record_without_a_response_to_work_on_says_why(unbroken):
    found = read_lines(unbroken[1])
    for number, why in ((3, "the response is empty"),
                        (11, r"the response has [\d,]+ tokens, the model has room for 68"),
                        (12, "expected a field output, .*; found id, words"), (20, "'output' holds int, not text")):
        assert not {"instruction", "pmi"} & set(found[number])
        assert re.search(why, found[number]["error"])


def test_what_a_record_gets_does_not_depend_on_those_beside_it(model, tmp_path, unbroken):
    found = read_lines(unbroken[1])
    for batch_size in (1, 7, 1000):
        target = tmp_path / f"{batch_size}.jsonl"
        convert(model, unbroken[0], target, batch_size=batch_size)
        for line, expected in zip(read_lines(target), found, strict=True):
            assert line.get("instruction") == expected.get("instruction")
            assert line.get("pmi", 0) == pytest.approx(expected.get("pmi", 0), abs=2e-3)


def test_the_seed_decides_and_samples_of_one_record_differ(model, tmp_path, unbroken):
    convert(model, unbroken[0], tmp_path / "2.jsonl", Controls(tokens=20, seed=2, num_samples=3))
    assert (tmp_path / "2.jsonl").read_bytes() != unbroken[1].read_bytes()
    work = Instructions(model, TOKENIZER, Controls(tokens=20, seed=1, num_samples=8, temperature=2))
    rows = work.draw({0: encode_response(TOKENIZER, "The cat")[0]})[0]
    assert len(set(map(tuple, rows))) > 4


def test_the_best_of_several_has_the_highest_log_p_per_token(model, tmp_path):
    model = copy.deepcopy(model)
    with torch.no_grad():
        for block in model.blocks:
            block.attention.proj.weight.mul_(8)  # so that the response matters
    source = write_lines(tmp_path / "in.jsonl", [{"output": a} for a, _ in PAIRS])
    mean = []
    for n in (1, 8):
        convert(model, source, tmp_path / f"{n}.jsonl", Controls(tokens=20, seed=1, num_samples=n))
        found = read_lines(tmp_path / f"{n}.jsonl")
        mean.append(sum(line["mean_log_prob"] for line in found) / len(found))
    assert mean[1] > mean[0] + 0.1


@pytest.mark.parametrize("record, field, found", [
    ({"text": "The cat is sleeping."}, None, "text"), ({"response": "The cat is sleeping."}, None, "response"),
    ({"completion": "The cat is sleeping."}, None, "completion"), ({"messages": MESSAGES}, None, "messages"),
    ({"body": "The cat is sleeping.", "output": "x"}, "body", "body")])
def test_the_response_is_found_in_any_known_field_and_the_line_written_is_a_pair(model, tmp_path, record, field, found):
    work = Instructions(model, TOKENIZER, CONTROLS, field)
    write_pairs(work, write_lines(tmp_path / "in.jsonl", [record]), tmp_path / "out.jsonl", {}, progress=False)
    assert work.fields == {found: 1}
    [line] = read_lines(tmp_path / "out.jsonl")
    if found != "body":  # there the name `output` was taken
        assert records.pair(line) == (line["instruction"], "", "The cat is sleeping.")


def test_scores_of_given_pairs_are_those_that_writing_gave(model, tmp_path, unbroken):
    pairs = [{"instruction": line.get("instruction"), **{k: v for k, v in line.items() if k in ("id", "output")}}
             for line in read_lines(unbroken[1])]
    target = tmp_path / "scored.jsonl"
    source = write_lines(tmp_path / "p.jsonl", pairs)
    assert write_pairs(Scores(model, TOKENIZER), source, target, {}, progress=False)[:2] == (30, 4)
    for scored, written in zip(read_lines(target), read_lines(unbroken[1])):
        assert ("error" in scored) == ("error" in written)
        for name in ("mean_log_prob", "pmi"):
            assert scored.get(name, 0) == pytest.approx(written.get(name, 0), abs=2e-3)


def test_marker_text_in_a_response_cannot_end_its_turn(unbroken):
    ids, _ = encode_response(TOKENIZER, MARKED)
    markers = [i for i in ids if i in MARKER_IDS.values()]
    empty, _ = encode_response(TOKENIZER, "")
    assert markers == [i for i in empty if i != TOKENIZER.bos_id] and TOKENIZER.to_text(ids) == MARKED
    assert "instruction" in read_lines(unbroken[1])[21]


@pytest.mark.parametrize("marker", ["<|im_start|>", "<|im_end|>", "<|response|>", "<|endoftext|>"])
def test_every_special_id_ends_the_instruction(marker):
    model = tiny_model(n_layer=1, n_embd=16)
    wanted = {**MARKER_IDS, "<|endoftext|>": TOKENIZER.eos_id}[marker]
    first = TOKENIZER.encode_text("What")[0]
    prompt, _ = encode_response(TOKENIZER, "The cat")
    with torch.no_grad():  # after the prompt the model writes `first`, after it the special id
        for block in model.blocks:
            block.attention.proj.weight.zero_(), block.mlp.proj.weight.zero_()
        model.wte.weight.zero_()
        model.wte.weight[prompt[-1], 0], model.wte.weight[first, 0], model.wte.weight[first, 1] = 1, 2, 1
        model.wte.weight[wanted, 0], model.wte.weight[wanted, 1] = 1.5, 9
    work = Instructions(model, TOKENIZER, Controls(tokens=10, seed=1, temperature=0))
    assert work.draw({0: prompt}) == {0: [[first]]}


def test_from_python_records_get_what_a_file_of_them_gets(model, tmp_path):
    found = [{"text": "The cat is sleeping."}, {"text": ""}, {"output": "The dog is in the garden."}]
    convert(model, write_lines(tmp_path / "in.jsonl", found), tmp_path / "out.jsonl")
    added = Instructions(model, TOKENIZER, CONTROLS).each(found)
    assert [{**record, **more} for record, more in zip(found, added)] == read_lines(tmp_path / "out.jsonl")
    pairs = [{"instruction": "What?", "output": "The cat."}, {"instruction": "", "output": "x"}]
    assert [set(scored) for scored in Scores(model, TOKENIZER).each(pairs)] == [{"mean_log_prob", "pmi"}, {"error"}]
