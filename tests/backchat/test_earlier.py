"""What a run may go on with: never with lines of another model or other settings, and errors are done again."""

import json
import shutil

import pytest

from backchat.pairs_file import write_pairs
from backchat.writing import Instructions, Scores
from sampling.controls import Controls
from tests.support.pairs import CONTROLS, PAIRS, TOKENIZER, convert, read_lines
from tests.support.tiny import write_lines

BODIES = [{"id": i, ("body" if i % 3 else "words"): PAIRS[i % 24][0], "instruction": "mine", "pmi": float("nan")}
          for i in range(30)]  # what is added to these must go by other names


@pytest.fixture
def source(tmp_path, small_windows):
    return write_lines(tmp_path / "in.jsonl", BODIES)


def beside(target):
    """What the names of the files that belong to an output end with."""
    return {path.name.removeprefix(target.name) for path in target.parent.glob(f"{target.name}*")}


def test_after_a_wrong_field_the_right_one_gives_the_file_that_it_would_have_given_at_once(model, source, tmp_path):
    wrong, right, told = tmp_path / "wrong.jsonl", tmp_path / "right.jsonl", []
    found = convert(model, source, wrong, response_field="boddy")
    assert found[:3] == (30, 30, 0) and found.fault.startswith("this record: expected text in the field 'boddy'")
    assert convert(model, source, wrong, response_field="body", tell=told.append)[:3] == (30, 10, 0)
    assert convert(model, source, right, response_field="body")[:3] == (30, 10, 0)
    assert wrong.read_bytes() == right.read_bytes() and beside(wrong) == {"", ".settings.json"}
    [message] = told
    assert 'response_field was "boddy", is "body"' in message and "Records with an error are done again" in message


def test_with_another_field_what_is_good_is_kept_and_errors_are_done_again(model, source, tmp_path):
    target = tmp_path / "out.jsonl"
    convert(model, source, target, response_field="body")
    before = target.read_bytes().splitlines()
    assert convert(model, source, target, response_field="words")[:3] == (30, 0, 20)
    for number, (line, earlier) in enumerate(zip(target.read_bytes().splitlines(), before, strict=True)):
        assert (line == earlier) == (number % 3 > 0) and b'"new_instruction": ' in line


def test_what_had_no_room_is_done_again_with_fewer_tokens(model, tmp_path):
    source, target, told = tmp_path / "in.jsonl", tmp_path / "out.jsonl", []
    long = next(PAIRS[0][0] * n for n in range(40) if len(TOKENIZER.encode_text(PAIRS[0][0] * n)) > 65)
    write_lines(source, [{"output": PAIRS[0][0]}, {"output": long}])
    assert convert(model, source, target, Controls(tokens=40, seed=1))[:3] == (2, 1, 0)
    first, failed = read_lines(target)
    assert convert(model, source, target, Controls(tokens=5, seed=1), tell=told.append)[:3] == (2, 0, 1)
    assert read_lines(target)[0] == first and "error" in failed and "instruction" in read_lines(target)[1]
    [message] = told
    assert "tokens was 40, is 5. Records with an error are done again, the others kept." in message


