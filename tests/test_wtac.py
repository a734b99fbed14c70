"""The filter that reverses words: it does what training does, as the lines come, to whatever comes."""

import subprocess
import sys
import tempfile
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wtac
from reverse import reverse
from tests.support.texts import any_text
from tests.support.tiny import ROOT
from tests.support.tokenizers import BACKWARD

COMMAND = [sys.executable, "wtac.py"]


def run(*args, data=b"", **options):
    return subprocess.run([*COMMAND, *args], input=data, cwd=ROOT, capture_output=True, **options)


def filtered(data, errors="replace", whole=False):
    """What becomes of bytes, without a process."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        return "".join(wtac.lines(file.fileno(), errors, whole)).encode("utf-8", "surrogateescape")


# ---- what it writes


@pytest.mark.parametrize("ending", ["butterfly in the sky.", ", she said.", '"Yes," he said.', "船。",
                                    "fin.\n\nThe end"])
def test_an_ending_becomes_what_the_model_is_given(ending):
    written = run(ending).stdout.decode()
    assert written.endswith("\n")
    ids = BACKWARD.encode_ending(ending)
    assert BACKWARD.encode(written[:-1]) == ids[1:]


def test_several_arguments_are_words_of_one_ending_and_two_dashes_end_the_options():
    assert run("in", "the", "sky.").stdout == b".sky the in \n"
    assert run("--", "--bytes", "of", "bread.").stdout == run("--", "--bytes of bread.").stdout != b""


@given(any_text, st.integers(1, 9))
def test_every_line_is_reversed_as_for_training_however_long_it_is(text, piece):
    text = text.encode("utf-8", "replace").decode()  # what a file can hold
    with patch.object(wtac, "PIECE", piece):
        assert filtered(text.encode()).decode() == "\n".join(map(reverse, text.split("\n")))


@given(any_text, st.integers(1, 9))
def test_the_whole_is_reversed_as_one_text_but_for_the_newline_at_its_end(text, piece):
    text = text.encode("utf-8", "replace").decode()
    with patch.object(wtac, "PIECE", piece):
        assert filtered(text.encode() + b"\n", whole=True).decode() == reverse(text) + "\n"
        assert text.endswith("\n") or filtered(text.encode(), whole=True).decode() == reverse(text)


@given(st.lists(st.one_of(st.binary(max_size=4), st.sampled_from([b"a", b" ", b"3.14", b"\n", b"\r\n", "é".encode()])))
       .map(b"".join), st.integers(1, 9))
def test_bytes_that_are_no_text_are_as_they_were_when_they_are_reversed_twice(data, piece):
    with patch.object(wtac, "PIECE", piece):
        assert filtered(filtered(data, "surrogateescape"), "surrogateescape") == data


def test_without_bytes_they_become_replacement_characters():
    assert run(data=b"a \xff b").stdout == "b \ufffd a".encode()
    assert run("--bytes", data=b"a \xff\xfe b").stdout == b"b \xff\xfe a"


def test_empty_lines_stay_and_nul_is_a_character():
    assert run(data=b"one two\n\nthree\0four").stdout == b"two one\n\nfour\0three"


# ---- how it works


def test_a_line_is_written_before_the_next_one_comes():
    with subprocess.Popen(COMMAND, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for line in (b"in the sky\n", b"and home.\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline().decode() == reverse(line.decode()[:-1]) + "\n"
        process.stdin.close()


def test_a_line_longer_than_memory_should_hold_waits_in_a_file():
    data = b"word and word " * 2**20  # 15 MB, and several times as much in memory
    code = ("import resource, runpy; resource.setrlimit(resource.RLIMIT_DATA, (2**26, 2**26));"
            "runpy.run_path('wtac.py', {}, '__main__')")
    done = subprocess.run([sys.executable, "-c", code], input=data, cwd=ROOT, capture_output=True)
    assert done.stdout == b" word and word" * 2**20, done.stderr


def test_a_pipe_that_is_closed_ends_it_quietly():
    with subprocess.Popen(COMMAND, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        process.stdout.close()
        with pytest.raises(BrokenPipeError):
            for _ in range(1000):
                process.stdin.write(b"a line\n" * 1000)
        assert process.stderr.read() == b""


def test_neither_pytorch_nor_sentencepiece_is_loaded():
    code = "import sys, wtac; print(sorted({'torch', 'sentencepiece', 'numpy', 'tqdm'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).stdout == b"[]\n"


def test_an_unknown_option_is_refused():
    assert run("--byte-order").returncode == 2
