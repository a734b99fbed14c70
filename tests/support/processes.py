"""Programs of several processes, seen from outside (on Linux, in /proc), and what a test waits for."""

import time
from pathlib import Path


def wait_until(condition, process=None, seconds=120):
    """Wait until condition() holds; fail after so many seconds, or as soon as process has ended."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.01)


def members(session):
    """Processes of a session that still run."""
    return _running(lambda parent, its_session: its_session == session)


def workers(pids):
    """Which of these processes are workers (see program/processes.py)."""
    return [pid for pid in pids if b"popen_loky_posix" in _command(pid)]


def children_of(pid):
    """Processes that a process has started and that still run."""
    return _running(lambda parent, its_session: parent == pid)


def is_running(pid):
    return bool(_running(lambda *_: True, f"{pid}/stat"))


def _running(wanted, entries="[0-9]*/stat"):
    found = []
    for entry in Path("/proc").glob(entries):
        try:
            state, parent, _, session = entry.read_text().rsplit(")", 1)[1].split()[:4]
        except (OSError, ValueError):
            continue
        if state != "Z" and wanted(int(parent), int(session)):
            found.append(int(entry.parent.name))
    return found


def _command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def ranks_of(mark):
    """The processes with this mark ("NAME=value") in their environment, {rank: pid}; that of torchrun itself is None.

    torchrun gives each process that trains a session of its own, and they outlive it where it is killed.
    """
    found = {}
    for pid in _running(lambda *_: True):
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if mark in environment:
            [rank] = [pair.removeprefix("RANK=") for pair in environment if pair.startswith("RANK=")] or [None]
            found[rank and int(rank)] = pid
    return found
