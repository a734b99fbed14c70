"""What --dataset promises of paths: the files it names, each once, and nothing that is no file."""

import os
import socket

import pytest

from backchat.records import read_file
from corpus.files import open_file
from corpus.parquet_files import open_parquet
from corpus.paths import expand_paths
from tests.support.files import write


def test_folders_globs_and_lists_name_the_same_files(tmp_path):
    (tmp_path / "deep").mkdir()
    files = [write(tmp_path / name, "x") for name in ("a.txt", "b.jsonl", "deep/c.txt")]
    write(tmp_path / "notes.md", "not a corpus")
    assert expand_paths(tmp_path) == files
    assert expand_paths(f"{tmp_path}/**/*.txt") == [files[0], files[2]]
    assert expand_paths(", ".join([files[2], files[0], f"{tmp_path}/*.txt"])) == [files[2], files[0]]


@pytest.mark.parametrize("links", [{"self": "."}, {"a": ".", "b": "."}, {"deep/up": "..", "deep/own": "../deep"}])
@pytest.mark.parametrize("dataset", ["", "/**/*.txt", "/**", "/*/*/*/*.txt,{0}/*/*.txt,{0}/*.txt",
                                     "/**/deep/**/*.txt,{0}"])
def test_a_file_is_read_once_however_often_links_lead_to_it(tmp_path, links, dataset):
    (tmp_path / "deep").mkdir()
    files = [write(tmp_path / name, "x") for name in ("a.txt", "deep/c.txt")]
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    found = expand_paths(f"{tmp_path}{dataset.format(tmp_path)}")
    assert sorted(map(os.path.realpath, found)) == files
    assert not dataset or set(found) == set(files) or dataset[1] == "*"


def test_a_folder_behind_a_link_is_searched_and_a_link_and_a_second_name_are_the_same_file(tmp_path):
    for name in ("texts", "elsewhere"):
        (tmp_path / name).mkdir()
    file = write(tmp_path / "elsewhere" / "a.txt", "x")
    (tmp_path / "texts" / "more").symlink_to("../elsewhere")
    assert expand_paths(tmp_path / "texts") == [str(tmp_path / "texts/more/a.txt")]
    assert expand_paths(f"{tmp_path}/texts/**/*.txt") == [str(tmp_path / "texts/more/a.txt")]
    (tmp_path / "b.txt").symlink_to(file)
    os.link(file, tmp_path / "c.txt")
    assert expand_paths(f"{tmp_path}/*.txt") == [str(tmp_path / "b.txt")]


def test_a_glob_from_here_gives_paths_from_here_and_passes_over_hidden_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("a/b", ".hidden"):
        (tmp_path / folder).mkdir(parents=True)
        write(tmp_path / folder / "x.txt", "x")
    assert expand_paths("**/*.txt") == expand_paths("a/**") == expand_paths("a/**/x.txt") == ["a/b/x.txt"]
    assert expand_paths(".") == [".hidden/x.txt", "a/b/x.txt"]


def pipe(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def bound_socket(path):
    os.chdir(path.parent)  # a socket's path is short
    socket.socket(socket.AF_UNIX).bind(path.name)


@pytest.mark.parametrize("make, what", [(pipe, "a pipe"), (device, "a device"), (bound_socket, "a socket")])
@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".json", ".parquet"])
def test_what_is_no_file_is_refused_and_never_opened(tmp_path, monkeypatch, make, what, suffix):
    """Opening a pipe would wait for ever, reading a device has no end."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"a{suffix}"
    make(path)
    for dataset in (path, tmp_path, tmp_path / "*"):
        with pytest.raises(ValueError, match=f"a{suffix} is {what}, not a file. Write what it holds to a file"):
            expand_paths(dataset, (suffix,))
    with pytest.raises(ValueError, match=what):
        next(read_file(path))


def test_a_name_that_is_not_utf8_is_refused_before_any_work(tmp_path):
    """It could not be written to manifest.json, and Arrow does not open it."""
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.parquet")
    try:
        open(path, "w").close()
    except OSError:
        pytest.skip("such names cannot be made here")
    for dataset in (path, tmp_path, f"{tmp_path}/*"):
        with pytest.raises(ValueError, match="The name of .*caf.*parquet is not UTF-8.* Rename it"):
            expand_paths(dataset)
    for read in (open_file, lambda path: open_parquet(path, [])):
        with pytest.raises(ValueError, match="Rename it"):
            read(path)


def test_broken_links_are_no_files(tmp_path):
    (tmp_path / "a.txt").symlink_to("nowhere.txt")
    (tmp_path / "b.txt").symlink_to("b.txt")
    for dataset in (tmp_path, tmp_path / "a.txt", tmp_path / "*.txt"):
        with pytest.raises(FileNotFoundError, match="no such file"):
            expand_paths(dataset)
