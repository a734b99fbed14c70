"""What the loop promises: what is found is saved before it is shown, and no way of being stopped changes a bit."""

import contextlib
import io
import itertools
import json
import math
import os
import signal
import sys
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch

import checkpoint
from program.files import locked_folder
from shards import Windows, read_split
from tests.support.runs import rows
from tests.support.tiny import make_shards, tiny_model
from tokenizer import Tokenizer
from training.loop import train
from training.settings import LoopSettings
from training.stopping import StopSignals
from training.update import accumulate

FILES = ("best_checkpoint.pt", "last_checkpoint.pt")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    make_shards(folder)
    return folder


@pytest.fixture(scope="module")
def training(data):
    """A function that trains a tiny model in a folder: before(iter_num) is called before an update's batches are drawn,
    val_batches replace the usual ones, and settings are those of the loop. Only where draws is set does it draw the
    curve, which takes as long as all the rest."""
    tokenizer = Tokenizer.load(data / "tok400.model")
    windows, val_windows = (Windows(read_split(data, split), 16, 1, split) for split in ("train", "val"))

    def run(out, sample=lambda: "a sample", before=lambda iter_num: None, val_batches=None, draws=False, **settings):
        settings = LoopSettings(data_dir=data, out_dir=out, **{
            "batch_size": 2, "max_iters": 30, "eval_interval": 10, "save_interval": 7, "warmup_iters": 3, "eval_tokens":
            320, "learning_rate": 3e-3, "device": "cpu", "dtype": "float32", "compile": False, **settings})

        def batches(counters):
            before(counters["iter_num"])
            return [tensors(windows.batch(counters["samples"], settings.batch_size))]

        def tensors(pair):
            return (*map(torch.from_numpy, pair), None)

        model = tiny_model(block_size=16, vocab_size=400, dropout=0.1)
        fixed = [tensors(pair) for pair in val_windows.fixed_batches(settings.eval_tokens, settings.batch_size)]
        with contextlib.nullcontext() if draws else patch("training.run_folder.plot_losses"):
            return train(settings, model, tokenizer, batches, val_batches or fixed, sample,
                         whereabouts=lambda counters: f"It read samples {counters['samples']}.")

    return run


@pytest.fixture(scope="module")
def unbroken(training, tmp_path_factory):
    """The folder of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("unbroken")
    training(out)
    return out


def same_bytes(one, other):
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in FILES)


def at(iter_num, action):
    """What raises or sends something before the batches of an update, which are fetched one update ahead."""
    def before(found):
        if found == iter_num:
            action()

    return before


def killed():
    raise KeyboardInterrupt


def send(number):
    return lambda: os.kill(os.getpid(), number)


def stopped(training, out, number=signal.SIGTERM, **settings):
    """Train until a signal ends it, with that signal's exit status, so that `train && sample` does not go on."""
    with pytest.raises(SystemExit) as ended:
        training(out, **settings)
    assert ended.value.code == 128 + number


def measured(row):
    """A row of metrics without the times, which no two runs have in common."""
    return {name: row.get(name) for name in ("iter", "tokens", "train_loss", "val_loss", "learning_rate", "grad_norm")}


def saved_update(out):
    return checkpoint.load(out / "last_checkpoint.pt")["counters"]["iter_num"]


# ---- what is shown


def test_what_was_found_is_saved_before_it_is_shown(unbroken, training, tmp_path):
    shown = []

    def stopped_at_update_20():
        shown.append(1)
        if len(shown) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training(tmp_path, sample=stopped_at_update_20, save_interval=10)
    assert saved_update(tmp_path) == 20 and rows(tmp_path)[-1]["iter"] == 20 and "val_loss" in rows(tmp_path)[-1]
    training(tmp_path, save_interval=10)
    assert [row["iter"] for row in rows(tmp_path) if "val_loss" in row] == [0, 10, 20, 30]  # none of them twice


