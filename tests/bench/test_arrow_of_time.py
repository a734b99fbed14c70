"""The experiment of the arrow of time: from a corpus to a report that holds the gap, and nothing is done twice."""

import importlib
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

import preprocess_xcoax
from shards import tokenizing
from tests.support.runs import call
from tests.support.tiny import ROOT, SHAPE, TEXTS, write_lines

# Stands for Python: what has been done succeeds, and the first command that has not is written down.
DOER = """#!/bin/sh
cd "$(dirname "$0")"
grep -qxF -- "$*" done && exit
printf '%s\\n' "$@" > next
exit 99
"""


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """A function that runs bench/arrow_of_time.sh with one seed and three updates of a tiny model in either direction,
    and returns its commands. They are done in this process, with threads for workers: to start PyTorch and loky for
    each would take most of the time."""
    for module in (preprocess_xcoax, tokenizing):
        monkeypatch.setattr(module, "children", lambda count, initializer=None, arguments=():
                            ThreadPoolExecutor(count, initializer=initializer, initargs=arguments))
    dataset = write_lines(tmp_path / "texts.jsonl", [{"text": text} for text in TEXTS])
    doer, done, todo = (tmp_path / name for name in ("doer", "done", "next"))
    doer.write_text(DOER)
    doer.chmod(0o700)
    command = ["bash", ROOT / "bench/arrow_of_time.sh", dataset, *SHAPE, "--max-iters", "3", "--eval-interval", "3",
               "--eval-tokens", "256"]
    env = {**os.environ, "PYTHON": str(doer), "OUT": str(tmp_path / "out"), "SEEDS": "1",
           "PREPROCESS": "--vocab-size 400 --num-workers 1 --val-fraction 0.1",
           "EVALUATE": "--max-documents 6 --device cpu"}

    def run(do=call):
        done.write_text("")
        while (status := subprocess.run(command, env=env).returncode) == 99:
            script, *arguments = todo.read_text().splitlines()
            do(importlib.import_module(script.removesuffix(".py")), *arguments)
            with open(done, "a") as file:
                file.write(" ".join([script, *arguments]) + "\n")
        assert status == 0
        return [line.split()[0] for line in done.read_text().splitlines()]

    return run


def test_both_directions_are_trained_once_and_a_report_holds_their_gap(experiment, tmp_path, capsys):
    steps = ["preprocess_xcoax.py", "preprocess_xcoax.py", "train_xcoax.py", "train_xcoax.py", "evaluate_xcoax.py"]
    assert experiment() == steps
    found = json.loads((tmp_path / "out/evaluation.json").read_text(encoding="utf-8"))
    assert [model["direction"] for model in found["models"]] == ["forward", "reverse"]
    assert found["arrow"]["documents"] == 6 and found["arrow"]["along_training"]
    assert not any("may know" in note for note in found["notes"])
    gap = f"{found['arrow']['gap']['value']:+.4f}"
    assert gap in (tmp_path / "out/report.html").read_text(encoding="utf-8") and gap in capsys.readouterr().out
    assert experiment(do=lambda *_: None) == [step for step in steps if step != "train_xcoax.py"]
