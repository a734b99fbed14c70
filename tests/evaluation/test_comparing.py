"""Several checkpoints side by side: what they are called, and what is said to differ."""

import pytest

from evaluation.comparing import differences, names_of, same_split
from evaluation.data import documents_of_split
from tests.support.tiny import make_shards


def models(*paths, **fields):
    same = {"direction": "reverse", "tokenizer": "t", "data": "d", "block_size": 64, "parameters": 1000,
            "trained_tokens": 5}
    return [{"path": path, **same, **{name: values[i] for name, values in fields.items()}}
            for i, path in enumerate(paths)]


@pytest.mark.parametrize("paths, names", [
    (["out/a/best_checkpoint.pt", "out/b/best_checkpoint.pt"], ["a", "b"]),
    (["x/a/best_checkpoint.pt", "y/a/best_checkpoint.pt"], ["x/a", "y/a"]),
    (["out/a/best_checkpoint.pt", "models/small.pt"], ["a", "small"]),
    (["best_checkpoint.pt"], ["best_checkpoint"])])
def test_models_are_called_by_the_folders_of_their_runs_as_short_as_tells_them_apart(paths, names):
    assert names_of(models(*paths)) == names


def test_what_differs_is_said_by_who_has_what_and_that_only_bits_per_byte_are_compared():
    one = ("a.pt", "b.pt", "c.pt")
    assert differences(models(*one)) == []
    assert differences(models(*one, parameters=[1000, 2000, 1000])) == [
        "Different numbers of weights: a, c (1,000); b (2,000)."]
    for field in ("tokenizer", "data"):
        assert "compared in bits per byte only" in differences(models(*one, **{field: ["x", "y", "y"]}))[-1]


def test_folders_of_both_directions_hold_out_the_same_documents_and_those_of_other_texts_do_not(tmp_path):
    for name, direction in (("one", "reverse"), ("two", "forward"), ("three", "reverse")):
        make_shards(tmp_path / name, direction)
    manifest = tmp_path / "three/manifest.json"
    manifest.write_text(manifest.read_text().replace('"tiny"', '"other"'))
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    assert same_split(one, two) and not same_split(one, three)
    assert documents_of_split(one, 9) == documents_of_split(two, 9) and len(documents_of_split(one, 9)) == 9
