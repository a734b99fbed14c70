"""What is promised of the hub: every file of a data set in rounds, one column, and help soon where there is no hub."""

import json
import os
import random
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from corpus.hub import PATIENCE, TIMEOUT, hub_arguments
from tests.support import fake_hub
from tests.support.fake_hub import fineweb_bytes, fineweb_files
from tests.support.files import parquet_bytes, write

ROOT = Path(__file__).resolve().parents[2]


def test_the_arguments_of_the_hub_call_are_these():
    assert hub_arguments("fineweb") == {"path": "HuggingFaceFW/fineweb", "name": "sample-100BT", "split": "train",
                                        "streaming": True, "columns": ["text"], "batch_size": 100}
    assert hub_arguments("tinystories") == {"path": "roneneldan/TinyStories", "split": "train", "streaming": True,
                                            "columns": ["text"], "batch_size": 100}


def test_a_column_that_the_hub_does_not_have_is_refused_without_asking_it():
    with pytest.raises(ValueError, match="fineweb has no column 'body'; it has 'text', 'id', 'dump', 'url'"):
        hub_arguments("fineweb", "body")


READER = """
import json, sys, urllib.request
sys.path.insert(0, sys.argv[1])
from corpus import documents, hub
documents.HUB_ROUND = 2

def texts(dataset):
    return ["".join(row.pieces) for row in documents.open_corpus(dataset).documents()]

known = {"corpus": documents, "hub": hub, "texts": texts, "fetch": urllib.request.urlopen}
for line in sys.stdin:
    answers = []
    try:
        exec(json.loads(line), {**known, "answer": answers.append})
    except Exception as error:
        answers = [[type(error).__name__, str(error)]]
    print("ANSWER" + json.dumps(answers[0]), flush=True)
"""


