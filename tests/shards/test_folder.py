"""What a folder of shards promises: its manifest says all there is, and different settings are never mixed."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given

from program import commands
from shards import SPLITS, read_manifest, read_split, split_of, totals, write_manifest, write_shard
from shards.folder import add_chunk, prepare
from tests.support.texts import any_text, fewer

TOKENIZER = SimpleNamespace(vocab_size=1000, direction="reverse", sha256=hashlib.sha256(b"a tokenizer").digest())


def contents(folder):
    """{name: bytes} of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---- manifest and shards


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


# ---- a chunk more


def held(*ids, **counts):
    """A chunk's ids, the same in both splits, and its counts."""
    return {split: (np.array(ids, dtype=np.uint16), {"documents": 1, "bytes": 5, **counts}) for split in SPLITS}


def test_chunks_are_numbered_and_read_in_the_order_in_which_they_were_added(tmp_path):
    manifest = {"tokenizer_sha256": TOKENIZER.sha256.hex(), "chunks": []}
    for first in (1, 5, 9):
        add_chunk(tmp_path, manifest, TOKENIZER, held(first, first + 1), next=[0, first])
    write_manifest(tmp_path, manifest)
    for split in SPLITS:
        found = read_split(tmp_path, split)
        assert [shard.tokens.tolist() for shard in found] == [[1, 2], [5, 6], [9, 10]]
        assert [shard.path.name for shard in found] == [f"{split}_{number:06d}.bin" for number in range(3)]
    assert [chunk["next"] for chunk in read_manifest(tmp_path)["chunks"]] == [[0, 1], [0, 5], [0, 9]]


def test_a_chunk_that_the_manifest_on_disk_does_not_name_counts_for_nothing(tmp_path):
    manifest = write_folder(tmp_path, [1, 2])
    add_chunk(tmp_path, manifest, TOKENIZER, held(3, 4))
    assert [shard.tokens.tolist() for shard in read_split(tmp_path, "train")] == [[1, 2]]


def test_what_else_was_counted_is_added_up_too(tmp_path):
    manifest = {"chunks": []}
    for _ in range(3):
        add_chunk(tmp_path, manifest, TOKENIZER, held(1, 2, targets=7))
    assert totals(manifest, "train") == {"documents": 3, "tokens": 6, "bytes": 15, "targets": 21}


# ---- what a run finds


WANTED = {"direction": "reverse", "val_fraction": 0.5}


def made(folder, **settings):
    """A folder with one chunk, made with these settings."""
    manifest = {**WANTED, **settings, "tokenizer_sha256": TOKENIZER.sha256.hex(), "chunks": []}
    add_chunk(folder, manifest, TOKENIZER, held(1, 2))
    write_manifest(folder, manifest)
    (folder / "tok400.model").write_bytes(b"a tokenizer")
    return manifest


def test_a_new_folder_begins_with_the_settings_and_no_chunk(tmp_path):
    assert prepare(tmp_path / "new", WANTED) == {**WANTED, "chunks": []}


def test_a_run_with_the_same_settings_goes_on(tmp_path):
    manifest = made(tmp_path, counts={"read": 3})
    assert prepare(tmp_path, WANTED) == manifest


def test_other_settings_are_refused_by_name_and_nothing_is_touched(tmp_path):
    made(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="val_fraction: 0.5 there, 0.1 now.*--data-dir.*--overwrite") as error:
        prepare(tmp_path, {**WANTED, "val_fraction": 0.1})
    assert str(tmp_path) in str(error.value) and contents(tmp_path) == before


def test_other_settings_are_taken_while_no_chunk_is_there(tmp_path):
    write_manifest(tmp_path, {**WANTED, "chunks": []})
    other = {**WANTED, "val_fraction": 0.1}
    assert prepare(tmp_path, other) == {**other, "chunks": []}


@pytest.mark.parametrize("damage", [False, True], ids=["whole", "damaged"])
def test_to_overwrite_takes_away_all_that_an_earlier_run_has_made_and_nothing_else(tmp_path, damage):
    made(tmp_path, val_fraction=0.1)
    (tmp_path / "notes.txt").write_bytes(b"mine")
    if damage:
        (tmp_path / "manifest.json").write_text('{"chunks": [')
    assert prepare(tmp_path, WANTED, overwrite=True) == {**WANTED, "chunks": []}
    assert contents(tmp_path) == {"notes.txt": b"mine"}


def test_a_damaged_manifest_is_refused_with_the_command_of_its_kind(tmp_path):
    (tmp_path / "manifest.json").write_text('{"chunks": [')
    for kind in commands.KINDS:
        with pytest.raises(ValueError, match="not valid JSON") as error:
            prepare(tmp_path, WANTED, kind)
        assert f"{commands.preprocess(kind)} --data-dir {tmp_path} --overwrite" in str(error.value)


@pytest.mark.parametrize("overwrite", [False, True])
def test_examples_never_take_the_place_of_a_corpus(tmp_path, overwrite):
    made(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="holds the shards of a corpus.*--data-dir"):
        prepare(tmp_path, WANTED, "instruct", overwrite)
    assert contents(tmp_path) == before


def test_examples_made_anew_leave_a_tokenizer_in_their_folder_alone(tmp_path):
    """Preprocessing of a corpus makes its tokenizer; that of instructions is given one."""
    made(tmp_path, kind="instruct")
    prepare(tmp_path, WANTED, "instruct", overwrite=True)
    assert contents(tmp_path) == {"tok400.model": b"a tokenizer"}
