"""What preprocessing promises: the same shards however it was run or interrupted, and nothing lost on the way."""

import json
import os
import random
import re
import resource
import shlex
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import preprocess_instruct
import preprocess_xcoax as preprocess
import train_xcoax
from corpus import documents, tales
from corpus.documents import open_corpus
from corpus.languages import LANGUAGES
from program.files import locked_folder
from program.settings import parse
from shards import read_manifest, read_shard, split_of, tokenizing, totals, write_manifest
from tests.support.damage_shards import HEADER_BYTES, flip
from tests.support.fake_hub import fineweb_files, hub
from tests.support.processes import members, wait_until, workers
from tests.support.runs import call
from tests.support.tiny import ROOT
from tokenizer import EOS_ID, Tokenizer

VOCAB = 600


@pytest.fixture(scope="module")
def texts_folder(tmp_path_factory):
    """1,300 documents in two files; some empty, some in other scripts."""
    folder = tmp_path_factory.mktemp("texts")
    stories = [tales.story(3, i) for i in range(1250)] + list(LANGUAGES.values()) + ["", "a\x00b \ud800 c", "  \n"]
    random.Random(1).shuffle(stories)
    with open(folder / "a.jsonl", "w") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in stories)
    (folder / "b.txt").write_text("\n<|endoftext|>\n".join(tales.story(4, i) for i in range(30)))
    return folder


def command(*flags, dataset, data_dir):
    return [sys.executable, str(ROOT / "preprocess_xcoax.py"), f"--dataset={dataset}", f"--data-dir={data_dir}",
            f"--vocab-size={VOCAB}", *flags]


def run(*flags, dataset, data_dir, **options):
    """Run the command; its status, and what it printed."""
    done = subprocess.run(command(*flags, dataset=dataset, data_dir=data_dir), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=300, **options)
    return done.returncode, done.stdout


def contents(folder):
    """{name: bytes} of a data folder, without the lock."""
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir()) if path.name != ".lock"}


FLAGS = ("--chunk-documents=200", "--num-workers=1", "--val-fraction=0.1")


@pytest.fixture(scope="module")
def reference(texts_folder, tmp_path_factory):
    """The data folder of one uninterrupted run."""
    folder = tmp_path_factory.mktemp("reference")
    status, output = run(*FLAGS, dataset=texts_folder, data_dir=folder)
    assert status == 0, output
    return folder, output


@pytest.fixture
def here(monkeypatch, capsys):
    """A function that runs the script in this process, with a thread instead of child processes: it takes flags and
    returns what was printed."""
    @contextmanager
    def threads(count, initializer=None, arguments=()):
        with ThreadPoolExecutor(1, initializer=initializer, initargs=arguments) as executor:
            yield executor

    def run_here(*flags, data_dir, dataset="tales", vocab_size=VOCAB):
        call(preprocess, f"--dataset={dataset}", f"--data-dir={data_dir}", f"--vocab-size={vocab_size}", *flags)
        return capsys.readouterr().out

    monkeypatch.setattr(preprocess, "children", threads)
    monkeypatch.setattr(tokenizing, "children", threads)
    before = signal.getsignal(signal.SIGTERM)
    yield run_here
    signal.signal(signal.SIGTERM, before)


# --- what is in the shards ----------------------------------------------------------------------------------------

def documents_of(folder, split, tokenizer, chunk):
    """Texts of one shard, in order."""
    tokens = read_shard(folder / chunk[split]["file"]).tokens
    ends = np.flatnonzero(tokens == EOS_ID) + 1
    return [tokenizer.to_text(part.tolist()) for part in np.split(tokens, ends)[:-1]]


