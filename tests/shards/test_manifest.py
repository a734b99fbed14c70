"""What a manifest promises: it comes back as written, and what it cannot mean is named, not met later."""

import json

import pytest

from shards import read_manifest, write_manifest
from tests.support.damage_shards import edit
from tests.support.tiny import make_shards


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A manifest as it stands in its file."""
    folder = tmp_path_factory.mktemp("made")
    make_shards(folder)
    return (folder / "manifest.json").read_text()


@pytest.fixture
def folder(text, tmp_path):
    (tmp_path / "manifest.json").write_text(text)
    return tmp_path


def test_a_manifest_comes_back_as_written(text, folder):
    manifest = read_manifest(folder)
    assert manifest == json.loads(text)
    write_manifest(folder, manifest)
    assert (folder / "manifest.json").read_text() == text


@pytest.mark.parametrize("place, value, said", [
    (("source",), "tiny", "source is 'tiny', expected an object with a dataset"),
    (("source", "dataset"), 5, "source is .*, expected an object with a dataset"),
    (("direction",), "sideways", "direction is 'sideways', expected reverse or forward"),
    (("direction",), ["reverse"], "direction is "),
    (("vocab_size",), -1, "vocab_size is -1"),
    (("vocab_size",), True, "vocab_size is True"),
    (("vocab_size",), 2**16 + 1, "vocab_size is 65537"),
    (("tokenizer_sha256",), "xyz", "tokenizer_sha256 is 'xyz', expected 64 hexadecimal digits"),
    (("tokenizer_sha256",), "0" * 63 + "\n", "tokenizer_sha256 is "),
    (("tokenizer",), "../tok400.model", "tokenizer is '../tok400.model', expected tok400.model"),
    (("tokenizer",), 7, "tokenizer is 7, expected a name"),
    (("vocab_size",), 401, "tokenizer is 'tok400.model', expected tok401.model"),
    (("tokenizer",), "tok400.model\n", "tokenizer is "),
    (("complete",), "yes", "complete is 'yes', expected true or false"),
    (("kind",), "chat", "kind is 'chat', expected base or instruct"),
    (("kind",), {}, "kind is "),
    (("kind",), "instruct", "counts is None, expected an object of counts"),
    (("chunks",), {"a": 1}, "chunks is .*, expected a list"),
    (("chunks", 0), 7, "chunk 0 is 7, expected an object"),
    (("chunks", 0, "noted"), [1], "chunk 0: noted is .*, expected an object of counts"),
    (("chunks", 0, "noted"), {"cut": "many"}, "chunk 0: noted is .*, expected an object of counts"),
    (("chunks", 0, "next"), [0, -1], "next of its chunks"),
    (("chunks", 0, "next"), "x", "next of its chunks"),
    (("chunks", 0, "val"), [], r"chunk 0, val: \[\], expected an object"),
    (("chunks", 0, "val", "file"), "../../secret.bin", "file is '../../secret.bin', expected val_000000.bin"),
    (("chunks", 0, "val", "file"), "train_000000.bin", "file is 'train_000000.bin', expected val_000000.bin"),
    (("chunks", 0, "train", "hash"), "abc", "hash is 'abc', expected 16 hexadecimal digits"),
    (("chunks", 0, "train", "tokens"), -3, "tokens is -3, expected a count"),
    (("chunks", 0, "train", "tokens"), 1.5, "tokens is 1.5, expected a count"),
    (("chunks", 0, "train", "bytes"), None, "bytes is None, expected a count"),
    (("chunks", 0, "train", "bytes"), 0, "0 bytes cannot be true together"),
    (("chunks", 0, "train", "bytes"), 10**30, "bytes is 10{30}, expected a count"),
    (("chunks", 0, "train", "documents"), 10**9, "cannot be true together"),
    (("chunks", 0, "train", "targets"), "many", "targets is 'many', expected a count"),
])
def test_a_field_that_cannot_be_is_named_with_the_command_that_makes_the_shards_anew(folder, place, value, said):
    edit(place, value)(folder)
    with pytest.raises(ValueError, match=f"manifest.json is damaged: (.|\n)*{said}") as error:
        read_manifest(folder)
    assert f"python preprocess_xcoax.py --data-dir {folder} --overwrite" in str(error.value)


@pytest.mark.parametrize("field", ["source", "direction", "vocab_size", "tokenizer_sha256", "tokenizer", "complete"])
def test_a_field_that_is_missing_is_named(folder, field):
    edit((field,))(folder)
    with pytest.raises(ValueError, match=f"manifest.json is damaged: {field} is None, expected"):
        read_manifest(folder)


@pytest.mark.parametrize("damaged", [b"", b"{", b'{"chunks": [NaN]}', b'{"chunks": -Infinity}', b'{"chunks": "\xff"}',
                                     b"[" * 100_000, b'{"chunks": ' + b"9" * 5000 + b"}"],
                         ids=["empty", "cut", "NaN", "infinity", "no UTF-8", "deep", "long number"])
def test_what_is_no_json_is_named_with_the_command_that_makes_the_shards_anew(tmp_path, damaged):
    (tmp_path / "manifest.json").write_bytes(damaged)
    with pytest.raises(ValueError, match="manifest.json is not valid JSON .*") as error:
        read_manifest(tmp_path)
    assert f"python preprocess_xcoax.py --data-dir {tmp_path} --overwrite" in str(error.value)


@pytest.mark.parametrize("other", ["[]", "7", "{}", '{"name": "a web page"}'])
def test_a_manifest_of_something_else_is_none_of_ours(tmp_path, other):
    (tmp_path / "manifest.json").write_text(other)
    with pytest.raises(FileNotFoundError, match="No training shards in .*manifest.json lists none"):
        read_manifest(tmp_path)


def test_a_folder_without_manifest_names_the_commands_that_make_it_one_for_texts_of_ones_own_first(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        read_manifest(tmp_path / "small")
    assert [line.strip() for line in str(error.value).splitlines() if "python" in line] == [
        f"python preprocess_xcoax.py --dataset 'texts/*.txt' --data-dir {tmp_path / 'small'}",
        f"python preprocess_xcoax.py --dataset tales --data-dir {tmp_path / 'small'}",
        f"python preprocess_xcoax.py --data-dir {tmp_path / 'small'}"]


def test_a_missing_folder_named_after_a_corpus_is_made_from_that(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        read_manifest(tmp_path / "tales")
    assert [line.strip() for line in str(error.value).splitlines() if "python" in line] == [
        f"python preprocess_xcoax.py --dataset tales --data-dir {tmp_path / 'tales'}"]
