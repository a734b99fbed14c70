"""What a file of pairs promises: every record in its place, and the same bytes however often the run was stopped."""

import json
import os
import resource
import shutil

import pyarrow
import pyarrow.parquet
import pytest

from backchat import pairs_file, records
from backchat.candidates import Score
from backchat.pair_lines import to_json
from backchat.pairs_file import count_records, write_pairs
from backchat.writing import Instructions
from program.files import locked_file
from sampling.controls import Controls
from tests.support.pairs import CONTROLS, PAIRS, RECORDS, TOKENIZER, convert, read_lines
from tests.support.tiny import write_lines


def test_every_record_stands_in_its_place_with_all_its_fields_and_an_instruction_or_an_error(unbroken):
    found = read_lines(unbroken[1])
    assert [list(line.items())[: len(record)] for line, record in zip(found, RECORDS, strict=True)] == [
        list(record.items()) for record in RECORDS]
    for line in found:
        if "error" not in line:
            assert set(line) - {"id", "output", "meta"} == {"instruction", "mean_log_prob", "pmi"}
            assert line["instruction"].strip() and line["mean_log_prob"] < 0


def test_a_run_cut_at_any_byte_goes_on_to_the_same_file(model, tmp_path, unbroken):
    source, data = unbroken[0], unbroken[1].read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == 10]
    cuts = {0, 1, 9, ends[0] - 1, ends[0], ends[7], ends[7] + 1, ends[9], ends[16] - 1, ends[20] + 40,
            len(data) - 1, len(data)}
    for cut in sorted(cuts):
        target = tmp_path / "cut.jsonl"
        target.write_bytes(data[:cut])
        shutil.copy(f"{unbroken[1]}.settings.json", f"{target}.settings.json")
        _, errors, kept, _ = convert(model, source, target)
        assert target.read_bytes() == data
        assert (errors, kept) == (4, sum(end <= cut for end in ends))


def test_reading_is_never_more_than_a_window_ahead_of_writing(model, tmp_path, monkeypatch, small_windows):
    target, ahead = tmp_path / "out.jsonl", []

    def endless(_):
        for number in range(200):
            ahead.append(number - (target.read_bytes().count(b"\n") if target.exists() else 0))
            yield "", {"output": "The cat is sleeping."}

    monkeypatch.setattr(records, "read_file", endless)
    convert(model, write_lines(tmp_path / "in.jsonl", []), target, Controls(tokens=2, seed=1))
    assert len(ahead) > 200 and max(ahead) < 8


@pytest.mark.parametrize("change", [
    "first", "last", "fewer", "more fields", "a text", "a line without end", "copy"])
def test_an_output_of_another_input_is_refused_and_left_as_it_is(model, tmp_path, unbroken, change):
    source, target = unbroken
    other = [dict(record) for record in RECORDS]
    if change in ("first", "last"):
        other[0 if change == "first" else -1]["id"] = 99
    elif change == "fewer":
        del other[-1]
    elif change == "more fields":
        other = [{**record, "instruction": "?"} for record in other]
    elif change == "copy":
        target.write_bytes(source.read_bytes())
    else:
        target.write_text("Dear diary," + ("\n" if change == "a text" else ""))
    before = target.read_bytes()
    refusal = r"out\.jsonl is there already and was not made from .*in\.jsonl.*Name another --output"
    with pytest.raises(ValueError, match=refusal):
        convert(model, write_lines(source, other), target)
    assert target.read_bytes() == before


