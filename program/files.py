"""
Files that are whole or not there, and folders that one run at a time writes to: a killed program or a full disk leaves
what was there before.
"""

import contextlib
import errno
import os
import re
import secrets
import shutil
import socket
import sys
from pathlib import Path

import filelock

_PARTIAL = re.compile(r".+\.[0-9a-f]{8}\.partial")  # names under which atomic_write writes
_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
                    "Make room and run the same command again: it goes on from there."),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS),
                    "Take a place where you may write, or change the rights."),
    errno.ENOENT: "Its folder has gone while the program ran; run the same command again.",
}


@contextlib.contextmanager
def atomic_write(path, mode="wb"):
    """Open a file beside path and move it over path when all went well: what exists is complete.

    Its name is its own, so that two writers never share one, and it is new, so that no link is followed. A failure
    leaves the old file whole, removes the new one, and raises OSError that says which file could not be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with open(beside, mode.replace("w", "x"), **({} if "b" in mode else {"encoding": "utf-8"})) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _not_written(path, error, "; what it held before is untouched") from error
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path, known, overwrite=False):
    """A folder beside path, to be filled with files, which is moved to path when all went well; a failure leaves
    nothing of it.

    known are the names of files that may be in it. What stands at path is refused, unless it is an empty folder or, to
    overwrite, one that holds nothing but such files: that one is then deleted. Raises FileExistsError, or OSError that
    says what could not be written.
    """
    path = Path(path)
    if os.path.lexists(path):
        if not path.is_dir():
            raise FileExistsError(f"{path} is a file, and a folder is to be written. Name another.")
        strange = sorted(entry.name for entry in path.iterdir() if entry.name not in known or entry.is_dir())
        if strange:
            raise FileExistsError(f"{path} is a folder that holds other things ({', '.join(strange[:3])}"
                                  f"{' …' if strange[3:] else ''}). Name another.")
        if any(path.iterdir()) and not overwrite:
            raise FileExistsError(f"{path} exists. Name another folder, or add --overwrite.")
    beside, old = (path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial") for _ in range(2))
    try:
        beside.mkdir(parents=True)
        yield beside
        for name in (entry.name for entry in beside.iterdir()):
            with open(beside / name, "rb") as file:
                os.fsync(file.fileno())
        if path.is_dir():
            path.replace(old)
        beside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _not_written(path, error) from error
    finally:
        for folder in (beside, old):
            shutil.rmtree(folder, ignore_errors=True)


def user_folder(kind):
    """Where this user's programs keep what is no setting: "state" outlives them, "cache" may be deleted at any time
    (XDG Base Directory Specification). Raises RuntimeError where the user has no home."""
    default = {"state": ".local/state", "cache": ".cache"}[kind]
    named = Path(os.environ.get(f"XDG_{kind.upper()}_HOME", ""))  # a relative one is to be passed over
    return (named if named.is_absolute() else Path.home() / default) / "backgpt"


def append(path, text):
    """Add text to a file: all of it, or nothing where that fails. Raises OSError as atomic_write does."""
    try:
        with open(path, "ab", buffering=0) as file:
            size, left = file.tell(), memoryview(text.encode("utf-8"))
            try:
                while left:
                    left = left[file.write(left):]
            except OSError:
                with contextlib.suppress(OSError):  # a device has no length; what went wrong before is raised
                    file.truncate(size)
                raise
    except OSError as error:
        raise _not_written(path, error) from error


def _not_written(path, error, held=""):
    return OSError(f"could not write {path} ({error.strerror or error}){held}. {_ADVICE.get(error.errno, '')}".rstrip())


def _sync_folder(folder):
    """Have the disk keep the new name, too; Windows does so by itself and opens no folder."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def locked_folder(folder):
    """Keep every other run from writing to a folder, which is made if it is not there.

    The lock ends with the process, however that ends. Removes what killed writers have left. Raises OSError naming the
    run that is at work there.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise OSError(f"{folder} is a file, and a folder is needed here. Name another.")
    folder.mkdir(parents=True, exist_ok=True)
    with _held(folder / ".lock", folder):
        for path in folder.iterdir():
            if _PARTIAL.fullmatch(path.name) and path.is_file():
                path.unlink()
        yield


def locked_file(path):
    """Keep every other run from writing to a file, whatever link leads to it; otherwise like locked_folder."""
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    return _held(path.with_name(f".{path.name}.lock"), path)


@contextlib.contextmanager
def _held(lock_path, what):
    def sign(descriptor):
        os.ftruncate(descriptor, 0)
        who = f"process {os.getpid()} on {socket.gethostname()}: {' '.join(sys.argv)}"
        os.write(descriptor, who.encode("utf-8", "backslashreplace"))  # a name of a file may be no UTF-8

    lock = filelock.FileLock(lock_path, blocking=False, on_acquired=sign)
    try:
        lock.acquire()
    except filelock.Timeout:
        holder = lock_path.read_text(encoding="utf-8", errors="replace")[:300]
        raise OSError(f"{what} is being written by another run ({holder or 'which has just begun'}). Wait until it has "
                      "ended, or name another place.") from None
    try:
        yield
    finally:
        lock.release()
