"""What a shard promises: ids come back as written, and damage is named with what to run next."""

import hashlib
import os
import struct
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards import SPLITS, read_shard, write_shard
from tests.support.texts import fewer

TOKENIZER = SimpleNamespace(vocab_size=1000, direction="reverse", sha256=hashlib.sha256(b"a tokenizer").digest())
IDS = list(range(0, 1000, 7)) + [999, 0, 0]

id_lists = st.lists(st.integers(0, 999), max_size=40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("shards")


@pytest.fixture
def path(tmp_path):
    write_shard(tmp_path / "train_000000.bin", IDS, TOKENIZER, "train")
    return tmp_path / "train_000000.bin"


@fewer
@given(id_lists, st.sampled_from(["reverse", "forward"]), st.sampled_from(SPLITS))
def test_ids_and_header_come_back_as_written(folder, ids, direction, split):
    tokenizer = SimpleNamespace(**{**vars(TOKENIZER), "direction": direction})
    digest = write_shard(folder / "a.bin", ids, tokenizer, split)
    shard = read_shard(folder / "a.bin")
    assert (shard.tokens.tolist(), shard.vocab_size, shard.direction, shard.tokenizer_sha256, shard.hash,
            shard.split) == (ids, 1000, direction, TOKENIZER.sha256, digest, split)


def test_the_header_is_the_common_one_kibibyte_format(path):
    data = path.read_bytes()
    header = struct.unpack("<256i", data[:1024])
    assert header[:5] == (20240520, 1, len(IDS), 1000, 0)
    assert struct.pack("<8i", *header[5:13]) == TOKENIZER.sha256
    assert struct.pack("<2i", *header[13:15]) == hashlib.blake2b(data[1024:], digest_size=8).digest()
    assert header[15] == 1 and not any(header[16:])
    assert struct.unpack(f"<{len(IDS)}H", data[1024:]) == tuple(IDS)


def test_any_bit_that_is_flipped_in_the_ids_is_noticed(path):
    whole = path.read_bytes()
    for bit in range(8 * 1024, 8 * len(whole), 37):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        with pytest.raises(ValueError, match="is damaged: its ids"):
            read_shard(path)
    assert len(read_shard(path, verify=False).tokens) == len(IDS)


def test_a_shard_of_an_older_version_has_no_hash_and_no_split(path):
    path.write_bytes(path.read_bytes()[:52] + bytes(12) + path.read_bytes()[64:])
    shard = read_shard(path)
    assert (shard.tokens.tolist(), shard.hash, shard.split) == (IDS, None, None)


def test_an_id_beyond_the_vocabulary_is_never_written(tmp_path):
    with pytest.raises(AssertionError):
        write_shard(tmp_path / "train_000000.bin", [1000], TOKENIZER, "train")
    assert not list(tmp_path.iterdir())


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
    (damaged(15, 3), "split 3"),
    (damaged(15, -1), "split -1"),
    (damaged(13, 7), "is damaged: its ids"),
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
    write_shard(path, IDS, TOKENIZER, "train")
    os.truncate(path, size)
    with pytest.raises(ValueError, match="cut short|header promises") as error:
        read_shard(path)
    assert str(path) in str(error.value)


def test_a_missing_shard_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="python preprocess_xcoax.py") as error:
        read_shard(tmp_path / "train_000000.bin")
    assert str(tmp_path / "train_000000.bin") in str(error.value)
