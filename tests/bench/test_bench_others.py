"""The comparison with others: their numbers are read and not run, their modules do not take the place of ours."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent.parent
NUMBERS = {"learning_rate": 1e-3, "min_lr": 1e-4, "warmup_iters": 100, "lr_decay_iters": 1000, "weight_decay": 0.1,
           "beta1": 0.9, "beta2": 0.95, "grad_clip": 1.0}


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "bench")
    return importlib.import_module("bench_others")


class Line(torch.nn.Linear):
    def configure_optimizers(self, weight_decay, learning_rate, betas, device_type):
        return torch.optim.AdamW(self.parameters(), learning_rate, betas, weight_decay=weight_decay)

    def forward(self, x, y):
        return None, (super().forward(x) - y).square().mean()


def line(bench, name="line"):
    torch.manual_seed(1)
    return bench.Other(name, Line(1, 1), SimpleNamespace(**NUMBERS), torch.device("cpu"), torch.float32)


def test_constants_of_a_script_are_read_without_its_being_run(bench, tmp_path):
    path = tmp_path / "train.py"
    path.write_text("raise SystemExit\nrate = 6e-4 # highest\nbias = False\nsteps = 5 * 8\nname = open('x')\n")
    assert bench.constants(path) == {"rate": 6e-4, "bias": False}


def test_modules_of_others_find_their_own_config_and_leave_ours_in_place(bench, tmp_path):
    (tmp_path / "config.py").write_text("width = 3")
    (tmp_path / "model.py").write_text("from config import width")
    config = bench.imported(tmp_path / "config.py", "theirs_config")
    assert bench.imported(tmp_path / "model.py", "theirs_model", config=config).width == 3
    assert "config" not in sys.modules and hasattr(importlib.import_module("model"), "GPTConfig")
    with pytest.raises(FileNotFoundError, match="name a checkout"):
        bench.imported(tmp_path / "absent.py", "absent")


def test_the_rate_of_others_rises_by_updates_falls_by_the_clock_and_ends_at_the_lowest(bench):
    program = line(bench)
    program.begin(expected_updates=200)
    assert program.warmup_iters == 20
    rising = [program.rate(n, n / 200) for n in range(20)]
    falling = [program.rate(n, n / 200) for n in range(20, 201)]
    assert rising == sorted(rising) and falling == sorted(falling, reverse=True) and rising[0] > 0
    assert max(falling) == pytest.approx(1e-3) and falling[-1] == pytest.approx(1e-4)
    assert bench.advice(NUMBERS, 5e-4).min_lr == pytest.approx(5e-5)


def test_programs_train_in_turns_for_the_same_time_on_the_same_batches(bench, capsys):
    programs, seen = [line(bench, "a"), line(bench, "b")], []

    def batches_at(update):
        seen.append(update)
        x = torch.full((4, 1), float(update % 3))
        return [(x, 2 * x, None)] * 2

    for program in programs:
        program.begin(expected_updates=100)
    bench.train_in_turns(programs, batches_at, 0.2, 0.05)
    assert [n for n, update in enumerate(seen) if update == 0] != [0, 1]  # a slice, not one update, at a time
    assert all(0.2 <= program.seconds < 1 for program in programs)
    assert sorted(seen) == sorted(n for program in programs for n in range(program.updates))
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_an_update_of_many_batches_is_that_of_one_with_all_sequences(bench):
    x = torch.arange(8.0)[:, None]
    one, many = line(bench), line(bench)
    one.update([(x, x, None)], 0.1)
    many.update([(x[:4], x[:4], None), (x[4:], x[4:], None)], 0.1)
    torch.testing.assert_close(one.model.weight, many.model.weight)
    many.begin()
    assert torch.equal(many.model.weight, line(bench).model.weight)
