"""
The learning curve of runs: what a row of metrics.jsonl holds, and how rows become a picture.

    python -m training.curve out/small out/small_forward
    python -m training.curve out/small out/other --against hours --output curves.pdf

Draws several runs beside each other, as a run in training draws itself in loss.png. Pale lines are the training loss,
those with dots the validation loss, with a ring where it is lowest; below them is the learning rate. Reads the
metrics.jsonl of each folder, writes out/curves.png.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from program import commands
from program.files import atomic_write
from program.settings import launch, parse
from program.streams import say, visible

COUNTS = ("iter", "tokens")  # that every row has
NUMBERS = ("train_loss", "val_loss", "bits_per_byte", "learning_rate", "seconds")  # that a row may have
AGAINST = {"tokens": "tokens trained on", "updates": "updates", "hours": "hours of training"}
BEGINNING, ENOUGH = 0.1, 20  # where the loss falls from ln(vocab_size), as a share of a run; losses that must be left


@dataclass
class CurveSettings:
    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs, such as out/small, each with its metrics.jsonl."""
    output: Path = Path("out/curves.png")
    """The picture; its ending may be another that matplotlib knows, such as .pdf or .svg."""
    against: Literal["tokens", "updates", "hours"] = "tokens"
    """What stands on the x axis; hours are those of training, without evaluating and saving."""


# ---- the rows of metrics.jsonl


