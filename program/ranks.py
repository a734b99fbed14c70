"""
Several processes that train one model: which of them this one is, what they decide together, and who writes.

    torchrun --standalone --nproc-per-node=4 train_xcoax.py config/xcoax.toml

torchrun gives each process its rank. Gradients are exchanged by NCCL between GPUs and by gloo between processors; what
the processes agree upon are plain numbers, which gloo carries, so that no GPU is waited for.
"""

import contextlib
import os
import signal
import threading
import time

import torch
import torch.distributed as dist

_held = []  # until the program ends: let go by the model that exchanges gradients, a group may wait for its own threads


class Ranks:
    """This process among those that share an update's micro-steps: number `rank` of `count`, on so many nodes, as
    torchrun calls machines."""

    def __init__(self, rank=0, count=1, nodes=1):
        self.rank, self.count, self.nodes = rank, count, nodes

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


def launched():
    """Whether torchrun has started this process."""
    return dist.is_torchelastic_launched()


def may_restart():
    """Whether torchrun runs the same command again where a process has died (--max-restarts)."""
    return launched() and int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0


@contextlib.contextmanager
def loss_of_another(advice=lambda: ""):
    """Turn the error of an exchange with a process that is no longer there into a ChildProcessError that says so."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo/" not in str(error):  # gloo has no class of its own
            raise
        raise ChildProcessError("Another process of this run has ended; what it had to say stands apart. "
                                f"{advice()}".rstrip()) from error


@contextlib.contextmanager
def joined(device):
    """The Ranks of this process, which are joined while the context lasts; one alone needs no joining.

    All leave together, as long as none fails: torchrun ends the others once one has ended with a status. Where torchrun
    itself is killed, they stop as if it had told them to.
    """
    if not launched():
        yield Ranks()
        return
    threading.Thread(target=_stop_without, args=(os.getppid(),), daemon=True).start()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        with loss_of_another():
            store, rank, count = next(dist.rendezvous("env://"))
            if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # it outlives a restart, and has addresses of
                store = dist.PrefixStore(f"start_{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)      # the dead
            dist.init_process_group(backend, store=store, rank=rank, world_size=count)
            _held.append(dist.group.WORLD)
            yield (ranks := Ranks(rank, count, int(os.environ.get("GROUP_WORLD_SIZE", 1))))
            ranks.highest(0)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _stop_without(parent):
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