def test_the_input_itself_is_no_output(model, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", RECORDS)
    with pytest.raises(ValueError, match="both"):
        convert(model, source, source)
    assert read_lines(source) == RECORDS


def test_a_full_disk_is_reported_and_nothing_is_lost(model, tmp_path, unbroken):
    target, (soft, hard) = tmp_path / "out.jsonl", resource.getrlimit(resource.RLIMIT_FSIZE)
    size = unbroken[1].stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))  # a write beyond it fails as on a full disk
    try:
        with pytest.raises(OSError, match=r"could not write .*out\.jsonl .*; make room") as full:
            convert(model, unbroken[0], target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert target.stat().st_size <= size // 2
    whole = target.read_bytes().count(b"\n")
    assert f"Its first {whole} records are whole" in str(full.value)
    convert(model, unbroken[0], target)
    assert target.read_bytes() == unbroken[1].read_bytes()


def test_a_name_that_is_taken_gets_new_before_it(model, tmp_path):
    record = {"instruction": "mine", "pmi": "mine", "output": "The cat is sleeping."}
    convert(model, write_lines(tmp_path / "in.jsonl", [record]), tmp_path / "out.jsonl")
    [line] = read_lines(tmp_path / "out.jsonl")
    assert list(line) == ["instruction", "pmi", "output", "new_instruction", "mean_log_prob", "new_pmi"]
    assert line["instruction"] == line["pmi"] == "mine"


@pytest.mark.parametrize("kind", ["json", "txt", "parquet"])
def test_other_kinds_of_files_give_the_same_instructions(model, tmp_path, kind):
    lines = [a for a, _ in PAIRS[:10]]
    path = tmp_path / f"in.{kind}"
    if kind == "txt":
        path.write_text("\n".join(lines))
    elif kind == "json":
        path.write_text(json.dumps([{"text": line} for line in lines]))
    else:
        rows = [{"text": line, "bytes": b"\xff"} for line in lines]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    plain = write_lines(tmp_path / "plain.jsonl", [{"text": line} for line in lines])
    convert(model, plain, tmp_path / "expected.jsonl")
    convert(model, path, tmp_path / "out.jsonl")
    assert [line["instruction"] for line in read_lines(tmp_path / "out.jsonl")] == [
        line["instruction"] for line in read_lines(tmp_path / "expected.jsonl")]


def test_broken_json_is_named_by_file_and_line_and_what_came_before_is_kept(model, tmp_path, small_windows):
    source = write_lines(tmp_path / "in.jsonl", RECORDS)
    source.write_text(source.read_text().replace('{"id": 18', '{id: 18'))
    with pytest.raises(ValueError, match=r"in\.jsonl, line 19: not valid JSON"):
        convert(model, source, tmp_path / "out.jsonl")
    assert [line["id"] for line in read_lines(tmp_path / "out.jsonl")] == list(range(16))


def test_two_runs_never_write_to_one_output(model, tmp_path, unbroken):
    before = unbroken[1].read_bytes()
    with locked_file(unbroken[1]), pytest.raises(OSError, match=r"out\.jsonl is being written by another run"):
        convert(model, *unbroken)
    assert unbroken[1].read_bytes() == before and convert(model, *unbroken).kept == 30


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_no_finite_numbers_become_an_error_and_never_reach_the_file(model, tmp_path, monkeypatch, bad):
    monkeypatch.setattr("backchat.candidates.scores",
                        lambda model, tokenizer, pairs: [Score(bad, -1.0, 3) for _ in pairs])
    record = {"output": "The cat is sleeping.", "instruction": "What?", "width": bad, "more": [bad, {"deep": (bad,)}]}
    target = tmp_path / "out.jsonl"
    assert convert(model, write_lines(tmp_path / "in.jsonl", [record]), target)[:2] == (1, 1)

    def refuse(constant):
        raise AssertionError(constant)

    line = json.loads(target.read_text(), parse_constant=refuse)
    assert line["error"] == "the model's scores of it are no finite numbers" and "pmi" not in line
    assert line["width"] == str(bad) and line["more"] == [str(bad), {"deep": [str(bad)]}]
    assert to_json({"x": bad}) == b'{"x": "%s"}' % str(bad).encode()


def test_the_bar_counts_what_is_on_disk_and_never_more(model, tmp_path, monkeypatch, small_windows, capsys):
    target, shown = tmp_path / "out.jsonl", []

    class Bar(pairs_file.tqdm):
        def display(self, *args, **options):
            shown.append((self.n, target.read_bytes().count(b"\n"), self.postfix))

    monkeypatch.setattr(pairs_file, "tqdm", Bar)
    work = Instructions(model, TOKENIZER, CONTROLS)
    write_pairs(work, write_lines(tmp_path / "in.jsonl", RECORDS), target, work.settings, progress=True)
    assert all(counted <= there for counted, there, _ in shown) and shown[-1][0] == 30
    assert {"8 of 8 in work", "6 of 6 in work"} <= {postfix for _, _, postfix in shown}


def test_an_input_that_can_be_read_but_once_is_refused_before_it_is_opened(model, tmp_path):
    os.mkfifo(tmp_path / "in.jsonl")
    with pytest.raises(ValueError, match=r"in\.jsonl is no file"):
        convert(model, tmp_path / "in.jsonl", tmp_path / "out.jsonl")


def test_records_are_counted_a_little_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(pairs_file, "_COUNTED_BYTES", 4)
    path = tmp_path / "x.jsonl"
    for data, count in ((b"", 0), (b"\n", 0), (b"a", 1), (b"a\n", 1), (b"a\n\n  \n      \nb" * 2, 3),
                        (b"12345678\n1234\n     5\n", 3)):
        path.write_bytes(data)
        assert count_records(path) == count
