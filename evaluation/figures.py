"""
The pictures of a report as SVG, whose colours are those of the page: light or dark, as its reader has it.
"""

import io
import re
import warnings

from matplotlib import rc_context
from matplotlib.figure import Figure

from program.streams import visible

# Colours that matplotlib writes into an SVG, and what the page calls them.
INK, FAINT, SERIES = "#010203", "#040506", tuple(f"#0a0b0{number}" for number in range(6))
_OF_PAGE = {INK: "var(--ink)", FAINT: "var(--line)",
            **{color: f"var(--series-{number})" for number, color in enumerate(SERIES)}}
_STYLE = {"svg.fonttype": "none", "font.size": 10, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": FAINT,
          "xtick.color": FAINT, "ytick.color": FAINT, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
          "grid.color": FAINT, "axes.spines.top": False, "axes.spines.right": False, "legend.fontsize": 9.5}
_WIDTH = 5.2  # inches of 72 points: as wide as a telephone's screen shows them


def _svg(name, height, draw):
    """The SVG of what draw(axes) draws; name tells its parts from those of other pictures of the page."""
    with rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.subplots()
        axes.set_axisbelow(True)
        draw(axes)
        file = io.StringIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's own fonts draw it
            figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    svg = re.sub(r'\b(id="|url\(#|href="#)(?=[\w-])', rf"\1{name}-", svg[svg.index("<svg"):])
    svg = re.sub(r"<svg[^>]*>", lambda found: re.sub(r' (width|height)="[^"]*"', "", found[0]), svg, count=1)
    for color, of_page in _OF_PAGE.items():
        svg = svg.replace(color, of_page)
    return svg


def lines(name, series, xlabel, ylabel, doubling=False):
    """A picture of {name: [[(x, y), …], …]}, the lines of a name in one colour; doubling: x grows by factors."""
    def draw(axes):
        for color, (label, some) in zip(SERIES * len(series), series.items()):
            for number, points in enumerate(some):
                axes.plot(*zip(*points), color=color, marker="o" if len(points) < 40 else None, markersize=3.5,
                          linewidth=1.6, label=None if number else _short(label))
        if doubling:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.grid(linewidth=0.6)
        if len(series) > 1:
            axes.legend(frameon=False)

    return _svg(name, 3.1, draw)


def intervals(name, rows, xlabel, reference=None):
    """A picture of rows (label, {"value", "low", "high"}), one below the other; reference is where chance, or nothing,
    would be."""
    rows = [(label, value) for label, value in rows if value["value"] is not None]

    def draw(axes):
        for y, (label, found) in enumerate(rows):
            if found["low"] is not None:
                axes.plot([found["low"], found["high"]], [y, y], color=SERIES[0], linewidth=3, alpha=0.45,
                          solid_capstyle="round")
            axes.plot([found["value"]], [y], color=SERIES[0], marker="o", markersize=5)
        if reference is not None:
            axes.axvline(reference, color=SERIES[1], linewidth=1.2, linestyle=(0, (4, 3)))
        axes.set_yticks(range(len(rows)), [_short(label) for label, _ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel(xlabel)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", linewidth=0.6)

    return _svg(name, 0.75 + 0.27 * max(2, len(rows)), draw)


def bars(name, rows, xlabel):
    """A picture of rows (label, number) as bars."""
    def draw(axes):
        values = [value for _, value in rows]
        axes.barh(range(len(rows)), values, color=SERIES[0], height=0.62)
        for y, value in enumerate(values):
            axes.annotate(f"{value:.1f}" if max(values) >= 1 else f"{value:.2g}", (max(value, 0), y), (4, 0),
                          textcoords="offset points", va="center", fontsize=8.5, color=INK)
        axes.set_yticks(range(len(rows)), [_short(label) for label, _ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(right=max([*values, 0]) * 1.14 or 1)
        axes.set_xlabel(xlabel)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", linewidth=0.6)

    return _svg(name, 0.75 + 0.27 * max(2, len(rows)), draw)


def _short(label, most=30):
    """A label in one line that leaves room for the picture; $ would begin a formula."""
    label = visible(" ".join(label.split()))
    label = label if len(label) <= most else label[:most - 1] + "…"
    return label.replace("$", r"\$")
