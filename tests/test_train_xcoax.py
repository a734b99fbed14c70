"""Training: the batches of an update, what a run leaves behind, and how it survives being stopped."""

import itertools
import math
import os
import random
import re
import resource
import signal
from unittest.mock import patch

import pytest
import torch

import checkpoint
import train_xcoax
from program.ranks import Ranks
from reverse import segments
from shards import Windows, read_manifest, read_split, write_manifest
from tests.support.processes import wait_until
from tests.support.runs import call, rows, wait_for_update
from tests.support.terminal import Terminal, complaint
from tests.support.tiny import SHAPE, TEXTS, make_shards, run, start
from tokenizer import Tokenizer
from training.update import evaluate, share_of, targets

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    make_shards(folder)
    return folder


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    """The output folder of a run of 60 updates that nobody disturbed."""
    out = tmp_path_factory.mktemp("unbroken")
    call(train_xcoax, *arguments(data, out))
    return out


def arguments(data, out, *more):
    return ["--data-dir", data, "--out-dir", out, *SHAPE, "--max-iters", "60", "--eval-interval", "20", "--eval-tokens",
            "256", "--save-interval", "7", "--dropout", "0.1", "--gradient-accumulation-steps", "2", *more]


# ---- the batches of an update


@pytest.fixture(scope="module")
def batches(data, tmp_path_factory):
    """The function that gives the loop its batches, five in an update."""
    with patch.object(train_xcoax, "train") as train:
        call(train_xcoax, *arguments(data, tmp_path_factory.mktemp("out"), "--gradient-accumulation-steps", "5"))
    return train.call_args.args[3]


