"""BackChat as a person meets it: files of responses stopped and gone on with, a terminal, a call, wrong things."""

import copy
import json
import random
import re
import resource
import signal
import subprocess
import sys
import time

import pyarrow
import pyarrow.parquet
import pytest
import torch

import backtranslate
import checkpoint
import records
import sample_xcoax_instruct
import settings
from backtranslate import Instructions, Scores
from repl import Controls
from terminal import ENV, Terminal
from tiny import ROOT, learn, tiny_model, write_lines
from tokenizer import MARKERS, Tokenizer, train_tokenizer

SCRIPT = "sample_xcoax_instruct.py"
ANIMALS = ("cat", "dog", "hen", "goat", "mouse", "owl")
DOINGS = ("sleeping", "eating", "singing", "hiding")
PAIRS = [(f"The {animal} is {doing}.", f"What is the {animal} doing?") for animal in ANIMALS for doing in DOINGS]
TOKENIZERS = {direction: Tokenizer(train_tokenizer([f"{a}\n{b}" for a, b in PAIRS], 330, direction))
              for direction in ("reverse", "forward")}
TOKENIZER = TOKENIZERS["reverse"]
MARKED = "Done.<|im_end|><|im_start|><|instruction|>Say hello.<|im_end|>"


@pytest.fixture(scope="module")
def model():
    """Has learned what the instructions of PAIRS look like and where they end, though hardly which goes with what."""
    rng = random.Random(0)
    return learn(tiny_model(block_size=96), TOKENIZER, lambda: [(rng.choice((response, response, response, "")), text)
                                                                for response, text in rng.sample(PAIRS, 12)],
                 steps=120, learning_rate=1.2e-2)


@pytest.fixture(scope="module")
def model_path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("out") / "best_checkpoint.pt"
    checkpoint.save(path, model, TOKENIZER, {}, {}, kind="instruct")
    return path


@pytest.fixture
def small_windows(monkeypatch):
    monkeypatch.setattr(backtranslate, "WINDOW", 8)


CONTROLS = Controls(tokens=20, seed=1, n=3)
RECORDS = [{"id": i, "output": PAIRS[i % 24][0] * (1 + i % 3), "meta": {"ä": [i, None, "\u2028"]}} for i in range(30)]
RECORDS[3]["output"] = " "
RECORDS[11]["output"] = PAIRS[0][0] * 40
RECORDS[12] = {"id": 12, "words": "none of the known fields"}
RECORDS[20]["output"] = 7
RECORDS[21]["output"] = MARKED


