"""What atomic_write promises: what stands under a name is whole, and what went wrong is said."""

import os
import resource
import subprocess
import sys

import pytest

from program.files import atomic_write
from tests.support.tiny import ROOT


def test_a_failure_in_mid_write_leaves_the_old_file_whole(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(KeyError), atomic_write(tmp_path / "file") as file:
        file.write(b"new")
        raise KeyError("something else went wrong")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"file": b"old"}


def test_nothing_stands_under_the_name_before_all_is_written(tmp_path):
    with atomic_write(tmp_path / "file") as file:
        file.write(b"new")
        file.flush()
        assert not (tmp_path / "file").exists()
    assert (tmp_path / "file").read_bytes() == b"new" and len(list(tmp_path.iterdir())) == 1


def test_the_folder_is_made_when_it_is_not_there(tmp_path):
    with atomic_write(tmp_path / "a" / "b" / "file", "w") as file:
        file.write("Grüße\n")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == "Grüße\n".encode()


def python(code, *args, **kwargs):
    return subprocess.Popen([sys.executable, "-c", code, *map(str, args)], cwd=ROOT, text=True, stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)


@pytest.mark.parametrize("megabytes", [0.1, 3], ids=["in the buffer", "beyond it"])
def test_a_disk_that_fills_up_leaves_the_old_file_whole_and_is_named(tmp_path, megabytes):
    (tmp_path / "train.bin").write_bytes(b"old")
    program = python("import signal, sys\n"
                     "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
                     "from program.files import atomic_write\n"
                     "with atomic_write(sys.argv[1]) as file:\n"
                     "    file.write(bytes(int(sys.argv[2])))\n", tmp_path / "train.bin", int(megabytes * 1e6),
                     preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
                     env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    said = program.communicate(timeout=60)[1]
    assert f"could not write {tmp_path / 'train.bin'} (File too large)" in said and "Make room" in said
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"train.bin": b"old"}


def test_a_writer_killed_in_mid_write_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "train.bin"
    path.write_bytes(b"old")
    program = python("import sys\n"
                     "from program.files import atomic_write\n"
                     "with atomic_write(sys.argv[1]) as file:\n"
                     "    file.write(bytes(1_000_000))\n"
                     "    file.flush()\n"
                     "    print('half', flush=True)\n"
                     "    input()\n", path)
    assert program.stdout.readline() == "half\n"
    program.kill()
    program.communicate(timeout=60)
    assert path.read_bytes() == b"old"
    with atomic_write(path) as file:  # and what it left behind is in nobody's way
        file.write(b"new")
    assert path.read_bytes() == b"new" and [p.name for p in tmp_path.iterdir()] == ["train.bin"]
