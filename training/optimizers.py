"""
The optimiser and its groups of parameters.
"""

import torch


def make_optimizer(model, settings, device):
    """AdamW for the weights of model: matrices decay, the norms' scales do not."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    scales = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": scales, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(settings.beta1, settings.beta2),
                             fused=device.type != "mps")
