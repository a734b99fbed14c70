"""Instruction examples as batches: every one whole, in an order that follows from the number and the seed."""

import pytest
import torch

from tests.support.instruct import BLOCK, examples_of
from tests.support.tiny import tiny_model
from tokenizer import EOS_ID
from training.update import evaluate


def rows_of(batches):
    """The examples of batches without their padding, as lists of ids."""
    return [[*x[b, :1].tolist(), *y[b, :1 + mask[b].nonzero()[0].max()].tolist()]
            for x, y, mask in batches for b in range(len(x))]


def drawn(examples, first, count, blocks=2, budget=2 * BLOCK):
    """The batches of the updates that draw the next `count` examples, or a few more, in groups of two blocks."""
    found, end = [], first + count
    while first < end:
        found += (update := examples.batches(first, blocks, 2, budget))
        first += sum(len(x) for x, _, _ in update)
    return found


@pytest.mark.parametrize("blocks, budget", [(2, 2 * BLOCK), (1, BLOCK), (4, BLOCK), (3, 5 * BLOCK), (7, 100)])
def test_every_example_comes_once_in_an_epoch_whole_and_under_the_budget(data, blocks, budget):
    examples = examples_of(data, "train")
    whole = sorted(examples.row(i)[0].tolist() for i in range(len(examples)))
    batches = drawn(examples, 0, 2 * len(examples), blocks, budget)
    rows = rows_of(batches)
    for epoch in range(2):
        assert sorted(rows[epoch * len(examples):(epoch + 1) * len(examples)]) == whole
    assert all(x.size <= budget for x, _, _ in batches)


@pytest.mark.parametrize("change", [(1, BLOCK), (2, BLOCK), (5, 3 * BLOCK)], ids=["half", "halves", "more"])
def test_another_batch_size_in_the_middle_of_an_epoch_reads_on_and_repeats_and_skips_nothing(data, change):
    examples = examples_of(data, "train")
    before = rows_of(drawn(examples, 0, len(examples) // 2))
    after = rows_of(drawn(examples, len(before), len(examples) - len(before), *change))
    unbroken = rows_of(drawn(examples, 0, 2 * len(examples)))
    assert [*before, *after] == unbroken[:len(before) + len(after)] and len(before) + len(after) >= len(examples)


def test_half_the_batch_and_double_the_accumulation_give_an_update_the_same_examples(data):
    examples, first = examples_of(data, "train"), 0
    while first < 2 * len(examples):
        whole = examples.batches(first, 2, 2, 2 * BLOCK)
        halves = examples.batches(first, 2, 2, BLOCK)
        assert rows_of(whole) == rows_of(halves) and all(x.size <= BLOCK for x, _, _ in halves)
        first += sum(len(x) for x, _, _ in whole)


def test_a_position_within_a_block_is_read_on_from(data):
    examples = examples_of(data, "train")
    rows = rows_of(drawn(examples, 0, 40))
    for first in range(30):
        assert rows_of(examples.batches(first, 1, 2, BLOCK))[0] == rows[first]


def test_few_examples_are_read_as_well(data):
    examples = examples_of(data, "val")
    rows = rows_of(drawn(examples, 0, 3 * len(examples), blocks=64, budget=1000))
    assert all(rows.count(row) >= 3 for row in rows[:len(examples)])


def test_little_of_a_batch_is_padding(data):
    examples = examples_of(data, "train", response_dropout=0.05, seed=3)
    cells = tokens = first = 0
    while first < len(examples):
        (x, y, mask), = batches = examples.batches(first, 8, 8, 8 * BLOCK)
        cells, tokens, first = cells + x.size, tokens + sum(len(r) - 1 for r in rows_of(batches)), first + len(x)
    assert examples.padding(8) == pytest.approx(1 - tokens / cells) and examples.padding(8) < 0.1


def test_the_order_follows_from_the_position_and_the_seed_alone(data):
    def order(seed, numbers):
        examples = examples_of(data, "train", response_dropout=0.2, seed=seed)
        return {n: rows_of(examples.batches(n, 2, 2, 2 * BLOCK)) for n in numbers}

    count = len(examples_of(data, "train"))
    forwards = order(1, range(3 * count))
    assert order(1, reversed(range(3 * count))) == forwards
    assert order(2, range(count)) != {n: forwards[n] for n in range(count)}
    first, second = ([forwards[n + epoch * count] for n in range(count)] for epoch in (0, 1))
    assert first != second                                    # another order, and
    members = [{frozenset(map(tuple, rows)) for rows in epoch} for epoch in (first, second)]
    assert members[0] != members[1]                           # other company for an example


def test_some_examples_come_without_their_response_others_in_each_epoch_and_none_in_validation(data, tokenizer):
    examples = examples_of(data, "train", response_dropout=0.2)
    seen = []
    for epoch in range(5):
        rows = rows_of(drawn(examples, epoch * len(examples), len(examples)))[:len(examples)]
        seen.append({tuple(row) for row in rows if row[:6] == [1, 3, 6, 4, 3, 5]})
    assert 0.1 < sum(map(len, seen)) / (5 * len(examples)) < 0.3 and len(set(map(frozenset, seen))) == 5
    assert all(row[-1] == EOS_ID and tokenizer.to_text(row).startswith("Is the") for rows in seen for row in rows)
    fixed = [x for x, _, _ in examples.fixed_batches(10**6, 2 * BLOCK)]
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
    batches = [tuple(map(torch.from_numpy, batch)) for batch in examples.fixed_batches(10**6, 2 * BLOCK)]
    assert sum(mask.sum().item() for _, _, mask in batches) == count
    assert evaluate(model, batches, torch.device("cpu"), torch.float32) == pytest.approx(total / count, rel=1e-5)


def test_the_examples_of_validation_are_the_same_for_every_budget_and_of_all_lengths(data):
    examples = examples_of(data, "train")
    found = {budget: list(examples.fixed_batches(1000, budget)) for budget in (BLOCK, 2 * BLOCK, 7 * BLOCK, 1)}
    rows = [rows_of(batches) for batches in found.values()]
    assert all(part == rows[0] for part in rows) and len(set(map(tuple, rows[0]))) == len(rows[0]) < len(examples)
    assert all(x.size <= max(budget, x.shape[1]) for budget, batches in found.items() for x, _, _ in batches)
    assert 800 < sum(len(row) - 1 for row in rows[0]) <= 1000
    lengths = [len(row) - 1 for row in rows[0]]
    assert max(lengths) > examples.lengths.max() - 8 and min(lengths) < examples.lengths.min() + 8
    assert len(list(examples.fixed_batches(1, 1))) == 1


def test_where_examples_stand_is_told_by_the_shard_and_the_token_at_which_they_begin(data):
    examples = examples_of(data, "train")
    batches = examples.batches(4, 2, 2, 2 * BLOCK)
    told = examples.whereabouts(4, sum(len(x) for x, _, _ in batches), 2)
    tokens = {shard.path.name: shard.tokens for shard in examples.shards}
    found = [tokens[name][int(start):] for name, starts in (part.split(": ") for part in told.split("; "))
             for start in starts.split(", ")]
    rows = rows_of(batches)
    assert len(found) == len(rows) and all(any(whole[:len(row)].tolist() == row for whole in found) for row in rows)
