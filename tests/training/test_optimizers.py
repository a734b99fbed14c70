"""What the optimisers promise: matrices decay, scales do not, none is forgotten, and Muon's steps are orthogonal."""

import pytest
import torch

from tests.support.tiny import tiny_model
from training.optimizers import make_optimizer, orthogonalized, set_rates
from training.settings import LoopSettings

SETTINGS = LoopSettings(learning_rate=0.01, head_rate=0.002, embedding_rate=0.03, weight_decay=0.5, beta1=0.8,
                        beta2=0.9, momentum=0.8)
CPU = torch.device("cpu")


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def model(request):
    return tiny_model(n_layer=3, tied=request.param)


def role(model, p):
    """What a parameter is to the optimiser."""
    if p is model.output_weight:
        return "output"
    return "embedding" if p is model.wte.weight else "hidden" if p.dim() == 2 else "scale"


RATES = {"hidden": 0.01, "output": 0.002, "scale": 0.002, "embedding": 0.03}
DECAYING = ("hidden", "output")


@pytest.fixture(params=["adamw", "muon"])
def optimizer(request, model):
    SETTINGS.optimizer = request.param
    return make_optimizer(model, SETTINGS, CPU)


def weights(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"]]


def test_every_parameter_is_in_exactly_one_group(model, optimizer):
    found = list(map(id, weights(optimizer)))
    assert len(found) == len(set(found)) and set(found) == {id(p) for p in model.parameters()}


def test_matrices_decay_and_scales_and_a_mere_embedding_do_not(model, optimizer):
    """Seen from what a step does where no gradient pulls."""
    before = {p: p.detach().clone() for p in weights(optimizer)}
    for p in before:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for p, old in before.items():
        part = role(model, p)
        torch.testing.assert_close(p.detach(), old * (1 - RATES[part] * 0.5) if part in DECAYING else old)
    assert {role(model, p) for p in before} == RATES.keys() - ({"embedding"} if model.config.tied else set())


def test_the_rates_rise_and_fall_together_and_the_memories_are_those_of_the_settings(model, optimizer):
    set_rates(optimizer, 0.005)
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(RATES[role(model, group["params"][0])] / 2)
        assert group["betas"] == (0.8, 0.9)


@pytest.mark.parametrize("shape", [(2, 24, 64), (3, 64, 24), (1, 32, 32)])
def test_an_orthogonalised_matrix_keeps_its_directions_and_has_singular_values_near_one(shape):
    matrices = torch.randn(shape)
    found = orthogonalized(matrices)
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.5 and values.max() < 1.3
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    turned = u.mT @ found @ v.mT  # diagonal in the directions of the matrix itself
    assert (turned - torch.diag_embed(turned.diagonal(dim1=-2, dim2=-1))).abs().max() < 0.05


@pytest.mark.parametrize("shape", [(64, 192), (192, 64), (64, 64)])
def test_small_singular_values_are_brought_up_by_one_polynomial_whatever_the_shape(shape):
    """Against five plain steps in float64, on values that fall to a hundred thousandth, as those of gradients do."""
    u, v = (torch.linalg.qr(torch.randn(n, 64, dtype=torch.float64))[0] for n in shape)
    values = torch.logspace(0, -5, 64, dtype=torch.float64)
    found = orthogonalized((u * values @ v.mT).float()[None])[0]
    expected = values / values.norm()
    for _ in range(5):
        expected = 3.4445 * expected - 4.7750 * expected**3 + 2.0315 * expected**5
    assert (u.mT @ found.double() @ v - expected.diag()).abs().max() < 0.1


def test_muon_moves_hidden_matrices_alone_and_as_far_as_adamw_would(model):
    SETTINGS.optimizer = "muon"
    optimizer = make_optimizer(model, SETTINGS, CPU)
    before = {p: p.detach().clone() for p in model.parameters()}
    for p in before:
        p.grad = torch.randn_like(p) * (1e-3 if role(model, p) == "hidden" else 0)
    optimizer.step()
    for p, old in before.items():
        part = role(model, p)
        size = (p.detach() - old * (1 - RATES[part] * 0.5 * (part in DECAYING))).square().mean().sqrt() / 0.01
        assert 0.1 < size < 0.3 if part == "hidden" else size < 1e-6


def cut(model, name, tensor):
    """A hidden matrix, or what belongs to it, as the matrices that it consists of: one for each head of attention."""
    heads = model.config.n_head
    return (tensor.chunk(3 * heads, dim=0) if name.endswith("attention.qkv.weight") else
            tensor.chunk(heads, dim=1) if name.endswith("attention.proj.weight") else [tensor])


def test_hidden_matrices_go_the_way_of_pytorchs_muon_and_attentions_head_by_head(model):
    SETTINGS.optimizer = "muon"
    hidden = {name: p for name, p in model.named_parameters() if role(model, p) == "hidden"}
    others = {name: [torch.nn.Parameter(part.clone()) for part in cut(model, name, p.detach())]
              for name, p in hidden.items()}
    ours = make_optimizer(model, SETTINGS, CPU)
    theirs = torch.optim.Muon(sum(others.values(), []), lr=0.01, weight_decay=0.5, momentum=0.8,
                              adjust_lr_fn="match_rms_adamw")
    start = {name: p.detach().clone() for name, p in hidden.items()}
    for _ in range(4):
        for name, p in hidden.items():
            p.grad = torch.randn_like(p)
            for other, part in zip(others[name], cut(model, name, p.grad), strict=True):
                other.grad = part.contiguous()
        ours.step()
        theirs.step()
    for name, p in hidden.items():
        for part, other, first in zip(cut(model, name, p), others[name], cut(model, name, start[name])):
            assert (part - other).norm() < 0.08 * (other - first).norm()  # bfloat16 rounds to some hundredths of a step


def test_a_step_that_found_infinity_leaves_weights_and_memory_as_they_were(optimizer):
    def step(gradient):
        for p in weights(optimizer):
            p.grad = torch.full_like(p, gradient)
        optimizer.found_inf = torch.tensor(float(gradient != gradient))
        optimizer.step()
        optimizer.zero_grad()

    step(1.0)
    before = [p.detach().clone() for p in weights(optimizer)]
    memory = [{name: value.clone() for name, value in optimizer.state[p].items()} for p in weights(optimizer)]
    step(float("nan"))
    for p, old, kept in zip(weights(optimizer), before, memory):
        assert torch.equal(p, old) and all(torch.equal(optimizer.state[p][name], value) for name, value in kept.items())
    step(1.0)
    assert not any(torch.equal(p, old) for p, old in zip(weights(optimizer), before))
