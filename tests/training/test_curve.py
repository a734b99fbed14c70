"""What a learning curve promises: it shows what the rows hold, in units that can be compared, whatever their number."""

import json
import math

import pytest

from tests.support.runs import call
from training import curve
from training.curve import AGAINST, figure, plot_losses, read_rows, rows_of


def run_of(updates, bits_per_nat=0.4, start=9.0, seconds=3.6):
    """Rows like those of a run: one every ten updates, an evaluation every fifty."""
    rows = []
    for iter_num in range(0, updates + 1, 10):
        loss, where = 2 + (start - 2) * math.exp(-iter_num / 50), {"iter": iter_num, "tokens": 1000 * iter_num}
        if iter_num:
            rows.append({**where, "train_loss": loss, "learning_rate": 1e-3 / iter_num,
                         **({"seconds": seconds * iter_num} if seconds else {})})
        if iter_num % 50 == 0:
            val_loss = loss + 0.1
            rows.append({**where, "val_loss": val_loss, "bits_per_byte": bits_per_nat and val_loss * bits_per_nat})
    return rows


def written(folder, rows):
    """A folder with these rows."""
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def legend_of(axes):
    """What the legend says of which line, {text: line}."""
    legend = axes.get_legend()
    return dict(zip([text.get_text() for text in legend.get_texts()], legend.get_lines(), strict=True))


def drawn(axes):
    """The points of every line of more than one."""
    return [[*zip(*line.get_data())] for line in axes.get_lines() if len(line.get_xdata()) > 1]


def right_axis(axes):
    return next((child for child in axes.child_axes), None)


# ---- one run


def test_the_losses_and_the_rate_are_drawn_against_the_tokens():
    rows = run_of(200)
    loss, rate = figure({"a": rows}).axes
    assert drawn(loss) == [[(row["tokens"], row[name]) for row in rows if name in row]
                           for name in ("train_loss", "val_loss")]
    assert drawn(rate) == [[(row["tokens"], row["learning_rate"]) for row in rows if "learning_rate" in row]]
    assert rate.get_xlim() == loss.get_xlim() and rate.get_xlabel() == AGAINST["tokens"]


def test_the_lowest_validation_loss_is_told_and_ringed():
    rows = [{"iter": 10 * i, "tokens": i, "val_loss": loss} for i, loss in enumerate((3.0, 2.0, 1.25, 2.5))]
    [loss] = figure({"a": rows}).axes
    assert [*legend_of(loss)] == ["validation: lowest 1.250"]
    assert [tuple(line.get_xydata()[0]) for line in loss.get_lines() if len(line.get_xdata()) == 1] == [(2, 1.25)]


@pytest.mark.parametrize("bits_per_nat", [0.4, 1.7])
def test_the_right_axis_shows_the_bits_per_byte_of_the_rows(bits_per_nat):
    rows = run_of(200, bits_per_nat)
    picture = figure({"a": rows})
    picture.draw_without_rendering()
    loss = picture.axes[0]
    assert right_axis(loss).get_ylim() == pytest.approx([limit * bits_per_nat for limit in loss.get_ylim()])
    assert f"({rows[-1]['bits_per_byte']:.3f} bits per byte)" in [*legend_of(loss)][1]


def test_where_no_row_has_bits_per_byte_there_is_no_right_axis():
    assert right_axis(figure({"a": run_of(200, bits_per_nat=None)}).axes[0]) is None


def test_the_fall_at_the_beginning_of_a_long_run_does_not_spoil_the_frame():
    low, high = figure({"a": run_of(1000)}).axes[0].get_ylim()
    assert low < 2 < high < 4


def test_all_of_a_short_run_is_in_the_frame():
    for updates in (10, 50, 100):
        low, high = figure({"a": run_of(updates)}).axes[0].get_ylim()
        assert low < min(row["train_loss"] for row in run_of(updates) if "train_loss" in row) and high > 9.1


def test_a_single_row_is_a_dot():
    for axes in figure({"a": [row for row in run_of(10) if "train_loss" in row]}).axes:
        [line] = axes.get_lines()
        assert line.get_marker() not in ("None", None, "")


