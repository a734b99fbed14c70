"""
Processes that work for a script: they are gone when it is gone, and what goes wrong in one is never passed over.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, process, wait

from tqdm import tqdm


def _start(initializer, arguments):
    """A child ends with its parent, even one killed outright; otherwise it would wait for tasks for ever."""
    threading.Thread(target=lambda: (multiprocessing.parent_process().join(), os._exit(1)), daemon=True).start()
    tqdm.set_lock(threading.RLock())  # its own default would be a semaphore that a child ended early leaves behind
    if initializer:
        initializer(*arguments)


@contextlib.contextmanager
def children(count, initializer=None, arguments=()):
    """A pool of fresh processes, which leave it to the parent to be interrupted.

    Where one has been ended from outside, the program is left at once: Python before 3.12 may then wait for ever.
    """
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"), initializer=_start,
                             initargs=(initializer, arguments)) as executor:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            for _ in range(count):  # a process is started for a task that finds the others busy, and inherits the mask
                executor.submit(time.sleep, 0.1)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        try:
            yield executor
        except process.BrokenProcessPool:
            print("\nError: a worker process was ended from outside, perhaps for want of memory. Run the same command "
                  "again, with fewer --num-workers: it goes on after the last whole chunk.",
                  file=sys.stderr, flush=True)
            os._exit(1)
        finally:
            executor.shutdown(cancel_futures=True)  # tasks are short; what still waits is not wanted any more


def result_of(future):
    """The result of a task; raises BrokenProcessPool where a process has ended, of which the pool may not know."""
    before = len(multiprocessing.active_children())
    while not wait([future], timeout=2).done:
        if len(multiprocessing.active_children()) < before:
            raise process.BrokenProcessPool
    return future.result()