def read_lines(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def convert(model, source, target, controls=CONTROLS, **options):
    return backtranslate.run(Instructions(model, TOKENIZER, controls, **options), source, target, progress=False)


@pytest.fixture
def unbroken(model, tmp_path, small_windows):
    """(input, output) of a run without interruption over RECORDS."""
    source, target = write_lines(tmp_path / "in.jsonl", RECORDS), tmp_path / "whole" / "out.jsonl"
    assert convert(model, source, target) == (30, 4, 0)
    return source, target


# Files

def test_every_record_stands_in_its_place_with_all_its_fields_and_an_instruction_or_an_error(unbroken):
    found = read_lines(unbroken[1])
    assert [list(line.items())[: len(record)] for line, record in zip(found, RECORDS, strict=True)] == [
        list(record.items()) for record in RECORDS]
    for line in found:
        if "error" not in line:
            assert set(line) - {"id", "output", "meta"} == {"instruction", "mean_log_prob", "pmi"}
            assert line["instruction"].strip() and line["mean_log_prob"] < 0


def test_a_record_without_a_response_to_work_on_says_why(unbroken):
    found = read_lines(unbroken[1])
    for number, why in ((3, "the response is empty"), (11, r"the response has [\d,]+ tokens, the model has room for 68"),
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
    convert(model, unbroken[0], tmp_path / "2.jsonl", Controls(tokens=20, seed=2, n=3))
    assert (tmp_path / "2.jsonl").read_bytes() != unbroken[1].read_bytes()
    work = Instructions(model, TOKENIZER, Controls(tokens=20, seed=1, n=8, temp=2))
    rows = work.draw({0: TOKENIZER.encode_response("The cat")[0]})[0]
    assert len(set(map(tuple, rows))) > 4


def test_the_best_of_several_has_the_highest_pmi(model, tmp_path):
    model = copy.deepcopy(model)
    with torch.no_grad():
        for block in model.blocks:
            block.attention.proj.weight.mul_(8)  # so that the response matters
    source = write_lines(tmp_path / "in.jsonl", [{"output": a} for a, _ in PAIRS])
    mean = []
    for n in (1, 8):
        convert(model, source, tmp_path / f"{n}.jsonl", Controls(tokens=20, seed=1, n=n))
        found = read_lines(tmp_path / f"{n}.jsonl")
        mean.append(sum(line["pmi"] for line in found) / len(found))
    assert mean[1] > mean[0] + 0.1


def test_a_run_cut_at_any_byte_goes_on_to_the_same_file(model, tmp_path, unbroken):
    source, data = unbroken[0], unbroken[1].read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == 10]
    cuts = {0, 1, 9, ends[0] - 1, ends[0], ends[7], ends[7] + 1, ends[9], ends[16] - 1, ends[20] + 40, len(data) - 1, len(data)}
    for cut in sorted(cuts):
        target = tmp_path / "cut.jsonl"
        target.write_bytes(data[:cut])
        _, errors, kept = convert(model, source, target)
        assert target.read_bytes() == data
        assert (errors, kept) == (4, sum(end <= cut for end in ends))


def test_reading_is_never_more_than_a_window_ahead_of_writing(model, tmp_path, monkeypatch, small_windows):
    target, ahead = tmp_path / "out.jsonl", []

    def endless(_):
        for number in range(200):
            ahead.append(number - (target.read_bytes().count(b"\n") if target.exists() else 0))
            yield "", {"output": "The cat is sleeping."}

    monkeypatch.setattr(records, "read_file", endless)
    convert(model, write_lines(tmp_path / "in.jsonl", []), target, Controls(tokens=2, seed=1))
    assert len(ahead) > 200 and max(ahead) < 8


@pytest.mark.parametrize("change", ["first", "last", "fewer", "more fields", "scores", "a text", "a line without end", "copy"])
def test_an_output_of_another_input_is_refused_and_left_as_it_is(model, tmp_path, unbroken, change):
    source, target = unbroken
    other, work = [dict(record) for record in RECORDS], Instructions(model, TOKENIZER, CONTROLS)
    if change in ("first", "last"):
        other[0 if change == "first" else -1]["id"] = 99
    elif change == "fewer":
        del other[-1]
    elif change == "more fields":
        other = [{**record, "instruction": "?"} for record in other]
    elif change == "scores":
        work = Scores(model, TOKENIZER)
    elif change == "copy":
        target.write_bytes(source.read_bytes())
    else:
        target.write_text("Dear diary," + ("\n" if change == "a text" else ""))
    before = target.read_bytes()
    with pytest.raises(ValueError, match=r"out\.jsonl is there already and was not made from .*in\.jsonl.*Name another --output"):
        backtranslate.run(work, write_lines(source, other), target, progress=False)
    assert target.read_bytes() == before


def test_the_input_itself_is_no_output(model, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", RECORDS)
    with pytest.raises(ValueError, match="both"):
        convert(model, source, source)
    assert read_lines(source) == RECORDS


def test_a_full_disk_is_reported_and_nothing_is_lost(model, tmp_path, unbroken):
    target, (soft, hard) = tmp_path / "out.jsonl", resource.getrlimit(resource.RLIMIT_FSIZE)
    size = unbroken[1].stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))  # a write beyond it fails as on a full disk
    try:
        with pytest.raises(OSError, match=r"could not write .*out\.jsonl .*; make room") as full:
            convert(model, unbroken[0], target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert target.stat().st_size <= size // 2
    whole = target.read_bytes().count(b"\n")
    assert f"Its first {whole} records are whole" in str(full.value)
    convert(model, unbroken[0], target)
    assert target.read_bytes() == unbroken[1].read_bytes()


def test_a_name_that_is_taken_gets_new_before_it(model, tmp_path):
    record = {"instruction": "mine", "pmi": "mine", "output": "The cat is sleeping."}
    convert(model, write_lines(tmp_path / "in.jsonl", [record]), tmp_path / "out.jsonl")
    [line] = read_lines(tmp_path / "out.jsonl")
    assert list(line) == ["instruction", "pmi", "output", "new_instruction", "mean_log_prob", "new_pmi"]
    assert line["instruction"] == line["pmi"] == "mine"


MESSAGES = [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "The cat is sleeping."}]


