"""What a corpus promises: every document once, in an order of its own, and help where something is bad."""

import json
import os
import random
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import corpus
import readers
from corpus import hub_arguments, open_corpus
from fake_hub import fineweb_bytes, fineweb_files, hub, parquet_bytes
from readers import cut, expand_paths, read_json_lines, read_text_file

laws = settings(max_examples=150, deadline=None, derandomize=True, database=None)
words = st.text(alphabet="aé語🙂 .", min_size=1, max_size=12).filter(lambda text: text.strip())


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return str(path)


def texts(path):
    return [record["text"] for record in read_text_file(path)]


def all_of(dataset, **options):
    return [text for _, text in open_corpus(str(dataset), **options).documents()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("corpus")


# --- text files ---------------------------------------------------------------------------------------------------

@laws
@given(documents=st.lists(st.lists(words, min_size=1, max_size=3), max_size=6), newline=st.sampled_from(["\n", "\r\n"]),
       bom=st.booleans(), final=st.booleans(), marked=st.booleans())
def test_a_text_file_gives_its_documents_back(folder, documents, newline, bom, final, marked):
    """Whatever ends its lines, with or without a byte order mark or a newline at the end."""
    between = "\n<|endoftext|>\n" if marked else "\n\n"
    documents = ["\n".join(lines) for lines in documents] + (["the last"] if marked else [])
    content = (between if marked else "") + between.join(documents) + ("\n" if final else "")
    content = (b"\xef\xbb\xbf" if bom else b"") + content.replace("\n", newline).encode()
    assert texts(write(folder / "a.txt", content)) == documents


def test_blank_lines_stay_where_marker_lines_divide(folder):
    assert texts(write(folder / "a.txt", "one\n\ntwo\n<|endoftext|>\nthree\n\n\n")) == ["one\n\ntwo", "three"]


def test_a_marker_within_a_line_divides_nothing(folder):
    path = write(folder / "a.txt", "say <|endoftext|>\nand go on\n\nnext")
    assert texts(path) == ["say <|endoftext|>\nand go on", "next"]


@laws
@given(text=st.text(alphabet="aé語🙂\n <", max_size=200), limit=st.integers(32, 64), marked=st.booleans())
def test_a_document_over_the_limit_is_cut_between_characters_and_loses_nothing(folder, text, limit, marked):
    """A piece that cut a character would not decode. Newlines around a document do not count as part of it."""
    text = f"x{text}x"
    path = write(folder / "a.txt", text.replace("\n", "\r\n") + "\r\n<|endoftext|>" * marked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "MAX_DOCUMENT_BYTES", limit)
        pieces = texts(path)
    expected = text if marked else "".join(part.strip("\n") for part in divided(text))
    assert "".join(pieces).replace("\n", "") == expected.replace("\n", "")
    if marked:
        assert "".join(pieces) == expected
    assert all(len(piece.encode()) <= limit + 3 for piece in pieces)


def divided(text):
    """Documents between lines that hold nothing but white space, by a slow second way."""
    found = [[]]
    for line in text.split("\n"):
        found.append([]) if not line.strip() else found[-1].append(line)
    return ["\n".join(lines) for lines in found]


@laws
@given(text=st.text(alphabet="ab\n🙂", max_size=3000), limit=st.integers(1, 500))
def test_cut_pieces_joined_are_the_text(text, limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "MAX_DOCUMENT_BYTES", limit)
        pieces = list(cut(text))
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= limit


def test_one_long_line_is_read_in_pieces_of_the_limit(folder):
    line = "é" * (3 * readers.MAX_DOCUMENT_BYTES // 2 + 1)
    pieces = texts(write(folder / "a.txt", line))
    assert "".join(pieces) == line and len(pieces) > 2


@laws
@given(before=st.lists(words, max_size=6), after=st.lists(words, max_size=3), bom=st.booleans(),
       joined=st.sampled_from(["\n", "\n\n", "\n<|endoftext|>\n", ""]), limit=st.sampled_from([8, 16, 2**20]),
       bad=st.sampled_from([b"\xff", b"\x80", b"\xc3(", b"\xf0\x9f\x99 ", b"\xed\xa0\x80", b"\xe8\xaa"]))
def test_a_file_that_is_not_utf8_is_named_with_the_very_byte(folder, before, after, bom, joined, limit, bad):
    data = joined.join([*before, ""]).encode()
    data = b"\xef\xbb\xbf" * bom + data + b"x" + bad + joined.join(["", *after]).encode()
    path = write(folder / "a.txt", data)
    with pytest.raises(UnicodeDecodeError) as python:
        data.decode("utf-8")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ValueError) as error:
        patch.setattr(readers, "MAX_DOCUMENT_BYTES", limit)
        texts(path)
    at = python.value.start
    assert f"{path} is not UTF-8: byte {at:,} is 0x{data[at]:02x}" in str(error.value)
    assert "iconv" in str(error.value)


# --- .jsonl and .parquet ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("line, complaint", [
    ('{"text": "cut o', "line 3: not valid JSON"),
    ('["a list"]', "line 3: expected an object"),
    ("[" * 100_000, "line 3: not valid JSON"),
])
def test_a_bad_line_of_a_jsonl_file_is_named(folder, line, complaint):
    path = write(folder / "a.jsonl", '{"text": "fine"}\n\n' + line + "\n")
    with pytest.raises(ValueError, match=complaint) as error:
        list(read_json_lines(path))
    assert path in str(error.value)


