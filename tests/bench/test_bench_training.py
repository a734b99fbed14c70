"""What the timing of training promises: when a loss was reached, of runs as a user would make them."""

import importlib
import json
import os
import subprocess
import sys

import pytest

from tests.support.runs import call
from tests.support.tiny import ROOT, SHAPE, make_shards

FOUND = [(0, 0, 0.0, 9.0), (10, 100, 5.0, 7.0), (20, 200, 15.0, 6.0)]  # update, tokens, seconds, loss


@pytest.fixture
def bench_training(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "bench")
    return importlib.import_module("bench_training")


@pytest.mark.parametrize("target, expected", [
    (8.0, [5, 50, 2.5]), (7.0, [10, 100, 5]), (6.5, [15, 150, 10]), (6.0, [20, 200, 15]), (5.9, None)])
def test_a_loss_is_reached_in_proportion_between_two_evaluations(bench_training, target, expected):
    assert bench_training.reached(FOUND, target) == (expected and pytest.approx(expected))


def test_every_variant_is_trained_with_every_seed_and_a_second_call_does_not_train_again(
        bench_training, tmp_path, capsys):
    make_shards(tmp_path / "data")
    flags = dict(zip(SHAPE[::2], SHAPE[1::2]))
    config = tmp_path / "tiny.toml"
    config.write_text("".join(f"{name} = {flags['--' + name.replace('_', '-')]}\n" for name in (
        "n_layer", "n_head", "n_embd", "block_size")) + 'batch_size = 4\ncompile = false\neval_tokens = 256\n'
        'device = "cpu"\nmin_lr = 1e-4\n')
    arguments = (tmp_path / "data", "--variants", "adamw-8192", "default", "--config", config, "--tokens", "5120",
                 "--seeds", "3", "--output", tmp_path / "out")
    call(bench_training, *arguments)
    printed = capsys.readouterr().out
    assert "| adamw-8192 | 0.01M | 3 | 5 |" in printed and "| default | 0.01M | 3 | 40 |" in printed
    rows = (tmp_path / "out/default_1_3/metrics.jsonl").read_text()
    call(bench_training, *arguments)
    assert capsys.readouterr().out == printed and (tmp_path / "out/default_1_3/metrics.jsonl").read_text() == rows


def test_the_commands_for_a_gpu_train_on_a_processor_too(tmp_path):
    make_shards(tmp_path / "data")
    done = subprocess.run(
        ["bash", str(ROOT / "bench/gpu.sh"), *SHAPE, "--max-iters", "10", "--gradient-accumulation-steps", "1",
         "--no-compile"],  # which would take longer than all the rest
        capture_output=True, text=True, timeout=200,
        env={**os.environ, "PYTHON": sys.executable, "DATA": str(tmp_path / "data"), "OUT": str(tmp_path / "out"),
             "OMP_NUM_THREADS": "1", "RUNS": "adamw checkpointing"})
    assert done.returncode == 0, done.stdout + done.stderr
    rows = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert [*rows] == ["adamw", "checkpointing"]
    assert len({json.loads(row)["train_loss"] for row in rows.values()}) == 2