@pytest.mark.parametrize("record, field, found", [
    ({"text": "The cat is sleeping."}, None, "text"), ({"response": "The cat is sleeping."}, None, "response"),
    ({"completion": "The cat is sleeping."}, None, "completion"), ({"messages": MESSAGES}, None, "messages"),
    ({"body": "The cat is sleeping.", "output": "x"}, "body", "body")])
def test_the_response_is_found_in_any_known_field_and_the_line_written_is_a_pair(model, tmp_path, record, field, found):
    work = Instructions(model, TOKENIZER, CONTROLS, field)
    backtranslate.run(work, write_lines(tmp_path / "in.jsonl", [record]), tmp_path / "out.jsonl", progress=False)
    assert work.fields == {found: 1}
    [line] = read_lines(tmp_path / "out.jsonl")
    if found != "body":  # there the name `output` was taken
        assert records.pair(line) == (line["instruction"], "", "The cat is sleeping.")


@pytest.mark.parametrize("kind", ["json", "txt", "parquet"])
def test_other_kinds_of_files_give_the_same_instructions(model, tmp_path, kind):
    lines = [a for a, _ in PAIRS[:10]]
    path = tmp_path / f"in.{kind}"
    if kind == "txt":
        path.write_text("\n".join(lines))
    elif kind == "json":
        path.write_text(json.dumps([{"text": line} for line in lines]))
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"text": line, "bytes": b"\xff"} for line in lines]), path)
    convert(model, write_lines(tmp_path / "plain.jsonl", [{"text": line} for line in lines]), tmp_path / "expected.jsonl")
    convert(model, path, tmp_path / "out.jsonl")
    assert [line["instruction"] for line in read_lines(tmp_path / "out.jsonl")] == [
        line["instruction"] for line in read_lines(tmp_path / "expected.jsonl")]


def test_broken_json_is_named_by_file_and_line_and_what_came_before_is_kept(model, tmp_path, small_windows):
    source = write_lines(tmp_path / "in.jsonl", RECORDS)
    source.write_text(source.read_text().replace('{"id": 18', '{id: 18'))
    with pytest.raises(ValueError, match=r"in\.jsonl, line 19: not valid JSON"):
        convert(model, source, tmp_path / "out.jsonl")
    assert [line["id"] for line in read_lines(tmp_path / "out.jsonl")] == list(range(16))


def test_scores_of_given_pairs_are_those_that_writing_gave(model, tmp_path, unbroken):
    pairs = [{"instruction": line.get("instruction"), **{k: v for k, v in line.items() if k in ("id", "output")}}
             for line in read_lines(unbroken[1])]
    target = tmp_path / "scored.jsonl"
    total, errors, _ = backtranslate.run(Scores(model, TOKENIZER), write_lines(tmp_path / "p.jsonl", pairs), target, progress=False)
    assert (total, errors) == (30, 4)
    for scored, written in zip(read_lines(target), read_lines(unbroken[1])):
        assert ("error" in scored) == ("error" in written)
        for name in ("mean_log_prob", "pmi"):
            assert scored.get(name, 0) == pytest.approx(written.get(name, 0), abs=2e-3)


