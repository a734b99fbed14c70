"""Fine-tuning: from a base model and examples to a model that writes instructions."""

import contextlib
import io
import itertools
import re
import signal
from unittest.mock import patch

import numpy as np
import pytest
import torch

import checkpoint
import finetune_xcoax
from program.ranks import Ranks
from shards import read_split
from tests.support.instruct import examples_of, instruct_tokenizer, kept, preprocess, save_base
from tests.support.runs import call, rows, wait_for_update
from tests.support.tiny import RECORDS, TEXTS, make_shards, start
from tokenizer import Tokenizer, train_tokenizer
from training.update import evaluate, share_of, targets


def arguments(base, data, out, *more):
    return ["--model-path", base, "--data-dir", data, "--out-dir", out, "--batch-size", "2", "--max-iters", "30",
            "--eval-interval", "10", "--eval-tokens", "576", "--save-interval", "7", "--dropout", "0.1",
            "--learning-rate", "3e-3", "--min-lr", "1e-3", "--warmup-iters", "3", "--gradient-accumulation-steps", "2",
            "--optimizer", "adamw", "--head-rate", "off",  # Muon rounds to bfloat16: equal to fewer places
            "--no-compile", "--device", "cpu", "--dtype", "float32", *more]


@pytest.fixture(scope="module")
def unbroken(base, data, tmp_path_factory):
    """The output folder of a run that nobody disturbed, and what it printed."""
    out = tmp_path_factory.mktemp("unbroken")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        call(finetune_xcoax, *arguments(base, data, out))
    return out, printed.getvalue()


@pytest.mark.parametrize("ranks", [2, 3, 5, 7])
@pytest.mark.parametrize("samples", [0, 30, 10_000])
def test_the_batches_of_all_processes_together_are_those_of_one_in_the_order_of_micro_steps(
        base, data, tmp_path, ranks, samples):
    with patch.object(finetune_xcoax, "train") as train:
        call(finetune_xcoax, *arguments(base, data, tmp_path / "out", "--gradient-accumulation-steps", "5"))
    batches, counters = train.call_args.args[3], {"samples": samples, "first_batch_size": 1}
    together = itertools.zip_longest(*(share_of(batches(counters), Ranks(rank, ranks)) for rank in range(ranks)))
    found = [batch for turn in together for batch in turn if batch is not None and targets(batch)]
    expected = batches(counters)
    assert len(found) == len(expected) >= 5
    assert all(torch.equal(part, other) for one, two in zip(found, expected) for part, other in zip(one, two))


def test_the_settings_printed_say_how_many_threads_are_in_use(base, data, tmp_path, capsys, threads):
    with patch.object(finetune_xcoax, "train"):
        call(finetune_xcoax, *arguments(base, data, tmp_path, "--threads", "3"))
    assert re.findall(r"^ +threads +(\S+)$", capsys.readouterr().out, re.M) == ["3"]
    assert torch.get_num_threads() == 3


def test_fine_tuning_lowers_the_loss_and_leaves_an_instruct_model_of_the_base_model_s_shape(unbroken, base):
    out, printed = unbroken
    evaluations = [row for row in rows(out) if "val_loss" in row]
    assert [row["iter"] for row in evaluations] == [0, 10, 20, 30]
    assert evaluations[-1]["val_loss"] < evaluations[0]["val_loss"] - 1
    assert "padding" in printed and "% of the tokens" in printed
    content, first = checkpoint.load(out / "best_checkpoint.pt", kind="instruct"), checkpoint.load(base, kind="base")
    assert content["tokenizer"] == first["tokenizer"] and content["config"] == {**first["config"], "dropout": 0.1}
    assert "model_path" not in content["settings"]


def test_the_first_evaluation_is_of_the_model_as_it_was_in_bits_per_byte_of_instruction(unbroken, base, data):
    opened = checkpoint.open_model(base, device="cpu")
    model, tokenizer = opened.model, opened.tokenizer
    batches = [tuple(map(torch.from_numpy, batch)) for batch in examples_of(data, "val").fixed_batches(576, 192)]
    before = rows(unbroken[0])[0]
    assert before["val_loss"] == pytest.approx(evaluate(model, batches, torch.device("cpu"), torch.float32), rel=1e-5)
    part = [example for example in kept(RECORDS, tokenizer, val_fraction=0.2) if example[0] == "val"]
    tokens_per_byte = sum(targets for *_, targets, _ in part) / sum(size for *_, size in part)
    assert before["bits_per_byte"] == pytest.approx(before["val_loss"] / np.log(2) * tokens_per_byte)


def test_each_evaluation_shows_a_response_and_the_written_beside_the_true_instruction(unbroken, data, tokenizer):
    printed = unbroken[1]
    assert printed.count("\nGenerated Instruction: ") == 4
    response = printed.partition("\nResponse: ")[2].partition("\n")[0]
    true = printed.partition("\nTrue instruction: ")[2].partition("\n")[0]
    record, = [record for record in RECORDS if record["output"] == response and record["instruction"] == true]
    shards = read_split(data, "val")
    assert tokenizer.encode_text(record["instruction"])[0] in shards[0].tokens


def test_a_run_killed_in_its_midst_equals_an_unbroken_one_bit_for_bit(unbroken, base, data, tmp_path, capsys):
    process = start("finetune_xcoax.py", *arguments(base, data, tmp_path))
    wait_for_update(process, tmp_path, 10)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    call(finetune_xcoax, *arguments(base, data, tmp_path))
    assert "Going on from" in capsys.readouterr().out
    for name in ("best_checkpoint.pt", "last_checkpoint.pt"):
        assert (tmp_path / name).read_bytes() == (unbroken[0] / name).read_bytes()


