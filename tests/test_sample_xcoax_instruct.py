"""BackChat as a person meets it: a run killed and gone on with, a terminal, a pipe, a call, wrong things."""

import re
import signal
import time

import pytest
import torch

import checkpoint
import sample_xcoax_instruct
from tests.support.pairs import PAIRS, TOKENIZER, TOKENIZERS, learned_model, read_lines
from tests.support.runs import call
from tests.support.terminal import Terminal, complaint, plain, run_on_pipes, start_on_pipes
from tests.support.tiny import write_lines
from tokenizer import MARKERS

SCRIPT = "sample_xcoax_instruct.py"


@pytest.fixture(scope="module")
def model():
    return learned_model()


@pytest.fixture(scope="module")
def model_path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("out") / "best_checkpoint.pt"
    checkpoint.save(path, model, TOKENIZER, {}, {}, kind="instruct")
    return path


def run(*args, **options):
    return run_on_pipes(SCRIPT, *args, **options)


def test_a_run_killed_twice_ends_with_the_same_file_as_an_unbroken_one(model_path, tmp_path, capsys):
    source = write_lines(tmp_path / "in.jsonl",
                         [{"id": i, "output": PAIRS[i % 24][0] * (1 + i % 4)} for i in range(1100)])
    args = ("--model-path", model_path, "--input", source, "--tokens", 20, "--num-samples", 2, "--device", "cpu",
            "--output")
    target, size = tmp_path / "killed.jsonl", 0
    for _ in range(2):
        process = start_on_pipes(SCRIPT, *args, target)
        while not target.exists() or target.stat().st_size <= size:  # until another window is written
            assert process.poll() is None
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        process.communicate()
        size = target.stat().st_size
    call(sample_xcoax_instruct, *args, target)
    assert "were there already" in capsys.readouterr().err
    call(sample_xcoax_instruct, *args, tmp_path / "unbroken.jsonl")
    assert target.read_bytes() == (tmp_path / "unbroken.jsonl").read_bytes()
    assert [line["id"] for line in read_lines(target)] == list(range(1100))


def test_a_run_of_errors_alone_ends_with_status_1_and_says_so_and_the_corrected_one_mends_it(
        model_path, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [{"id": i, "body": PAIRS[i][0]} for i in range(3)])
    args = ["--model-path", model_path, "--input", source, "--output", tmp_path / "out.jsonl", "--tokens", 20]
    for _ in range(2):
        answer = complaint(sample_xcoax_instruct, *args, "--response-field", "boddy")
        assert answer.startswith("Error: none of the 3 records of")
        assert "expected text in the field 'boddy'; found id, body" in answer and "another --response-field" in answer
    call(sample_xcoax_instruct, *args, "--response-field", "body")
    assert all("instruction" in line for line in read_lines(tmp_path / "out.jsonl"))
    assert "model_sha256 was" in complaint(sample_xcoax_instruct, *args, "--response-field", "body", "--model-path",
                                           changed_model(model_path, tmp_path))


@pytest.mark.parametrize("way", ["one response", "a file"])
@pytest.mark.parametrize("flags, kind", [((), "bfloat16"), (("--quantize", "int8"), "int8")])
def test_what_writes_has_its_weights_in_the_numbers_asked_for(model_path, tmp_path, monkeypatch, way, flags, kind):
    writers = []

    def draws(model, *arguments, **options):
        writers.append(model)
        raise ValueError("enough")

    write_lines(tmp_path / "in.jsonl", [{"output": "Yes."}])
    monkeypatch.setattr(sample_xcoax_instruct, "draw_samples", draws)
    monkeypatch.setattr("backchat.writing.generate_batch", draws)
    given = ("--response", "Yes.") if way == "one response" else (
        "--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl")
    assert "enough" in complaint(sample_xcoax_instruct, "--model-path", model_path, "--device", "cpu", "--dtype",
                                 "bfloat16", *flags, *given)
    assert writers[0].kind == kind


def test_a_file_in_8_bits_goes_on_in_8_bits_alone_and_scores_are_never_rounded(model_path, tmp_path):
    args = ("--model-path", model_path, "--input", write_lines(tmp_path / "in.jsonl", [{"output": "Yes."}]), "--output",
            tmp_path / "out.jsonl")
    call(sample_xcoax_instruct, *args, "--quantize", "int8", "--tokens", 5)
    assert 'dtype was "int8"' in complaint(sample_xcoax_instruct, *args, "--tokens", 5)
    assert "--score computes in float32" in complaint(sample_xcoax_instruct, *args, "--quantize", "int8", "--score")