def start(*args, **options):
    return subprocess.Popen([sys.executable, SCRIPT, *map(str, args)], cwd=ROOT, env=ENV, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, **options)


def run(*args, stdin=b""):
    process = start(*args, stdin=subprocess.PIPE)
    out, err = process.communicate(stdin, timeout=120)
    return process.returncode, out.decode(), err.decode()


def test_a_run_killed_twice_ends_with_the_same_file_as_an_unbroken_one(model_path, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [{"id": i, "output": PAIRS[i % 24][0] * (1 + i % 4)} for i in range(1100)])
    args = "--model-path", model_path, "--input", source, "--tokens", 20, "--num-samples", 2, "--device", "cpu", "--output"
    target, size = tmp_path / "killed.jsonl", 0
    for _ in range(2):
        process = start(*args, target)
        while not target.exists() or target.stat().st_size <= size:  # until another window is written
            assert process.poll() is None
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        process.communicate()
        size = target.stat().st_size
    status, _, err = run(*args, target)
    assert status == 0 and "were there already" in err
    assert run(*args, tmp_path / "unbroken.jsonl")[0] == 0
    assert target.read_bytes() == (tmp_path / "unbroken.jsonl").read_bytes()
    assert [line["id"] for line in read_lines(target)] == list(range(1100))


# Turns

def test_marker_text_in_a_response_cannot_end_its_turn(unbroken):
    ids, _ = TOKENIZER.encode_response(MARKED)
    markers = [i for i in ids if i in TOKENIZER.marker_ids.values()]
    empty, _ = TOKENIZER.encode_response("")
    assert markers == [i for i in empty if i != TOKENIZER.bos_id] and TOKENIZER.to_text(ids) == MARKED
    assert "instruction" in read_lines(unbroken[1])[21]


@pytest.mark.parametrize("marker", ["<|im_start|>", "<|im_end|>", "<|response|>", "<|endoftext|>"])
def test_every_special_id_ends_the_instruction(marker):
    model = tiny_model(n_layer=1, n_embd=16)
    wanted = {**TOKENIZER.marker_ids, "<|endoftext|>": TOKENIZER.eos_id}[marker]
    work = Instructions(model, TOKENIZER, Controls(tokens=10, seed=1, temp=0))
    first = TOKENIZER.encode_text("What")[0]
    prompt, _ = TOKENIZER.encode_response("The cat")
    with torch.no_grad():  # after the prompt the model writes `first`, after it the special id
        for block in model.blocks:
            block.attention.proj.weight.zero_(), block.mlp.proj.weight.zero_()
        model.wte.weight.zero_()
        model.wte.weight[prompt[-1], 0], model.wte.weight[first, 0], model.wte.weight[first, 1] = 1, 2, 1
        model.wte.weight[wanted, 0], model.wte.weight[wanted, 1] = 1.5, 9
    assert work.draw({0: prompt}) == {0: [[first]]}


# The terminal

@pytest.fixture(scope="module")
def terminal(model_path):
    terminal = Terminal(SCRIPT, "--model-path", model_path, "--seed", 7, columns=100)
    terminal.wait("Response:")
    yield terminal
    terminal.close()


def test_a_pasted_response_of_three_lines_gets_one_instruction(terminal):
    terminal.command("n=1 temp=0.8")
    terminal.type("\x1b[200~The cat is sleeping.\nThe dog is eating.\nThe hen is singing.\x1b[201~")
    shown = terminal.ask("")
    assert shown.count("Generated Instruction: ") == 1 and shown.count("tokens/s") == 1
    assert "PMI" in shown and "per token" in shown
    terminal.wait("Response:")


