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


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    make_shards(folder)
    return folder


def pretraining(shards, out, *more):
    return ["--data-dir", shards, "--out-dir", out, *SHAPE, "--batch-size", "1", "--gradient-accumulation-steps", "6",
            "--max-iters", UPDATES, "--eval-interval", "30", "--eval-tokens", "256", "--save-interval", "7",
            "--optimizer", "adamw", "--head-rate", "off", *more]  # Muon rounds to bfloat16: equal to fewer places


def tuning(base, data, out):
    return ["--model-path", base, "--data-dir", data, "--out-dir", out, "--batch-size", "1", "--max-iters", "20",
            "--eval-interval", "10", "--eval-tokens", "576", "--learning-rate", "3e-3", "--warmup-iters", "3",
            "--gradient-accumulation-steps", "2", "--no-compile", "--device", "cpu", "--dtype", "float32"]


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


def together(*arguments, **options):
    """Run to the end: (status, standard output, standard error)."""
    with torchrun(*arguments, **options) as agent:
        out, err = agent.communicate(timeout=120)
        return agent.returncode, out, err


def done(*arguments, **options):
    status, out, err = together(*arguments, **options)
    assert status == 0, err
    return out


def update(out):
    """The last update of which metrics.jsonl has a row; -1 before the first."""
    path = out / "metrics.jsonl"
    whole = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
    return json.loads(whole[-1])["iter"] if whole else -1


def strike(agent, out, number, rank=None, updates=10):
    """Send a signal to torchrun, or to one process, once the run has begun and logged so many updates more;
    returns the processes that ran."""
    begun_with = file_number(out)
    wait_until(lambda: file_number(out) != begun_with, agent)  # the rows are trimmed as a run begins to go on
    iter_num = update(out) + updates
    wait_until(lambda: update(out) >= iter_num, agent)
    running = agent.ranks()
    os.kill(agent.pid if rank is None else running[rank], number)
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


@pytest.fixture(scope="module")
def three(shards, tmp_path_factory):
    """The folder of an unbroken run of three processes, and what it printed."""
    out = tmp_path_factory.mktemp("three")
    return out, done(3, "train_xcoax.py", pretraining(shards, out))


