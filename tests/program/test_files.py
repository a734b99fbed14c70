"""What atomic_write promises: what stands under a name is whole, and what went wrong is said."""

import os
import resource
import subprocess
import sys

import pytest

from program.files import atomic_write, locked_file, locked_folder, new_folder
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


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_new_folder_has_its_name_when_all_its_files_are_there(tmp_path):
    with new_folder(tmp_path / "a" / "new", {"x"}) as folder:
        (folder / "x").write_text("1")
        assert not (tmp_path / "a" / "new").exists()
    assert names(tmp_path) == ["a", "a/new", "a/new/x"]


def test_a_folder_whose_filling_fails_leaves_nothing_and_what_was_there_before(tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "x").write_text("old")
    with pytest.raises(KeyError), new_folder(tmp_path / "new", {"x"}, overwrite=True) as folder:
        (folder / "x").write_text("new")
        raise KeyError("something went wrong")
    assert names(tmp_path) == ["new", "new/x"] and (tmp_path / "new" / "x").read_text() == "old"


def test_a_folder_is_written_over_if_it_holds_the_files_that_may_be(tmp_path):
    for text in "12":
        with new_folder(tmp_path / "new", {"x"}, overwrite=True) as folder:
            (folder / "x").write_text(text)
    assert names(tmp_path) == ["new", "new/x"] and (tmp_path / "new" / "x").read_text() == "2"


@pytest.mark.parametrize("overwrite, there", [(False, "x"), (True, "y"), (True, "x/y"), (False, "y")])
def test_a_folder_that_holds_something_else_is_refused(tmp_path, overwrite, there):
    path = tmp_path / "new" / there
    path.parent.mkdir(parents=True)
    path.write_text("old")
    advice = "--overwrite" if there == "x" else r"holds other things \(. *\)|holds other things \(.\)"
    with pytest.raises(FileExistsError, match=advice), new_folder(tmp_path / "new", {"x"}, overwrite):
        pytest.fail("this was to be refused")
    assert path.read_text() == "old"


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
    (tmp_path / "mine.partial").write_text("of somebody else")
    with locked_folder(tmp_path), atomic_write(path) as file:  # and the next run removes what it left behind
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert {p.name for p in tmp_path.iterdir()} == {"train.bin", ".lock", "mine.partial"}


def test_two_writers_of_one_file_do_not_mix(tmp_path):
    with atomic_write(tmp_path / "file") as one, atomic_write(tmp_path / "file") as other:
        one.write(b"one")
        other.write(b"the other")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"file": b"one"}  # the last that ended


def test_a_planted_link_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda n: "0" * 2 * n)
    (tmp_path / "victim").write_bytes(b"of somebody else")
    (tmp_path / "file.00000000.partial").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError), atomic_write(tmp_path / "file") as file:
        file.write(b"new")
    assert (tmp_path / "victim").read_bytes() == b"of somebody else" and not (tmp_path / "file").exists()


def test_a_place_where_nobody_may_write_is_not_called_full(tmp_path):
    (tmp_path / "file").mkdir()
    refused = pytest.raises(OSError, match="could not write .*directory")
    with refused as found, atomic_write(tmp_path / "file") as file:
        file.write(b"new")
    assert "Make room" not in str(found.value) and [p.name for p in tmp_path.iterdir()] == ["file"]


# ---- one run at a time

RIVAL = """
import sys
from program.files import locked_file, locked_folder
with globals()[sys.argv[1]](sys.argv[2]):
    print("mine", flush=True)
    input()
"""


@pytest.mark.parametrize("lock", [locked_folder, locked_file])
def test_a_second_run_is_refused_and_told_by_whom_until_the_first_has_ended(tmp_path, lock):
    path = tmp_path / "new" / "place"
    rival = python(RIVAL, lock.__name__, path)
    assert rival.stdout.readline() == "mine\n"
    with pytest.raises(OSError, match=f"{path} is being written by another run .process {rival.pid} on .*{path}"):
        lock(path).__enter__()
    rival.kill()  # the kernel frees what it held
    rival.communicate(timeout=60)
    with lock(path):
        pass


def test_a_file_is_locked_whatever_link_leads_to_it(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with locked_file(tmp_path / "file"), pytest.raises(OSError, match="is being written by another run"):
        locked_file(tmp_path / "link").__enter__()


def test_different_files_of_one_folder_are_written_side_by_side(tmp_path):
    with locked_file(tmp_path / "a"), locked_file(tmp_path / "b"):
        pass


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file is a file, and a folder is needed"):
        locked_folder(tmp_path / "file").__enter__()


def test_a_folder_is_locked_by_a_command_that_is_not_utf8(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["preprocess_xcoax.py", "--dataset", "caf\udce9.txt"])
    with locked_folder(tmp_path), pytest.raises(OSError, match="preprocess_xcoax.py --dataset caf"):
        with locked_folder(tmp_path):
            pass
