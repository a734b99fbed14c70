"""
Saving while training goes on: a copy of the state is taken at once, and a thread writes it.
"""

from concurrent.futures import ThreadPoolExecutor

import torch

from checkpoint.file import content_of, write


def snapshot(value):
    """A copy on the CPU of whatever a checkpoint holds, which later updates do not change."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: snapshot(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(snapshot, value))
    return value


class Writer:
    """Writes checkpoints in the order in which they are given, to the same bytes as checkpoint.save.

    What could not be written (an OSError) is owed: it is tried again before the next checkpoint, unless that is a newer
    one of the same name, and nothing else is written before it. So a file on the disk is never newer than one that was
    given before it. failed(error, counters) is called in the writing thread about each attempt that failed, with the
    counters of the checkpoint that was then given. `written` has the counters in each file that is there. At most one
    of each name waits to be written.
    """

    def __init__(self, failed):
        self.failed, self.written = failed, {}
        self._waiting, self._pool = {}, ThreadPoolExecutor(1)  # {path: Future}; the program ends after its thread
        self._owed = {}  # {path: content}, of which the thread alone takes care

    def save(self, path, *state, **more):
        """Take a copy of the state, for whose parts see checkpoint.save, and return while it is being written."""
        if path in self._waiting:
            self._waiting[path].result()  # waits: memory for one copy of each file is enough
        self._waiting[path] = self._pool.submit(self._write, path, snapshot(content_of(*state, **more)))

    def wait(self):
        """Return when nothing is being written: all is there, or owed."""
        for future in self._waiting.values():
            future.result()

    def finish(self):
        """Wait until all is written. Raises OSError where what is owed fails again."""
        self.wait()
        self._pay()

    def _write(self, path, content):
        self._owed.pop(path, None)  # older
        self._owed[path] = content
        try:
            self._pay()
        except OSError as error:
            self.failed(error, content["counters"])

    def _pay(self):
        while self._owed:
            path, content = next(iter(self._owed.items()))
            write(path, content)
            self.written[path] = content["counters"]
            del self._owed[path]
