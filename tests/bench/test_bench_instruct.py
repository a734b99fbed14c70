"""The benchmark of instructions: each response is answered by its own samples, and no bar reaches a pipe."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.support.pairs import PAIRS, TOKENIZER, learned_model

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "bench")
    return importlib.import_module("bench_instruct")


@pytest.fixture
def opened():
    return SimpleNamespace(model=learned_model(), tokenizer=TOKENIZER, dtype=torch.float32)


def test_of_the_samples_of_each_response_every_order_takes_its_own_first_and_no_bar_reaches_a_pipe(
        bench, opened, monkeypatch, capfd):
    responses = [a * n for n in (3, 1, 2) for a, _ in PAIRS[:4]]  # drawn in another order than they stand
    found = bench.chosen(opened, responses, SimpleNamespace(seed=1), 1.0)
    drawn = {}
    monkeypatch.setattr(bench, "weigh", lambda model, tokenizer, prompts, samples: drawn.update(
        enumerate([tokenizer.to_text(row).strip() for row in rows] for rows in samples)) or [[] for _ in samples])
    bench.chosen(opened, responses, SimpleNamespace(seed=1), 1.0)
    [alone] = bench.chosen(opened, responses[:1], SimpleNamespace(seed=1), 1.0)["first", 4]
    assert alone == drawn[0][0] and len(set(map(tuple, drawn.values()))) > 6
    assert found["first", 4] == found["first", 8] == [drawn[i][0] for i in range(12)]
    for (order, n), texts in found.items():
        assert all(text in drawn[i][:n] for i, text in enumerate(texts)), order
    assert capfd.readouterr() == ("", "")


def test_a_text_is_like_itself_and_less_like_others(bench):
    for likeness in bench.likenesses().values():
        assert likeness("What is it?", "What is it?") == pytest.approx(100)
        near, far = likeness("What is the cat doing?", "What is the dog doing?"), likeness("Add.", "What is it doing?")
        assert 100 > near > far
    assert bench.likenesses()["chrF"]("船在哪里？", "船在哪里？") == 100