def test_a_sample_that_cannot_be_drawn_is_told_once_and_changes_nothing(unbroken, training, tmp_path, capsys):
    def failing():
        raise ValueError("no words")

    training(tmp_path, sample=failing)
    out = capsys.readouterr().out
    assert out.count("Could not show a sample (ValueError: no words). Training goes on.\n") == 1
    assert out.count("validation loss") >= 4 and same_bytes(tmp_path, unbroken)


def test_a_text_that_standard_output_cannot_take_is_told_once_and_changes_nothing(unbroken, training, tmp_path):
    latin = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    with patch.object(sys, "stdout", latin):
        training(tmp_path, sample=lambda: "Łódź")
    out = latin.buffer.getvalue().decode("latin-1")
    assert out.count("Could not show a sample (UnicodeEncodeError") == 1 and "Finished after update 30" in out
    assert same_bytes(tmp_path, unbroken)


def test_a_reader_who_leaves_is_told_of_on_standard_error_and_changes_nothing(unbroken, training, tmp_path, capfd):
    reading, writing = os.pipe()
    os.close(reading)
    pipe = os.fdopen(writing, "w")
    with patch.object(sys, "stdout", pipe):
        training(tmp_path)
    told = capfd.readouterr().err
    assert told.count("Standard output takes no more (Broken pipe): messages follow here.") == 1
    assert "Finished after update" in told
    assert same_bytes(tmp_path, unbroken)


def test_a_curve_that_cannot_be_drawn_is_told_once_and_changes_nothing(unbroken, training, tmp_path, capsys):
    (tmp_path / "loss.png").mkdir()
    training(tmp_path, draws=True)
    out = capsys.readouterr().out
    assert out.count("Could not draw loss.png (OSError: could not write") == 1 and same_bytes(tmp_path, unbroken)


def test_a_sample_with_control_characters_or_half_a_character_is_shown_as_pictures_of_them(training, tmp_path, capsys):
    training(tmp_path, sample=lambda: "\x1b[31mred \ud800 \u202edark", max_iters=1)
    out = capsys.readouterr().out
    assert "␛[31mred \\ud800 \\u202edark" in out and not set("\x1b\ud800\u202e") & set(out)


@pytest.mark.parametrize("settings, expected", [
    ({}, [10, 20, 30]), ({"eval_interval": 100, "max_iters": 40}, [20, 40]),
], ids=["often", "seldom"])
def test_without_a_terminal_there_are_lines_instead_of_a_bar(training, tmp_path, capsys, settings, expected):
    training(tmp_path, **settings)
    out, err = capsys.readouterr()
    lines = [line for line in out.splitlines() if line.endswith(" tokens/s")]
    assert [int(line.split()[1]) for line in lines] == expected and err == ""
    assert lines[0].startswith(f"update {expected[0]} of {settings.get('max_iters', 30)}: loss ")


# ---- being stopped


CLOCK = ("tokens_per_second", "teraflops", "seconds")


@pytest.mark.parametrize("iter_num", [3, 13, 17, 29])
def test_every_row_of_a_run_that_was_killed_is_that_of_an_unbroken_one(unbroken, training, tmp_path, iter_num):
    with pytest.raises(KeyboardInterrupt):
        training(tmp_path, before=at(iter_num, killed))
    training(tmp_path)
    assert same_bytes(tmp_path, unbroken)
    assert [{name: value for name, value in row.items() if name not in CLOCK} for row in rows(tmp_path)] == [
        {name: value for name, value in row.items() if name not in CLOCK} for row in rows(unbroken)]


def test_a_row_is_the_mean_of_its_ten_updates_even_where_an_earlier_run_ended_among_them(unbroken, training, tmp_path):
    training(tmp_path, max_iters=17, lr_decay_iters=30)
    training(tmp_path)
    losses, expected = ({row["iter"]: row["train_loss"] for row in rows(out) if "train_loss" in row}
                        for out in (tmp_path, unbroken))
    assert losses.pop(17) and losses == expected


