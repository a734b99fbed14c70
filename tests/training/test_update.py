"""What an update promises: the gradient of one large batch, however it is divided, and a loss that weighs alike."""

import pytest
import torch

from program.ranks import Ranks
from tests.support.tiny import tiny_model
from training.optimizers import make_optimizer
from training.settings import LoopSettings
from training.update import Updates, accumulate, divided, evaluate, share_of, targets

CPU = torch.device("cpu")


def test_masked_batches_of_any_division_give_the_gradient_of_one_large_batch():
    model = tiny_model(block_size=16, vocab_size=50, n_embd=16)
    x, y = torch.randint(50, (6, 16)), torch.randint(50, (6, 16))
    mask = torch.rand(6, 16) < torch.tensor([0.1, 0.9, 0.5, 0.2, 1.0, 0.3])[:, None]

    def gradient(divisions):
        model.zero_grad()
        batches = [(x[a:b], y[a:b], mask[a:b]) for a, b in divisions]
        loss = accumulate(model, batches, CPU, torch.float32)
        return loss, torch.cat([p.grad.flatten() for p in model.parameters()])

    (one_loss, one), (many_loss, many) = gradient([(0, 6)]), gradient([(0, 1), (1, 4), (4, 6)])
    torch.testing.assert_close(one_loss, many_loss)
    torch.testing.assert_close(one, many)
    assert evaluate(model, [(x[:2], y[:2], mask[:2]), (x[2:], y[2:], mask[2:])], CPU, torch.float32) == pytest.approx(
        one_loss.item(), rel=1e-5)


def test_no_mask_counts_every_target():
    model = tiny_model(block_size=16, vocab_size=50, n_embd=16)
    x, y = torch.randint(50, (3, 16)), torch.randint(50, (3, 16))
    plain, masked = (x, y, None), (x, y, torch.ones(3, 16, dtype=torch.bool))
    assert targets(plain) == targets(masked) == 48
    assert evaluate(model, [plain], CPU, torch.float32) == pytest.approx(evaluate(model, [masked], CPU, torch.float32))


def test_batches_in_which_no_target_counts_have_no_loss_and_no_gradient():
    model = tiny_model(block_size=16, vocab_size=50, n_embd=16)
    nothing = (torch.ones(2, 16, dtype=torch.long), torch.ones(2, 16, dtype=torch.long),
               torch.zeros(2, 16, dtype=torch.bool))
    assert accumulate(model, [nothing], CPU, torch.float32) == evaluate(model, [nothing], CPU, torch.float32) == 0
    assert not any(p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_is_without_dropout_and_leaves_the_model_as_it_was(training):
    model = tiny_model(block_size=16, vocab_size=50, n_embd=16, dropout=0.5).train(training)
    batch = (torch.randint(50, (3, 16)), torch.randint(50, (3, 16)), None)
    losses = {evaluate(model, [batch], CPU, torch.float32) for _ in range(3)}
    assert len(losses) == 1 and model.training == training
    assert all(p.grad is None for p in model.parameters())


def test_every_process_has_a_share_and_together_they_have_all():
    batches = [(torch.full((2, 4), n), torch.ones(2, 4, dtype=torch.long), None) for n in range(5)]
    for count in (1, 2, 3, 7):
        shares = [share_of(batches, Ranks(rank, count)) for rank in range(count)]
        found = sorted(int(x[0, 0]) for share in shares for x, y, mask in share if targets((x, y, mask)))
        assert found == list(range(5)) and all(shares)


def test_batches_that_are_divided_hold_the_same_sequences_in_order():
    x, mask = torch.arange(20).view(5, 4), torch.rand(5, 4) < 0.5
    for parts in (1, 2, 3, 8):
        found = divided([(x, x, mask), (x[:1], x[:1], None)], parts)
        assert torch.equal(torch.cat([part for part, _, _ in found]), torch.cat([x, x[:1]]))
        assert torch.equal(torch.cat([part for _, _, part in found[:-1]]), mask) and found[-1][2] is None
        assert max(len(part) for part, _, _ in found) == -(-5 // parts)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_optimisers_memory_is_taken_before_the_first_batch_and_nothing_else_changes(optimizer):
    settings = LoopSettings(optimizer=optimizer)
    model = tiny_model(block_size=16, vocab_size=50, n_embd=16)
    first = [p.clone() for p in model.parameters()]
    made = make_optimizer(model, settings, CPU)
    Updates(model, model, made, settings, CPU, torch.float32, Ranks())
    assert made.state.keys() == set(model.parameters()) and not any(
        tensor.any() for of_weight in made.state.values() for tensor in of_weight.values())
    assert all(map(torch.equal, first, model.parameters())) and all(p.grad is None for p in model.parameters())