def test_a_loss_that_goes_up_again_is_in_the_frame():
    rows = run_of(1000) + [{"iter": 1010, "tokens": 1_010_000, "train_loss": 8.0}]
    assert figure({"a": rows}).axes[0].get_ylim()[1] > 8


def test_a_loss_that_is_not_finite_is_no_point():
    rows = run_of(200) + [{"iter": 210, "tokens": 210_000, "train_loss": loss} for loss in (math.nan, math.inf)]
    assert drawn(figure({"a": rows}).axes[0]) == drawn(figure({"a": rows[:-2]}).axes[0])


@pytest.mark.parametrize("first, last, label", [(0, 0, "0"), (0, 2_000_000, "2M"), (0, 4_000_000_000, "4B")])
def test_tokens_are_counted_in_millions_and_billions_and_never_in_parts(first, last, label):
    picture = figure({"a": [{"iter": 0, "tokens": tokens, "val_loss": 3.0} for tokens in (first, last)]})
    picture.draw_without_rendering()
    labels = [text.get_text() for text in picture.axes[-1].get_xticklabels()]
    assert label in labels and not any(text.endswith("m") for text in labels)


# ---- several runs


def test_each_run_has_a_colour_of_its_own_and_its_name_in_the_legend():
    runs = {f"_run {number}": run_of(200, start=number + 5) for number in range(12)}  # _ hides a label, as a rule
    loss, rate = figure(runs).axes
    legend = legend_of(loss)
    assert [text.partition(":")[0] for text in legend] == [*runs]
    colors = [str(line.get_color()) for line in legend.values()]
    assert len({*colors}) == 12 and [str(line.get_color()) for line in rate.get_lines()] == colors


def test_runs_with_tokens_of_one_length_are_drawn_in_nats_and_in_bits_per_byte():
    loss = figure({"a": run_of(100), "b": run_of(200)}).axes[0]
    assert "nats" in loss.get_ylabel() and right_axis(loss) is not None


def test_runs_with_tokens_of_unlike_length_are_compared_in_bits_per_byte():
    runs = {"a": run_of(200, 0.4), "b": run_of(200, 0.5)}
    loss = figure(runs).axes[0]
    assert "bits per byte" in loss.get_ylabel() and right_axis(loss) is None
    for (name, rows), points in zip(runs.items(), drawn(loss)[1::2], strict=True):
        assert [y for _, y in points] == pytest.approx([row["bits_per_byte"] for row in rows if "val_loss" in row])
        assert f"{name}: lowest {rows[-1]['bits_per_byte']:.3f}" in legend_of(loss)


def test_the_frame_holds_all_runs():
    runs = {name: [{"iter": i, "tokens": i, "val_loss": loss - i / 10} for i in range(3)]
            for name, loss in (("high", 7.0), ("low", 1.0))}
    for order in (runs, dict(reversed(runs.items()))):
        low, high = figure(order).axes[0].get_ylim()
        assert low < 0.8 and 7 < high


def test_a_run_of_which_no_bits_are_known_leaves_all_in_nats():
    loss = figure({"a": run_of(200, 0.4), "b": run_of(200, None)}).axes[0]
    assert "nats" in loss.get_ylabel() and right_axis(loss) is None


@pytest.mark.parametrize("against, per_update", [("tokens", 1000), ("updates", 1), ("hours", 3.6 / 3600)])
def test_the_x_axis_is_the_one_that_is_wanted(against, per_update):
    for axes in figure({"a": run_of(200), "b": run_of(200)}, against).axes:
        for points in drawn(axes):
            assert points[-1][0] == pytest.approx(200 * per_update)
    assert axes.get_xlabel() == AGAINST[against]


def test_evaluations_without_seconds_stand_between_the_rows_that_have_them():
    rows = run_of(200)
    assert not any("seconds" in row for row in rows if "val_loss" in row)
    val = drawn(figure({"a": rows}, "hours").axes[0])[1]
    assert [x for x, _ in val] == pytest.approx([row["iter"] * 3.6 / 3600 for row in rows if "val_loss" in row])


@pytest.mark.parametrize("begun_by_an_earlier_version", [0, 200])
def test_a_run_without_all_its_hours_is_named(begun_by_an_earlier_version):
    rows = run_of(200, seconds=None) + [
        {**row, "tokens": row["tokens"] + 200_000} for row in run_of(begun_by_an_earlier_version)[1:]]
    with pytest.raises(ValueError, match="^b cannot be drawn against hours.*--against tokens"):
        figure({"a": run_of(200), "b": rows}, "hours")