def test_a_checkpoint_without_sums_of_losses_is_gone_on_with(training, tmp_path):
    training(tmp_path, max_iters=17)
    content = checkpoint.load(tmp_path / "last_checkpoint.pt")
    for name in ("loss_sum", "loss_count", "first_batch_size"):
        del content["counters"][name]
    torch.save(content, tmp_path / "last_checkpoint.pt")
    assert training(tmp_path)["first_batch_size"] == 2
    assert all(4 < row["train_loss"] < 7 for row in rows(tmp_path) if "train_loss" in row)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_finishes_the_update_saves_and_says_how_to_go_on(unbroken, training, tmp_path, capsys, number):
    before = signal.getsignal(number)
    stopped(training, tmp_path, number, before=at(12, send(number)))
    assert saved_update(tmp_path) == 12 and signal.getsignal(number) is before
    assert f"Stopped by {number.name} after update 12, saved in {tmp_path / 'last_checkpoint.pt'}. The same command " \
        "goes on from there." in capsys.readouterr().out
    training(tmp_path)
    assert same_bytes(tmp_path, unbroken)


def test_under_nohup_a_closed_terminal_stops_nothing(training, tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert training(tmp_path, before=at(12, send(signal.SIGHUP)))["iter_num"] == 30
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_is_taken_where_not_even_standard_error_can_be_written(monkeypatch):
    def gone(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("training.stopping.os.write", gone)
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received == "SIGTERM"


@pytest.mark.parametrize("when", ["in the last update", "in the last evaluation"])
def test_a_signal_in_the_end_of_a_run_finds_it_finished(training, tmp_path, capsys, when):
    shown = []

    def signal_at_the_last():
        shown.append(1)
        if len(shown) == 4:
            send(signal.SIGTERM)()

    training(tmp_path, **({"before": at(30, send(signal.SIGTERM))} if "update" in when else
                          {"sample": signal_at_the_last}))
    out = capsys.readouterr().out
    assert "Finished after update 30: all updates are done." in out and "Stopped" not in out


def test_a_signal_while_a_sample_is_shown_is_not_answered_before_what_it_finishes_is_saved(training, tmp_path):
    shown = []

    def signal_at_update_10():
        shown.append(1)
        if len(shown) == 2:
            send(signal.SIGTERM)()

    stopped(training, tmp_path, sample=signal_at_update_10)
    assert saved_update(tmp_path) == 11


def test_a_run_keeps_its_precision_on_another_machine(training, tmp_path, monkeypatch):
    monkeypatch.setattr("program.device._cpu_multiplies_bfloat16", lambda: True)
    training(tmp_path / "unbroken", dtype="auto", max_iters=10)
    stopped(training, tmp_path / "moved", dtype="auto", max_iters=10, before=at(5, send(signal.SIGTERM)))
    monkeypatch.setattr("program.device._cpu_multiplies_bfloat16", lambda: False)
    training(tmp_path / "moved", dtype="auto", max_iters=10)
    assert same_bytes(tmp_path / "unbroken", tmp_path / "moved")


def test_an_update_that_a_signal_breaks_off_is_done_again_and_any_other_error_is_raised(unbroken, training, tmp_path):
    """Ctrl-C reaches the processes of the compiler, too, and the update that waits for them fails."""
    def fails(*_):
        raise RuntimeError("a process died")

    def breaks_off(*_):
        os.kill(os.getpid(), signal.SIGINT)
        fails()

    training(tmp_path, max_iters=11, lr_decay_iters=30)
    with patch("training.update.accumulate", breaks_off):
        stopped(training, tmp_path, signal.SIGINT)
    with patch("training.update.accumulate", fails), pytest.raises(RuntimeError, match="a process died"):
        training(tmp_path)
    training(tmp_path)
    assert same_bytes(tmp_path, unbroken)


# ---- a checkpoint is being written


def test_a_full_disk_in_the_middle_is_told_and_training_goes_on(unbroken, training, tmp_path, capsys):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def before(iter_num):  # saves at 7 and 14; the second waits for the first
        if iter_num in (5, 20):
            resource.setrlimit(resource.RLIMIT_FSIZE, (300 if iter_num == 5 else limits[0], limits[1]))

    try:
        training(tmp_path, before=before)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"could not write {tmp_path}")]
    assert len({line.partition(" Training ")[0] for line in told}) == len(told) >= 2
    for line in told:
        again = "with the next row" if "metrics.jsonl" in line else "at update "
        assert "(File too large)" in line and f"Training goes on, and tries again {again}" in line
    assert same_bytes(tmp_path, unbroken) and not list(tmp_path.glob("*.partial"))
    assert [measured(row) for row in rows(tmp_path)] == [measured(row) for row in rows(unbroken)]


