"""The program that says how good a model is: what it finds, prints and writes, and what it refuses."""

import contextlib
import json
import re
import shutil
from unittest.mock import patch

import pytest

import checkpoint
import evaluate_xcoax
from shards import fingerprint
from tests.support.instruct import save_base
from tests.support.runs import call
from tests.support.tiny import make_shards, tiny_model, write_lines

FEW = ["--device", "cpu", "--max-documents", "8", "--num-samples", "6", "--sample-tokens", "12", "--max-pairs", "30",
       "--candidates", "8", "--best-of", "2"]


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """{direction: checkpoint of a model that has learned nothing}, with the shards of the same texts for each."""
    folder, found = tmp_path_factory.mktemp("bases"), {}
    for direction in ("reverse", "forward"):
        tokenizer = make_shards(folder / "data" / direction, direction)
        found[direction] = folder / f"out/{direction}/best_checkpoint.pt"
        checkpoint.save(found[direction], tiny_model(8, vocab_size=tokenizer.vocab_size), tokenizer,
                        {"data": fingerprint(folder / "data" / direction), "seed": 1}, {"iter_num": 0, "tokens": 0})
    return found


@pytest.fixture(scope="module")
def chat(base, data, tmp_path_factory):
    """A BackChat that has learned nothing, of the examples of data."""
    opened, path = checkpoint.open_model(base, device="cpu"), tmp_path_factory.mktemp("chat") / "best_checkpoint.pt"
    checkpoint.save(path, opened.model, opened.tokenizer, {"data": fingerprint(data)}, {}, kind="instruct")
    return path


def evaluate(*arguments, pictures=False):
    """Call the program; without its report, whose pictures take most of the time, unless the test is about them."""
    with contextlib.nullcontext() if pictures else patch.object(evaluate_xcoax, "report", lambda result: ""):
        call(evaluate_xcoax, *FEW, "--model-path", *arguments)


def found_in(folder):
    return json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))


def data_of(bases, direction="reverse"):
    return bases[direction].parents[2] / "data" / direction


def test_a_base_model_is_measured_and_the_same_seed_gives_the_same_numbers(bases, tmp_path, capsys):
    for name in ("one", "two"):
        evaluate(bases["reverse"], "--data-dir", data_of(bases), "--out-dir", tmp_path / name)
    printed = capsys.readouterr().out
    assert "bits per byte" in printed and "distinct-3" in printed and "of 8 share a run of 13 tokens" in printed
    one, two = (found_in(tmp_path / name) for name in ("one", "two"))
    assert one["models"] == two["models"] and one["overlap"] == two["overlap"]
    [model] = one["models"]
    assert model["found"]["documents"] == 8 and model["found"]["texts"]["written"]["texts"] == 6
    assert model["found"]["bits_per_byte"]["low"] < model["found"]["bits_per_byte"]["value"]
    evaluate(bases["reverse"], "--data-dir", data_of(bases), "--out-dir", tmp_path / "one", "--seed", "2")
    assert found_in(tmp_path / "one")["models"] != one["models"]


def test_the_report_needs_nothing_else_and_no_text_becomes_markup(bases, tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [{"text": f"<script>alert({n})</script> & more.", "source": f"<b>{n % 2}"}
                                              for n in range(8)])
    evaluate(bases["reverse"], "--data-dir", data_of(bases), "--eval-data", path, "--out-dir", tmp_path / "out",
             pictures=True)
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "<script" not in page and "<b>" not in page and "&lt;b&gt;0" in page and "{{" not in page
    assert not re.search(r'(src|href)="(?!#)', page) and "@import" not in page
    assert page.count("<svg") >= 3 and "prefers-color-scheme: dark" in page and 'name="viewport"' in page


def test_models_of_both_directions_give_the_arrow_of_time_in_bits_per_byte_alone(bases, tmp_path, capsys):
    for path, value in zip(bases.values(), (2.5, 2.0)):
        write_lines(path.parent / "metrics.jsonl", [{"iter": 5, "tokens": 100, "bits_per_byte": value}])
    evaluate(*bases.values(), "--data-dir", data_of(bases), "--out-dir", tmp_path, "--num-samples", "0", pictures=True)
    printed = capsys.readouterr().out
    assert "Different tokenizers: reverse (" in printed and "compared in bits per byte only" in printed
    assert "nats per token  " not in printed and "it may know" not in printed
    arrow = found_in(tmp_path)["arrow"]
    assert arrow["along_training"] == [[[100, 2.0, 2.5]]] and arrow["documents"] == 8
    assert "Word by word" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_backchat_is_measured(chat, data, tmp_path, capsys):
    forward = save_base(tmp_path / "forward.pt", make_shards(tmp_path / "forward", "forward"))
    opened = checkpoint.open_model(forward, device="cpu")
    checkpoint.save(tmp_path / "judge.pt", opened.model, opened.tokenizer, {}, {}, kind="instruct")
    evaluate(chat, "--data-dir", data, "--out-dir", tmp_path, "--forward", forward, "--judge", tmp_path / "judge.pt",
             pictures=True)
    printed = capsys.readouterr().out
    assert "the true instruction among 5 (chance: MRR 0.457)" in printed and "BM25" in printed
    assert "after the random instruction" in printed and "the same response" in printed
    [model] = found_in(tmp_path)["models"]
    assert {*model["found"]["retrieval"]} == {"raw", "per_token", "pmi", "raw, shuffled", "per_token, shuffled",
                                              "pmi, shuffled", "bm25", "forward"}
    assert 0 < model["found"]["round_trip"]["pairs"] <= model["found"]["pairs"] == 6
    assert sum(row["pairs"] for row in model["found"]["by_length"].values()) == 6


