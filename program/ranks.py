"""
Several processes that train one model: which of them this one is, what they decide together, and who writes.

    torchrun --standalone --nproc-per-node=4 train_xcoax.py config/xcoax.toml

torchrun gives each process its rank. Gradients are exchanged by NCCL between GPUs and by gloo between processors; what
the processes agree upon are plain numbers, which gloo carries, so that no GPU is waited for.
"""

import contextlib

import torch
import torch.distributed as dist


class Ranks:
    """This process among those that share an update's micro-steps: number `rank` of `count`."""

    def __init__(self, rank=0, count=1):
        self.rank, self.count = rank, count

    @property
    def first(self):
        """Whether this is the one process that writes and speaks."""
        return self.rank == 0

    def highest(self, *numbers):
        """Each number as the highest that any process has given here: a list of floats."""
        return self._together(numbers, dist.ReduceOp.MAX)

    def sums(self, *numbers):
        """Each number summed over the processes: a list of floats."""
        return self._together(numbers, dist.ReduceOp.SUM)

    def agree(self, what, number):
        """Raise ValueError where the processes do not have the same number of something."""
        lowest, highest = self.highest(-number, number)
        if -lowest != highest:
            raise ValueError(f"The processes differ in {what}.")

    def _together(self, numbers, operation):
        numbers = torch.tensor(numbers, dtype=torch.float64)
        if self.count > 1:
            dist.all_reduce(numbers, operation)
        return numbers.tolist()

    def add_up(self, tensor):
        """Sum a tensor on the device over all processes, in place, without waiting for the device."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor


@contextlib.contextmanager
def joined(device):
    """The Ranks of this process, which are joined while the context lasts; one alone needs no joining."""
    if not dist.is_torchelastic_launched():
        yield Ranks()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