def test_the_shards_give_the_texts_of_the_corpus_back_in_order(reference, texts_folder):
    folder, _ = reference
    tokenizer, manifest = Tokenizer.load(folder / f"tok{VOCAB}.model"), read_manifest(folder)
    wanted = ["".join(row.pieces) for row in open_corpus(str(texts_folder)).documents()]
    assert len(manifest["chunks"]) == -(-len(wanted) // 200)
    for number, chunk in enumerate(manifest["chunks"]):
        rows = wanted[200 * number:200 * (number + 1)]
        for split in ("train", "val"):
            assert documents_of(folder, split, tokenizer, chunk) == [
                text for text in rows if text and split_of(text, 0.1) == split]


def test_the_manifest_counts_what_the_shards_hold(reference):
    folder, _ = reference
    tokenizer, manifest = Tokenizer.load(folder / f"tok{VOCAB}.model"), read_manifest(folder)
    for chunk in manifest["chunks"]:
        for split in ("train", "val"):
            shard, texts = read_shard(folder / chunk[split]["file"]), documents_of(folder, split, tokenizer, chunk)
            assert shard.tokenizer_sha256 == tokenizer.sha256
            assert chunk[split] == {"file": chunk[split]["file"], "hash": shard.hash, "tokens": len(shard.tokens),
                                    "documents": len(texts),
                                    "bytes": sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)}
    assert manifest["complete"] and totals(manifest, "val")["documents"] > 50


def test_a_finished_run_says_what_it_made_and_the_next_command(reference):
    folder, output = reference
    assert f"train: {totals(read_manifest(folder), 'train')['documents']:>12,} documents" in output
    assert output.endswith(f"Next:\n    python train_xcoax.py config/small.toml --data-dir {folder} "
                           f"--out-dir out/{folder.name}\n")


def test_the_split_of_a_document_depends_on_nothing_else(reference, texts_folder):
    """About a tenth of the texts fell to validation, and each wherever it stands."""
    texts = {"".join(row.pieces) for row in open_corpus(str(texts_folder)).documents()} - {""}
    chosen = {text for text in texts if split_of(text, 0.1) == "val"}
    assert 0.05 < len(chosen) / len(texts) < 0.15
    assert chosen == {text for text in sorted(texts) if split_of(text, 0.1) == "val"}


# --- the same shards however it was run ---------------------------------------------------------------------------

@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers_gives_the_same_shards(reference, texts_folder, tmp_path, monkeypatch, workers):
    """Tasks are small here, so that they finish in another order than they began."""
    folder, _ = reference
    monkeypatch.setattr(tokenizing, "TASK_BYTES", 3_000)
    wanted = preprocess.PreprocessSettings(dataset=str(texts_folder), vocab_size=VOCAB, data_dir=tmp_path,
                                           chunk_documents=200, val_fraction=0.1, num_workers=workers, num_chunks=100)
    (tmp_path / f"tok{VOCAB}.model").write_bytes((folder / f"tok{VOCAB}.model").read_bytes())
    tokenizer, found = Tokenizer.load(tmp_path / f"tok{VOCAB}.model"), open_corpus(str(texts_folder))
    manifest = preprocess.prepare_folder(wanted, found)
    manifest["tokenizer_sha256"] = tokenizer.sha256.hex()
    preprocess.make_shards(wanted, found, manifest, tokenizer)
    assert contents(tmp_path) == contents(folder)


def test_more_chunks_lengthen_what_is_there_as_if_asked_for_at_once(reference, here, texts_folder, tmp_path):
    folder, _ = reference
    here("--num-chunks=2", *FLAGS, dataset=texts_folder, data_dir=tmp_path)
    assert len(read_manifest(tmp_path)["chunks"]) == 2
    assert "Going on after chunk 2" in here(*FLAGS, dataset=texts_folder, data_dir=tmp_path)
    assert contents(tmp_path) == contents(folder)


def test_other_settings_are_refused_and_overwrite_replaces(reference, here, texts_folder, tmp_path):
    folder, _ = reference
    for name, data in contents(folder).items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match="(?s)direction: reverse there, forward now.*--overwrite"):
        here(*FLAGS, "--direction=forward", dataset=texts_folder, data_dir=tmp_path)
    assert contents(tmp_path) == contents(folder)
    here(*FLAGS, "--num-chunks=1", "--overwrite", "--direction=forward", dataset=texts_folder, data_dir=tmp_path)
    assert read_manifest(tmp_path)["direction"] == "forward"
    assert set(contents(tmp_path)) == {"manifest.json", f"tok{VOCAB}.model", "train_000000.bin", "val_000000.bin"}