@pytest.mark.parametrize("ranks", [2, 3, 5, 7])
@pytest.mark.parametrize("samples", [0, 20, 1_000_000])
def test_the_batches_of_all_processes_together_are_those_of_one_in_the_order_of_micro_steps(batches, ranks, samples):
    counters = {"iter_num": samples // 20, "samples": samples}
    together = itertools.zip_longest(*(share_of(batches(counters), Ranks(rank, ranks)) for rank in range(ranks)))
    found = [batch for turn in together for batch in turn if batch is not None and targets(batch)]
    expected = batches(counters)
    assert len(found) == len(expected) == 5
    for (x, y, mask), (expected_x, expected_y, expected_mask) in zip(found, expected):
        assert torch.equal(x, expected_x) and torch.equal(y, expected_y) and mask is expected_mask is None


def test_an_update_reads_on_from_as_many_sequences_as_were_read_before(batches):
    def read(samples):
        return torch.cat([x for x, _, _ in batches({"iter_num": 0, "samples": samples})])  # (20, block_size)

    assert torch.equal(read(8), torch.cat([read(0), read(20)])[8:28])
    assert not torch.equal(read(0), read(20))


# ---- what a run leaves behind


def test_training_lowers_the_validation_loss_and_reports_it_in_bits_per_byte(unbroken, data):
    evaluations = [row for row in rows(unbroken) if "val_loss" in row]
    assert [row["iter"] for row in evaluations] == [0, 20, 40, 60]
    assert evaluations[-1]["val_loss"] < evaluations[0]["val_loss"] - 1
    tokenizer = Tokenizer.load(data / "tok400.model")
    val = [text for text in TEXTS if tokenizer.encode_document(text)[1:-1] and text in texts_of(data, "val", tokenizer)]
    tokens, size = sum(len(tokenizer.encode_document(text)) for text in val), sum(len(text.encode()) for text in val)
    for row in evaluations:
        assert row["bits_per_byte"] == pytest.approx(row["val_loss"] / math.log(2) * tokens / size)


def texts_of(data, split, tokenizer):
    ids = [i for shard in read_split(data, split) for i in shard.tokens.tolist()]
    texts, text = [], []
    for i in ids:
        text.append(i)
        if i == tokenizer.eos_id:
            texts.append(tokenizer.to_text(text))
            text = []
    return set(texts)


def test_the_best_checkpoint_alone_gives_the_validation_loss_again(unbroken, data):
    content = checkpoint.load(unbroken / "best_checkpoint.pt", kind="base")
    opened = checkpoint.open_model(unbroken / "best_checkpoint.pt", "base", device="cpu")
    windows = Windows(read_split(data, "val", opened.tokenizer), opened.model.config.block_size)
    batches = [(*map(torch.from_numpy, pair), None) for pair in windows.fixed_batches(256, 4)]
    best = min(row["val_loss"] for row in rows(unbroken) if "val_loss" in row)
    assert evaluate(opened.model, batches, CPU, torch.float32) == pytest.approx(best, rel=1e-4)
    assert content["counters"]["best_val_loss"] == best and "optimizer" not in content


def test_a_run_leaves_a_curve_and_nothing_half_written(unbroken):
    assert (unbroken / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in unbroken.iterdir()) == [
        ".lock", "best_checkpoint.pt", "last_checkpoint.pt", "loss.png", "metrics.jsonl"]


def test_every_evaluation_prints_a_sample_that_ends_as_a_text_of_the_corpus_ends(data, tmp_path, capsys):
    call(train_xcoax, *arguments(data, tmp_path, "--max-iters", "1"))
    samples = [line for line in capsys.readouterr().out.splitlines() if "[|]" in line]
    assert len(samples) == 2
    assert all(sample.endswith("carried it back.") for sample in samples)


@pytest.mark.parametrize("direction", ["reverse", "forward"])
@pytest.mark.parametrize("text, edges", [
    (" ".join(f"word{n}" for n in range(40)), "word28.*word39"),
    (" ".join(["one", "“two”,", "three.\n\n“Four”", "five"] * 12), None),
    ("A short text.", None),
    ("これは空白のない文章です。" * 9, None),
], ids=["words", "signs and paragraphs", "short", "no spaces"])
def test_a_sample_goes_on_from_the_very_tokens_of_the_text(data, tmp_path, text, edges, direction):
    tokenizer = Tokenizer.load(data / "tok400.model")
    if direction == "forward":
        tokenizer = make_shards(tmp_path, direction)
    given = train_xcoax.split_for_sample(text, direction == "reverse")
    assert text.endswith(given) if direction == "reverse" else text.startswith(given)
    assert len(segments(given)) <= train_xcoax.ENDING_SEGMENTS and (" " not in text or 0 < len(given) < len(text))
    if " " in text:
        prompt, document = tokenizer.encode_ending(given), tokenizer.encode_document(text)
        assert document[:len(prompt)] == prompt
    if edges and direction == "reverse":
        assert re.fullmatch(f" {edges}", given)


def test_another_seed_gives_another_model_and_another_order(data, tmp_path):
    with patch.object(train_xcoax, "train") as train:
        for seed in (1, 2):
            call(train_xcoax, *arguments(data, tmp_path, "--seed", seed))
    (_, model, _, batches, *_), (_, other_model, _, other_batches, *_) = (one.args for one in train.call_args_list)
    assert not torch.equal(model.wte.weight, other_model.wte.weight)
    begun = {"iter_num": 0, "samples": 0}
    assert not torch.equal(batches(begun)[0][0], other_batches(begun)[0][0])


def test_a_forward_model_trains_on_forward_shards(tmp_path, capsys):
    make_shards(tmp_path / "data", "forward")
    call(train_xcoax, *arguments(tmp_path / "data", tmp_path / "out", "--max-iters", "1"))
    assert checkpoint.load(tmp_path / "out/best_checkpoint.pt")["direction"] == "forward"
    given = capsys.readouterr().out.rpartition("[|]")[0]
    assert " looked for" in given  # a beginning, which stands to the left


@pytest.mark.parametrize("flags, number", [(["--threads", "3"], 3), (["--threads", "1"], 1), ([], None)])
def test_the_settings_printed_say_how_many_threads_are_in_use(data, tmp_path, capsys, threads, flags, number):
    with patch.object(train_xcoax, "train"):
        call(train_xcoax, *arguments(data, tmp_path, *flags))
    assert re.findall(r"^ +threads +(\S+)$", capsys.readouterr().out, re.M) == [str(number or threads)]
    assert torch.get_num_threads() == (number or threads)


# ---- being stopped


def test_a_run_killed_three_times_equals_an_unbroken_one_bit_for_bit(unbroken, data, tmp_path, capsys):
    chance = random.Random()
    for iter_num in (10, 20, 40):
        process = start("train_xcoax.py", *arguments(data, tmp_path))
        wait_for_update(process, tmp_path, iter_num)
        wait_until(lambda: chance.random() < 0.2)  # so that no moment is spared
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    call(train_xcoax, *arguments(data, tmp_path))
    assert "Going on from" in capsys.readouterr().out
    for name in ("best_checkpoint.pt", "last_checkpoint.pt"):
        assert (tmp_path / name).read_bytes() == (unbroken / name).read_bytes()
    losses = [(row["iter"], row["val_loss"]) for row in rows(tmp_path) if "val_loss" in row]
    assert losses == [(row["iter"], row["val_loss"]) for row in rows(unbroken) if "val_loss" in row]


def test_a_run_may_go_on_with_another_number_of_threads(data, tmp_path, capsys, threads):
    call(train_xcoax, *arguments(data, tmp_path, "--max-iters", "4", "--eval-tokens", "64"))
    call(train_xcoax, *arguments(data, tmp_path, "--max-iters", "6", "--eval-tokens", "64", "--threads", "2"))
    out = capsys.readouterr().out
    assert "Going on from" in out and "max_iters 4 -> 6\n" in out and torch.get_num_threads() == 2
    content = checkpoint.load(tmp_path / "last_checkpoint.pt", kind="base")
    assert content["counters"]["iter_num"] == 6 and "threads" not in content["settings"]
    assert checkpoint.open_model(tmp_path / "best_checkpoint.pt", "base", device="cpu")


def test_a_closed_terminal_finishes_the_update_and_saves(unbroken, data, tmp_path):
    terminal = Terminal("train_xcoax.py", *arguments(data, tmp_path))
    terminal.wait("update 20: validation loss")
    os.close(terminal.fd)
    _, status = os.waitpid(terminal.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP  # so that `train && sample` does not go on
    stopped_at = checkpoint.load(tmp_path / "last_checkpoint.pt")["counters"]["iter_num"]
    assert 20 <= stopped_at < 60
    call(train_xcoax, *arguments(data, tmp_path))
    assert (tmp_path / "last_checkpoint.pt").read_bytes() == (unbroken / "last_checkpoint.pt").read_bytes()


def test_a_finished_run_says_so_and_changes_nothing(unbroken, data, capsys):
    before = (unbroken / "last_checkpoint.pt").read_bytes()
    call(train_xcoax, *arguments(data, unbroken))
    assert "Raise it to go on" in capsys.readouterr().out
    assert (unbroken / "last_checkpoint.pt").read_bytes() == before


def test_the_clock_ends_a_run_that_has_a_time_limit(data, tmp_path):
    call(train_xcoax, *arguments(data, tmp_path, "--max-iters", "1000000", "--max-minutes", "0.01", "--eval-interval",
                                 "1000000"))
    counters = checkpoint.load(tmp_path / "last_checkpoint.pt")["counters"]
    assert 0.6 <= counters["seconds"] < 30 and counters["iter_num"] > 0


@pytest.mark.parametrize("max_iters, said", [(50, False), (10**6, True)])
def test_a_run_that_will_know_its_corpus_by_heart_is_told_so(data, tmp_path, capsys, max_iters, said):
    with patch.object(train_xcoax, "train"):
        call(train_xcoax, *arguments(data, tmp_path, "--max-iters", str(max_iters)))
    assert ("will know them by heart long before its end" in capsys.readouterr().out) == said


# ---- what goes wrong


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(data, tmp_path):
    call(train_xcoax, *arguments(data, tmp_path, "--max-iters", "7"))
    good = (tmp_path / "last_checkpoint.pt").read_bytes()
    told = complaint(train_xcoax, *arguments(data, tmp_path, "--learning-rate", "1e38", "--grad-clip", "0",
                                             "--save-interval", "1000", "--eval-interval", "1000"))
    assert "--learning-rate" in told and "holds update 7" in told
    assert (tmp_path / "last_checkpoint.pt").read_bytes() == good


def test_a_tracker_without_a_network_has_every_row(data, tmp_path):
    """Weights & Biases itself, offline; where it cannot be reached it would otherwise wait."""
    environment = {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    status, _, err = run("train_xcoax.py", *arguments(data, tmp_path, "--max-iters", "20", "--wandb"), env=environment)
    [log] = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    assert status == 0, err
    assert log.read_bytes().count(b"train_loss") >= 2 and b"bits_per_byte" in log.read_bytes()


def test_a_full_disk_names_the_file_and_leaves_the_old_checkpoint_whole(data, tmp_path):
    call(train_xcoax, *arguments(data, tmp_path, "--max-iters", "7"))
    good = (tmp_path / "last_checkpoint.pt").read_bytes()
    status, _, err = run("train_xcoax.py", *arguments(data, tmp_path, "--max-iters", "9"),
                         preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)))
    assert status == 1 and "could not write" in err and "checkpoint.pt" in err and "Traceback" not in err, err
    assert (tmp_path / "last_checkpoint.pt").read_bytes() == good and not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("break_it, expected", [
    (lambda data, out: (data / "manifest.json").unlink(), "python preprocess_xcoax.py --data-dir"),
    (lambda data, out: (data / "tok400.model").unlink(), "No tokenizer at"),
    (lambda data, out: (data / "train_000000.bin").unlink(), "No shard at"),
    (lambda data, out: (data / "val_000000.bin").write_bytes(b"PK\x03\x04" * 400), "is not a shard"),
    (lambda data, out: (out / "last_checkpoint.pt").write_bytes(b"PK\x03\x04 and no more"), "damaged or cut short"),
], ids=["no shards", "no tokenizer", "a shard is missing", "a foreign shard", "a damaged checkpoint"])
def test_what_is_missing_or_damaged_is_named_with_the_next_command(tmp_path, break_it, expected):
    data, out = tmp_path / "data", tmp_path / "out"
    make_shards(data)
    out.mkdir()
    break_it(data, out)
    told = complaint(train_xcoax, *arguments(data, out))
    assert expected in told and str(tmp_path) in told


def test_shards_of_another_tokenizer_are_refused(tmp_path):
    make_shards(tmp_path / "data")
    make_shards(tmp_path / "other", vocab_size=390)
    (tmp_path / "data/val_000000.bin").write_bytes((tmp_path / "other/val_000000.bin").read_bytes())
    told = complaint(train_xcoax, *arguments(tmp_path / "data", tmp_path / "out"))
    assert "another tokenizer" in told and "val_000000.bin" in told


def test_another_shape_over_an_old_run_is_refused_with_the_ways_out(unbroken, data):
    told = complaint(train_xcoax, *arguments(data, unbroken, "--n-layer", "3"))
    assert "n_layer 2 (now 3)" in told and "--out-dir" in told


def test_overwriting_starts_anew(unbroken, data, tmp_path):
    (tmp_path / "last_checkpoint.pt").write_bytes((unbroken / "last_checkpoint.pt").read_bytes())
    call(train_xcoax, *arguments(data, tmp_path, "--overwrite", "--max-iters", "1"))
    assert checkpoint.load(tmp_path / "last_checkpoint.pt")["counters"]["iter_num"] == 1


def test_shards_of_instruction_examples_are_refused_with_the_script_that_takes_them(data, tmp_path):
    for path in data.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    manifest = {**read_manifest(data), "kind": "instruct", "counts": {}}
    for split in (chunk[split] for chunk in manifest["chunks"] for split in ("train", "val")):
        split["targets"] = split["documents"]
    write_manifest(tmp_path, manifest)
    with pytest.raises(ValueError, match=r"instruction examples.*\n.*python finetune_xcoax.py --data-dir .*\n"):
        call(train_xcoax, *arguments(tmp_path, tmp_path / "out"))