class Reader:
    """A process that reads from a hub: where the hub is, is settled when the libraries are imported."""

    def __init__(self, url, home, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-c", READER, str(ROOT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=home, env={**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(home), **environment})

    def ask(self, body):
        """What the Python statements `body` pass to answer(), or [kind, message] of the error that they raise."""
        self.process.stdin.write(json.dumps(textwrap.dedent(body)) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("ANSWER"):
                return json.loads(line.removeprefix("ANSWER"))
        raise AssertionError("the reader died")

    def end(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def server():
    with fake_hub.hub() as server:
        yield server


@pytest.fixture(scope="module")
def reader(server, tmp_path_factory):
    reader = Reader(server.url, tmp_path_factory.mktemp("home"))
    yield reader
    reader.end()


def documents_of_hub():
    return [[f"{file} {row} " + "word " * 20 for row in range(9 + file)] for file in range(3)]


def test_fineweb_is_read_from_every_file_in_rounds(server, reader):
    server.serve("HuggingFaceFW/fineweb", fineweb_files(documents_of_hub()))
    read = reader.ask("answer(texts('fineweb'))")
    assert read == [documents_of_hub()[file][row] for first, last in ((0, 2), (2, 10), (10, 42))
                    for file in (0, 2, 1) for row in range(first, min(last, 9 + file))]


def test_a_reader_of_fineweb_goes_on_within_a_file(server, reader):
    server.serve("HuggingFaceFW/fineweb", fineweb_files(documents_of_hub()))
    whole, resumed = reader.ask("""
        found = corpus.open_corpus("fineweb")
        whole = list(found.documents())
        answer([whole, [list(found.documents(tuple(whole[n][0]))) for n in (0, 4, 11, 29)]])""")
    assert resumed == [whole[n + 1:] for n in (0, 4, 11, 29)]


def test_the_sample_of_fineweb_takes_the_head_of_every_file(server, reader):
    server.serve("HuggingFaceFW/fineweb", fineweb_files(documents_of_hub()))
    sample = reader.ask("answer(corpus.open_corpus('fineweb').sample(600))")
    assert sample == [documents_of_hub()[file][row] for file in range(3) for row in range(2)]


def test_only_the_text_column_of_fineweb_is_fetched(server, reader):
    """The other columns of this file are most of it, in runs too long to be read in passing."""
    page = "https://example.com/" + random.Random(1).randbytes(6_000_000).hex()
    data = fineweb_bytes(["first", "second"], url=page, row_group_size=1)
    server.serve("HuggingFaceFW/fineweb", {**fineweb_files([]), "sample/100BT/000_00000.parquet": data})
    assert reader.ask("answer(texts('fineweb'))") == ["first", "second"]
    fetched = sum(span[1] - span[0] + 1 for _, path, span in server.asked if span)
    assert 0 < fetched < 0.9 * len(data)


def test_tinystories_is_read_from_all_its_files(server, reader):
    stories = documents_of_hub()
    files = {f"data/train-{i:05d}-of-00003-ab.parquet": parquet_bytes({"text": t}) for i, t in enumerate(stories)}
    server.serve("roneneldan/TinyStories",
                 {**files, "data/validation-00000-of-00001-cd.parquet": parquet_bytes({"text": ["held out"]})})
    read = reader.ask("answer(texts('tinystories'))")
    assert sorted(read) == sorted(sum(stories, []))


def names_what_to_do(answered):
    kind, message = answered
    assert kind == "OSError"
    return "HuggingFaceFW/fineweb cannot be reached" in message and "--dataset tales" in message and "*.txt" in message


@pytest.mark.parametrize("status", [404, 500, 503, "silent"])
def test_a_hub_without_a_good_answer_leads_to_tales_and_paths(server, reader, status):
    server.serve("HuggingFaceFW/fineweb", {}, status)
    reader.ask("hub.TIMEOUT, hub.PATIENCE = 1, 20; answer(None)")
    assert names_what_to_do(reader.ask("answer(corpus.open_corpus('fineweb').file_count)"))


def test_a_hub_leads_to_tales_and_paths_however_its_time_outs_add_up(server, reader):
    """A time-out of the library holds for one address of several, so another clock runs over all."""
    server.serve("HuggingFaceFW/fineweb", {}, "silent")
    answered = reader.ask("hub.TIMEOUT, hub.PATIENCE = 60, 1; answer(corpus.open_corpus('fineweb').size)")
    assert names_what_to_do(answered) and "no answer in 1 seconds" in answered[1]


def test_a_hub_with_a_repository_but_no_files_leads_to_tales_and_paths(server, reader):
    server.serve("HuggingFaceFW/fineweb", {})
    assert names_what_to_do(reader.ask("answer(corpus.open_corpus('fineweb').file_count)"))


def test_a_hub_that_dies_in_mid_stream_says_that_the_same_command_goes_on(server, reader):
    server.serve("HuggingFaceFW/fineweb", fineweb_files(documents_of_hub()))
    kind, message = reader.ask(f"""
        documents = corpus.open_corpus("fineweb").documents()
        next(documents), next(documents)
        fetch({server.url + "/die"!r})
        answer(list(documents))""")
    assert kind == "OSError" and "broke off" in message and "same command again" in message


def test_offline_mode_and_a_home_that_cannot_be_written_lead_to_tales_and_paths(tmp_path):
    (tmp_path / "file").touch()
    offline = Reader("http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "file" / "home"))
    write(tmp_path / "a.txt", "one\n<|endoftext|>\ntwo")
    assert names_what_to_do(offline.ask("answer(corpus.open_corpus('fineweb').file_count)"))
    assert offline.ask("answer(texts('a.txt'))") == ["one", "two"]
    offline.end()


def test_a_hub_that_is_not_there_leads_to_tales_and_paths(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    nowhere = Reader(f"http://127.0.0.1:{port}", tmp_path)
    assert names_what_to_do(nowhere.ask("answer(corpus.open_corpus('fineweb').file_count)"))
    nowhere.end()


def test_the_first_answer_of_a_hub_is_not_awaited_for_long():
    assert TIMEOUT <= PATIENCE <= 20
