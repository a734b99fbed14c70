"""A file of pairs becomes a set: what is kept of it, and in which form."""

import json
import math

import pytest

from backchat import training_set
from backchat.training_set import choose, write_set
from tests.support.runs import call
from tests.support.tiny import write_lines


def pair(instruction="Do it.", response="Done.", mean_log_prob=-1.0, pmi=5.0):
    return instruction, response, mean_log_prob, pmi


def record(instruction, output, mean_log_prob=-1.0, pmi=5.0, **more):
    return {"output": output, "instruction": instruction, "mean_log_prob": mean_log_prob, "pmi": pmi, **more}


@pytest.fixture
def pairs(tmp_path):
    return write_lines(tmp_path / "pairs.jsonl", [
        record("Say hello.", "Hello.", -0.5), {"output": "", "error": "the response is empty"},
        record("say  HELLO.", "Good day.", -0.4), record("Greet me.", "Hello.", -0.9), record("Count.", "1 2 3", -3.0),
        record("Sing.", "La la.", -2.0, pmi=0.1)])


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_best_share_is_kept_in_the_order_of_the_file():
    kept, counted = choose([pair(f"{i}", f"r{i}", -i) for i in (4, 1, 3, 2)], 0.5)
    assert kept == [1, 3] and (counted.kept, counted.low_share, counted.worst) == (2, 2, -2)


def test_a_share_of_one_keeps_all_and_a_small_one_the_best():
    pairs = [pair(f"{i}", f"r{i}", -i) for i in range(7)]
    assert choose(pairs, 1.0)[0] == list(range(7)) and choose(pairs, 0.01)[0] == [0]


def test_of_pairs_that_say_the_same_the_best_is_kept():
    kept, counted = choose([pair("Say it.", "A", -3), pair("say  IT.\n", "B", -1), pair("Other", " b", -2)], 1.0)
    assert kept == [1] and counted.same == 2


def test_an_instruction_is_not_the_same_as_an_equal_response():
    assert choose([pair("Yes", "No", -1), pair("No", "Yes", -2)], 1.0)[0] == [0, 1]


def test_nothing_is_left_of_nothing():
    assert choose([], 0.5)[0] == [] and math.isnan(choose([], 0.5)[1].worst)


def test_every_record_is_counted_once(pairs, tmp_path):
    counted = write_set(pairs, tmp_path / "set.jsonl", 0.5)
    assert counted == (6, 1, 1, 2, 2, -0.9)
    assert counted.records == sum(counted[1:5])


def test_the_set_is_in_the_form_that_trainers_read(pairs, tmp_path):
    write_set(pairs, tmp_path / "set.jsonl")
    assert read(tmp_path / "set.jsonl")[0] == {
        "messages": [{"role": "user", "content": "say  HELLO."}, {"role": "assistant", "content": "Good day."}],
        "mean_log_prob": -0.4, "pmi": 5.0}


def test_datasets_load_the_file_as_it_is(pairs, tmp_path):
    import datasets  # takes a second, which other tests need not wait for

    write_set(pairs, tmp_path / "set.jsonl")
    found = datasets.load_dataset("json", data_files=str(tmp_path / "set.jsonl"), cache_dir=str(tmp_path / "cache"))
    assert found["train"][0]["messages"][1] == {"role": "assistant", "content": "Good day."}


def test_an_instruction_that_was_written_beside_one_that_was_there_is_taken(tmp_path):
    path = write_lines(tmp_path / "pairs.jsonl", [{"instruction": "Old.", "output": "x", "new_instruction": "New.",
                                                   "mean_log_prob": -1.0, "pmi": 2.0}])
    write_set(path, tmp_path / "set.jsonl", 1.0)
    assert read(tmp_path / "set.jsonl")[0]["messages"][0]["content"] == "New."


def test_a_file_without_scores_says_how_to_score_it(tmp_path):
    path = write_lines(tmp_path / "pairs.jsonl", [{"instruction": "a", "output": "b"}])
    with pytest.raises(ValueError, match="--score"):
        write_set(path, tmp_path / "set.jsonl")
    assert not (tmp_path / "set.jsonl").exists()


def test_the_program_says_what_became_of_the_records(pairs, tmp_path, capsys):
    arguments = ["--input", pairs, "--output", tmp_path / "set.jsonl"]
    call(training_set, *arguments, "--share", "1")
    assert "6 records" in (said := capsys.readouterr().out) and "4 are in" in said
    with pytest.raises(FileExistsError, match="--overwrite"):
        call(training_set, *arguments)


def test_a_share_that_is_none_is_refused(pairs, tmp_path, capsys):
    with pytest.raises(SystemExit):
        call(training_set, "--input", pairs, "--output", tmp_path / "set.jsonl", "--share", "0")
    assert "share is 0" in capsys.readouterr().err
