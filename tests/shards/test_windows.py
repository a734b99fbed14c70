"""What shards promise: ids come back as written, damage is named, every window is read once, old files stay whole."""

import hashlib
import os
import resource
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from shards import (Windows, atomic_write, keyed_permutation, read_manifest, read_shard, read_split, split_of, totals,
                    write_manifest, write_shard)
from texts import any_text, fewer

ROOT = Path(__file__).resolve().parent.parent
TOKENIZER = SimpleNamespace(vocab_size=1000, direction="reverse", sha256=hashlib.sha256(b"a tokenizer").digest())
IDS = list(range(0, 1000, 7)) + [999, 0, 0]

id_lists = st.lists(st.integers(0, 999), max_size=40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("shards")


@pytest.fixture
def path(tmp_path):
    write_shard(tmp_path / "train_000000.bin", IDS, TOKENIZER)
    return tmp_path / "train_000000.bin"


def numbered(*lengths):
    """Shards of these lengths in which every token of all is another number."""
    starts = np.cumsum([0, *lengths])
    return [SimpleNamespace(tokens=np.arange(start, start + length, dtype=np.uint16))
            for start, length in zip(starts, lengths)]


def positions(windows, first, count):
    """The windows at count positions of the endless reading, each as a tuple."""
    inputs, targets = windows.batch(first, count)
    return [(*x.tolist(), int(y[-1])) for x, y in zip(inputs, targets)]


# ---- the file


@fewer
@given(id_lists, st.sampled_from(["reverse", "forward"]))
def test_ids_and_header_come_back_as_written(folder, ids, direction):
    tokenizer = SimpleNamespace(**{**vars(TOKENIZER), "direction": direction})
    write_shard(folder / "a.bin", ids, tokenizer)
    shard = read_shard(folder / "a.bin")
    assert (shard.tokens.tolist(), shard.vocab_size, shard.direction, shard.tokenizer_sha256) == (
        ids, 1000, direction, TOKENIZER.sha256)


def test_the_header_is_the_common_one_kibibyte_format(path):
    data = path.read_bytes()
    header = struct.unpack("<256i", data[:1024])
    assert header[:5] == (20240520, 1, len(IDS), 1000, 0)
    assert struct.pack("<8i", *header[5:13]) == TOKENIZER.sha256 and not any(header[13:])
    assert struct.unpack(f"<{len(IDS)}H", data[1024:]) == tuple(IDS)


def test_tokens_cannot_be_written_to(path):
    with pytest.raises(ValueError, match="read-only"):
        read_shard(path).tokens[0] = 1


def damaged(word, value):
    """A change of one word of the header."""
    return lambda data: data[:4 * word] + struct.pack("<i", value) + data[4 * word + 4:]


@pytest.mark.parametrize("damage, complaint", [
    (damaged(0, 20240521), "not a shard"),
    (lambda data: b"PK\x03\x04" + data[4:], "not a shard"),
    (damaged(1, 2), "version 2"),
    (damaged(2, len(IDS) + 1), "header promises"),
    (damaged(2, -1), "header promises"),
    (damaged(3, 0), "vocabulary 0"),
    (damaged(3, -5), "vocabulary -5"),
    (damaged(3, 2**16 + 1), "vocabulary 65537"),
    (damaged(3, 999), "the id 999, beyond its vocabulary of 999"),
    (damaged(4, 2), "direction 2"),
    (damaged(4, -1), "direction -1"),
    (lambda data: data + b"\0", "header promises"),
    (lambda data: b"", "cut short"),
])
def test_damage_is_named_with_the_file_and_the_next_command(path, damage, complaint):
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=complaint) as error:
        read_shard(path)
    assert str(path) in str(error.value) and f"python preprocess_xcoax.py --data-dir {path.parent}" in str(error.value)


@fewer
@given(st.integers(0, 1024 + 2 * len(IDS) - 1))
def test_a_file_cut_at_any_byte_is_refused(folder, size):
    path = folder / "cut.bin"
    write_shard(path, IDS, TOKENIZER)
    os.truncate(path, size)
    with pytest.raises(ValueError, match="cut short|header promises") as error:
        read_shard(path)
    assert str(path) in str(error.value)


def test_a_missing_shard_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="python preprocess_xcoax.py") as error:
        read_shard(tmp_path / "train_000000.bin")
    assert str(tmp_path / "train_000000.bin") in str(error.value)


# ---- the folder


