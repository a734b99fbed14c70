"""What the progress tells: speed and the share of the peak, of the time of training alone, and what is left of it."""

import io

import pytest
import torch

from program.ranks import Ranks
from training import progress
from training.settings import LoopSettings


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is told otherwise."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def opened(ranks=Ranks(), **settings):
    return progress.Progress(LoopSettings(**settings), 0, torch.device("cpu"), ranks)


def test_time_between_pause_and_resume_is_in_no_figure(clock):
    bar = opened()
    for _ in range(2):  # five updates of a second each, and an evaluation after them
        bar.resume()
        for _ in range(5):
            clock[0] += 1
            bar.count(100)
        bar.pause()
        clock[0] += 50
    fields = bar.show(10, 3.0, 1)
    assert fields["tokens_per_second"] == 100 and fields["seconds"] == bar.seconds == 10


def test_several_processes_share_the_peaks_of_their_devices(clock, monkeypatch):
    monkeypatch.setattr(progress, "peak_flops", lambda device: 1000.0)
    bar = opened(Ranks(0, 4))
    bar.resume()
    clock[0] += 1
    bar.count(100)
    assert bar.show(10, 3.0, flops_per_token=8)["flops_utilization"] == 0.2


@pytest.mark.parametrize("minutes, left", [(None, "15 min left"), (10, "8 min left")])
def test_the_time_that_is_left_ends_with_the_updates_or_with_the_clock(clock, monkeypatch, capsys, minutes, left):
    monkeypatch.setattr(progress.sys, "stderr", io.StringIO())  # no terminal: lines instead of a bar
    bar = opened(max_iters=100, eval_interval=50, max_minutes=minutes)
    bar.resume()
    clock[0] += 100
    for _ in range(10):
        bar.count(100)
    bar.show(10, 3.0, 1)
    assert left in capsys.readouterr().out
