"""Training under torchrun: several processes are one, to the float error of their sums, and end as one."""

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys

import pytest
import torch

import checkpoint
import finetune_xcoax
import train_xcoax
from program.ranks import Ranks, loss_of_another
from tests.support.processes import is_running, ranks_of, wait_until
from tests.support.runs import call, rows
from tests.support.tiny import ROOT, SHAPE, make_shards
from training.advice import check_ranks
from training.settings import LoopSettings

FILES = ["best_checkpoint.pt", "last_checkpoint.pt"]
UPDATES = 90
ADAMW = ["--optimizer", "adamw", "--head-rate", "off"]  # Muon rounds to bfloat16: equal to fewer places


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    make_shards(folder)
    return folder


def pretraining(shards, out, *more):
    return ["--data-dir", shards, "--out-dir", out, *SHAPE, "--batch-size", "1", "--gradient-accumulation-steps", "6",
            "--max-iters", UPDATES, "--eval-interval", "30", "--eval-tokens", "256", "--save-interval", "7",
            *ADAMW, *more]


def tuning(base, data, out):
    return ["--model-path", base, "--data-dir", data, "--out-dir", out, "--batch-size", "1", "--max-iters", "20",
            "--eval-interval", "10", "--eval-tokens", "576", "--learning-rate", "3e-3", "--warmup-iters", "3",
            "--gradient-accumulation-steps", "3", "--no-compile", "--device", "cpu", "--dtype", "float32", *ADAMW]


@contextlib.contextmanager
def torchrun(count, script, arguments, restarts=0):
    """So many processes of a script; none of them outlives the test."""
    mark = secrets.token_hex(8)
    agent = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}",
         f"--max-restarts={restarts}", script, *map(str, arguments)], cwd=ROOT, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1", "MARK": mark})
    agent.ranks = lambda: {rank: pid for rank, pid in ranks_of(f"MARK={mark}").items() if rank is not None}
    try:
        yield agent
    finally:
        for pid in ranks_of(f"MARK={mark}").values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        agent.communicate()


def update(out):
    """The last update of which metrics.jsonl has a row; -1 before the first."""
    path = out / "metrics.jsonl"
    whole = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
    return json.loads(whole[-1])["iter"] if whole else -1


def strike(agent, out, number, *ranks, updates=20):
    """Send a signal to these processes once the run has begun and logged so many updates more; returns all that ran."""
    begun_with = file_number(out)
    wait_until(lambda: file_number(out) != begun_with, agent)  # the rows are trimmed as a run begins to go on
    iter_num = update(out) + updates
    wait_until(lambda: update(out) >= iter_num, agent)
    running = agent.ranks()
    for rank in ranks:
        os.kill(running[rank], number)
    return running


def file_number(out):
    path = out / "metrics.jsonl"
    return path.stat().st_ino if path.exists() else None


def same_bytes(one, other):
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in FILES)


def assert_same_run(one, other, weights_too=True, rel=1e-5):
    """Equal to float error, and counters that count data exactly so."""
    (a, b) = (checkpoint.load(out / "last_checkpoint.pt") for out in (one, other))
    assert {name: a["counters"][name] for name in ("iter_num", "samples", "tokens")} == {
        name: b["counters"][name] for name in ("iter_num", "samples", "tokens")}
    for name, weights in a["model"].items() if weights_too else ():
        torch.testing.assert_close(weights, b["model"][name], rtol=1e-4, atol=1e-5)
    for name in ("train_loss", "val_loss"):
        found, expected = ([(row["iter"], row["tokens"], row[name]) for row in rows(out) if name in row]
                           for out in (one, other))
        assert [row[:2] for row in found] == [row[:2] for row in expected] and len(found) > 1
        assert [row[2] for row in found] == pytest.approx([row[2] for row in expected], rel=rel)


# ---- several are one


LESS = ["--max-iters", "40", "--eval-interval", "20"]
MUON = ["--max-iters", "20", "--optimizer", "muon"]
WITH_MASKS = ["--dropout", "0.1", "--optimizer", "muon"]  # whose masks must be those of an unbroken run

