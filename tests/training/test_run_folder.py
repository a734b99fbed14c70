"""What a run's folder promises: it goes on from what it holds, keeps the best, and forgets what never happened."""

import json
import math
import threading
from unittest.mock import patch

import pytest
import torch

import checkpoint
from checkpoint import background
from tests.support.runs import rows
from tests.support.tiny import make_shards, tiny_model
from tokenizer import Tokenizer
from training import run_folder
from training.optimizers import make_optimizer
from training.run_folder import RunFolder
from training.settings import LoopSettings


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    make_shards(folder)
    return folder


@pytest.fixture
def opened(data, tmp_path):
    """A function that opens the folder of a run, with another seed of the weights if need be."""
    def open_folder(kind="base", seed=0, data_dir=data, **settings):
        tokenizer = Tokenizer.load(data / "tok400.model")
        model = tiny_model(seed=seed, vocab_size=400)
        settings = LoopSettings(data_dir=data_dir, out_dir=tmp_path / "out", **settings)
        optimizer = make_optimizer(model, settings, torch.device("cpu"))
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()  # without its state no run goes on
        folder = RunFolder(settings, model, tokenizer, optimizer, kind)
        save = folder.writer.save
        folder.writer.save = lambda *state: (save(*state), folder.writer.finish())  # which a run does at its end
        return folder

    return open_folder


def saved(folder, counters):
    """Save a run's best and last model."""
    folder.best.write_bytes(b"the best")
    folder.save_last(counters)


def counted(iter_num, best_val_loss=math.inf):
    return {"iter_num": iter_num, "samples": 4 * iter_num, "tokens": 128 * iter_num, "best_val_loss": best_val_loss,
            "loss_sum": 2.5 * (iter_num % 10), "loss_count": iter_num % 10, "skipped": 0, "skipped_in_a_row": 0,
            "decaying": 0, "first_batch_size": 8}


# ---- going on


def test_a_new_run_begins_at_nothing(opened):
    folder = opened()
    assert folder.counters == {**counted(0), "loss_sum": 0.0, "loss_count": 0, "first_batch_size": 16}
    assert folder.saved_at is None and not list(folder.path.iterdir())


def test_a_run_goes_on_from_the_last_save_with_its_weights(opened, capsys):
    folder = opened()
    saved(folder, counted(7, 2.5))
    assert folder.saved_at == 7
    again = opened(seed=1)
    assert again.counters == counted(7, 2.5) and again.saved_at == 7
    torch.testing.assert_close(again.model.state_dict(), folder.model.state_dict(), rtol=0, atol=0)
    assert f"Going on from {folder.last}, update 7\n" in capsys.readouterr().out


def test_changed_settings_are_said_and_taken(opened, capsys):
    opened(grad_clip=1.0).save_last(counted(7))
    assert opened(grad_clip=0.5).counters == counted(7)
    assert "with changed settings: grad_clip 1.0 -> 0.5\n" in capsys.readouterr().out


def test_an_old_run_that_is_to_be_thrown_away_goes_with_the_first_row_of_the_new_one(opened):
    folder = opened()
    folder.log(counted(7), val_loss=2.5)
    folder.save_if_best(counted(7), 2.5)
    folder.save_last(counted(7, 2.5))
    anew = opened(overwrite=True)
    assert anew.counters["iter_num"] == 0 and anew.saved_at is None and rows(anew.path) and anew.last.exists()
    anew.log(counted(0), val_loss=3.0)
    assert [path.name for path in anew.path.iterdir()] == ["metrics.jsonl"] and len(rows(anew.path)) == 1


def test_the_best_model_of_a_run_without_its_last_one_is_not_written_over(opened):
    opened().save_if_best(counted(7), 2.5)
    with pytest.raises(ValueError, match="holds a finished run: .* --out-dir, .* --overwrite"):
        opened()


@pytest.mark.parametrize("stored, asked, taken, said", [
    ("bfloat16", "auto", "bfloat16", "It computes in bfloat16, as before; a run that began on this device would take "
                                     "float32. Change it with --dtype float32.\n"),
    ("bfloat16", "float32", "float32", "with changed settings: dtype bfloat16 -> float32\n"),
    ("float32", "auto", "float32", "update 7\n"),
    ("auto", "auto", "float32", "dtype auto -> float32\n"),  # older checkpoints do not tell
], ids=["kept", "changed", "equal", "unknown"])
def test_the_precision_stays_what_it_was_unless_asked_for(opened, monkeypatch, capsys, stored, asked, taken, said):
    monkeypatch.setattr("program.device._cpu_multiplies_bfloat16", lambda: True)
    folder = opened(dtype="auto", device="cpu")
    assert folder.settings["dtype"] == "bfloat16"
    folder.settings["dtype"] = stored
    saved(folder, counted(7))
    monkeypatch.setattr("program.device._cpu_multiplies_bfloat16", lambda: False)
    assert opened(dtype=asked, device="cpu").settings["dtype"] == taken
    assert capsys.readouterr().out.endswith(said)