def test_rows_that_found_no_room_until_the_end_are_an_error(training, tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with patch("training.run_folder.checkpoint.Writer"), pytest.raises(OSError, match="metrics.jsonl .*too large"):
            training(tmp_path, before=at(5, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [row["iter"] for row in rows(tmp_path)] == [0, 10]  # whole ones


def test_a_run_killed_before_its_last_checkpoint_arrived_repeats_its_updates(unbroken, training, tmp_path):
    """The best checkpoint is then newer than the last."""
    def arrives(path, content):
        if path.name != "last_checkpoint.pt" or content["counters"]["iter_num"] <= 7:
            checkpoint.file.write(path, content)

    with patch("checkpoint.background.write", arrives), pytest.raises(KeyboardInterrupt):
        training(tmp_path, before=at(25, killed))
    assert saved_update(tmp_path) == 7
    assert checkpoint.load(tmp_path / "best_checkpoint.pt")["counters"]["iter_num"] > 7
    training(tmp_path)
    assert same_bytes(tmp_path, unbroken)
    assert [row["iter"] for row in rows(tmp_path)] == [row["iter"] for row in rows(unbroken)]


def test_a_signal_while_the_last_checkpoint_is_written_cuts_nothing_off(unbroken, training, tmp_path, capsys):
    def interrupted(writer):
        send(signal.SIGTERM)()
        finish(writer)

    def cut_off(*_):
        raise AssertionError("the signal would have ended the program")

    finish, before = checkpoint.Writer.finish, signal.signal(signal.SIGTERM, cut_off)
    try:
        with patch.object(checkpoint.Writer, "finish", interrupted):
            training(tmp_path)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert same_bytes(tmp_path, unbroken) and "Finished after update 30" in capsys.readouterr().out


# ---- whose folder it is


def test_a_second_run_in_the_same_folder_is_refused_before_it_reads_anything(training, tmp_path):
    (tmp_path / "last_checkpoint.pt").write_bytes(b"whatever")
    with locked_folder(tmp_path), pytest.raises(OSError, match="is being written by another run"):
        training(tmp_path)


@pytest.mark.parametrize("overwrite", [False, True])
def test_finished_work_is_refused_unless_it_is_to_be_thrown_away(unbroken, training, tmp_path, overwrite, capsys):
    (tmp_path / "best_checkpoint.pt").write_bytes((unbroken / "best_checkpoint.pt").read_bytes())
    if overwrite:
        assert training(tmp_path, overwrite=True, max_iters=1)["iter_num"] == 1
        assert checkpoint.load(tmp_path / "best_checkpoint.pt")["counters"]["iter_num"] <= 1
        return
    with pytest.raises(ValueError, match="holds a finished run: best_checkpoint.pt, .*--out-dir, .* --overwrite"):
        training(tmp_path)
    assert (tmp_path / "best_checkpoint.pt").read_bytes() == (unbroken / "best_checkpoint.pt").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"best_checkpoint.pt", ".lock"}


def test_an_old_run_is_thrown_away_only_when_the_new_one_is_known_to_work(unbroken, training, tmp_path):
    for path in unbroken.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "notes.txt").write_text("mine")
    out_of_vocabulary = [(torch.full((1, 4), 10**6), torch.zeros(1, 4, dtype=torch.long), None)]
    with pytest.raises(IndexError):
        training(tmp_path, overwrite=True, val_batches=out_of_vocabulary)
    assert same_bytes(tmp_path, unbroken) and rows(tmp_path) == rows(unbroken)
    training(tmp_path, overwrite=True, max_iters=1)
    assert [row["iter"] for row in rows(tmp_path)] == [0, 1, 1] and saved_update(tmp_path) == 1
    assert (tmp_path / "notes.txt").exists()


def test_whoever_stops_a_run_that_threw_another_away_is_told_to_go_on_without_that_flag(training, tmp_path, capsys):
    stopped(training, tmp_path, overwrite=True, before=at(12, send(signal.SIGTERM)))
    assert "The same command (without --overwrite) goes on from there." in capsys.readouterr().out


# ---- what else is said


@pytest.mark.parametrize("warmup_iters, said", [(31, True), (30, False)])
def test_a_warm_up_longer_than_the_run_is_remarked_on(training, tmp_path, capsys, warmup_iters, said):
    stopped(training, tmp_path, warmup_iters=warmup_iters, before=at(1, send(signal.SIGTERM)))
    expected = "The warm-up of 31 updates does not end within the run of 30: the rate rises to 0.0029 at most, not to "
    assert (expected in capsys.readouterr().out) == said


# ---- updates that went wrong


def broken(updates):
    """Losses that are not finite in these updates, in place of the true ones, with the gradients that come of them."""
    def accumulated(model, batches, *arguments):
        loss = accumulate(model, batches, *arguments)
        if next(numbers) in updates:
            for p in model.parameters():
                p.grad.fill_(math.nan)
            return loss * math.nan
        return loss

    numbers = itertools.count()
    return patch("training.update.accumulate", accumulated)


def same_weights(one, other):
    return all(torch.equal(weight, other["model"][name]) for name, weight in one["model"].items())


def test_an_update_that_is_not_finite_changes_nothing_is_told_and_counted(training, tmp_path, capsys):
    with broken({3, 4}):
        training(tmp_path / "skipped", max_iters=5, save_interval=100)
    training(tmp_path / "before", max_iters=3, lr_decay_iters=5)
    skipped, before = (checkpoint.load(tmp_path / name / "best_checkpoint.pt") for name in ("skipped", "before"))
    assert same_weights(skipped, before) and skipped["counters"]["skipped"] == 2
    assert skipped["counters"]["iter_num"] == 5
    out = capsys.readouterr().out
    assert "Update 3 is skipped: loss nan, gradient norm nan. It read samples 6." in out and "Update 4 is" in out
    last = rows(tmp_path / "skipped")[-2]
    assert last["skipped"] == 2 and last["train_loss"] < 7 and last["grad_norm"] is None
    assert saved_update(tmp_path / "skipped") == 5  # the end is saved, whatever the last update was


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_ten_skipped_updates_in_a_row_end_the_run_and_keep_the_last_checkpoint(training, tmp_path, optimizer):
    with broken({8, *range(10, 40)}), pytest.raises(FloatingPointError, match="up to 19, .* holds update 7") as ended:
        training(tmp_path, optimizer=optimizer, head_rate=6e-3)
    assert "--learning-rate 0.001 --head-rate 0.002 --min-lr 3e-05" in str(ended.value)
    good = checkpoint.load(tmp_path / "last_checkpoint.pt")
    training(tmp_path / "whole", optimizer=optimizer, max_iters=7, lr_decay_iters=30, head_rate=6e-3)
    assert same_weights(good, checkpoint.load(tmp_path / "whole" / "last_checkpoint.pt"))


# ---- too little memory


def test_where_memory_runs_out_smaller_batches_give_the_same_updates(training, tmp_path, capsys):
    def small_device(model, batches, *arguments):
        if max(len(x) for x, _, _ in batches) > 2:
            raise torch.OutOfMemoryError
        return accumulate(model, batches, *arguments)

    training(tmp_path / "large", batch_size=8, max_iters=5)
    with patch("training.update.accumulate", small_device):
        training(tmp_path / "small", batch_size=8, max_iters=5)
    assert capsys.readouterr().out.count("Going on with") == 2  # 4 sequences, then 2
    small, large = (rows(tmp_path / name) for name in ("small", "large"))
    assert [row["tokens"] for row in small] == [row["tokens"] for row in large]
    assert small[-1]["val_loss"] == pytest.approx(large[-1]["val_loss"], rel=1e-3)  # dropout falls otherwise


def test_where_one_sequence_is_too_much_it_is_said_what_to_do(training, tmp_path):
    def no_memory(*_):
        raise torch.OutOfMemoryError

    with patch("training.update.accumulate", no_memory), pytest.raises(MemoryError, match="activation-checkpointing"):
        training(tmp_path, batch_size=4, max_iters=5)


# ---- a longer run from a stable checkpoint


def test_a_finished_wsd_run_is_made_longer_as_if_it_had_been_longer_from_the_start(training, tmp_path, capsys):
    wsd = {"schedule": "wsd", "decay_fraction": 0.5, "eval_interval": 5, "save_interval": 5}
    training(tmp_path / "long", max_iters=30, **wsd)
    training(tmp_path / "made", max_iters=20, **wsd)
    capsys.readouterr()
    training(tmp_path / "made", max_iters=30, **wsd)
    assert "stable_checkpoint.pt, update 12" in capsys.readouterr().out  # 3 of warm-up, and half of 17
    made, long = (checkpoint.load(tmp_path / name / "last_checkpoint.pt") for name in ("made", "long"))
    assert same_weights(made, long)
    assert [measured(row) for row in rows(tmp_path / "made")] == [measured(row) for row in rows(tmp_path / "long")]


def test_a_run_that_was_made_longer_loses_nothing_when_it_is_stopped(training, tmp_path, capsys):
    wsd = {"schedule": "wsd", "decay_fraction": 0.5, "eval_interval": 5, "save_interval": 5}
    training(tmp_path / "long", max_iters=40, **wsd)
    training(tmp_path / "made", max_iters=20, **wsd)
    stopped(training, tmp_path / "made", max_iters=40, before=at(18, send(signal.SIGTERM)), **wsd)
    capsys.readouterr()
    training(tmp_path / "made", max_iters=40, **wsd)
    assert "last_checkpoint.pt, update 18" in capsys.readouterr().out
    assert [measured(row) for row in rows(tmp_path / "made")] == [measured(row) for row in rows(tmp_path / "long")]


def test_a_run_that_is_decaying_goes_on_from_its_last_checkpoint(training, tmp_path, capsys):
    wsd = {"schedule": "wsd", "decay_fraction": 0.5}
    training(tmp_path / "unbroken", max_iters=20, **wsd)
    with pytest.raises(KeyboardInterrupt):
        training(tmp_path / "broken", max_iters=20, before=at(17, killed), **wsd)
    training(tmp_path / "broken", max_iters=20, **wsd)
    assert "last_checkpoint.pt, update 14" in capsys.readouterr().out
    assert same_bytes(tmp_path / "broken", tmp_path / "unbroken")


def test_a_schedule_that_would_end_before_the_update_reached_is_refused(unbroken, training, tmp_path):
    training(tmp_path, max_iters=20)
    with pytest.raises(ValueError, match="--lr-decay-iters 15 ends the schedule before update 20"):
        training(tmp_path, lr_decay_iters=15)


# ---- another optimiser


@pytest.mark.parametrize("before, now", [("adamw", "muon"), ("muon", "adamw")])
def test_the_state_of_another_optimiser_is_named_and_can_be_left_behind(training, tmp_path, before, now):
    training(tmp_path, optimizer=before, max_iters=10)
    with pytest.raises(ValueError, match=f"(?s)of the optimiser {before}, .* to use {now}.*--optimizer {before}\n.*"
                                         "--reset-optimizer"):
        training(tmp_path, optimizer=now)
    training(tmp_path, optimizer=now, reset_optimizer=True)
    assert saved_update(tmp_path) == 30
    training(tmp_path, optimizer=now, max_iters=35)  # the flag was needed once


@pytest.mark.parametrize("before, now", [("adamw", "muon"), ("muon", "adamw")])
def test_before_the_first_update_another_optimiser_is_as_good(training, tmp_path, before, now):
    with pytest.raises(KeyboardInterrupt):
        training(tmp_path, optimizer=before, before=at(1, killed))
    assert saved_update(tmp_path) == 0
    training(tmp_path, optimizer=now, max_iters=10)
    assert saved_update(tmp_path) == 10


def test_sparing_memory_that_a_small_model_does_not_take_is_remarked_on(training, tmp_path, capsys):
    training(tmp_path, activation_checkpointing=True, max_iters=1)
    assert "a model this small does not need it" in capsys.readouterr().out


# ---- an experiment tracker


class FailedLogin(Exception):
    """What the tracker raises where nobody has logged in."""


@pytest.fixture
def tracker(monkeypatch):
    """A stand-in for Weights & Biases, which would take seconds to start: what it was told, in order."""
    told = []
    stand_in = SimpleNamespace(
        Error=FailedLogin, init=lambda **options: told.append("init") or stand_in,
        log=lambda row, step: told.append(step), finish=lambda exit_code: told.append(("finish", exit_code)))
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    return told


def test_a_tracker_hears_every_row_and_that_all_went_well(training, tmp_path, tracker):
    training(tmp_path, wandb=True)
    assert tracker == ["init", *[row["iter"] for row in rows(tmp_path)], ("finish", 0)]


def test_a_tracker_is_not_opened_where_nothing_is_to_be_done(unbroken, training, tracker):
    training(unbroken, wandb=True)
    assert tracker == []


@pytest.mark.parametrize("action, expected", [(killed, KeyboardInterrupt), (lambda: 1 / 0, ZeroDivisionError)])
def test_a_tracker_hears_of_an_error_that_ends_the_run(training, tmp_path, tracker, action, expected):
    with pytest.raises(expected):
        training(tmp_path, wandb=True, before=at(5, action))
    assert tracker[0] == "init" and tracker[-1] == ("finish", 1)


def test_a_tracker_that_nobody_has_logged_in_to_is_named_before_any_work(training, tmp_path, tracker, monkeypatch):
    def refuses(**options):
        raise FailedLogin("no key")

    monkeypatch.setattr(sys.modules["wandb"], "init", refuses)
    with pytest.raises(ValueError, match="Weights & Biases cannot be used .no key.. Run `wandb login`"):
        training(tmp_path, wandb=True)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_tracker_that_is_not_installed_is_named_before_any_work(training, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match="pip install wandb"):
        training(tmp_path, wandb=True)
    assert not (tmp_path / "metrics.jsonl").exists()


# ---- the validation set


def test_validation_finds_the_same_loss_with_every_batch_size(training, tmp_path):
    losses = []
    for batch_size in (1, 3, 20):
        training(tmp_path / str(batch_size), batch_size=batch_size, max_iters=1)
        losses.append(rows(tmp_path / str(batch_size))[0]["val_loss"])
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6) and all(map(math.isfinite, losses))
    assert json.loads((tmp_path / "1/metrics.jsonl").read_text().splitlines()[0])["iter"] == 0
