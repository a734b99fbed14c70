"""What the groups promise: matrices decay, scales do not, and no parameter is forgotten or stepped twice."""

import pytest
import torch

from tests.support.tiny import tiny_model
from training.optimizers import make_optimizer
from training.settings import LoopSettings

SETTINGS = LoopSettings(learning_rate=0.01, weight_decay=0.5, beta1=0.8, beta2=0.9)


@pytest.fixture
def model():
    return tiny_model(n_layer=3)


@pytest.fixture
def optimizer(model):
    return make_optimizer(model, SETTINGS, torch.device("cpu"))


def test_every_parameter_is_in_exactly_one_group(model, optimizer):
    found = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(found) == len(set(found)) and set(found) == {id(p) for p in model.parameters()}


def test_matrices_decay_and_scales_do_not(optimizer):
    """Seen from what a step does where no gradient pulls."""
    before = {p: p.detach().clone() for group in optimizer.param_groups for p in group["params"]}
    for p in before:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for p, old in before.items():
        torch.testing.assert_close(p.detach(), old * (1 - 0.01 * 0.5) if p.dim() == 2 else old)
    assert {p.dim() for p in before} == {1, 2}


def test_the_rate_and_the_memories_of_the_settings_are_taken(optimizer):
    for group in optimizer.param_groups:
        assert group["lr"] == 0.01 and group["betas"] == (0.8, 0.9)
