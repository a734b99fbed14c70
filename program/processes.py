"""
Processes that work for a script: they are gone when it is gone, and what goes wrong in one is never passed over.
"""

import contextlib
import os
import pickle
import signal
import threading
import time
from multiprocessing import resource_tracker

from loky import ProcessPoolExecutor
from loky.process_executor import BrokenProcessPool
from tqdm import tqdm

from program.streams import prepare_streams

MOST_BYTES = 8192  # of start arguments: a pipe holds 16,384 at least, and they share it with what loky has to say
_held = []  # until the program ends: a thread that lets go of its queue just then leaves a semaphore behind


def _start(parent, initializer, arguments):
    """A child ends with its parent, even one killed outright; otherwise it would wait for tasks for ever."""

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    prepare_streams()
    tqdm.set_lock(threading.RLock())  # its own default would be a semaphore that a child ended early leaves behind
    if initializer:
        initializer(*arguments)


@contextlib.contextmanager
def children(count, initializer=None, arguments=()):
    """An executor (loky's) of fresh processes, which leave it to the parent to be interrupted.

    Arguments must be few bytes: of more than fit in a pipe, the rest would wait for ever for a process that has ended
    before it has read them. Leaving the context ends all at once, in the middle of what they do if need be. Raises
    OSError where one has been ended from outside.
    """
    assert len(pickle.dumps(arguments)) <= MOST_BYTES, "let the processes read from a file what is large"
    executor = ProcessPoolExecutor(count, initializer=_start, initargs=(os.getpid(), initializer, arguments))
    resource_tracker.ensure_running()  # it may unblock the signals as it starts, so it starts before
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        executor.submit(os.getpid)  # the first task starts all processes, which inherit the mask
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield executor
    except BrokenProcessPool as error:
        raise OSError("a worker process was ended from outside, perhaps for want of memory. Run the same command "
                      "again, with fewer --num-workers: it goes on after the last whole chunk.") from error
    finally:
        _held.append(executor._call_queue)
        executor.shutdown(kill_workers=True)