@laws
@given(before=st.lists(words, max_size=4), bom=st.booleans())
def test_a_jsonl_file_that_is_not_utf8_is_named_with_line_and_byte(folder, before, bom):
    lines = [json.dumps({"text": word}, ensure_ascii=False) + "\n" for word in before]
    data = b"\xef\xbb\xbf" * bom + "".join(lines).encode()
    path = write(folder / "a.jsonl", data + b'{"text": "\xff"}\n')
    with pytest.raises(ValueError, match=f"line {len(before) + 1}, is not UTF-8: byte {len(data) + 10:,} is 0xff"):
        list(read_json_lines(path))


def test_a_record_too_long_for_memory_is_refused_by_its_line(folder, monkeypatch):
    monkeypatch.setattr(readers, "MAX_RECORD_BYTES", 100)
    path = write(folder / "a.jsonl", '{"text": "short"}\n' + json.dumps({"text": "x" * 200}))
    with pytest.raises(ValueError, match="line 2: longer than 100 bytes"):
        list(read_json_lines(path))


def test_a_byte_order_mark_before_jsonl_is_dropped(folder):
    assert all_of(write(folder / "a.jsonl", '\ufeff{"text": "é"}\n')) == ["é"]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_missing_column_lists_those_that_are_there(folder, kind):
    path = folder / f"columns.{kind}"
    write(path, '{"body": "x", "title": "y"}\n' if kind == "jsonl" else parquet_bytes({"body": ["x"], "title": ["y"]}))
    with pytest.raises(ValueError, match="has no column 'text'; it has 'body', 'title'. Name one with --text-column"):
        all_of(path)
    assert all_of(path, text_column="body") == ["x"]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_column_of_numbers_is_refused_and_a_missing_text_is_empty(folder, kind):
    path = folder / f"numbers.{kind}"
    write(path, '{"text": null, "n": 1}\n{"text": "a", "n": 2}' if kind == "jsonl"
          else parquet_bytes({"text": [None, "a"], "n": [1, 2]}))
    assert all_of(path) == ["", "a"]
    with pytest.raises(ValueError, match="'n' of .* holds int, not text"):
        all_of(path, text_column="n")


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_a_truncated_parquet_file_is_named_before_any_work(folder, keep):
    path = write(folder / "whole.parquet", parquet_bytes({"text": ["some text"] * 100})[:keep])
    with pytest.raises(ValueError, match="is not a whole Parquet file") as error:
        open_corpus(path)
    assert path in str(error.value)