def test_half_the_batch_and_double_the_accumulation_go_on_with_the_same_updates(base, data, tmp_path):
    found = []
    for out, sizes in (("whole", []), ("halves", ["--batch-size", "1", "--gradient-accumulation-steps", "4"])):
        run_to = arguments(base, data, tmp_path / out, "--dropout", "0", "--lr-decay-iters", "14", "--max-iters")
        call(finetune_xcoax, *run_to, "7")
        call(finetune_xcoax, *run_to, "14", *sizes)
        found.append(checkpoint.load(tmp_path / out / "last_checkpoint.pt"))
    whole, halves = found
    assert whole["counters"]["samples"] == halves["counters"]["samples"]
    assert whole["settings"]["batch_size"] == 2 and halves["settings"]["batch_size"] == 1
    torch.testing.assert_close(whole["model"], halves["model"], rtol=1e-3, atol=1e-5)


def base_of_another_block(path):
    return save_base(path, instruct_tokenizer(), block_size=32)


def base_of_another_tokenizer(path, direction="reverse"):
    return save_base(path, Tokenizer(train_tokenizer(TEXTS, 390, direction)))


@pytest.mark.parametrize("change, expected", [
    (lambda base, data, out: [base_of_another_block(out / "base.pt"), data, out / "new"],
     r"has an example of \d+ tokens, .*base.pt sees 32 at once(.|\n)*"
     r"--tokenizer .*base.pt --dataset .*jsonl .*--overwrite"),
    (lambda base, data, out: [base_of_another_tokenizer(out / "base.pt"), data, out / "new"],
     r"base.pt has a tokenizer of 390 pieces, the examples in .*instruct.*were made with another one, of 400(.|\n)*"
     r"preprocess_instruct.py --tokenizer .*base.pt"),
    (lambda base, data, out: [base_of_another_tokenizer(out / "base.pt", "forward"), data, out / "new"],
     r"base.pt is a forward model, the examples in .*reverse direction"),
    (lambda base, data, out: [base, out / "nothing", out],
     r"No training shards(.|\n)*python preprocess_instruct.py --tokenizer .*checkpoint.pt"),
    (lambda base, data, out: [out / "missing.pt", data, out / "new"], r"No checkpoint at (.|\n)*python train_xcoax.py"),
    (lambda base, data, out: [base, data, base.parent], r"would be written over(.|\n)*--out-dir"),
], ids=["shape", "tokenizer", "direction", "no examples", "no base model", "over the base model"])
def test_what_does_not_fit_is_refused_with_the_next_command(base, data, tmp_path, change, expected):
    with pytest.raises((ValueError, FileNotFoundError), match=expected):
        call(finetune_xcoax, *arguments(*change(base, data, tmp_path)))
    assert not list(tmp_path.rglob("best_checkpoint.pt"))


def test_a_damaged_shard_is_named_with_the_command_that_makes_examples(base, data, tmp_path):
    for path in data.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[:-2] if "train" in path.name else path.read_bytes())
    with pytest.raises(ValueError, match="train_000000.bin is .*(.|\n)*python preprocess_instruct.py --tokenizer "
                       f"{base} --data-dir {tmp_path} --overwrite "):
        call(finetune_xcoax, *arguments(base, tmp_path, tmp_path / "out"))


def test_shards_of_documents_are_refused_and_so_is_an_instruct_model(unbroken, base, data, tmp_path):
    make_shards(tmp_path / "corpus")
    with pytest.raises(ValueError, match="holds documents, not instruction examples(.|\n)*preprocess_instruct.py"):
        call(finetune_xcoax, *arguments(base, tmp_path / "corpus", tmp_path))
    with pytest.raises(ValueError, match="'?instruct'?(.|\n)*python train_xcoax.py"):
        call(finetune_xcoax, *arguments(unbroken[0] / "best_checkpoint.pt", data, tmp_path))


def test_a_forward_model_is_fine_tuned_to_write_the_response(data, tmp_path, capsys):
    base = save_base(tmp_path / "base.pt", Tokenizer(train_tokenizer(TEXTS, 390, "forward")))
    preprocess(data.parent / "records.jsonl", base, tmp_path / "data")
    call(finetune_xcoax, *arguments(base, tmp_path / "data", tmp_path / "out", "--max-iters", "1"))
    assert checkpoint.load(tmp_path / "out/best_checkpoint.pt", kind="instruct")["direction"] == "forward"
    printed = capsys.readouterr().out
    assert "of them in responses of" in printed and "Generated Response:" in printed
    assert re.search(r"^Instruction: Is the .*\?$", printed, re.M) and "True response: The " in printed


def test_a_run_does_not_go_on_with_other_examples_or_another_base_model(unbroken, base, data, tokenizer, tmp_path):
    for path in unbroken[0].glob("*.pt"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    preprocess(data.parent / "records.jsonl", base, tmp_path / "data", "--num-records", "40")
    with pytest.raises(ValueError, match="last_checkpoint.pt comes from other examples (.|\n)*--out-dir"):
        call(finetune_xcoax, *arguments(base, tmp_path / "data", tmp_path, "--max-iters", "40"))
    (tmp_path / "bases").mkdir()
    other = tmp_path / "bases/other.pt"
    save_base(other, tokenizer, seed=9)
    with pytest.raises(ValueError, match="last_checkpoint.pt comes from another base model"):
        call(finetune_xcoax, *arguments(other, data, tmp_path, "--max-iters", "40"))