def test_on_another_part_of_the_validation_split_the_best_loss_is_sought_anew(opened, capsys):
    saved(opened(), counted(7, 2.5))
    assert opened(eval_tokens=1000).counters == counted(7)
    assert "Another part of the validation split is read, so the best validation loss is sought anew." in \
        capsys.readouterr().out


@pytest.fixture
def other_data(data, tmp_path):
    """The folder of other shards."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other/manifest.json").write_bytes((data / "manifest.json").read_bytes() + b"\n")
    return tmp_path / "other"


def test_on_other_shards_a_run_goes_on_and_seeks_the_best_loss_anew(opened, other_data, capsys):
    saved(opened(), counted(7, 2.5))
    assert opened(data_dir=other_data).counters == counted(7)
    assert "the best validation loss is sought anew" in capsys.readouterr().out


def test_fine_tuning_does_not_go_on_with_other_examples(opened, other_data):
    opened("instruct").save_last(counted(7))
    with pytest.raises(ValueError, match="comes from other examples"):
        opened("instruct", data_dir=other_data)


def test_shards_that_were_moved_are_the_same_shards(opened, data, tmp_path):
    saved(opened(), counted(7, 2.5))
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved/manifest.json").write_bytes((data / "manifest.json").read_bytes())
    assert opened(data_dir=tmp_path / "moved").counters == counted(7, 2.5)


def test_fine_tuning_does_not_go_on_from_another_base_model(opened):
    opened("instruct").save_last(counted(7))
    with pytest.raises(ValueError, match="comes from another base model"):
        opened("instruct", seed=1)


def test_where_the_best_model_is_gone_the_best_loss_is_sought_anew(opened, capsys):
    opened().save_last(counted(7, 2.5))
    assert opened().counters == counted(7)
    assert "best_checkpoint.pt is gone, so the best validation loss is sought anew." in capsys.readouterr().out


@pytest.mark.parametrize("value", [0, -3, 2.5, 2**62, "16", None])
def test_a_batch_size_that_is_none_is_named(opened, value):
    folder = opened()
    folder.settings["batch_size"] = value
    folder.save_last({name: number for name, number in counted(7).items() if name != "first_batch_size"})
    with pytest.raises(ValueError, match=f"last_checkpoint.pt is damaged, .* began is {value!r}.*--overwrite"):
        opened()


def test_a_setting_that_an_older_run_did_not_have_is_no_change(opened, capsys):
    folder = opened()
    folder.settings = {name: folder.settings[name] for name in ("data", "eval_tokens")}
    saved(folder, counted(7, 2.5))
    assert opened().counters == {**counted(7, 2.5), "first_batch_size": 8}
    assert capsys.readouterr().out == f"Going on from {folder.last}, update 7\n"


# ---- what was measured


def test_rows_after_the_update_that_a_run_goes_on_from_are_dropped_and_so_is_one_cut_short(opened):
    folder = opened()
    for iter_num in (10, 20, 30):
        folder.log(counted(iter_num), train_loss=3.0)
        if iter_num == 20:
            folder.save_last(counted(20))
    for end in ("", '{"iter": 4', '{"iter": 4}'):
        with open(folder.metrics, "a") as file:
            file.write(end)
        assert rows(opened().path) == [{"iter": i, "tokens": 128 * i, "train_loss": 3.0} for i in (10, 20)]


@pytest.mark.parametrize("damage", [
    b'{"iter": 5}\n', b'{"tokens": 5}\n', b'["iter", {}\n', b"[1, {}]\n", b"null\n", b"\xff\xfe}\n",
    b'{"iter": "5", "tokens": 1}\n', b"[" * 100_000 + b"}\n", b'{"iter": 5, "tokens": 1, "val_loss": {}}\n',
    b'{"iter": 5, "tokens": 1, "train_loss": "x"}\n', b'{"iter": 5, "tokens": 1, "learning_rate": []}\n',
    b'{"iter": 5, "tokens": ' + b"9" * 400 + b"}\n"])
def test_damaged_rows_are_dropped_and_counted(opened, capsys, damage):
    folder = opened()
    folder.save_last(counted(20))
    folder.log(counted(10), train_loss=3.0)
    with open(folder.metrics, "ab") as file:
        file.write(damage + damage)
    folder.log(counted(20), train_loss=2.0)
    assert [row["iter"] for row in rows(opened().path)] == [10, 20]
    assert f"{folder.metrics} has 2 damaged rows, dropped.\n" in capsys.readouterr().out


def test_rows_that_cannot_be_written_are_told_of_once_and_written_with_the_next_that_can(opened, capsys):
    folder = opened()
    folder.metrics.symlink_to("/dev/full")
    for iter_num in (10, 20):
        folder.log(counted(iter_num), train_loss=3.0)
    assert capsys.readouterr().out.count(f"could not write {folder.metrics} (No space left on device). Make room") == 1
    folder.metrics.unlink()
    folder.log(counted(30), train_loss=2.0)
    assert [row["iter"] for row in rows(folder.path)] == [10, 20, 30]


def test_the_error_that_ends_a_run_is_raised_even_where_a_checkpoint_cannot_be_written(opened, capsys):
    folder = opened()

    def finish():
        raise OSError("could not write last_checkpoint.pt")

    folder.writer.finish = finish
    with pytest.raises(FloatingPointError, match="not finite"), folder.writing():
        raise FloatingPointError("not finite")
    assert capsys.readouterr().err == "could not write last_checkpoint.pt\n"
    with pytest.raises(OSError, match="last_checkpoint.pt"), folder.writing():
        pass


def test_what_was_saved_is_known_when_it_is_asked_for(opened):
    """While the newest checkpoint is being written, and where it could not be."""
    folder, go_on = opened(), threading.Event()
    folder.writer = checkpoint.Writer(folder._not_written)
    folder.save_last(counted(7, 2.5))
    wait = folder.writer.wait
    with (patch.object(background, "write", lambda *what: go_on.wait() and checkpoint.file.write(*what)),
          patch.object(folder.writer, "wait", lambda: (go_on.set(), wait()))):
        folder.save_last(counted(8, 2.5))
        try:
            assert folder.saved_at == 8 and folder.given_at == 8
        finally:
            go_on.set()
    with patch.object(background, "write", side_effect=OSError(28, "No space left on device")):
        folder.save_last(counted(9, 2.5))
        assert folder.saved_at == 8 and folder.given_at == 9


def test_the_rows_of_a_run_that_saved_nothing_are_dropped(opened):
    folder = opened()
    folder.log(counted(10), train_loss=3.0)
    assert rows(opened().path) == []


def test_the_curve_is_a_picture_of_whatever_rows_there_are(opened):
    folder = opened()
    for row in ({"val_loss": 4.0}, {"train_loss": 3.0}, {"val_loss": 2.0, "bits_per_byte": None}):
        folder.log(counted(10), **row)
        folder.plot(at_once=True)
        assert (folder.path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in folder.path.iterdir()) == ["loss.png", "metrics.jsonl"]


def test_the_curve_is_not_drawn_more_often_than_somebody_may_look_at_it(opened, monkeypatch):
    folder = opened()
    folder.log(counted(10), val_loss=4.0)
    folder.plot()
    assert not folder.picture.exists()  # the run has just begun
    monkeypatch.setattr(run_folder, "SECONDS_BETWEEN_PICTURES", 0)
    folder.plot()
    assert folder.picture.exists()


# ---- what is kept


def test_the_best_is_the_lowest_finite_loss_and_is_noted(opened):
    folder, counters, kept = opened(), counted(0), []
    for iter_num, val_loss in enumerate([3.0, math.inf, 2.0, math.nan, 2.0, 2.5, 1.0]):
        counters = {**counters, "iter_num": iter_num}
        folder.save_if_best(counters, val_loss)
        content = checkpoint.load(folder.best)
        kept.append((content["counters"]["iter_num"], content["counters"]["best_val_loss"], counters["best_val_loss"]))
    assert kept == [(0, 3.0, 3.0)] * 2 + [(2, 2.0, 2.0)] * 4 + [(6, 1.0, 1.0)]
    assert "optimizer" not in content and not folder.last.exists()


def test_what_changes_nothing_of_the_result_is_not_kept(opened, data, tmp_path):
    folder = opened()
    folder.save_last(counted(1))
    kept = checkpoint.load(folder.last)["settings"]
    assert {"data_dir", "out_dir", "device", "overwrite", "wandb"}.isdisjoint(kept) and "learning_rate" in kept
    assert str(tmp_path) not in json.dumps(kept)