def test_a_parquet_file_damaged_in_the_middle_is_named(folder):
    data = bytearray(parquet_bytes({"text": [f"{i} text" for i in range(1000)]}))
    data[4:2000] = os.urandom(1996)
    path = write(folder / "damaged.parquet", bytes(data))
    with pytest.raises(ValueError, match="(?s)is damaged.*again") as error:
        all_of(path)
    assert path in str(error.value)


def test_one_huge_row_group_is_read_a_little_at_a_time(folder):
    """300,000 rows, 30 MB of text: the reader's own memory stays under a third of that."""
    path = str(folder / "group.parquet")
    rng = random.Random(1)
    rows = [rng.randbytes(50).hex() for _ in range(300_000)]
    pyarrow.parquet.write_table(pyarrow.table({"text": rows}), path, row_group_size=10**9, use_dictionary=False)
    assert pyarrow.parquet.ParquetFile(path).num_row_groups == 1
    before, most = pyarrow.total_allocated_bytes(), 0
    for number, record in enumerate(readers.read_parquet(path, ["text"])):
        assert record["text"] == rows[number]
        most = max(most, pyarrow.total_allocated_bytes() - before)
    assert number == len(rows) - 1
    assert most < 10_000_000


# --- paths --------------------------------------------------------------------------------------------------------

def test_folders_globs_and_lists_name_the_same_files(tmp_path):
    (tmp_path / "deep").mkdir()
    files = [write(tmp_path / name, "x") for name in ("a.txt", "b.jsonl", "deep/c.txt")]
    write(tmp_path / "notes.md", "not a corpus")
    assert expand_paths(tmp_path) == files
    assert expand_paths(f"{tmp_path}/**/*.txt") == [files[0], files[2]]
    assert expand_paths(", ".join([files[2], files[0], f"{tmp_path}/*.txt"])) == [files[2], files[0]]


def test_kinds_may_be_mixed_and_are_read_in_order(tmp_path):
    write(tmp_path / "a.txt", "one\n\ntwo")
    write(tmp_path / "b.jsonl", '{"body": "three"}')
    write(tmp_path / "c.parquet", parquet_bytes({"body": ["four", "five"]}))
    write(tmp_path / "d.txt", "")
    assert all_of(tmp_path, text_column="body") == ["one", "two", "three", "four", "five"]


def test_a_path_that_leads_nowhere_tells_what_dataset_takes(tmp_path):
    for nowhere in (tmp_path, tmp_path / "no.txt", tmp_path / "*.txt"):
        with pytest.raises(FileNotFoundError, match="fineweb, tinystories, tales, or paths.*--dataset tales"):
            open_corpus(str(nowhere))


def test_a_file_of_unknown_kind_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"a\.docx is of no known kind; known are \.parquet, \.jsonl, \.txt"):
        open_corpus(write(tmp_path / "a.docx", "x"))


# --- positions and samples ----------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    write(folder / "a.txt", "\n\n".join(f"a{i}" for i in range(7)))
    write(folder / "b.txt", "")
    write(folder / "c.jsonl", "".join(json.dumps({"text": f"c{i}"}) + "\n" for i in range(5)))
    write(folder / "d.parquet", parquet_bytes({"text": [f"d{i}" for i in range(9)]}, row_group_size=4))
    return str(folder)


def test_a_reader_goes_on_from_every_position(mixed):
    whole = list(open_corpus(mixed).documents())
    assert len(whole) == 21
    for number, (position, _) in enumerate(whole, 1):
        assert list(open_corpus(mixed).documents(position)) == whole[number:]


@laws
@given(size=st.integers(1, 3000))
def test_a_sample_is_spread_evenly_over_the_whole_corpus(evenly, size):
    found, documents = evenly
    sample = found.sample(size)
    numbers = [documents.index(text) for text in sample]
    steps = {later - earlier for earlier, later in zip(numbers, numbers[1:])}
    assert numbers[0] == 0 and len(steps) <= 1
    stride = steps.pop() if steps else len(documents)
    assert len(documents) - numbers[-1] <= stride or len(sample) == 1
    assert sum(map(len, sample)) >= min(size, len("".join(documents))) or len(sample) == 1 or stride == 1
    assert sum(map(len, sample)) <= 2 * size or len(sample) == 1


