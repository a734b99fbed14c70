"""
The optimiser: groups of parameters, each with its rate, and Muon for the hidden matrices.
"""

import math

import torch

from model import EMBEDDING_STD, WEIGHT_STD


def make_optimizer(model, settings, device):
    """The optimiser that the settings name. Each group has "share", its part of the learning rate (see set_rates).

    Matrices decay, the norms' scales do not.
    """
    embedding, output = model.wte.weight, model.output_weight
    hidden = [p for p in model.parameters() if p.dim() >= 2 and p is not embedding and p is not output]
    scales = [p for p in model.parameters() if p.dim() < 2]
    decay, rate = settings.weight_decay, settings.learning_rate
    head_rate = settings.head_rate or rate
    groups = [{"params": [output], "weight_decay": decay, "share": head_rate / rate, "muon": False},
              {"params": hidden, "weight_decay": decay, "share": 1.0, "muon": settings.optimizer == "muon",
               "momentum": settings.momentum},
              {"params": scales, "weight_decay": 0.0, "share": head_rate / rate, "muon": False}]
    if embedding is not output:  # most of its rows have no gradient in an update: no decay
        share = (settings.embedding_rate or head_rate * EMBEDDING_STD / WEIGHT_STD) / rate
        groups.append({"params": [embedding], "weight_decay": 0.0, "share": share, "muon": False})
    optimizer = MuonAndAdamW(groups, betas=(settings.beta1, settings.beta2), fused=device.type != "mps")
    heads = model.config.n_head
    for block in model.blocks:
        optimizer.pieces[block.attention.qkv.weight] = 3 * heads, 1
        optimizer.pieces[block.attention.proj.weight] = 1, heads
    set_rates(optimizer, settings.learning_rate)
    return optimizer


def set_rates(optimizer, rate):
    """Give every group its part of the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]


def orthogonalized(matrices):
    """To each of the matrices, (n, rows, columns), nearly the nearest one with orthogonal rows, or columns, whichever
    are fewer: its singular values are between 0.7 and 1.2.

    Five steps of Newton-Schulz iteration in bfloat16 with the coefficients of Muon (Jordan et al. 2024,
    kellerjordan.github.io/posts/muon), which bring small singular values up fast rather than all of them to 1. Each
    step multiplies x by a polynomial of x @ x.mT, so that where x is longer than wide, several steps are cheaper taken
    on that square and multiplied with x at the end: a third less work for the shapes of a transformer. After three
    steps it is computed anew from x, or bfloat16 would make it drift.
    """
    x = matrices.bfloat16()
    if tall := x.size(-2) > x.size(-1):
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for steps in (3, 2) if x.size(-2) < x.size(-1) else (1, 1, 1, 1, 1):
        gram, product = x @ x.mT, None
        for step in range(steps):
            factor = torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
            factor.diagonal(dim1=-2, dim2=-1).add_(3.4445)
            product = factor if product is None else factor @ product
            if step + 1 < steps:
                gram = factor @ (gram @ factor)
        x = product @ x
    return (x.mT if tall else x).to(matrices.dtype)


def in_pieces(matrices, rows, columns):
    """Each of the matrices, (n, r, c), orthogonalised in so many pieces by its rows and columns, as an update of 0.2 a
    weight in the root mean square."""
    n, r, c = matrices.shape
    pieces = matrices.view(n, rows, r // rows, columns, c // columns).transpose(2, 3)
    found = orthogonalized(pieces.flatten(0, 2)).mul_(0.2 * math.sqrt(max(pieces.shape[3:])))
    return found.view(pieces.shape).transpose(2, 3).reshape(n, r, c)


class MuonAndAdamW(torch.optim.AdamW):
    """AdamW; but a group whose "muon" is true goes by Muon: momentum, orthogonalised.

    `pieces` has {weight: (pieces of its rows, of its columns)} for those that hold several matrices, such as one for
    each head: these are orthogonalised each for itself. The update has the size of AdamW's (0.2 a weight in the root
    mean square, arXiv:2502.16982), so both take rates of one order. `found_inf`, a tensor, leaves everything as it was
    where it is 1, without its being read.
    """

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.pieces = {}

    def __setstate__(self, state):
        torch.optim.Optimizer.__setstate__(self, state)  # AdamW's own looks for its "step" in Muon's state, too

    @torch.no_grad()
    def step(self):
        found = getattr(self, "found_inf", None)
        for group in self.param_groups:
            if group["muon"]:
                alike = {}
                for p in group["params"]:
                    alike.setdefault((p.shape, self.pieces.get(p, (1, 1))), []).append(p)
                for (_, pieces), matrices in alike.items():  # all of a shape at once
                    self._step_muon(matrices, pieces, group, found)
        super().step()  # passes over those that have no gradient any more

    def _step_muon(self, matrices, pieces, group, found):
        rate, weight_decay, momentum = group["lr"], group["weight_decay"], group["momentum"]
        for p in matrices:
            if not self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        buffers, gradients = [self.state[p]["momentum_buffer"] for p in matrices], [p.grad for p in matrices]
        if found is not None:
            gradients = [torch.where(found > 0, buffer, grad) for buffer, grad in zip(buffers, gradients)]
            rate = rate * (1 - found)  # and the momentum stays as it is
        ahead = []  # Nesterov's
        for buffer, grad in zip(buffers, gradients):
            buffer.lerp_(grad, 1 - momentum)
            ahead.append(grad.lerp(buffer, momentum).bfloat16())
        for p, step in zip(matrices, in_pieces(torch.stack(ahead), *pieces)):
            p.mul_(1 - rate * weight_decay).sub_(step.to(p.dtype).mul_(rate))
            p.grad = None