def test_a_run_that_does_errors_again_ends_with_the_same_bytes_wherever_it_was_stopped(model, source, tmp_path):
    target, whole = tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    for path in (target, whole):
        convert(model, source, path, response_field="body")
    convert(model, source, whole, response_field="words")
    begun = {name: (tmp_path / f"out.jsonl{name}").read_bytes() for name in beside(target)}

    class Stopped(Instructions):
        def __call__(self, window, advance):
            if window and window[-1][0] >= self.stop:
                raise KeyboardInterrupt
            return super().__call__(window, advance)

    work = Stopped(model, TOKENIZER, CONTROLS, "words")
    for work.stop in (0, 8, 24):
        for name, data in begun.items():
            (tmp_path / f"out.jsonl{name}").write_bytes(data)
        with pytest.raises(KeyboardInterrupt):
            write_pairs(work, source, target, work.settings, progress=False)
        written, aside = target.read_bytes(), (tmp_path / "out.jsonl.earlier").read_bytes()
        for cut in {0, 1, len(written) // 2, len(written)}:
            target.write_bytes(written[:cut])
            (tmp_path / "out.jsonl.earlier").write_bytes(aside)
            assert convert(model, source, target, response_field="words")[:2] == (30, 0)
            assert target.read_bytes() == whole.read_bytes() and beside(target) == {"", ".settings.json"}


@pytest.mark.parametrize("when", ["nothing was deleted", "the settings are still those from before"])
def test_a_kill_while_lines_are_put_aside_loses_none(model, source, tmp_path, when):
    target, whole = tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    for path in (target, whole):
        convert(model, source, path, response_field="body")
    convert(model, source, whole, response_field="words")
    (shutil.copy if when == "nothing was deleted" else shutil.move)(target, tmp_path / "out.jsonl.earlier")
    assert convert(model, source, target, response_field="words")[:3] == (30, 0, 20)
    assert target.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("change, named", [
    ({"seed": 2}, "seed was 1, is 2"), ({"temperature": 1.0}, "temperature was 0.8, is 1.0"),
    ({"num_samples": 4}, "num_samples was 3, is 4"), ("model", 'model was "a", is "b"'),
    ("scores", 'adds was "instruction", is "scores"')])
def test_another_model_or_other_settings_are_refused_by_name_and_nothing_is_touched(
        model, unbroken, change, named):
    source, target = unbroken
    work = Scores(model, TOKENIZER) if change == "scores" else Instructions(
        model, TOKENIZER, Controls(**{**vars(CONTROLS), **(change if change != "model" else {})}))
    if change == "model":
        settings = json.loads((target.parent / "out.jsonl.settings.json").read_bytes())
        (target.parent / "out.jsonl.settings.json").write_text(json.dumps({"model": "a", **settings}))
    before = {path: path.read_bytes() for path in target.parent.iterdir()}
    with pytest.raises(ValueError, match=r"out\.jsonl is there already and was made with other settings: .*"
                       rf"{named}.*Name another --output, or begin anew with --overwrite"):
        write_pairs(work, source, target, {"model": "b", **work.settings} if change == "model" else work.settings,
                    progress=False)
    assert {path: path.read_bytes() for path in target.parent.iterdir()} == before


def test_overwrite_begins_anew(model, unbroken, tmp_path):
    source, target = unbroken
    (target.parent / "out.jsonl.earlier").write_text("left by a run that was stopped\n")
    other = Controls(tokens=20, seed=2, num_samples=1)
    convert(model, source, tmp_path / "fresh.jsonl", other)
    assert convert(model, source, target, other, overwrite=True)[:3] == (30, 4, 0)
    assert target.read_bytes() == (tmp_path / "fresh.jsonl").read_bytes()
    assert beside(target) == {"", ".settings.json"}
    assert convert(model, source, target, other).kept == 30


@pytest.mark.parametrize("content", ["a year of work\n", "a year of work"])
def test_only_what_a_run_has_written_is_written_on_or_thrown_away(model, source, tmp_path, content):
    target = tmp_path / "mine.jsonl"
    target.write_text(content)
    for overwrite, said in ((False, "is missing or damaged"), (True, "was not made by this program")):
        with pytest.raises(ValueError, match=rf"mine\.jsonl is there already.*{said}.*or delete it yourself"):
            convert(model, source, target, overwrite=overwrite)
    assert target.read_text() == content and beside(target) == {""}


def test_where_there_are_only_errors_anything_may_change(model, source, tmp_path):
    target = tmp_path / "out.jsonl"
    convert(model, source, target, response_field="boddy")
    other = Controls(tokens=20, seed=2, num_samples=1)
    assert convert(model, source, target, other, response_field="body")[:3] == (30, 10, 0)
    convert(model, source, tmp_path / "fresh.jsonl", other, response_field="body")
    assert target.read_bytes() == (tmp_path / "fresh.jsonl").read_bytes()


@pytest.mark.parametrize("damage", ["missing", "", "{", "[1]", "null", '{"adds": "instruction"}', "\xff"])
def test_without_its_settings_an_output_is_refused(model, unbroken, damage):
    source, target = unbroken
    path, before = target.parent / "out.jsonl.settings.json", target.read_bytes()
    path.unlink() if damage == "missing" else path.write_text(damage, encoding="latin-1")
    with pytest.raises(ValueError, match=r"out\.jsonl is there already, and .*settings\.json.* is missing or damaged|"
                       "other settings: temperature was null, is 0.8"):
        convert(model, source, target)
    assert target.read_bytes() == before


def test_more_records_at_the_end_of_the_input_are_worked_on(model, unbroken):
    source, target = unbroken
    before = target.read_bytes()
    with open(source, "a") as file:
        file.write('{"id": 30, "output": "The cat is sleeping."}\n')
    assert convert(model, source, target)[:3] == (31, 4, 30)
    assert target.read_bytes().startswith(before) and read_lines(target)[-1]["instruction"]