@pytest.mark.parametrize("written, said", [("", "Stopped before any record was written to "),
                                           ("{}\n", "goes on after the last whole record of ")])
def test_whoever_stops_a_file_is_told_what_is_written(model_path, tmp_path, monkeypatch, capsys, written, said):
    def stops(*arguments, **options):
        (tmp_path / "out.jsonl").write_text(written)
        raise KeyboardInterrupt

    monkeypatch.setattr(sample_xcoax_instruct, "write_pairs", stops)
    with pytest.raises(KeyboardInterrupt):
        call(sample_xcoax_instruct, "--model-path", model_path, "--input", tmp_path / "in.txt", "--output",
             tmp_path / "out.jsonl")
    assert f"{said}{tmp_path / 'out.jsonl'}" in capsys.readouterr().err


def changed_model(model_path, folder):
    """A copy of a checkpoint with other counters, as further training leaves it."""
    content = checkpoint.load(model_path)
    torch.save({**content, "counters": {"iter_num": 1}}, folder / "changed.pt")
    return folder / "changed.pt"


# The terminal

@pytest.fixture(scope="module")
def terminal(model_path):
    terminal = Terminal(SCRIPT, "--model-path", model_path, "--seed", 7, "--speed", "off", columns=100)
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
    instructions = re.findall("Generated Instruction: (.*)\n", plain(shown))
    scores = re.findall(r"log P (-?[\d.]+) per token, PMI (-?[\d.]+), (\d+) of 12 samples", plain(shown))
    assert len(set(instructions)) == len(instructions) == len(scores) < 12
    assert [float(mean) for mean, _, _ in scores] == sorted((float(mean) for mean, _, _ in scores), reverse=True)
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
    status, out, err = run("--model-path", model_path, "--seed", 1,
                           stdin=b"\xef\xbb\xbfThe cat is sleeping.\n\nThe dog is eating.\nn=0\nquit\nThe hen\n\xe9\n")
    assert status == 1 and "line 2 is blank" in err and "line 7: not UTF-8 (byte 1 is 0xe9)" in err
    texts = out.removesuffix("\n").split("\n---\n")
    assert len(texts) == 5 and all(text.startswith("Generated Instruction: ") for text in texts)
    assert err.count("PMI") == 5 and not any(marker in out for marker in MARKERS)


# Wrong things

def test_a_base_model_is_refused_with_the_command_that_makes_an_instruct_model_of_it(model, tmp_path):
    checkpoint.save(tmp_path / "base.pt", model, TOKENIZER, {}, {})
    answer = complaint(sample_xcoax_instruct, "--model-path", tmp_path / "base.pt", "--response", "x")
    assert f"python finetune_xcoax.py --model-path {tmp_path / 'base.pt'}" in answer and "'base'" in answer


def test_a_forward_model_is_refused(model, tmp_path):
    path = tmp_path / "forward.pt"
    checkpoint.save(path, model, TOKENIZERS["forward"], {}, {}, kind="instruct")
    assert "writes forward" in complaint(sample_xcoax_instruct, "--model-path", path, "--response", "x")


@pytest.mark.parametrize("args, answer", [
    (["--input", "x.jsonl"], "go together"), (["--output", "x.jsonl"], "go together"), (["--score"], "needs --input"),
    (["--response-field", "a"], "needs --input"), (["--response", " "], "--response is empty"),
    (["--response", "x", "--input", "a", "--output", "b.jsonl"], "one of the two"), (["--batch-size", 0], "at least 1"),
    (["--input", "a.jsonl", "--output", "b.csv"], "--output b.csv: pairs are written as .jsonl only"),
    (["--overwrite"], "needs --input"),
    (["--num-samples", 65], "from 1 to 64"), (["--model-path", "nowhere.pt"], "python finetune_xcoax.py")])
def test_flags_that_mean_nothing_together_are_answered(args, answer):
    assert answer in complaint(sample_xcoax_instruct, *args)


@pytest.mark.parametrize("name, answer", [("nowhere.jsonl", "nowhere.jsonl"), ("x.csv", "no known kind")])
def test_an_input_that_cannot_be_read_is_named_and_no_output_is_made(model_path, tmp_path, name, answer):
    (tmp_path / "x.csv").write_text("a,b\n")
    target = tmp_path / "out.jsonl"
    assert answer in complaint(sample_xcoax_instruct, "--model-path", model_path, "--input", tmp_path / name,
                               "--output", target)
    assert not target.exists()
