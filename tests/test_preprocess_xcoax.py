"""What preprocessing promises: the same shards however it was run or interrupted, and nothing lost on the way."""

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import preprocess_xcoax as preprocess
from corpus import tales
from corpus.documents import open_corpus
from shards import read_manifest, read_shard, split_of, tokenizing, totals, write_manifest
from tests.support.fake_hub import fineweb_files, hub
from tests.support.processes import members, wait_until, workers
from tests.support.texts import LANGUAGES
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
    """{name: bytes} of a data folder."""
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


FLAGS = ("--chunk-documents=200", "--num-workers=1", "--val-fraction=0.1")


@pytest.fixture(scope="module")
def reference(texts_folder, tmp_path_factory):
    """The data folder of one uninterrupted run."""
    folder = tmp_path_factory.mktemp("reference")
    status, output = run(*FLAGS, dataset=texts_folder, data_dir=folder)
    assert status == 0, output
    return folder, output


# --- what is in the shards ----------------------------------------------------------------------------------------

def documents_of(folder, split, tokenizer, chunk):
    """Texts of one shard, in order."""
    tokens = read_shard(folder / chunk[split]["file"]).tokens
    ends = np.flatnonzero(tokens == EOS_ID) + 1
    return [tokenizer.to_text(part.tolist()) for part in np.split(tokens, ends)[:-1]]


def test_the_shards_give_the_texts_of_the_corpus_back_in_order(reference, texts_folder):
    folder, _ = reference
    tokenizer, manifest = Tokenizer.load(folder / f"tok{VOCAB}.model"), read_manifest(folder)
    wanted = ["".join(pieces) for _, pieces in open_corpus(str(texts_folder)).documents()]
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
            assert chunk[split] == {"file": chunk[split]["file"], "tokens": len(shard.tokens), "documents": len(texts),
                                    "bytes": sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)}
    assert manifest["complete"] and totals(manifest, "val")["documents"] > 50


def test_a_finished_run_says_what_it_made_and_the_next_command(reference):
    folder, output = reference
    assert f"train: {totals(read_manifest(folder), 'train')['documents']:>12,} documents" in output
    assert f"Next:\n    python train_xcoax.py --data-dir {folder}" in output


def test_the_split_of_a_document_depends_on_nothing_else(reference, texts_folder):
    """About a tenth of the texts fell to validation, and each wherever it stands."""
    texts = {"".join(pieces) for _, pieces in open_corpus(str(texts_folder)).documents()} - {""}
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
                                           chunk_documents=200, val_fraction=0.1, num_workers=workers)
    (tmp_path / f"tok{VOCAB}.model").write_bytes((folder / f"tok{VOCAB}.model").read_bytes())
    tokenizer, found = Tokenizer.load(tmp_path / f"tok{VOCAB}.model"), open_corpus(str(texts_folder))
    manifest = preprocess.prepare_folder(wanted, found)
    manifest["tokenizer_sha256"] = tokenizer.sha256.hex()
    preprocess.make_shards(wanted, found, manifest, tokenizer)
    assert contents(tmp_path) == contents(folder)


def test_more_chunks_lengthen_what_is_there_as_if_asked_for_at_once(reference, texts_folder, tmp_path):
    folder, _ = reference
    status, output = run("--num-chunks=2", *FLAGS, dataset=texts_folder, data_dir=tmp_path)
    assert status == 0 and len(read_manifest(tmp_path)["chunks"]) == 2
    status, output = run(*FLAGS, dataset=texts_folder, data_dir=tmp_path)
    assert status == 0 and "Going on after chunk 2" in output
    assert contents(tmp_path) == contents(folder)


def test_other_settings_are_refused_and_overwrite_replaces(reference, texts_folder, tmp_path):
    folder, _ = reference
    for name, data in contents(folder).items():
        (tmp_path / name).write_bytes(data)
    status, output = run(*FLAGS, "--direction=forward", dataset=texts_folder, data_dir=tmp_path)
    assert status == 1 and "direction: reverse there, forward now" in output and "--overwrite" in output
    assert contents(tmp_path) == contents(folder)
    status, output = run(*FLAGS, "--num-chunks=1", "--overwrite", "--direction=forward", dataset=texts_folder,
                         data_dir=tmp_path)
    assert status == 0 and read_manifest(tmp_path)["direction"] == "forward"
    assert set(contents(tmp_path)) == {"manifest.json", f"tok{VOCAB}.model", "train_000000.bin", "val_000000.bin"}


def test_a_complete_folder_is_left_as_it_is(reference, texts_folder):
    folder, _ = reference
    before = contents(folder)
    status, output = run(*FLAGS, dataset=texts_folder, data_dir=folder)
    assert status == 0 and "is complete with 7 chunks" in output and "Next:" in output
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
    path.write_text("\n\n".join(tales.story(5, i).replace("\n\n", "\n") for i in range(3_000)))
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


def test_on_a_full_disk_nothing_is_lost_and_the_same_command_goes_on(reference, texts_folder, tmp_path):
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
    assert run(*FLAGS, dataset=texts_folder, data_dir=tmp_path)[0] == 0
    assert contents(tmp_path) == contents(folder)


# --- bad input ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("files", [{"a.txt": ""}, {"a.txt": "\n \n\n", "b.jsonl": '{"text": null}\n{"text": ""}\n'}])
def test_an_empty_corpus_is_an_error_that_blocks_nothing(texts_folder, tmp_path, files):
    (tmp_path / "in").mkdir()
    for name, text in files.items():
        (tmp_path / "in" / name).write_text(text)
    status, output = run(dataset=tmp_path / "in", data_dir=tmp_path / "out")
    assert status == 1 and "Traceback" not in output
    assert "holds no text. Name another corpus, or try --dataset tales" in output
    assert contents(tmp_path / "out") == {}


def test_a_vocabulary_too_large_names_the_largest_that_fits_and_that_one_works(tmp_path):
    (tmp_path / "a.txt").write_text("one small text\n\nand another\n\n" * 30)
    status, output = run("--vocab-size=9999", dataset=tmp_path / "a.txt", data_dir=tmp_path / "out")
    assert status == 1 and "Traceback" not in output and contents(tmp_path / "out") == {}
    fits = re.search(r"the largest that fits is --vocab-size (\d+)", output)[1]
    status, output = run(f"--vocab-size={fits}", dataset=tmp_path / "a.txt", data_dir=tmp_path / "out")
    assert status == 0 and (tmp_path / "out" / f"tok{fits}.model").exists()


def test_a_bad_byte_deep_in_the_corpus_is_named_by_the_command(tmp_path):
    data = "\n\n".join(tales.story(1, i) for i in range(20)).encode() + b"\n\nna\xefve\n"
    (tmp_path / "a.txt").write_bytes(data)
    status, output = run(dataset=tmp_path / "a.txt", data_dir=tmp_path / "out")
    assert status == 1 and "Traceback" not in output
    assert f"{tmp_path / 'a.txt'} is not UTF-8: byte {data.index(0xef):,} is 0xef" in output


def test_a_tokenizer_of_another_run_is_refused(reference, texts_folder, tmp_path):
    folder, _ = reference
    for name, data in contents(folder).items():
        (tmp_path / name).write_bytes(data)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest.update(complete=False, tokenizer_sha256="0" * 64)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    status, output = run(*FLAGS, dataset=texts_folder, data_dir=tmp_path)
    assert status == 1 and "is not the tokenizer that the shards" in output


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
