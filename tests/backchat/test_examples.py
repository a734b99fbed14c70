"""Instruction examples as batches: every one whole, in an order that follows from the number and the seed."""

import pytest
import torch

from tests.support.instruct import BLOCK, examples_of
from tests.support.tiny import tiny_model
from tokenizer import EOS_ID
from training.update import evaluate


def real_rows(examples, number):
    """The examples of a batch without their padding, as lists of ids."""
    x, y, mask = examples.batch(number)
    return [[*x[b, :1].tolist(), *y[b, :1 + mask[b].nonzero()[0].max()].tolist()] for b in range(len(x))]


def test_every_example_comes_once_in_an_epoch_whole_and_under_the_budget(data):
    examples = examples_of(data, "train")
    whole = sorted(examples.row(i)[0].tolist() for i in range(len(examples)))
    for epoch in range(2):
        numbers = range(epoch * examples.batches_per_epoch, (epoch + 1) * examples.batches_per_epoch)
        assert sorted(row for number in numbers for row in real_rows(examples, number)) == whole
        assert all(examples.batch(number)[0].size <= 2 * BLOCK for number in numbers)


def test_little_of_a_batch_is_padding(data):
    examples = examples_of(data, "train", budget=8 * BLOCK, response_dropout=0.05, seed=3)
    cells = tokens = 0
    for number in range(examples.batches_per_epoch):
        cells += examples.batch(number)[0].size
        tokens += sum(len(row) - 1 for row in real_rows(examples, number))
    assert examples.padding() == pytest.approx(1 - tokens / cells) and examples.padding() < 0.1


def test_the_order_follows_from_the_number_and_the_seed_alone(data):
    def order(seed, numbers):
        examples = examples_of(data, "train", response_dropout=0.2, seed=seed)
        return {n: real_rows(examples, n) for n in numbers}

    count = examples_of(data, "train").batches_per_epoch
    forwards = order(1, range(3 * count))
    assert order(1, reversed(range(3 * count))) == forwards
    assert order(2, range(count)) != {n: forwards[n] for n in range(count)}
    first, second = ([forwards[n + epoch * count] for n in range(count)] for epoch in (0, 1))
    assert first != second                                    # another order, and
    assert {len(rows) for rows in first} == {len(rows) for rows in second}
    members = [{frozenset(map(tuple, rows)) for rows in epoch} for epoch in (first, second)]
    assert members[0] != members[1]                           # other company for an example


def test_some_examples_come_without_their_response_others_in_each_epoch_and_none_in_validation(data, tokenizer):
    examples = examples_of(data, "train", response_dropout=0.2)
    seen = []
    for epoch in range(5):
        numbers = range(epoch * examples.batches_per_epoch, (epoch + 1) * examples.batches_per_epoch)
        seen.append({tuple(row) for n in numbers for row in real_rows(examples, n) if row[:6] == [1, 3, 6, 4, 3, 5]})
    assert 0.1 < sum(map(len, seen)) / (5 * len(examples)) < 0.3 and len(set(map(frozenset, seen))) == 5
    assert all(row[-1] == EOS_ID and tokenizer.to_text(row).startswith("Is the") for rows in seen for row in rows)
    fixed = [x for x, _, _ in examples.fixed_batches(100)]
    assert sum(map(len, fixed)) == len(examples) and not any((x[:, 3] == 4).any() for x in fixed)


def test_the_loss_counts_the_targets_of_the_instruction_and_nothing_else(data, tokenizer):
    examples = examples_of(data, "val")
    model = tiny_model(block_size=BLOCK, vocab_size=tokenizer.vocab_size)
    total = count = 0
    for i in range(len(examples)):
        ids = examples.row(i)[0].tolist()
        first = ids.index(5) + 1
        logits = model(torch.tensor([ids[:-1]]))[0][0].log_softmax(dim=-1)
        total -= sum(logits[at - 1, ids[at]].item() for at in range(first, len(ids)))
        count += len(ids) - first
    batches = [tuple(map(torch.from_numpy, batch)) for batch in examples.fixed_batches(1000)]
    assert sum(mask.sum().item() for _, _, mask in batches) == count
    assert evaluate(model, batches, torch.device("cpu"), torch.float32) == pytest.approx(total / count, rel=1e-5)