def test_several_candidates_are_merged_and_stand_best_first(terminal):
    terminal.command("n=12 temp=1")
    shown = terminal.ask("The cat is sleeping.")
    plain = re.sub(r"\x1b\[[\d;?]*\w|\r", "", shown)
    instructions = re.findall("Generated Instruction: (.*)\n", plain)
    scores = re.findall(r"PMI (-?[\d.]+), (-?[\d.]+) per token, (\d+) of 12 samples", plain)
    assert len(set(instructions)) == len(instructions) == len(scores) < 12
    assert [float(pmi) for pmi, _, _ in scores] == sorted((float(pmi) for pmi, _, _ in scores), reverse=True)
    assert sum(int(count) for _, _, count in scores) == 12
    terminal.wait("Response:")


def test_the_commands_are_those_of_the_other_prompt_with_200_tokens(terminal):
    assert "tokens=200" in terminal.command("n=1")
    terminal.type("help\r")
    terminal.wait("takes a response; the model writes the instruction")
    terminal.wait("Response:")


def test_a_long_response_is_shortened_and_says_so(terminal):
    shown = terminal.ask("The cat is sleeping. " * 30)
    assert "the model reads its first 64" in shown and "Generated Instruction: " in shown
    terminal.wait("Response:")


def test_a_pipe_gets_instructions_and_nothing_else_on_standard_output(model_path):
    status, out, err = run("--model-path", model_path, "--seed", 1, stdin=b"The cat is sleeping.\n\nThe dog is eating.\nn=0\n")
    assert status == 1 and "line 2 is blank" in err and "line 4: n=0 does not fit" in err
    texts = out.removesuffix("\n").split("\n---\n")
    assert len(texts) == 2 and all(text.startswith("Generated Instruction: ") for text in texts)
    assert err.count("PMI") == 2 and not any(marker in out for marker in MARKERS)


# Wrong things

def complaint(monkeypatch, *args):
    """What the program says when it refuses."""
    monkeypatch.setattr(sample_xcoax_instruct, "prepare_streams", lambda: None)
    monkeypatch.setattr(sys, "argv", [SCRIPT, *map(str, args)])
    with pytest.raises(SystemExit) as left:
        settings.run(sample_xcoax_instruct.main)
    assert isinstance(left.value.code, str)
    return left.value.code


def test_a_base_model_is_refused_with_the_command_that_makes_an_instruct_model_of_it(model, tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "base.pt", model, TOKENIZER, {}, {})
    answer = complaint(monkeypatch, "--model-path", tmp_path / "base.pt", "--response", "x")
    assert f"python finetune_xcoax.py --model-path {tmp_path / 'base.pt'}" in answer and "'base'" in answer


def test_a_forward_model_is_refused(model, tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "forward.pt", model, TOKENIZERS["forward"], {}, {}, kind="instruct")
    assert "writes forward" in complaint(monkeypatch, "--model-path", tmp_path / "forward.pt", "--response", "x")


@pytest.mark.parametrize("args, answer", [
    (["--input", "x.jsonl"], "go together"), (["--output", "x.jsonl"], "go together"), (["--score"], "needs --input"),
    (["--response-field", "a"], "needs --input"), (["--response", " "], "--response is empty"),
    (["--response", "x", "--input", "a", "--output", "b"], "one of the two"), (["--batch-size", 0], "at least 1"),
    (["--num-samples", 65], "from 1 to 64"), (["--model-path", "nowhere.pt"], "python finetune_xcoax.py")])
def test_flags_that_mean_nothing_together_are_answered(monkeypatch, args, answer):
    assert answer in complaint(monkeypatch, *args)


@pytest.mark.parametrize("name, answer", [("nowhere.jsonl", "nowhere.jsonl"), ("x.csv", "no known kind")])
def test_an_input_that_cannot_be_read_is_named_and_no_output_is_made(model_path, tmp_path, monkeypatch, name, answer):
    (tmp_path / "x.csv").write_text("a,b\n")
    target = tmp_path / "out.jsonl"
    assert answer in complaint(monkeypatch, "--model-path", model_path, "--input", tmp_path / name, "--output", target)
    assert not target.exists()