def test_a_complete_folder_is_left_as_it_is(reference, here, texts_folder):
    folder, _ = reference
    before = contents(folder)
    output = here(*FLAGS, dataset=texts_folder, data_dir=folder)
    assert "is complete with 7 chunks" in output and "Next:" in output
    assert contents(folder) == before


# --- interrupted --------------------------------------------------------------------------------------------------

def start(*flags, dataset, data_dir):
    return subprocess.Popen(command(*flags, dataset=dataset, data_dir=data_dir), stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, start_new_session=True)


def wait_for(process, words):
    output = b""
    while words not in output:
        some = os.read(process.stdout.fileno(), 4096)
        assert some, output
        output += some


def chunks_in(folder):
    path = folder / "manifest.json"
    return len(json.loads(path.read_text())["chunks"]) if path.exists() else 0


@pytest.fixture(scope="module")
def long_corpus(tmp_path_factory):
    """Enough documents that a run can be caught in the middle."""
    path = tmp_path_factory.mktemp("long") / "a.txt"
    path.write_text("\n<|endoftext|>\n".join(tales.story(5, i) for i in range(3_000)))
    return path


SMALL = ("--chunk-documents=10", "--num-workers=2")  # 300 chunks: the last is far away when the first are there


@pytest.fixture(scope="module")
def whole(long_corpus, tmp_path_factory):
    """The data folder of one uninterrupted run over the long corpus."""
    folder = tmp_path_factory.mktemp("whole")
    status, output = run(*SMALL, dataset=long_corpus, data_dir=folder)
    assert status == 0, output
    return folder


@pytest.fixture
def begun(whole, tmp_path):
    """A folder that holds the tokenizer, and no chunk yet."""
    (tmp_path / f"tok{VOCAB}.model").write_bytes((whole / f"tok{VOCAB}.model").read_bytes())
    write_manifest(tmp_path, {**read_manifest(whole), "complete": False, "chunks": []})
    return tmp_path


def test_killed_at_any_three_moments_the_same_command_makes_the_same_folder(long_corpus, whole, tmp_path):
    """Killed while the tokenizer is trained, while the first chunk is tokenized, and between or within later ones."""
    killed, chance = tmp_path, random.Random()
    moments = (lambda process: wait_for(process, b"Training a tokenizer"),
               lambda process: wait_until((killed / f"tok{VOCAB}.model").exists, process),
               lambda process: wait_until(lambda: chunks_in(killed) > chance.randrange(1, 100), process))
    for moment in moments:
        process = start(*SMALL, dataset=long_corpus, data_dir=killed)
        moment(process)
        wait_until(lambda: chance.random() < 0.2)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    done = chunks_in(killed)
    status, output = run(*SMALL, dataset=long_corpus, data_dir=killed)
    assert status == 0 and f"Going on after chunk {done}" in output
    assert contents(killed) == contents(whole)


def test_no_process_outlives_a_parent_that_was_killed(long_corpus, begun):
    process = start(*SMALL, dataset=long_corpus, data_dir=begun)
    wait_until(lambda: chunks_in(begun) >= 1, process)
    assert len(workers(members(process.pid))) == 2
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    wait_until(lambda: not members(process.pid), seconds=20)


def leaves_one_line(process, folder, status):
    output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == status
    assert "Traceback" not in output and "leaked" not in output
    assert output.endswith(f"\nStopped. Whole chunks are kept in {folder}; the same command goes on after them.\n")
    wait_until(lambda: not members(process.pid), seconds=20)
    assert not list(folder.glob("*.partial"))
    return all(len(read_shard(folder / f"train_{chunk:06d}.bin").tokens) for chunk in range(chunks_in(folder)))


@pytest.mark.parametrize("number, status, send", [(signal.SIGINT, 130, os.killpg), (signal.SIGTERM, 143, os.kill),
                                                  (signal.SIGTERM, 143, os.killpg)])
