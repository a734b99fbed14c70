"""What a folder of shards promises: it holds what its manifest says, and different settings are never mixed."""

import hashlib
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given

from program import commands
from shards import SPLITS, Windows, folder, read_manifest, read_split, split_of, totals, write_manifest
from shards.folder import add_chunk, check, clear, prepare, replacing
from tests.support.damage_shards import HEADER_BYTES, change, damaged_folders, edit, exchange, flip, mended
from tests.support.texts import any_text, fewer
from tests.support.tiny import make_shards

TOKENIZER = SimpleNamespace(vocab_size=1000, direction="reverse", sha256=hashlib.sha256(b"a tokenizer").digest())


def contents(folder):
    """{name: bytes} of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---- manifest and shards


def new_manifest(**settings):
    return {"source": {"dataset": "mine/*.txt"}, "direction": "reverse", "vocab_size": 1000,
            "tokenizer": "tok1000.model", "tokenizer_sha256": TOKENIZER.sha256.hex(), "complete": True, **settings,
            "chunks": []}


def write_folder(folder, *chunks, **settings):
    """Shards of two splits, of which validation has one token more, and their manifest."""
    manifest = new_manifest(**settings)
    for number, ids in enumerate(chunks):
        held = {split: (np.array(part, dtype=np.uint16), {"documents": min(2, len(part)), "bytes": 3 * len(part)})
                for split, part in (("train", ids), ("val", [*ids, 7]))}
        add_chunk(folder, manifest, TOKENIZER, held, next=[0, 10 * number])
    write_manifest(folder, manifest)
    return manifest


def ids_of(folder, split, *options):
    return [shard.tokens.tolist() for shard in read_split(folder, split, *options)]


def test_a_split_is_its_shards_in_the_order_of_the_manifest(tmp_path):
    write_folder(tmp_path, [1, 2], [], [3])
    assert ids_of(tmp_path, "train") == [[1, 2], [], [3]] and ids_of(tmp_path, "val") == [[1, 2, 7], [7], [3, 7]]


def test_totals_add_up_over_chunks(tmp_path):
    assert totals(write_folder(tmp_path, [1, 2], [], [3]), "train") == {"documents": 3, "tokens": 3, "bytes": 9}


def test_shards_of_another_tokenizer_are_refused_by_name(tmp_path):
    write_folder(tmp_path, [1, 2], tokenizer_sha256="02" * 32)
    with pytest.raises(ValueError, match="another tokenizer than .*manifest.json") as error:
        read_split(tmp_path, "val")
    assert str(tmp_path / "val_000000.bin") in str(error.value) and "python preprocess_xcoax.py" in str(error.value)


@pytest.mark.parametrize("change, said", [
    ({"sha256": b"\1" * 32}, "another tokenizer than the one given"),
    ({"vocab_size": 999}, "vocabulary size is 1000, expected 999"),
], ids=["tokenizer", "vocabulary"])
def test_the_tokenizer_given_is_that_of_the_shards(tmp_path, change, said):
    write_folder(tmp_path, [1, 2])
    assert ids_of(tmp_path, "train", TOKENIZER) == [[1, 2]]
    with pytest.raises(ValueError, match=said):
        read_split(tmp_path, "train", SimpleNamespace(**{**vars(TOKENIZER), **change}))


# ---- damage


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder that a test copies."""
    whole = tmp_path_factory.mktemp("whole") / "whole"
    write_folder(whole, list(range(300, 340)), list(range(500, 540)))
    return whole


