"""What writing in the background promises: the bytes of the moment of the call, in order, and failures made good."""

import threading
from unittest.mock import patch

import pytest
import torch

import checkpoint
from checkpoint import background
from tests.support.tiny import RECORDS, TEXTS, tiny_model
from tokenizer import Tokenizer, train_tokenizer
from training.optimizers import make_optimizer
from training.settings import LoopSettings

TOKENIZER = Tokenizer(train_tokenizer([*TEXTS, *map(str, RECORDS)], 400))
COUNTERS = {"iter_num": 3, "samples": 4, "tokens": 5, "best_val_loss": 2.5}


@pytest.fixture
def state():
    """Model, tokenizer, settings, counters and optimizer, after an update."""
    model = tiny_model(vocab_size=400)
    optimizer = make_optimizer(model, LoopSettings(optimizer="muon"), torch.device("cpu"))
    update(model, optimizer)
    return model, TOKENIZER, {"seed": 1}, COUNTERS, optimizer


def update(model, optimizer):
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()


def no_room(path, content):
    raise OSError(28, f"could not write {path}")


def unexpected(error, counters):
    raise error


def test_the_bytes_are_those_of_the_moment_of_the_call(tmp_path, state):
    go_on = threading.Event()
    checkpoint.save(tmp_path / "expected.pt", *state)
    writer = checkpoint.Writer(unexpected)
    with patch.object(background, "write", lambda *what: go_on.wait() and checkpoint.file.write(*what)):
        writer.save(tmp_path / "found.pt", *state)
        update(state[0], state[-1])  # while it is being written
        assert not writer.written and not (tmp_path / "found.pt").exists()
        go_on.set()
        writer.finish()
    assert writer.written == {tmp_path / "found.pt": COUNTERS}
    assert (tmp_path / "found.pt").read_bytes() == (tmp_path / "expected.pt").read_bytes()


def test_files_arrive_in_the_order_of_the_calls(tmp_path, state):
    arrived, writer = [], checkpoint.Writer(unexpected)
    with patch.object(background, "write", lambda path, content: arrived.append(path.name)):
        for name in ("best", "last", "best", "best", "last"):
            writer.save(tmp_path / name, *state)
        writer.finish()
    assert arrived == ["best", "last", "best", "best", "last"]


def test_what_could_not_be_written_is_told_at_once_and_written_before_all_that_follows(tmp_path, state):
    best, last, told, arrived = tmp_path / "best.pt", tmp_path / "last.pt", [], []
    best.write_bytes(b"whole")
    writer = checkpoint.Writer(lambda error, counters: told.append((str(error), counters)))

    def noted(path, content):
        checkpoint.file.write(path, content)
        arrived.append(path)

    with patch.object(background, "write", no_room):
        writer.save(best, *state)
        writer.save(last, *state)
        writer.wait()
    assert best.read_bytes() == b"whole" and not last.exists() and not writer.written
    assert [(str(best) in error, counters) for error, counters in told] == [(True, COUNTERS)] * 2  # last was not tried
    with patch.object(background, "write", noted):
        writer.save(last, *state[:3], {**COUNTERS, "iter_num": 4}, state[-1])
        writer.finish()
    assert arrived == [best, last] == list(writer.written)
    assert [checkpoint.load(path)["counters"]["iter_num"] for path in (best, last)] == [3, 4]


def test_a_full_disk_leaves_the_old_file_whole_and_names_it_at_the_end(tmp_path, state):
    resource = pytest.importorskip("resource")
    path, told, limits = tmp_path / "last.pt", [], resource.getrlimit(resource.RLIMIT_FSIZE)
    checkpoint.save(path, *state)
    before, writer = path.read_bytes(), checkpoint.Writer(lambda error, counters: told.append(str(error)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        writer.save(path, *state)
        with pytest.raises(OSError) as error:
            writer.finish()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(error.value).startswith(f"could not write {path} (File too large)") and told == [str(error.value)]
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path] and not writer.written


def test_an_error_of_the_program_is_not_passed_over(tmp_path, state):
    def wrong(path, content):
        raise KeyError("a mistake")

    writer = checkpoint.Writer(unexpected)
    with patch.object(background, "write", wrong), pytest.raises(KeyError):
        writer.save(tmp_path / "last.pt", *state)
        writer.finish()
