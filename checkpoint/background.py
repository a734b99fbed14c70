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

    failed(error) is called about a file that could not be written, an OSError; what it was to hold is tried again with
    the next checkpoint, unless that is a newer one of the same name. At most one of each name waits to be written.
    `written` has the counters in each file that is there.
    """

    def __init__(self, failed):
        self.failed, self.written = failed, {}
        self._waiting, self._pool = {}, ThreadPoolExecutor(1)  # {path: (content, Future)}

    def save(self, path, *state, **more):
        """Take a copy of the state, for whose parts see checkpoint.save, and return while it is being written."""
        if path in self._waiting:
            self._waiting[path][1].exception()  # waits: memory for one copy of each file is enough
        again = {other: content for other, content in self._settle().items() if other != path}
        for name, content in {**again, path: snapshot(content_of(*state, **more))}.items():
            self._waiting[name] = content, self._pool.submit(write, name, content)

    def finish(self):
        """Wait until all is written. Raises OSError where a second attempt fails, too."""
        for _, future in self._waiting.values():
            future.exception()  # waits
        for path, content in self._settle(tell=False).items():
            write(path, content)
            self.written[path] = content["counters"]

    def _settle(self, tell=True):
        """Take note of what is no longer waiting; return the contents of files that could not be written."""
        contents = {}
        for path, (content, future) in list(self._waiting.items()):
            if not future.done():
                continue
            del self._waiting[path]
            error = future.exception()
            if error is None:
                self.written[path] = content["counters"]
            elif not isinstance(error, OSError):
                raise error
            else:
                contents[path] = content
                if tell:
                    self.failed(error)
        return contents