@pytest.fixture
def copied(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copied")


@pytest.mark.parametrize("damage, said", [
    (flip("train_000001.bin", 8 * HEADER_BYTES + 100), "train_000001.bin is damaged: its ids are not those"),
    (exchange("train_000000.bin", "train_000001.bin"), "its hash of the ids is .*, expected "),
    (exchange("train_000001.bin", "val_000001.bin"), "its split is val, expected train"),
    (change("train_000000.bin", mended(30)), "train_000000.bin is damaged: its ids are not those"),
    (edit(("chunks", 0, "train", "tokens"), 41), "its tokens is 40, expected 41"),
    (flip("train_000000.bin", 8 * 4 * 3), "its vocabulary size is 1001, expected 1000"),
    (edit(("direction",), "forward"), "its direction is reverse, expected forward"),
    (edit(("chunks", 1, "train", "hash"), "0" * 16), "its hash of the ids is .*, expected 0000000000000000"),
], ids=["flipped id", "exchanged chunks", "exchanged splits", "mended header", "tokens", "vocabulary", "direction",
        "hash"])
def test_shards_that_are_not_what_the_manifest_lists_are_refused_with_the_command_that_makes_them(copied, damage, said):
    damage(copied)
    with pytest.raises(ValueError, match=said) as error:
        read_split(copied, "train")
    assert (f"python preprocess_xcoax.py --data-dir {copied} --overwrite --dataset 'mine/*.txt' --vocab-size 1000"
            in str(error.value))


def test_a_damaged_folder_is_refused_or_read_as_it_was(whole, tmp_path):
    """Damage that changes neither ids nor what they are for, such as in another setting of the manifest, is none."""
    read, refused = {split: ids_of(whole, split) for split in SPLITS}, 0
    for number, (what, damage) in enumerate(damaged_folders(whole, seed=1)):
        copied = shutil.copytree(whole, tmp_path / str(number))
        damage(copied)
        try:
            manifest = read_manifest(copied)
            for split in SPLITS:
                windows = Windows(read_split(copied, split), 8, split=split)
                assert [tokens.tolist() for tokens in windows.tokens] == read[split], what
                assert totals(manifest, split)["tokens"] == sum(map(len, read[split])), what
        except (ValueError, FileNotFoundError) as error:
            assert "--" in str(error) and (str(copied) in str(error) or "too few for one window" in str(error)), what
            refused += 1
        shutil.rmtree(copied)
    assert number > 100 and refused > 100


def test_a_large_folder_is_read_through_only_when_that_is_asked_for(copied, monkeypatch):
    flip("val_000000.bin", 8 * HEADER_BYTES)(copied)
    monkeypatch.setattr(folder, "SMALL_BYTES", 300)  # all have 324
    assert ids_of(copied, "val")[0][:2] == [301, 301]
    with pytest.raises(ValueError, match="val_000000.bin is damaged"):
        read_split(copied, "val", verify=True)


def older(folder):
    """Make of a folder what earlier versions wrote: no hash, and no split in a header."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for chunk in manifest["chunks"]:
        for split in SPLITS:
            del chunk[split]["hash"]
            change(chunk[split]["file"], lambda data: data[:52] + bytes(12) + data[64:])(folder)
    write_manifest(folder, manifest)


def test_folders_of_an_older_version_are_read(whole, copied):
    older(copied)
    assert [ids_of(copied, split) for split in SPLITS] == [ids_of(whole, split) for split in SPLITS]


def test_to_check_reads_every_shard_and_says_what_it_found(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "SMALL_BYTES", 0)
    make_shards(tmp_path)
    tokens = sum(totals(read_manifest(tmp_path), split)["tokens"] for split in SPLITS)
    assert check(tmp_path) == f"{tmp_path} is whole: 2 shards, {tokens:,} tokens"
    older(tmp_path)
    assert check(tmp_path).endswith("; 2 of the shards are of an older version and hold no hash of their ids")
    (tmp_path / "tok400.model").write_bytes(b"x")
    with pytest.raises(ValueError, match="tok400.model is not a tokenizer"):
        check(tmp_path)


def test_to_check_finds_a_flipped_id_however_large_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "SMALL_BYTES", 0)
    make_shards(tmp_path)
    flip("train_000000.bin", 8 * HEADER_BYTES + 8 * 5000)(tmp_path)
    with pytest.raises(ValueError, match="train_000000.bin is damaged"):
        check(tmp_path)


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
    manifest = new_manifest()
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
    add_chunk(tmp_path, manifest, TOKENIZER, held(3, 4), next=[0, 20])
    assert [shard.tokens.tolist() for shard in read_split(tmp_path, "train")] == [[1, 2]]


def test_what_else_was_counted_is_added_up_too(tmp_path):
    manifest = {"chunks": []}
    for _ in range(3):
        add_chunk(tmp_path, manifest, TOKENIZER, held(1, 2, targets=7))
    assert totals(manifest, "train") == {"documents": 3, "tokens": 6, "bytes": 15, "targets": 21}


# ---- what a run finds


WANTED = {"direction": "reverse", "val_fraction": 0.5, "source": {"dataset": "a.txt"}}
OF_KIND = {"base": {}, "instruct": {"kind": "instruct", "counts": {"read": 2}}}


def made(folder, kind="base", **settings):
    """A folder with one chunk, made with these settings."""
    manifest = {**new_manifest(), **WANTED, **OF_KIND[kind], **settings}
    add_chunk(folder, manifest, TOKENIZER, held(1, 2, **({"targets": 1} if kind == "instruct" else {})), next=[0, 1])
    write_manifest(folder, manifest)
    (folder / "tok400.model").write_bytes(b"a tokenizer")
    return manifest


def test_a_new_folder_begins_with_the_settings_and_no_chunk(tmp_path):
    assert prepare(tmp_path / "new", WANTED) == {**WANTED, "chunks": []}


@pytest.mark.parametrize("kind", commands.KINDS)
def test_a_run_with_the_same_settings_goes_on(tmp_path, kind):
    manifest = made(tmp_path, kind)
    assert prepare(tmp_path, WANTED, kind) == manifest


def test_other_settings_are_refused_by_name_and_nothing_is_touched(tmp_path):
    made(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="val_fraction: 0.5 there, 0.1 now.*--data-dir.*--overwrite") as error:
        prepare(tmp_path, {**WANTED, "val_fraction": 0.1})
    assert str(tmp_path) in str(error.value) and contents(tmp_path) == before


def test_of_a_corpus_of_many_files_only_what_differs_is_said(tmp_path):
    files = {f"{number}.txt": {"bytes": number, "hash": "ab"} for number in range(1000)}
    made(tmp_path, source={"dataset": "*.txt", "files": files})
    other = {"dataset": "*.txt", "files": {**files, "7.txt": {"bytes": 7, "hash": "cd"}}}
    with pytest.raises(ValueError, match="otherwise .source files 7.txt hash: ab there, cd now.. Choose"):
        prepare(tmp_path, {**WANTED, "source": other})
    with pytest.raises(ValueError, match="source files 2.txt is gone; and 997 more.. Choose"):
        prepare(tmp_path, {**WANTED, "source": {"dataset": "*.txt", "files": {}}})
    more = {"dataset": "*.txt", "files": {**files, "x.txt": {"bytes": 7, "hash": "cd"}}, "num_records": 9}
    with pytest.raises(ValueError, match="otherwise .source files x.txt is new; source num_records: None there, 9 now"):
        prepare(tmp_path, {**WANTED, "source": more})


@pytest.mark.parametrize("size, goes_on", [(5, True), (6, False)])
def test_an_older_manifest_knows_files_by_their_size(tmp_path, size, goes_on):
    made(tmp_path, source={"dataset": "a.txt", "files": {"a.txt": 5}})
    wanted = {**WANTED, "source": {"dataset": "a.txt", "files": {"a.txt": {"bytes": size, "hash": "ab"}}}}
    if goes_on:
        assert prepare(tmp_path, wanted)["chunks"]
    else:
        with pytest.raises(ValueError, match="source files a.txt: 5 there"):
            prepare(tmp_path, wanted)


def test_other_settings_are_taken_while_no_chunk_is_there(tmp_path):
    write_manifest(tmp_path, {**new_manifest(), **WANTED})
    other = {**WANTED, "val_fraction": 0.1}
    assert prepare(tmp_path, other) == {**other, "chunks": []}


@pytest.mark.parametrize("damage", [False, True], ids=["whole", "damaged"])
def test_to_overwrite_begins_anew_and_takes_nothing_away_before_it_is_told_to(tmp_path, damage):
    made(tmp_path)
    if damage:
        (tmp_path / "manifest.json").write_text('{"chunks": [')
    before = contents(tmp_path)
    assert prepare(tmp_path, WANTED, overwrite=True) == {**WANTED, "chunks": []}
    assert contents(tmp_path) == before


OF_OTHERS = ("notes.txt", "tokenizer.model", "pytorch_model.bin", "train.bin", "fineweb_train_000000.bin",
             "train_000000.bin.bak", "tok.model", "toktok8.model", "test_000000.bin", "val_1.bin")


@pytest.mark.parametrize("kind", commands.KINDS)
def test_what_is_cleared_is_what_preprocessing_has_made(tmp_path, kind):
    """Preprocessing of a corpus makes its tokenizer; that of instructions is given one."""
    made(tmp_path, kind)
    for name in OF_OTHERS:
        (tmp_path / name).write_bytes(b"not ours")
    clear(tmp_path, kind)
    assert set(contents(tmp_path)) == {*OF_OTHERS, *(["tok400.model"] if kind == "instruct" else [])}


def test_new_shards_take_the_place_of_the_old_only_when_all_of_them_are_there(tmp_path):
    (tmp_path / "train_000000.bin").write_text("old")
    (tmp_path / "train_000001.bin").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(OSError), replacing(tmp_path, "instruct") as new:
        (new / "train_000000.bin").write_text("new")
        raise OSError
    assert contents(tmp_path) == before
    (tmp_path / ".new").mkdir()  # of a run that was killed
    (tmp_path / ".new" / "train_000009.bin").write_text("older")
    with replacing(tmp_path, "instruct") as new:
        (new / "train_000000.bin").write_text("new")
    assert contents(tmp_path) == {"train_000000.bin": b"new", "notes.txt": b"mine"}


def test_a_folder_that_is_named_like_a_shard_is_left_alone(tmp_path):
    (tmp_path / "train_000000.bin").mkdir()
    (tmp_path / "val_000000.bin").write_text("old")
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["train_000000.bin"]


@pytest.mark.parametrize("there, wanted", [("base", "instruct"), ("instruct", "base")])
def test_the_other_kind_is_refused_even_where_its_manifest_is_damaged(tmp_path, there, wanted):
    write_manifest(tmp_path, {**new_manifest(), "kind": there, "vocab_size": -1})
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=f"made by {commands.SCRIPTS[there]['preprocess']}. Choose another --data-dir"):
        prepare(tmp_path, WANTED, wanted, overwrite=True)
    assert contents(tmp_path) == before


def test_the_command_that_makes_shards_anew_has_every_setting_of_the_first_time(tmp_path):
    manifest = write_folder(tmp_path, [1, 2, 3], val_fraction=0.25, chunk_documents=50, direction="forward",
                            source={"dataset": "mine/*.jsonl", "text_column": "body", "documents": "lines", "seed": 7})
    manifest["chunks"][0]["noted"] = {"bad": 2}
    manifest["chunks"][0]["train"]["hash"] = "0" * 16
    write_manifest(tmp_path, manifest)
    with pytest.raises(ValueError) as error:
        read_split(tmp_path, "train")
    flags = str(error.value).splitlines()[-1].split(" --")[1:]
    assert sorted(flags) == sorted([
        f"data-dir {tmp_path}", "overwrite", "dataset 'mine/*.jsonl'", "text-column body", "documents lines", "seed 7",
        "vocab-size 1000", "chunk-documents 50", "val-fraction 0.25", "direction forward", "skip-bad-records"])


def test_a_damaged_manifest_is_refused_with_the_command_of_its_kind(tmp_path):
    (tmp_path / "manifest.json").write_text('{"chunks": [')
    for kind in commands.KINDS:
        with pytest.raises(ValueError, match="not valid JSON") as error:
            prepare(tmp_path, WANTED, kind)
        assert f"{commands.preprocess(kind)} --data-dir {tmp_path} --overwrite" in str(error.value)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("there, wanted, said", [
    ("base", "instruct", "holds the shards of a corpus, made by preprocess_xcoax.py.*--data-dir"),
    ("instruct", "base", "holds instruction examples, made by preprocess_instruct.py.*--data-dir")])
def test_a_corpus_and_examples_never_take_the_place_of_one_another(tmp_path, overwrite, there, wanted, said):
    made(tmp_path, there)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=said):
        prepare(tmp_path, WANTED, wanted, overwrite)
    assert contents(tmp_path) == before


def test_a_manifest_of_something_else_is_never_written_over(tmp_path):
    (tmp_path / "manifest.json").write_text('{"name": "a web page", "icons": []}')
    for overwrite in (False, True):
        with pytest.raises(FileNotFoundError, match="manifest.json lists none.*Choose another --data-dir"):
            prepare(tmp_path, WANTED, overwrite=overwrite)