# ---- names and rows of strangers


def test_a_name_is_no_formula_and_its_controls_are_visible():
    name = "o$\\frac$ \x1b[31m \udc80"
    shown = "o$\\frac$ \u241b[31m \\udc80"
    picture = figure({name: run_of(200), "b": run_of(200)}, title=name)
    texts = [picture.axes[0].title, picture.axes[0].get_legend().get_texts()[0]]
    assert [text.get_text().partition(": lowest")[0] for text in texts] == [shown, shown]
    assert not any(text.get_parse_math() for text in texts)


@pytest.mark.parametrize("damage", [
    "", "[]", '{"iter": 5}', '{"iter": 5, "tokens": 5, "seconds": "9"}', '{"iter": 5, "tokens": 5, "val_loss": true}',
    '{"iter": 5, "tokens": 5, "learning_rate": {}}', '{"iter": 5, "tokens": 5, "train_loss": ' + "9" * 400 + "}"])
def test_a_damaged_row_is_none(tmp_path, damage):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"iter": 1, "tokens": 2}\n' + damage + '\n{"iter": 3, "tokens": 4}')
    assert [row for _, row in read_rows(path)] == [{"iter": 1, "tokens": 2}, None, None]
    assert "".join(line for line, _ in read_rows(path)) == path.read_text()


# ---- files


@pytest.mark.parametrize("rows", [[], run_of(0), run_of(10), run_of(300), [{"iter": 0, "tokens": 0}],
                                  [{"iter": 0, "tokens": 0, "val_loss": 0, "bits_per_byte": 0}]])
def test_the_curve_is_a_whole_picture_of_whatever_rows_there_are(tmp_path, rows, recwarn):
    folder = written(tmp_path / "a", rows)
    plot_losses(folder / "metrics.jsonl", folder / "loss.png", "o$\\frac$ \udc80 \n")
    picture = (folder / "loss.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n") and picture.endswith(b"IEND\xaeB`\x82")
    assert sorted(path.name for path in folder.iterdir()) == ["loss.png", "metrics.jsonl"]
    assert [str(warning.message) for warning in recwarn] == []


def test_the_command_draws_runs_and_says_where(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [written(tmp_path / name, run_of(100)) for name in "ab"]
    call(curve, *folders)
    assert capsys.readouterr().out == "Drawn in out/curves.png: a, b\n"
    assert (tmp_path / "out/curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_ending_of_the_output_says_what_it_is(tmp_path):
    folder = written(tmp_path / "a", run_of(100))
    call(curve, folder, "--output", tmp_path / "a.PDF", "--against", "updates")
    assert (tmp_path / "a.PDF").read_bytes().startswith(b"%PDF")
    with pytest.raises(ValueError, match="'jsonl' is not supported .supported formats: .*png"):
        call(curve, folder, "--output", folder / "metrics.jsonl")
    assert len(rows_of(folder)) == len(run_of(100))


def test_folders_of_one_name_are_told_apart(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / name).mkdir()
        written(tmp_path / name / "run", run_of(100))
    call(curve, "a/run", "b/run")
    assert capsys.readouterr().out.endswith(": a/run, b/run\n")


def test_a_folder_without_metrics_is_named_with_the_next_command(tmp_path):
    with pytest.raises(FileNotFoundError) as raised:
        call(curve, tmp_path)
    assert str(raised.value).startswith(f"There is no {tmp_path}/metrics.jsonl. ")
    assert str(raised.value).endswith(f"\n    python train_xcoax.py --out-dir {tmp_path}")


@pytest.mark.parametrize("rows", [[], [{"iter": 1}], [{"iter": 1, "tokens": 1, "val_loss": math.nan}]])
def test_a_run_without_a_usable_row_is_named(tmp_path, rows):
    folder = written(tmp_path / "a", rows)
    with pytest.raises(ValueError, match=f"^{folder}/metrics.jsonl has no usable row"):
        call(curve, folder)


def test_without_a_folder_the_command_says_what_it_needs():
    with pytest.raises(ValueError, match="Name the folders"):
        call(curve)