@pytest.fixture(scope="module")
def evenly(tmp_path_factory):
    documents = [f"{i:04d}" for i in range(300)]
    found = open_corpus(write(tmp_path_factory.mktemp("evenly") / "a.txt", "\n\n".join(documents)))
    found.open_file = lambda _: [{"text": text} for text in documents]
    return found, documents


def test_tales_depend_on_the_seed_alone():
    first = next(open_corpus("tales", seed=1).documents())
    assert first == next(open_corpus("tales", seed=1).documents())
    assert first != next(open_corpus("tales", seed=2).documents())


# --- the hub ------------------------------------------------------------------------------------------------------

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
import corpus
corpus.HUB_ROUND = 2
for line in sys.stdin:
    answers = []
    try:
        exec(json.loads(line), {"corpus": corpus, "answer": answers.append, "fetch": urllib.request.urlopen})
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
    with hub() as server:
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
    read = reader.ask("answer([text for _, text in corpus.open_corpus('fineweb').documents()])")
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
    assert reader.ask("answer([text for _, text in corpus.open_corpus('fineweb').documents()])") == ["first", "second"]
    fetched = sum(span[1] - span[0] + 1 for _, path, span in server.asked if span)
    assert 0 < fetched < 0.9 * len(data)


def test_tinystories_is_read_from_all_its_files(server, reader):
    stories = documents_of_hub()
    files = {f"data/train-{i:05d}-of-00003-ab.parquet": parquet_bytes({"text": t}) for i, t in enumerate(stories)}
    server.serve("roneneldan/TinyStories",
                 {**files, "data/validation-00000-of-00001-cd.parquet": parquet_bytes({"text": ["held out"]})})
    read = reader.ask("answer([text for _, text in corpus.open_corpus('tinystories').documents()])")
    assert sorted(read) == sorted(sum(stories, []))


def names_what_to_do(answered):
    kind, message = answered
    assert kind == "OSError"
    return "HuggingFaceFW/fineweb cannot be reached" in message and "--dataset tales" in message and "*.txt" in message


@pytest.mark.parametrize("status", [404, 500, 503, "silent"])
def test_a_hub_without_a_good_answer_leads_to_tales_and_paths(server, reader, status):
    server.serve("HuggingFaceFW/fineweb", {}, status)
    reader.ask("corpus.HUB_TIMEOUT, corpus.HUB_PATIENCE = 1, 20; answer(None)")
    assert names_what_to_do(reader.ask("answer(corpus.open_corpus('fineweb').file_count)"))


def test_a_hub_leads_to_tales_and_paths_however_its_time_outs_add_up(server, reader):
    """A time-out of the library holds for one address of several, so another clock runs over all."""
    server.serve("HuggingFaceFW/fineweb", {}, "silent")
    answered = reader.ask("corpus.HUB_TIMEOUT, corpus.HUB_PATIENCE = 60, 1; answer(corpus.open_corpus('fineweb').size)")
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
    write(tmp_path / "a.txt", "one\n\ntwo")
    assert names_what_to_do(offline.ask("answer(corpus.open_corpus('fineweb').file_count)"))
    assert offline.ask("answer([text for _, text in corpus.open_corpus('a.txt').documents()])") == ["one", "two"]
    offline.end()


def test_a_hub_that_is_not_there_leads_to_tales_and_paths(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    nowhere = Reader(f"http://127.0.0.1:{port}", tmp_path)
    assert names_what_to_do(nowhere.ask("answer(corpus.open_corpus('fineweb').file_count)"))
    nowhere.end()


def test_the_first_answer_of_a_hub_is_not_awaited_for_long():
    assert corpus.HUB_TIMEOUT <= corpus.HUB_PATIENCE <= 20
