"""
One update's gradients, and the loss on held-out batches.

A batch is (x, y, loss_mask): int64 (B, T) twice, and a boolean (B, T), or None where every target counts.
"""

import torch

from model import evaluating
from program.device import autocast


def targets(batch):
    """How many targets of a batch count."""
    _, y, mask = batch
    return y.numel() if mask is None else int(mask.sum())


def accumulate(model, batches, device, dtype):
    """Add the gradients of an update's batches; return the mean loss over all their counted targets, a tensor.

    Each batch weighs as much as it has counted targets, so any division into micro-steps gives the gradient of one
    large batch.
    """
    counts = list(map(targets, batches))
    total = torch.zeros((), device=device)
    for batch, count in zip(batches, counts):
        loss = _loss(model, batch, device, dtype) * (count / max(1, sum(counts)))
        loss.backward()
        total += loss.detach()
    return total


@torch.no_grad()
def evaluate(model, batches, device, dtype):
    """Mean loss in nats over the counted targets of batches, with dropout off."""
    total, counted = 0.0, 0
    with evaluating(model):
        for batch in batches:
            count = targets(batch)
            total, counted = total + _loss(model, batch, device, dtype).item() * count, counted + count
    return total / max(1, counted)


def _loss(model, batch, device, dtype):
    with autocast(device, dtype):
        _, loss = model(*(None if part is None else part.to(device, non_blocking=True) for part in batch))
    return loss
