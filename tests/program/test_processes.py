"""What workers promise: gone when their program is gone, and never lost in silence."""

import os
import signal
import subprocess
import sys
import time

import pytest

from program.processes import children
from tests.support.processes import children_of, is_running, members, wait_until, workers
from tests.support.tiny import ROOT

REMEDY = "a worker process was ended from outside(.|\n)*with fewer --num-workers"


def workers_here():
    return workers(children_of(os.getpid()))


def endless(folder):
    """Code that does not end, and leaves a file in folder when a worker has begun on it."""
    return f"import os, time; open(f'{folder}/{{os.getpid()}}', 'w').close(); time.sleep(600)"


def wait_until_begun(folder, count=1, program=None):
    wait_until(lambda: len(list(folder.iterdir())) == count, program)


# ---- what the program sees of them


def test_results_come_back_and_so_does_what_went_wrong():
    with children(2) as executor:
        assert [future.result() for future in [executor.submit(pow, 2, i) for i in range(5)]] == [1, 2, 4, 8, 16]
        with pytest.raises(ValueError, match="'x'"):
            executor.submit(int, "x").result()
        assert executor.submit(int, "1").result() == 1  # and the worker goes on


def test_each_worker_is_made_ready_before_its_first_task():
    with children(2, os.putenv, ("WORKER_IS_READY", "yes")) as executor:
        asked = [executor.submit(subprocess.check_output, ["printenv", "WORKER_IS_READY"]) for _ in range(4)]
        assert [future.result() for future in asked] == [b"yes\n"] * 4


INTERRUPTED = """
import os, signal
from program.processes import children
from tests.support.processes import children_of, workers
for _ in range(2):
    with children(3) as executor:
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
        found = workers(children_of(os.getpid()))
        assert len(found) == 3
        for number in (signal.SIGINT, signal.SIGTERM):
            for worker in found:
                os.kill(worker, number)
        assert executor.submit(os.getpid).result() in found
        for number in (signal.SIGINT, signal.SIGTERM):
            for worker in found:
                os.kill(worker, number)
        assert executor.submit(os.getpid).result() in found
"""


def test_workers_leave_it_to_the_program_to_be_interrupted():
    """A terminal sends Ctrl-C to all, a scheduler perhaps its signal: as workers start, and when they are ready."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], cwd=ROOT, text=True, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_start_arguments_that_might_not_fit_in_a_pipe_are_refused_before_anything_starts():
    with pytest.raises(AssertionError, match="from a file"):
        children(1, print, (b"x" * 100_000,)).__enter__()
    assert not workers_here()
    with children(1, os.putenv, ("LONG", "x" * 4000)) as executor:  # a path, however long
        assert executor.submit(pow, 2, 3).result() == 8


# ---- a worker ended from outside


@pytest.mark.parametrize("count", [1, 3])
def test_a_worker_killed_while_it_works_is_reported_with_the_remedy_within_seconds(tmp_path, count):
    with pytest.raises(OSError, match=REMEDY), children(count) as executor:
        busy = [executor.submit(exec, endless(tmp_path)) for _ in range(count)]
        wait_until_begun(tmp_path, count)
        os.kill(workers_here()[-1], signal.SIGKILL)
        busy[0].result(timeout=20)
    assert not workers_here()


def test_a_worker_killed_as_soon_as_it_is_there_is_reported_with_the_remedy_within_seconds():
    with pytest.raises(OSError, match=REMEDY), children(1) as executor:
        wait_until(workers_here)
        os.kill(workers_here()[0], signal.SIGKILL)
        executor.submit(time.sleep, 600).result(timeout=20)
    assert not workers_here()


def test_a_worker_killed_while_it_gets_ready_is_reported_with_the_remedy_within_seconds(tmp_path):
    with pytest.raises(OSError, match=REMEDY), children(1, exec, (endless(tmp_path),)) as executor:
        wait_until_begun(tmp_path)
        os.kill(workers_here()[0], signal.SIGKILL)
        executor.submit(time.sleep, 600).result(timeout=20)
    assert not workers_here()


def test_a_task_after_a_worker_was_killed_is_reported_too():
    with pytest.raises(OSError, match=REMEDY), children(2) as executor:
        os.kill(executor.submit(os.getpid).result(), signal.SIGKILL)
        wait_until(lambda: not workers_here())  # one is killed, the others are sent home
        executor.submit(os.getpid).result(timeout=20)


# ---- how they end


def test_leaving_ends_a_worker_in_the_middle_of_what_it_does(tmp_path):
    started = time.monotonic()
    with children(1) as executor:
        worker = executor.submit(os.getpid).result()
        executor.submit(exec, endless(tmp_path))
        wait_until_begun(tmp_path)
    wait_until(lambda: not is_running(worker), seconds=20)
    assert time.monotonic() - started < 60


def test_an_error_of_the_program_ends_them_as_well_and_is_the_one_that_is_heard(tmp_path):
    with pytest.raises(KeyError, match="of its own"), children(1) as executor:
        worker = executor.submit(os.getpid).result()
        executor.submit(exec, endless(tmp_path))
        wait_until_begun(tmp_path)
        raise KeyError("of its own")
    wait_until(lambda: not is_running(worker), seconds=20)


PROGRAM = """
import sys
from program.processes import children
with children(2, exec, (sys.argv[1],)) as executor:
    [executor.submit(exec, sys.argv[2]) for _ in range(2)][0].result()
"""


@pytest.mark.parametrize("moment", ["as they start", "as they get ready", "as they work"])
def test_no_worker_outlives_a_program_that_was_killed(tmp_path, moment):
    begin, task = (endless(tmp_path), "") if moment == "as they get ready" else ("", endless(tmp_path))
    program = subprocess.Popen([sys.executable, "-c", PROGRAM, begin, task], cwd=ROOT, start_new_session=True)
    wait_until(lambda: len(workers(members(program.pid))) == 2, program)
    if moment != "as they start":
        wait_until_begun(tmp_path, 2, program)
    program.kill()
    program.wait()
    wait_until(lambda: not members(program.pid), seconds=20)