def test_an_interrupted_run_leaves_whole_chunks_and_one_line(long_corpus, begun, number, status, send):
    """Ctrl-C reaches all processes of a terminal; a scheduler's signal all, or only the first."""
    process = start(*SMALL, dataset=long_corpus, data_dir=begun)
    wait_until(lambda: chunks_in(begun) >= 2, process)
    send(process.pid, number)
    assert leaves_one_line(process, begun, status)


def test_an_interrupted_training_of_the_tokenizer_leaves_one_line(long_corpus, tmp_path):
    process = start(*SMALL, dataset=long_corpus, data_dir=tmp_path)
    wait_for(process, b"Training a tokenizer")
    os.killpg(process.pid, signal.SIGINT)
    leaves_one_line(process, tmp_path, 130)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("chunks", [0, 1], ids=["as it starts", "as it works"])
def test_a_worker_ended_from_outside_is_reported_with_a_remedy(long_corpus, begun, chunks):
    process = start(*SMALL, dataset=long_corpus, data_dir=begun)
    wait_until(lambda: chunks_in(begun) >= chunks and workers(members(process.pid)), process)
    os.kill(workers(members(process.pid))[0], signal.SIGKILL)
    output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 1 and "Traceback" not in output
    assert "fewer --num-workers" in output


def test_on_a_full_disk_nothing_is_lost_and_the_same_command_goes_on(reference, here, texts_folder, tmp_path):
    """No file may grow beyond a size that the second chunk needs."""
    folder, _ = reference
    for name in ("train_000000.bin", "val_000000.bin", f"tok{VOCAB}.model", "manifest.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    manifest = read_manifest(folder)
    manifest.update(complete=False, chunks=manifest["chunks"][:1])
    write_manifest(tmp_path, manifest)
    before, limit = contents(tmp_path), (folder / "train_000001.bin").stat().st_size - 1000
    status, output = run(*FLAGS, dataset=texts_folder, data_dir=tmp_path,
                         preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert status == 1 and "Traceback" not in output
    assert f"could not write {tmp_path / 'train_000001.bin'} (File too large)" in output
    assert "run the same command again" in output
    assert contents(tmp_path) == before
    here(*FLAGS, dataset=texts_folder, data_dir=tmp_path)
    assert contents(tmp_path) == contents(folder)


# --- bad input ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("files", [{"a.txt": ""}, {"a.txt": "\n \n\n", "b.jsonl": '{"text": null}\n{"text": ""}\n'}])
def test_an_empty_corpus_is_an_error_that_blocks_nothing(here, tmp_path, files):
    (tmp_path / "in").mkdir()
    for name, text in files.items():
        (tmp_path / "in" / name).write_text(text)
    with pytest.raises(ValueError, match="holds no text. Name another corpus, or try --dataset tales"):
        here(dataset=tmp_path / "in", data_dir=tmp_path / "out")
    assert contents(tmp_path / "out") == {}


def test_a_vocabulary_too_large_names_the_largest_that_fits_and_that_one_works(here, tmp_path):
    (tmp_path / "a.txt").write_text("one small text\n<|endoftext|>\nand another\n<|endoftext|>\n" * 30)
    with pytest.raises(ValueError) as refused:
        here(dataset=tmp_path / "a.txt", data_dir=tmp_path / "out", vocab_size=9999)
    assert contents(tmp_path / "out") == {}
    fits = re.search(r"the largest that fits is --vocab-size (\d+)", str(refused.value))[1]
    here(dataset=tmp_path / "a.txt", data_dir=tmp_path / "out", vocab_size=fits)
    assert (tmp_path / "out" / f"tok{fits}.model").exists()


def test_a_bad_byte_deep_in_the_corpus_is_named(here, tmp_path):
    data = "\n\n".join(tales.story(1, i) for i in range(20)).encode() + b"\n\nna\xefve\n"
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(ValueError, match=f"{tmp_path / 'a.txt'} is not UTF-8: byte {data.index(0xef):,} is 0xef"):
        here(dataset=tmp_path / "a.txt", data_dir=tmp_path / "out")


def test_a_tokenizer_of_another_run_is_refused(reference, here, texts_folder, tmp_path):
    folder, _ = reference
    for name, data in contents(folder).items():
        (tmp_path / name).write_bytes(data)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest.update(complete=False, tokenizer_sha256="0" * 64)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="is not the tokenizer that the shards"):
        here(*FLAGS, dataset=texts_folder, data_dir=tmp_path)


# --- small corpora ------------------------------------------------------------------------------------------------

@pytest.fixture
def small(tmp_path):
    """A file with a corpus of 60 stories."""
    path = tmp_path / "small.txt"
    path.write_text("\n<|endoftext|>\n".join(tales.story(7, i) for i in range(60)))
    return path


def test_the_command_that_is_recommended_for_a_small_corpus_trains(here, small, tmp_path, monkeypatch):
    output = here("--val-fraction=0.1", dataset=small, data_dir=tmp_path / "data/small texts")
    command = shlex.split(output.rpartition("Next:\n")[2])
    assert command[:3] == ["python", "train_xcoax.py", "config/small.toml"]
    (tmp_path / "config").symlink_to(ROOT / "config")
    monkeypatch.chdir(tmp_path)
    call(train_xcoax, *command[2:], "--max-iters=1", "--batch-size=1", "--eval-tokens=256", "--no-compile",
         "--device=cpu", "--dtype=float32")
    assert (tmp_path / "out/small texts/best_checkpoint.pt").exists()


def test_the_next_command_for_the_tales_reads_the_folder_that_was_written(here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(documents, "TALES_PER_PART", 300)
    output = here("--num-chunks=1", "--chunk-documents=100", data_dir="data/xcoax")
    assert output.endswith("    python train_xcoax.py config/tales.toml --data-dir data/xcoax --out-dir out/xcoax\n")


@pytest.mark.parametrize("text, val_fraction, said", [
    ("a word ", 0.1, "Training needs a chunk of 257 tokens at least, the longest has "),
    ("many words " * 30, 0.1, "the most are 0. Run the same command again, with\n    --overwrite --val-fraction 0.5"),
    ("many words " * 3000, 0.01, "with\n    --overwrite --val-fraction 0.1\n"),
    ("many words " * 30, 0.5, "the most are 0: more documents are needed.\n"),
], ids=["too short", "too little to validate", "too few to validate", "none to validate"])
def test_a_corpus_without_a_window_is_told_what_it_lacks(here, tmp_path, text, val_fraction, said):
    texts = [text for n in range(100) if split_of(text := text + "a" * (n > 0), 0.5) == "train"][:10]
    (tmp_path / "a.txt").write_text("\n<|endoftext|>\n".join(texts))
    output = here(f"--val-fraction={val_fraction}", dataset=tmp_path / "a.txt", data_dir=tmp_path / "a", vocab_size=277)
    assert said in output and "Next:" not in output and "--documents paragraphs" not in output


def test_a_tokenizer_made_before_is_taken_and_copied_so_that_a_model_can_go_on_with_another_corpus(
        reference, here, small, tmp_path):
    other, folder = reference[0] / f"tok{VOCAB}.model", tmp_path / "more"
    here(f"--tokenizer={other}", "--val-fraction=0.1", dataset=small, data_dir=folder, vocab_size=8888)
    assert (folder / other.name).read_bytes() == other.read_bytes()
    tokenizer, chunk = Tokenizer.load(other), read_manifest(folder)["chunks"][0]
    texts = [text for split in ("train", "val") for text in documents_of(folder, split, tokenizer, chunk)]
    assert sorted(texts) == sorted(tales.story(7, i) for i in range(60))
    assert "is complete" in here(f"--tokenizer={other}", "--val-fraction=0.1", dataset=small, data_dir=folder)


def test_a_tokenizer_is_refused_for_shards_of_another(reference, here, small, tmp_path):
    here("--val-fraction=0.1", dataset=small, data_dir=tmp_path / "data")
    with pytest.raises(ValueError, match="holds shards of another tokenizer than"):
        here(f"--tokenizer={reference[0] / f'tok{VOCAB}.model'}", "--val-fraction=0.1", dataset=small,
             data_dir=tmp_path / "data")


def test_a_tokenizer_of_the_other_direction_is_refused(reference, tmp_path, capsys):
    with pytest.raises(SystemExit):
        call(preprocess, "--dataset=tales", f"--data-dir={tmp_path}", "--direction=forward",
             f"--tokenizer={reference[0] / f'tok{VOCAB}.model'}")
    assert "is a tokenizer of reverse text" in capsys.readouterr().err


def test_of_a_single_text_it_is_said_that_it_must_be_divided(here, tmp_path):
    (tmp_path / "novel.txt").write_text("It was a dark and stormy night.\n\n" * 200)
    output = here(dataset=tmp_path / "novel.txt", data_dir=tmp_path / "data", vocab_size=290)
    assert "1 document is too few to train on some and validate with others." in output
    assert "--overwrite --val-fraction 0.1 --documents paragraphs" in output and output.count("--overwrite") == 1
    (tmp_path / "novel.txt").write_text("It was a dark and stormy night.\n" * 200)
    output = here("--documents=paragraphs", "--overwrite", dataset=tmp_path / "novel.txt", data_dir=tmp_path / "data",
                  vocab_size=290)
    assert "--overwrite --val-fraction 0.1 --documents lines" in output  # not what has just been tried


def test_to_overwrite_keeps_what_is_there_until_there_is_a_new_tokenizer(here, small, tmp_path):
    folder = tmp_path / "data"
    here(dataset=small, data_dir=folder)
    (folder / "tokenizer.model").write_bytes(b"a stranger's")
    (folder / "pytorch_model.bin").write_bytes(b"a stranger's")
    before = contents(folder)
    with pytest.raises(ValueError, match="more than this corpus can fill"):
        here("--overwrite", dataset=small, data_dir=folder, vocab_size=60_000)
    assert contents(folder) == before
    here("--overwrite", dataset=small, data_dir=folder, vocab_size=500)
    assert set(contents(folder)) == {*before, "tok500.model"} - {f"tok{VOCAB}.model"}
    assert contents(folder)["pytorch_model.bin"] == contents(folder)["tokenizer.model"] == b"a stranger's"


def test_examples_are_never_replaced_by_a_corpus(here, data, small):
    before = contents(data)
    for flags in ([], ["--overwrite"]):
        with pytest.raises(ValueError, match="holds instruction examples, made by preprocess_instruct.py"):
            here(*flags, dataset=small, data_dir=data)
    assert contents(data) == before


def test_a_corpus_that_has_changed_is_refused_even_where_its_size_has_not(here, small, tmp_path):
    here("--num-chunks=1", "--chunk-documents=10", dataset=small, data_dir=tmp_path / "data")
    os.utime(small, (1, 1))
    here("--num-chunks=2", "--chunk-documents=10", dataset=small, data_dir=tmp_path / "data")
    small.write_text(small.read_text().replace("e", "i", 1))
    with pytest.raises(ValueError, match="made otherwise .source files .*small.txt hash: .* there, .* now"):
        here("--num-chunks=3", "--chunk-documents=10", dataset=small, data_dir=tmp_path / "data")


def test_while_one_run_is_at_work_in_a_folder_another_is_refused_and_told_by_whom(here, small, tmp_path):
    with locked_folder(tmp_path / "data"):
        with pytest.raises(OSError, match=f"is being written by another run .process {os.getpid()} on "):
            here(dataset=small, data_dir=tmp_path / "data")
    assert contents(tmp_path / "data") == {}
    here(dataset=small, data_dir=tmp_path / "data")


def test_to_check_says_that_the_folder_is_whole_or_what_is_not(here, small, tmp_path):
    here(dataset=small, data_dir=tmp_path / "data")
    before = contents(tmp_path / "data")
    assert "is whole: 2 shards, " in here("--check", data_dir=tmp_path / "data")
    assert contents(tmp_path / "data") == before
    flip("train_000000.bin", 8 * HEADER_BYTES + 77)(tmp_path / "data")
    with pytest.raises(ValueError, match="train_000000.bin is damaged"):
        here("--check", data_dir=tmp_path / "data")


def test_what_was_taken_and_what_was_passed_over_is_said(here, tmp_path):
    """One document is longer than a million characters, whichever kind of file it stands in."""
    (tmp_path / "in").mkdir()
    for number in range(40):
        (tmp_path / "in" / f"{number}.txt").write_text("\n\n".join(tales.story(7, 20 * number + i) for i in range(20)))
    long = "\n".join(tales.story(8, i) for i in range(400)) * 4
    assert len(long) > 2**20
    (tmp_path / "in" / "long.txt").write_text(long)
    rows = [json.dumps({"text": value}) for value in (None, "", " \n ", "A text.", 5, long.upper())]
    (tmp_path / "in" / "rows.jsonl").write_text("\n".join([*rows, '{"text": "cut o']))
    output = here("--val-fraction=0.3", "--skip-bad-records", dataset=tmp_path / "in", data_dir=tmp_path / "out")
    assert output.index("41 text files, one document each (--documents auto)") < output.index("Reading a sample")
    assert "rows.jsonl, line 5: column 'text' holds int" in output
    for count, what in ((2, "documents of over a million"), (3, "rows were passed over: null, empty"),
                        (2, "rows were passed over: bad")):
        assert f" {count} {what}" in output


# --- settings -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("file, flags, chunks", [
    ("vocab_size = 500\n", ["--dataset=tales"], 4), ('dataset = "tales"\n', ["--dataset=fineweb"], 1000),
    ('dataset = "tales"\n', [], 4), ("num_chunks = 7\n", ["--dataset=tales"], 7)])