@pytest.fixture(scope="module")
def alone(shards, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone")
    call(train_xcoax, *pretraining(shards, out))
    return out


def test_three_processes_that_share_six_forward_passes_train_as_one_does(three, alone):
    assert_same_run(three[0], alone)


def test_two_processes_train_by_muon_as_one_does(shards, tmp_path):
    more = ["--max-iters", "20", "--lr-decay-iters", UPDATES, "--optimizer", "muon"]
    call(train_xcoax, *pretraining(shards, tmp_path / "one", *more))
    done(2, "train_xcoax.py", pretraining(shards, tmp_path / "two", *more))
    assert_same_run(tmp_path / "two", tmp_path / "one", weights_too=False, rel=0.03)  # it makes much of roundings


def test_two_processes_fine_tune_as_one_does_though_their_targets_and_batches_differ_in_number(base, data, tmp_path):
    call(finetune_xcoax, *tuning(base, data, tmp_path / "one"))
    done(2, "finetune_xcoax.py", tuning(base, data, tmp_path / "two"))
    assert_same_run(tmp_path / "two", tmp_path / "one")


def test_the_first_process_alone_writes_and_speaks(three):
    out, printed = three
    assert sorted(path.name for path in out.iterdir()) == sorted([".lock", "loss.png", "metrics.jsonl", *FILES])
    assert [row["iter"] for row in rows(out)] == [0, 10, 20, 30, 30, 40, 50, 60, 60, 70, 80, 90, 90]
    for line in ("data_dir ", "update 30: validation loss", "update 10 of 90: loss", "Finished after update 90:"):
        assert len(re.findall(rf"^ *{line}", printed, re.M)) == 1
    assert printed.count("[|]") == 4  # a sample for each evaluation


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


def test_what_all_processes_refuse_is_said_once(shards, tmp_path):
    status, _, err = together(2, "train_xcoax.py", pretraining(shards, tmp_path, "--gradient-accumulation-steps", "5"))
    assert status != 0 and not list(tmp_path.glob("*.*t"))
    assert re.findall(r"^.*Error: .*cannot share.*$", err, re.M) == [
        "Error: 2 processes cannot share 5 forward passes an update. Take --gradient-accumulation-steps 4 (and a "
        "--batch-size that keeps the product), or --nproc-per-node 1."]


def test_overwriting_is_refused_where_each_restart_would_do_it_again(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "2")
    with pytest.raises(ValueError, match="--overwrite.* would throw away .* --max-restarts 0"):
        check_ranks(LoopSettings(overwrite=True), Ranks())
    check_ranks(LoopSettings(), Ranks())


# ---- stopped and killed


def test_a_run_whose_processes_are_stopped_and_killed_ends_as_an_unbroken_one(shards, tmp_path):
    """With dropout, whose masks must be those of the unbroken run, and with Muon."""
    more = ["--dropout", "0.1", "--optimizer", "muon"]
    out, arguments = tmp_path / "broken", pretraining(shards, tmp_path / "broken", *more)
    for rank in (1, 0):  # nobody waits for one that has died
        with torchrun(2, "train_xcoax.py", arguments) as agent:
            running = strike(agent, out, signal.SIGKILL, rank)
            _, err = agent.communicate(timeout=60)
        assert agent.returncode != 0 and not any(map(is_running, running.values()))
        [told] = re.findall(r"^Error: Another process of this run has ended.*$", err, re.M)
        saved = checkpoint.load(out / "last_checkpoint.pt")["counters"]["iter_num"]
        assert told.endswith(f"{out / 'last_checkpoint.pt'} holds update {saved}; the same command goes on from there.")
        assert "gloo" not in err and "most recent call last" not in err.partition("failed (exitcode")[0]

    with torchrun(2, "train_xcoax.py", arguments) as agent:  # all stop together, though one alone is told to
        before = saved
        running = strike(agent, out, signal.SIGTERM, rank=1)
        printed, err = agent.communicate(timeout=60)
    saved = checkpoint.load(out / "last_checkpoint.pt")["counters"]["iter_num"]
    assert before < saved < UPDATES and agent.returncode != 0 and not any(map(is_running, running.values()))
    assert printed.count(f"Stopped by SIGTERM after update {saved}, saved in {out}") == 1, printed
    assert "Error: " not in err.replace("ChildFailedError: ", "")
    done(2, "train_xcoax.py", arguments)
    done(2, "train_xcoax.py", pretraining(shards, tmp_path / "unbroken", *more))
    assert same_bytes(out, tmp_path / "unbroken")


def test_torchrun_restarts_what_was_killed_and_it_ends_as_an_unbroken_run(three, shards, tmp_path):
    """With three processes: two numbers have one sum, but three are added up in an order."""
    with torchrun(3, "train_xcoax.py", pretraining(shards, tmp_path), restarts=2) as agent:
        for rank in (0, 1):
            strike(agent, tmp_path, signal.SIGKILL, rank)
        out, err = agent.communicate(timeout=120)
    assert agent.returncode == 0, err
    assert out.count("Going on from") == 2 and same_bytes(tmp_path, three[0])


CLOCK = """
import os
import train_xcoax
from training import loop

class Ahead(loop.Clock):
    readings = 0

    def share(self):
        self.readings += 1
        return 1.0 if os.environ["RANK"] == "1" and self.readings == 13 else super().share()

loop.Clock = Ahead
train_xcoax.launch(train_xcoax.main)
"""


def test_the_clock_that_is_furthest_ahead_decides_for_all(shards, tmp_path):
    (tmp_path / "ahead.py").write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{CLOCK}")
    printed = done(2, tmp_path / "ahead.py", pretraining(shards, tmp_path / "out", "--max-minutes", "9"))
    assert "Finished after update 12: the time was up." in printed
    counters = checkpoint.load(tmp_path / "out/last_checkpoint.pt")["counters"]
    assert counters["iter_num"] == 12 and counters["seconds"] == 9 * 60


def test_an_error_that_is_not_of_an_exchange_stays_what_it_is():
    with pytest.raises(RuntimeError, match="a shape"), loss_of_another():
        raise RuntimeError("a shape does not fit")
    with pytest.raises(ChildProcessError, match="has ended; .* Update 7 is kept."), \
            loss_of_another(lambda: "Update 7 is kept."):
        raise RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:538] Connection closed by peer")