def read_rows(path):
    """Pairs (line, row) of a metrics.jsonl; the row is None where the line is none, such as one cut short by a kill."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            row = json.loads(line)
            whole = line.endswith("\n") and all(type(row[name]) is int and 0 <= row[name] < 2**63 for name in COUNTS)
            whole = whole and all(row.get(name) is None or _is_number(row[name]) for name in NUMBERS)
        except (ValueError, KeyError, TypeError, RecursionError):
            whole = False
        yield line, row if whole else None


def _is_number(value):
    return type(value) is float or type(value) is int and abs(value) < 2**63


def rows_of(folder):
    """The rows of a run. Raises FileNotFoundError or ValueError where there is nothing to draw, with what to run."""
    path = folder / "metrics.jsonl"
    command = commands.train(out_dir=folder)
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}. A run writes it:\n    {command}")
    rows = [row for _, row in read_rows(path) if row is not None]
    if not any(_points(rows, rows, name) for name in ("train_loss", "val_loss")):
        raise ValueError(f"{path} has no usable row: none holds a finite loss. Let the run get further:\n    {command}")
    return rows


def bits_per_nat(rows):
    """What makes bits per byte of nats per token, as the last evaluation has it; None where none has."""
    for row in reversed(rows):
        nats, bits = row.get("val_loss"), row.get("bits_per_byte")
        if nats and bits and 0 < bits / nats < math.inf:
            return bits / nats
    return None


# ---- the picture


def figure(runs, against="tokens", title=""):
    """A matplotlib figure of runs, {name: rows}: the loss in its first axes, the rate in its second, if there is any.

    The loss is in nats per token, and in bits per byte on the right. Runs whose tokens are not equally long cannot be
    compared in nats; they are drawn in bits per byte. Raises ValueError where a run has not the hours that are wanted.
    """
    from matplotlib.figure import Figure  # pyplot would look for a screen, and keep what it draws

    factors = [bits_per_nat(rows) for rows in runs.values()]
    known = None not in factors
    alike = known and np.allclose(factors, factors[:1], rtol=1e-6, atol=0)
    in_bits = known and not alike
    rated = any(row.get("learning_rate") is not None for rows in runs.values() for row in rows)
    drawing = Figure(figsize=(8, 5.5 if rated else 4.5), layout="constrained")
    panels = drawing.subplots(2 if rated else 1, sharex=True, squeeze=False,
                              height_ratios=(4, 1) if rated else None)[:, 0]
    lines, shown = {}, []  # {what the legend says: line}, and the losses that must lie within the frame
    for (name, rows), factor, color in zip(runs.items(), factors, _colors(len(runs))):
        xs = _along(name, rows, against)
        train, val = (_points(rows, xs, field, factor if in_bits else 1) for field in ("train_loss", "val_loss"))
        shown += _after_the_fall(train + val)
        for axes in panels[1:]:
            _plot(axes, _points(rows, xs, "learning_rate"), color=color, linewidth=1.2, alpha=0.7)
        *others, (what, line) = _draw_losses(panels[0], train, val, color) or [("", None)]
        if line:
            lines |= {} if len(runs) > 1 else dict(others)
            lines[(name if len(runs) > 1 else what) + _lowest(val, factor if alike else None)] = line

    _frame(panels, shown, "loss (bits per byte)" if in_bits else "loss (nats per token)", against)
    if factors and alike:
        panels[0].secondary_yaxis("right", functions=(lambda nats: nats * factors[0], lambda bits: bits / factors[0])
                                  ).set_ylabel("bits per byte")
    if lines:
        legend = panels[0].legend([*lines.values()], [*map(visible, lines)], loc="upper right", frameon=False,
                                  title="dots: validation, pale: training" if len(runs) > 1 else None)
        for text in legend.get_texts():
            text.set_parse_math(False)  # a folder's name is no formula
    panels[0].set_title(visible(title), parse_math=False)
    return drawing


def _draw_losses(axes, train, val, color):
    """Draw points of both losses, with a ring around the lowest; return pairs (name, line) of those that there are."""
    lines = []
    if train:
        lines.append(("training", _plot(axes, train, color=color, linewidth=0.8, alpha=0.35, zorder=2)))
    if val:
        lines.append(("validation", _plot(axes, val, color=color, linewidth=1.4, marker="o", markersize=3, zorder=3)))
        x, loss = min(val, key=lambda point: point[1])
        axes.plot([x], [loss], color=color, marker="o", markersize=9, fillstyle="none", zorder=3)
    return lines


def _lowest(val, factor):
    """What the legend says of the lowest loss; factor, if given, is that of bits per byte."""
    if not val:
        return ""
    loss = min(loss for _, loss in val)
    return f": lowest {loss:.3f}" + (f" ({loss * factor:.3f} bits per byte)" if factor else "")


def _plot(axes, points, **style):
    """A line through points; a single one, through which there is none, becomes a dot."""
    if len(points) == 1:
        style.setdefault("marker", ".")
    [line] = axes.plot([x for x, _ in points], [y for _, y in points], **style)
    return line


def _colors(count):
    from matplotlib import color_sequences, colormaps
    told_apart = color_sequences["petroff10"]  # also by the colour-blind
    return told_apart[:count] if count <= len(told_apart) else colormaps["turbo"](np.linspace(0, 1, count))


def _along(name, rows, against):
    """Where each row stands on the x axis. Evaluations that have no seconds stand between the rows that have them."""
    if against != "hours":
        return [row["iter" if against == "updates" else "tokens"] for row in rows]
    timed = [(row["tokens"], row["seconds"]) for row in rows if row.get("seconds") is not None]
    if not timed or any(row.get("seconds") is None and row.get("train_loss") is not None for row in rows):
        raise ValueError(f"{name} cannot be drawn against hours: its metrics.jsonl has rows without `seconds`, from an "
                         "earlier version of this program. Take --against tokens or --against updates.")
    return np.interp([row["tokens"] for row in rows], *zip((0, 0.0), *timed)) / 3600


def _points(rows, xs, field, factor=1):
    """Pairs (x, value) of the rows that have a finite value in this field."""
    return [(x, row[field] * factor) for x, row in zip(xs, rows)
            if row.get(field) is not None and math.isfinite(row[field])]


def _after_the_fall(points):
    """The losses that the picture must show: where a run is long enough, not those of its beginning."""
    xs = [x for x, _ in points]
    late = [loss for x, loss in points if x >= min(xs) + BEGINNING * (max(xs) - min(xs))]
    return late if len(late) >= ENOUGH else [loss for _, loss in points]


def _frame(panels, shown, label, against):
    """Limits, labels and grid; shown are the losses that must lie within."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    if shown and (room := 0.06 * (max(shown) - min(shown))):
        panels[0].set_ylim(min(shown) - room, max(shown) + room)
    panels[0].set_ylabel(label)
    for axes in panels:
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[1:]:
        axes.set_ylabel("learning rate")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.yaxis.set_major_formatter("{x:g}")
    panels[-1].set_xlabel(AGAINST[against])
    if against != "hours":
        if panels[-1].get_xlim()[1] < 1:
            panels[-1].set_xlim(-0.5, 1.5)  # nothing but the beginning is there yet
        ticks = EngFormatter(sep="")
        ticks.ENG_PREFIXES = {**ticks.ENG_PREFIXES, 9: "B"}  # a billion tokens, as is custom
        panels[-1].xaxis.set_major_formatter(ticks)
        panels[-1].xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 2.5, 5, 10]))


def _write(drawing, path):
    with atomic_write(path) as file:
        drawing.savefig(file, format=path.suffix[1:].lower() or "png", dpi=150)


def plot_losses(metrics, picture, title):
    """Draw a metrics.jsonl, whatever rows it has, as a picture with this title."""
    rows = [row for _, row in read_rows(metrics) if row is not None]
    _write(figure({title: rows}, title=title), picture)


def main():
    settings = parse(CurveSettings, __doc__)
    if not settings.folders:
        raise ValueError("Name the folders of runs to draw:\n    python -m training.curve out/small")
    names = [folder.resolve().name for folder in settings.folders]
    if len({*names}) < len(names):
        names = map(str, settings.folders)
    runs = {name: rows_of(folder) for name, folder in zip(names, settings.folders)}
    _write(figure(runs, settings.against, title=next(iter(runs)) if len(runs) == 1 else ""), settings.output)
    say(f"Drawn in {settings.output}: {', '.join(runs)}")


if __name__ == "__main__":
    launch(main)
