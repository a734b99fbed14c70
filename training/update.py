"""
One update: its gradients, its step, and the loss on held-out batches.

A batch is (x, y, loss_mask): int64 (B, T) twice, and a boolean (B, T), or None where every target counts.
"""

import contextlib
import gc
import inspect
import math

import torch
from torch.nn.parallel import DistributedDataParallel

from model import evaluating
from program.device import autocast
from program.ranks import Ranks
from program.streams import say


def targets(batch):
    """How many targets of a batch count."""
    _, y, mask = batch
    return y.numel() if mask is None else int(mask.sum())


def share_of(batches, ranks):
    """The batches of an update that this process takes; where none is left, one in which no target counts, for every
    process takes part in the exchange of gradients."""
    x, y, _ = batches[0]
    return batches[ranks.rank::ranks.count] or [(x, y, torch.zeros(x.shape, dtype=torch.bool))]


def divided(batches, parts):
    """The same sequences as batches of a part of the size each."""
    return [tuple(pieces) for batch in batches for pieces in zip(*(
        [None] * min(parts, len(batch[0])) if part is None else part.tensor_split(min(parts, len(batch[0])))
        for part in batch))]


def accumulate(model, batches, device, dtype, counted=None, ranks=Ranks()):
    """Add the gradients of this process's batches; return the mean loss over all counted targets, a tensor that is not
    waited for.

    `counted` is the number of those targets in the batches of all processes. Each batch weighs as much as it has of
    them, so any division into micro-steps and processes gives the gradient of one large batch. The processes exchange
    their gradients in the last micro-step.
    """
    counted = sum(map(targets, batches)) if counted is None else counted
    total = torch.zeros((), device=device)
    for number, batch in enumerate(batches, 1):
        alone = ranks.count > 1 and number < len(batches)
        with model.no_sync() if alone else contextlib.nullcontext():
            loss = _loss(model, batch, device, dtype) * (targets(batch) / max(1, counted))
            (loss * ranks.count).backward()  # the exchange takes the mean over the processes, and a sum is wanted
        total += loss.detach()
    return ranks.add_up(total)


class Updates:
    """Does one update after another; fast_model is the model or its compiled form.

    Where the device runs out of memory, all micro-batches are halved, as often as need be, and the update begins anew:
    the same sequences, more slowly. Among several processes that is found out once, before the first update.
    """

    def __init__(self, model, fast_model, optimizer, settings, device, dtype, ranks):
        self.parameters, self.optimizer, self.grad_clip = list(model.parameters()), optimizer, settings.grad_clip
        self.batch_size, self.device, self.dtype, self.ranks = settings.batch_size, device, dtype, ranks
        self.model, self.parts, self.rehearsed = fast_model, 1, ranks.count == 1
        if not optimizer.state:  # its memory is taken first: what a batch can have is then known from the first one on
            for p in self.parameters:
                p.grad = torch.zeros_like(p)
            self.step(torch.tensor(math.nan, device=device))  # which changes nothing
        if ranks.count > 1:
            known = inspect.signature(DistributedDataParallel).parameters  # the buffers follow from the config, and
            syncs = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # stay the same
            self.model = DistributedDataParallel(fast_model, gradient_as_bucket_view=True, **{syncs: False})

    def gradients(self, batches):
        """Compute the gradients of an update, of whose batches this process takes its share; return the mean loss."""
        counted = sum(map(targets, batches))
        own = share_of(batches, self.ranks)
        if not self.rehearsed:
            self._rehearse(own)
        while True:
            try:
                return accumulate(self.model, divided(own, self.parts), self.device, self.dtype, counted, self.ranks)
            except torch.OutOfMemoryError:
                if self.ranks.count > 1 or not self._divisible(own):
                    raise
            self._halve(own)  # here, where the error and all that it holds are gone

    def step(self, loss):
        """Clip and take the step, unless loss or gradients are not finite; return the gradients' norm, a tensor."""
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.grad_clip or math.inf)
        found = 1 - (torch.isfinite(loss) & torch.isfinite(norm)).float()
        if self.optimizer.defaults["fused"]:
            self.optimizer.found_inf, self.optimizer.grad_scale = found, None  # nothing is waited for
            self.optimizer.step()
        elif not found:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _rehearse(self, batches):
        """Find the parts that fit, and let the exchange arrange the gradients as it finds them in a first pass: a run
        that goes on then adds them up in the order of an unbroken one. Draws no random numbers."""
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            while self.ranks.highest(self._runs_out_of_memory(batches))[0]:
                self._halve(batches)
            accumulate(self.model, divided(batches[:1], self.parts)[:1], self.device, self.dtype, ranks=self.ranks)
        self.optimizer.zero_grad(set_to_none=True)
        self.rehearsed = True

    def _runs_out_of_memory(self, batches):
        try:
            with self.model.no_sync():
                accumulate(self.model, divided(batches[:1], self.parts)[:1], self.device, self.dtype)
        except torch.OutOfMemoryError:
            if not self._divisible(batches):
                raise
            return True
        finally:
            self.optimizer.zero_grad(set_to_none=True)
        return False

    def _divisible(self, batches):
        return self.parts < max(len(x) for x, _, _ in batches)

    def _halve(self, batches):
        self.parts *= 2
        self.optimizer.zero_grad(set_to_none=True)
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        rows = -(-max(len(x) for x, _, _ in batches) // self.parts)
        if self.ranks.first:
            say(f"The device ran out of memory. Going on with {rows:,} sequences a forward pass: the same updates, "
                f"somewhat slower. --batch-size {max(1, self.batch_size // self.parts)} --gradient-accumulation-steps "
                "…, so that their product stays, or --activation-checkpointing spares the attempt.")


@torch.no_grad()
def evaluate(model, batches, device, dtype, ranks=Ranks()):
    """Mean loss in nats over the counted targets of batches, which the processes share, with dropout off."""
    total, counted = 0.0, 0
    with evaluating(model):
        for batch in batches[ranks.rank::ranks.count]:
            count = targets(batch)
            total, counted = total + _loss(model, batch, device, dtype).item() * count, counted + count
    total, counted = ranks.sums(total, counted)
    return total / max(1, counted)


def _loss(model, batch, device, dtype):
    x, y, mask = batch
    with autocast(device, dtype):
        _, loss = model(_moved(x, device), _moved(y, device), mask)  # which stays where the model wants it
    return loss


def _moved(tensor, device):
    """A tensor on the device; from pinned memory a GPU fetches it by itself, while it computes."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)