def test_fewer_records_than_candidates_are_ranked_among_as_many_as_there_are(chat, data, tmp_path, capsys):
    path = write_lines(tmp_path / "a.jsonl", [{"instruction": f"Say {word}.", "output": f"{word.title()}!"}
                                              for word in ("one", "two", "three", "four", "five")])
    evaluate(chat, "--data-dir", data, "--eval-data", path, "--out-dir", tmp_path)
    assert "There are 5 different instructions, so the true one is sought among 4" in capsys.readouterr().out
    write_lines(path, [{"instruction": "Say it.", "output": word} for word in ("one", "two")])
    with pytest.raises(ValueError, match="have the same instruction"):
        evaluate(chat, "--data-dir", data, "--eval-data", path, "--out-dir", tmp_path)


def test_what_overlaps_with_training_is_left_out_where_that_is_wished(chat, data, tmp_path, capsys):
    known = [json.loads(line) for line in (data.parent / "records.jsonl").read_text().splitlines()]
    new = [{"instruction": f"Name number {n}.", "output": f"Number {n}."} for n in range(12)]
    path = write_lines(tmp_path / "a.jsonl", [*known[:6], *new])
    evaluate(chat, "--data-dir", data, "--eval-data", path, "--out-dir", tmp_path)
    everything = found_in(tmp_path)
    evaluate(chat, "--data-dir", data, "--eval-data", path, "--out-dir", tmp_path, "--no-overlap")
    assert "and are kept." in (printed := capsys.readouterr().out) and "and are left out." in printed
    assert everything["models"][0]["found"]["pairs"] == 18 and everything["overlap"]["response"] > 0
    assert found_in(tmp_path)["models"][0]["found"]["pairs"] == 18 - everything["overlap"]["any"]
    with pytest.raises(ValueError, match="6 of 6 share .*: --no-overlap leaves 0.*--max-pairs.*--eval-data"):
        write_lines(path, [{**record, "input": ""} for record in known[:6]])
        evaluate(chat, "--data-dir", data, "--eval-data", path, "--out-dir", tmp_path, "--no-overlap")


@pytest.mark.parametrize("arguments, said", [
    (lambda bases, chat, data: [bases["reverse"], chat], "measured by other numbers"),
    (lambda bases, chat, data: [bases["reverse"], "--data-dir", data], "kind 'instruct', .* is of the kind 'base'"),
    (lambda bases, chat, data: [chat, "--data-dir", data_of(bases)], "kind 'base', .* is of the kind 'instruct'"),
    (lambda bases, chat, data: [bases["reverse"].parent], "Name the checkpoint in it"),
    (lambda bases, chat, data: [bases["reverse"], "--data-dir", "no/such/folder"], "No training shards in no/such"),
    (lambda bases, chat, data: [bases["reverse"], "--eval-data", "no/such.txt"], "no such file"),
    (lambda bases, chat, data: [chat, "--data-dir", data, "--judge", bases["forward"]], "'instruct' is needed here"),
    (lambda bases, chat, data: [chat, "--data-dir", data, "--forward", bases["reverse"]], "is a backward model")])
def test_what_does_not_go_together_is_refused_with_what_helps(bases, chat, data, tmp_path, arguments, said):
    with pytest.raises((ValueError, OSError), match=said):
        evaluate(*arguments(bases, chat, data), "--out-dir", tmp_path)


def test_a_forward_instruct_model_is_a_judge_and_no_backchat(bases, tmp_path):
    opened = checkpoint.open_model(bases["forward"], device="cpu")
    checkpoint.save(tmp_path / "judge.pt", opened.model, opened.tokenizer, {}, {}, kind="instruct")
    with pytest.raises(ValueError, match="writes responses, not instructions(.|\n)*--judge .*judge.pt"):
        evaluate(tmp_path / "judge.pt")


def test_a_model_that_may_know_the_texts_is_named(bases, tmp_path, capsys):
    shutil.copytree(data_of(bases), tmp_path / "data/other")
    manifest = tmp_path / "data/other/manifest.json"
    manifest.write_text(manifest.read_text().replace('"tiny"', '"else"'))
    evaluate(bases["reverse"], "--data-dir", tmp_path / "data/other", "--out-dir", tmp_path, "--num-samples", "0")
    assert "was not trained on the shards of" in capsys.readouterr().out


def test_without_a_split_it_says_what_helps_and_writes_nothing(bases, tmp_path, monkeypatch):
    shutil.copy(bases["reverse"], tmp_path / "alone.pt")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="No folder in data/ holds the shards that alone.pt was trained on"):
        evaluate("alone.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["alone.pt"]


@pytest.mark.parametrize("flag", ["--num-samples=-1", "--max-pairs=1", "--temperature=-1", "--best-of=65"])
def test_flags_that_make_no_sense_are_refused_before_anything_is_read(flag, capsys):
    with pytest.raises(SystemExit):
        evaluate("no/such.pt", flag)
    assert "must be at least" in (err := capsys.readouterr().err) or "does not fit" in err