IN_TURN = """
import json, os, runpy, sys

sys.path.insert(0, os.getcwd())
for number, command in enumerate(json.load(open(sys.argv[1]))):
    os.environ["TORCHELASTIC_RESTART_COUNT"] = str(number)  # they meet anew, as after a restart
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")
    print("\\f", flush=True)
"""

AHEAD = """
import os
from unittest.mock import patch

import train_xcoax
from training import loop

class Ahead(loop.Clock):
    readings = 0

    def share(self):
        self.readings += 1
        return 1.0 if os.environ["RANK"] == "1" and self.readings == 13 else super().share()

with patch.object(loop, "Clock", Ahead):
    train_xcoax.launch(train_xcoax.main)
"""


@pytest.fixture(scope="module")
def three(shards, base, data, tmp_path_factory):
    """What three processes make in one start: {name of a run: (its folder, what it printed)}, and what the last of the
    runs, which is refused, wrote to standard error."""
    folder = tmp_path_factory.mktemp("three")
    (folder / "ahead.py").write_text(AHEAD)
    (folder / "in_turn.py").write_text(IN_TURN)
    commands = {
        "pretrained": ["train_xcoax.py", *pretraining(shards, folder / "pretrained", *LESS)],
        "by Muon": ["train_xcoax.py", *pretraining(shards, folder / "by Muon", *MUON)],
        "tuned": ["finetune_xcoax.py", *tuning(base, data, folder / "tuned")],
        "unbroken": ["train_xcoax.py", *pretraining(shards, folder / "unbroken", *WITH_MASKS)],
        "ahead": [folder / "ahead.py", *pretraining(shards, folder / "ahead", "--max-minutes", "9")],
        "refused": ["train_xcoax.py", *pretraining(shards, folder / "refused", "--gradient-accumulation-steps", "5")]}
    (folder / "commands.json").write_text(json.dumps([[*map(str, command)] for command in commands.values()]))
    with torchrun(3, folder / "in_turn.py", [folder / "commands.json"]) as agent:
        out, err = agent.communicate(timeout=300)
    printed = out.split("\f")
    assert agent.returncode != 0 and len(printed) == len(commands), err
    return {name: (folder / name, text) for name, text in zip(commands, printed)}, err


def test_three_processes_that_share_six_forward_passes_train_as_one_does(three, shards, tmp_path):
    call(train_xcoax, *pretraining(shards, tmp_path, *LESS))
    assert_same_run(three[0]["pretrained"][0], tmp_path)


def test_three_processes_train_by_muon_as_one_does(three, shards, tmp_path):
    call(train_xcoax, *pretraining(shards, tmp_path, *MUON))
    assert_same_run(three[0]["by Muon"][0], tmp_path, weights_too=False, rel=0.03)  # it makes much of roundings


def test_three_processes_fine_tune_as_one_does_though_their_targets_and_batches_differ_in_number(
        three, base, data, tmp_path):
    call(finetune_xcoax, *tuning(base, data, tmp_path))
    assert_same_run(three[0]["tuned"][0], tmp_path)


def test_the_first_process_alone_writes_and_speaks(three):
    out, printed = three[0]["pretrained"]
    assert sorted(path.name for path in out.iterdir()) == sorted([".lock", "loss.png", "metrics.jsonl", *FILES])
    assert [row["iter"] for row in rows(out)] == [0, 10, 20, 20, 30, 40, 40]
    for line in ("data_dir ", "update 20: validation loss", "update 10 of 40: loss", "Finished after update 40:"):
        assert len(re.findall(rf"^ *{line}", printed, re.M)) == 1
    assert printed.count("[|]") == 3  # a sample for each evaluation


def test_the_clock_that_is_furthest_ahead_decides_for_all(three):
    out, printed = three[0]["ahead"]
    assert "Finished after update 12: the time was up." in printed
    counters = checkpoint.load(out / "last_checkpoint.pt")["counters"]
    assert counters["iter_num"] == 12 and counters["seconds"] == 9 * 60


# ---- a number that does not fit