def write_folder(folder, *chunks, sha256=TOKENIZER.sha256):
    """Shards of two splits and their manifest."""
    manifest = {"tokenizer_sha256": sha256.hex(), "chunks": []}
    for number, ids in enumerate(chunks):
        chunk = {split: {"file": f"{split}_{number}.bin", "documents": 2, "tokens": len(ids), "bytes": 3 * len(ids)}
                 for split in ("train", "val")}
        for split in chunk.values():
            write_shard(folder / split["file"], ids, TOKENIZER)
        manifest["chunks"].append(chunk)
    write_manifest(folder, manifest)
    return manifest


def test_a_split_is_its_shards_in_the_order_of_the_manifest(tmp_path):
    write_folder(tmp_path, [1, 2], [], [3])
    assert [shard.tokens.tolist() for shard in read_split(tmp_path, "train")] == [[1, 2], [], [3]]


def test_totals_add_up_over_chunks(tmp_path):
    assert totals(write_folder(tmp_path, [1, 2], [], [3]), "val") == {"documents": 6, "tokens": 3, "bytes": 9}


def test_a_manifest_comes_back_as_written(tmp_path):
    assert write_folder(tmp_path, [1]) == read_manifest(tmp_path)


@pytest.mark.parametrize("given_hash, said", [(None, "manifest.json"), (b"\1" * 32, "the one given")])
def test_shards_of_another_tokenizer_are_refused_by_name(tmp_path, given_hash, said):
    write_folder(tmp_path, [1, 2], sha256=b"\2" * 32)
    with pytest.raises(ValueError, match="another tokenizer than .*" + said) as error:
        read_split(tmp_path, "val", given_hash)
    assert str(tmp_path / "val_0.bin") in str(error.value) and "python preprocess_xcoax.py" in str(error.value)


def test_a_folder_without_manifest_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        read_manifest(tmp_path)
    assert f"python preprocess_xcoax.py --data-dir {tmp_path}" in str(error.value)


def test_a_damaged_manifest_names_itself_and_the_command_that_makes_it_anew(tmp_path):
    (tmp_path / "manifest.json").write_text('{"chunks": [')
    with pytest.raises(ValueError, match="manifest.json is not valid JSON .*") as error:
        read_manifest(tmp_path)
    assert f"python preprocess_xcoax.py --data-dir {tmp_path} --overwrite" in str(error.value)


# ---- the split


@pytest.mark.parametrize("text, val_fraction, split", [
    ("The ferry left.", 0.5, "val"), ("Где ёлка?", 0.5, "val"), ("", 0.5, "train"), ("\ud800", 0.5, "val"),
    ("The ferry left.", 0, "train"), ("", 1, "val"),
])
def test_the_split_of_a_text_is_the_same_on_every_machine(text, val_fraction, split):
    assert split_of(text, val_fraction) == split


