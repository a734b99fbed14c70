"""Files that are whole or not there: a killed program or a full disk leaves what was there before."""

import contextlib
import os
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path, mode="wb"):
    """Open a file beside path and move it over path when all went well: what exists is complete.

    A failure leaves the old file whole, removes the new one, and says which file could not be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".partial")
    try:
        with open(beside, mode, **({} if "b" in mode else {"encoding": "utf-8"})) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise OSError(f"could not write {path} ({error.strerror or error}); what it held before is untouched. "
                      "Make room and run the same command again: it goes on from there.") from error
    finally:
        beside.unlink(missing_ok=True)