@pytest.mark.parametrize("count, nodes, steps, other_steps, other_count", [
    (4, 1, 6, 4, 3), (5, 1, 6, 5, 6), (4, 1, 7, 8, 1), (8, 1, 4, 8, 4), (16, 2, 4, 16, 2), (6, 3, 4, 6, None)])
def test_processes_that_cannot_share_an_update_are_told_the_nearest_numbers_that_can(
        count, nodes, steps, other_steps, other_count):
    with pytest.raises(ValueError) as refused:
        check_ranks(LoopSettings(gradient_accumulation_steps=steps), Ranks(0, count, nodes))
    assert str(refused.value) == (
        f"{count} processes cannot share {steps} forward passes an update. Take --gradient-accumulation-steps "
        f"{other_steps} (and a --batch-size that keeps the product)"
        + (f", or --nproc-per-node {other_count}." if other_count else "."))


def test_what_all_processes_refuse_is_said_once(three):
    runs, err = three
    assert not list(runs["refused"][0].glob("*.*t"))
    assert re.findall(r"^.*Error: .*cannot share.*$", err, re.M) == [
        "Error: 3 processes cannot share 5 forward passes an update. Take --gradient-accumulation-steps 6 (and a "
        "--batch-size that keeps the product), or --nproc-per-node 1."]


def test_overwriting_is_refused_where_each_restart_would_do_it_again(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "2")
    with pytest.raises(ValueError, match="--overwrite.* would throw away .* --max-restarts 0"):
        check_ranks(LoopSettings(overwrite=True), Ranks())
    check_ranks(LoopSettings(), Ranks())


# ---- stopped and killed


def test_a_run_whose_processes_are_killed_and_stopped_ends_as_an_unbroken_one(three, shards, tmp_path):
    """With three processes: two numbers have one sum, but three are added up in an order."""
    arguments = pretraining(shards, tmp_path, *WITH_MASKS)
    with torchrun(3, "train_xcoax.py", arguments, restarts=1) as agent:  # nobody waits for one that has died
        running = [strike(agent, tmp_path, signal.SIGKILL, 0), strike(agent, tmp_path, signal.SIGKILL, 1, 2)]
        printed, err = agent.communicate(timeout=60)
    assert agent.returncode != 0 and not any(is_running(pid) for ranks in running for pid in ranks.values())
    saved = checkpoint.load(tmp_path / "last_checkpoint.pt")["counters"]["iter_num"]
    [gone_on_from] = map(int, re.findall(r"Going on from .*, update (\d+)", printed))
    assert 0 < gone_on_from < saved
    assert re.findall(r"^Error: Another process of this run has ended.* stands apart\. (.*)$", err, re.M) == [
        f"{tmp_path / 'last_checkpoint.pt'} holds update {kept}; the same command goes on from there."
        for kept in (gone_on_from, saved)]
    assert "gloo" not in err and "most recent call last" not in err.rpartition("failed (exitcode")[0]

    with torchrun(3, "train_xcoax.py", arguments, restarts=1) as agent:  # all stop together, though one alone is told
        running = strike(agent, tmp_path, signal.SIGTERM, 1)             # to, and with a status that is not 0
        printed, err = agent.communicate(timeout=120)
    [stopped_at] = map(int, re.findall(rf"Stopped by SIGTERM after update (\d+), saved in {tmp_path}", printed))
    assert [*map(int, re.findall(r"Going on from .*, update (\d+)", printed))] == [saved, stopped_at]
    assert saved < stopped_at < UPDATES and not any(map(is_running, running.values()))
    assert agent.returncode == 0 and "Error: " not in err, err
    assert same_bytes(tmp_path, three[0]["unbroken"][0])


def test_an_error_that_is_not_of_an_exchange_stays_what_it_is():
    with pytest.raises(RuntimeError, match="a shape"), loss_of_another():
        raise RuntimeError("a shape does not fit")
    with pytest.raises(ChildProcessError, match="has ended; .* Update 7 is kept."), \
            loss_of_another(lambda: "Update 7 is kept."):
        raise RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:538] Connection closed by peer")