@fewer
@given(any_text)
def test_a_text_of_a_small_validation_split_is_in_every_larger_one(text):
    splits = [split_of(text, fraction) for fraction in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    assert splits == sorted(splits) and splits[0] == "train" and splits[-1] == "val"


@pytest.mark.parametrize("val_fraction", [0.01, 0.1, 0.5])
def test_validation_gets_about_its_share(val_fraction):
    count = sum(split_of(f"text number {i}", val_fraction) == "val" for i in range(20_000))
    assert abs(count / 20_000 - val_fraction) < 0.1 * val_fraction


# ---- the order of reading


@pytest.mark.parametrize("key", ["1/0", "1/1", "another"])
def test_the_keyed_permutation_is_a_bijection(key):
    for length in range(1, 301):
        assert sorted(keyed_permutation(i, length, key) for i in range(length)) == list(range(length))


@fewer
@given(st.integers(1, 2**40), st.integers(0, 2**40))
def test_the_keyed_permutation_stays_within_any_length(length, index):
    assert 0 <= keyed_permutation(index % length, length, "1/0") < length


@pytest.mark.parametrize("key", ["1/0", "2/7"])
def test_the_keyed_permutation_mixes(key):
    order = np.array([keyed_permutation(i, 10_000, key) for i in range(10_000)])
    assert abs(np.corrcoef(order, np.arange(10_000))[0, 1]) < 0.05                  # no trend
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.05                     # neighbours are strangers
    assert all(800 < np.sum(order[:2000] // 2000 == fifth) * 2.5 < 1200 for fifth in range(5))  # a part is like the whole


def test_another_key_gives_another_order():
    first, second = ([keyed_permutation(i, 100, key) for i in range(100)] for key in ("1/0", "1/1"))
    assert sum(a == b for a, b in zip(first, second)) < 10


lengths_of_shards = st.lists(st.integers(0, 40), min_size=1, max_size=4).filter(lambda lengths: max(lengths) > 8)
block_sizes, seeds = st.integers(1, 8), st.integers(0, 2**31)


@fewer
@given(lengths_of_shards, block_sizes, seeds, st.integers(0, 3))
def test_every_epoch_visits_every_window_once(lengths, block_size, seed, epoch):
    windows = Windows(numbered(*lengths), block_size, seed)
    visited = positions(windows, epoch * len(windows), len(windows))
    assert sorted(visited) == sorted(tuple(windows.window(i).tolist()) for i in range(len(windows)))


@fewer
@given(lengths_of_shards, block_sizes)
def test_every_token_but_a_shards_first_and_its_remainder_is_a_target_once(lengths, block_size):
    shards = numbered(*lengths)
    windows = Windows(shards, block_size)
    targets = np.concatenate([windows.window(i)[1:] for i in range(len(windows))]).tolist()
    expected = []
    for shard in shards:
        whole = max(0, len(shard.tokens) - 1) // block_size * block_size
        expected += shard.tokens[1:1 + whole].tolist()
    assert targets == expected


@fewer
@given(lengths_of_shards, block_sizes)
def test_a_window_is_a_stretch_of_one_shard(lengths, block_size):
    windows = Windows(numbered(*lengths), block_size)
    ends = set(np.cumsum(lengths).tolist())
    for i in range(len(windows)):
        window = windows.window(i)
        assert len(window) == block_size + 1 and np.all(np.diff(window) == 1) and not ends & set(window[1:].tolist())


@fewer
@given(lengths_of_shards, block_sizes, seeds, st.lists(st.integers(1, 7), min_size=1, max_size=8))
def test_any_batch_sizes_read_the_same_sequence(lengths, block_size, seed, sizes):
    windows, parts, first = Windows(numbered(*lengths), block_size, seed), [], 0
    for size in sizes:
        parts += positions(windows, first, size)
        first += size
    assert parts == positions(windows, 0, first)


def test_targets_are_inputs_one_token_on():
    inputs, targets = Windows(numbered(100), 9).batch(0, 5)
    assert inputs.shape == targets.shape == (5, 9) and inputs.dtype == np.int64 and np.array_equal(inputs + 1, targets)


@pytest.mark.parametrize("one, other", [((1, 0), (1, 1)), ((1, 0), (2, 0))], ids=["epochs", "seeds"])
def test_epochs_and_seeds_read_in_different_orders(one, other):
    orders = []
    for seed, epoch in (one, other):
        windows = Windows(numbered(2000), 10, seed)
        orders.append(positions(windows, epoch * len(windows), len(windows)))
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1])


@fewer
@given(lengths_of_shards, block_sizes, st.integers(1, 5), st.integers(1, 5))
def test_fixed_batches_are_distinct_windows_and_the_same_each_time(lengths, block_size, batches, batch_size):
    windows = Windows(numbered(*lengths), block_size)
    once, again = ([x.tolist() for x, _ in windows.fixed_batches(batches, batch_size)] for _ in range(2))
    rows = [tuple(row) for batch in once for row in batch]
    assert once == again and len(set(rows)) == len(rows) == min(len(windows), batches * batch_size)


@pytest.mark.parametrize("lengths", [(), (0,), (10,), (10, 10, 0)])
def test_too_few_tokens_for_one_window_say_so(lengths):
    with pytest.raises(ValueError, match=f"{sum(lengths)} tokens in the train split are too few for one window of 10 .* --block-size"):
        Windows(numbered(*lengths), 10)


# ---- what exists is complete


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
                     "from shards import atomic_write\n"
                     "with atomic_write(sys.argv[1]) as file:\n"
                     "    file.write(bytes(int(sys.argv[2])))\n", tmp_path / "train.bin", int(megabytes * 1e6),
                     preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
                     env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    said = program.communicate(timeout=60)[1]
    assert f"could not write {tmp_path / 'train.bin'} (File too large)" in said and "Make room" in said
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"train.bin": b"old"}


def test_a_writer_killed_in_mid_write_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "train.bin"
    write_shard(path, IDS, TOKENIZER)
    program = python("import sys\n"
                     "from shards import atomic_write\n"
                     "with atomic_write(sys.argv[1]) as file:\n"
                     "    file.write(bytes(1_000_000))\n"
                     "    file.flush()\n"
                     "    print('half', flush=True)\n"
                     "    input()\n", path)
    assert program.stdout.readline() == "half\n"
    program.kill()
    program.communicate(timeout=60)
    assert read_shard(path).tokens.tolist() == IDS
    write_shard(path, [1, 2, 3], TOKENIZER)  # and what it left behind is in nobody's way
    assert read_shard(path).tokens.tolist() == [1, 2, 3] and [p.name for p in tmp_path.iterdir()] == ["train.bin"]