def test_what_follows_from_other_settings_follows_from_the_last_of_them(tmp_path, file, flags, chunks):
    (tmp_path / "mine.toml").write_text(file)
    found = parse(preprocess.PreprocessSettings, "", [str(tmp_path / "mine.toml"), *flags])
    assert found.num_chunks == chunks and 1 <= found.num_workers <= 8


@pytest.mark.parametrize("wrong", [{"num_chunks": 0}, {"num_workers": -1}, {"chunk_documents": 0}, {"val_fraction": 1}])
def test_numbers_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="must be at least 1|must be between 0 and 1"):
        preprocess.PreprocessSettings(**wrong)


# --- the whole way from a hub -------------------------------------------------------------------------------------

def test_the_command_for_fineweb_runs_through_datasets_and_resumes(tmp_path):
    """Two chunks, then all: every document of the sample, and of nothing else, is in the shards."""
    stories = [[tales.story(6 + file, i) for i in range(40)] for file in range(3)]
    with hub() as server:
        server.serve("HuggingFaceFW/fineweb", fineweb_files(stories))
        environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home")}
        flags = ("--chunk-documents=30", "--val-fraction=0.1", "--num-workers=1")
        for chunks in (2, 1000):
            status, output = run(*flags, f"--num-chunks={chunks}", dataset="fineweb", data_dir=tmp_path / "out",
                                 env=environment)
            assert status == 0, output
    manifest, tokenizer = read_manifest(tmp_path / "out"), Tokenizer.load(tmp_path / "out" / f"tok{VOCAB}.model")
    found = [text for chunk in manifest["chunks"] for split in ("train", "val")
             for text in documents_of(tmp_path / "out", split, tokenizer, chunk)]
    assert sorted(found) == sorted(sum(stories, []))


@pytest.mark.parametrize("size", [-5, 0, 266, 70_000])
def test_a_vocabulary_that_no_tokenizer_can_have_is_refused_before_anything_is_read(size):
    for script in (preprocess, preprocess_instruct):
        with pytest.raises(ValueError, match="--vocab-size .* must lie above"):
            script.PreprocessSettings(vocab_size=size)
