"""The report: one file that needs nothing else, in the colours of the page, in which no text becomes markup."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from evaluation import figures
from evaluation.table import Block, number


@pytest.fixture(scope="module")
def pictures():
    value = {"value": 0.5, "low": 0.4, "high": 0.6}
    return [figures.lines("a", {"one <b>": [[(1, 2), (2, 3)]], "two": [[(1, 1), (2, 1)]]}, "x", "y", doubling=True),
            figures.intervals("b", [("first", value), ("$x_1$ & " * 9, {**value, "low": None})], "x", 0.1),
            figures.bars("c", [("word", 3.2), ("<i>\0\x0f\n船", 0.0)], "bits")]


def test_a_picture_takes_its_colours_from_the_page_and_its_width_from_the_screen(pictures):
    for svg in pictures:
        root = ElementTree.fromstring(svg)
        assert root.get("viewBox") and not root.get("width") and not root.get("height")
        assert "var(--ink)" in svg and "var(--series-0)" in svg and not re.search("#0[0-9a]0[0-9a-f]{3}", svg)
        assert "DOCTYPE" not in svg and "<b>" not in svg


def test_parts_of_different_pictures_have_different_names_that_their_references_know(pictures):
    names = [re.findall(r'\bid="([^"]+)"', svg) for svg in pictures]
    assert len({name for found in names for name in found}) == sum(map(len, names))
    for svg, found in zip(pictures, names):
        assert {*re.findall(r'(?:url\(#|href="#)([^)"]+)', svg)} <= {*found}


def test_the_lines_of_a_name_have_one_colour_and_stand_in_the_legend_once():
    svg = figures.lines("a", {"here": [[(1, 2), (2, 3)], [(1, 1), (2, 1)]], "there": [[(1, 3), (2, 2)]]}, "x", "y")
    assert svg.count(">here<") == svg.count(">there<") == 1
    paths = [part.split("/>")[0] for part in svg.split("<path ")[1:]]
    assert [sum(f"fill: none; stroke: var(--series-{n})" in path for path in paths) for n in range(3)] == [3, 2, 0]


def test_many_models_beside_few_figures_stand_below_one_another():
    wide = Block("Held-out", ["a", "b", "c", "d"], [("bits", ["1", "2", "3", "4"]), ("tokens", ["5", "6", "7", "8"])])
    assert wide.upright() == Block("Held-out", ["bits", "tokens"], [
        ("a", ["1", "5"]), ("b", ["2", "6"]), ("c", ["3", "7"]), ("d", ["4", "8"])])
    for kept in (wide.upright(), Block("Two", ["a", "b"], [("bits", ["1", "2"])])):
        assert kept.upright() == kept


def test_the_same_figures_give_the_same_picture(pictures):
    assert figures.bars("c", [("word", 3.2), ("<i>\0\x0f\n船", 0.0)], "bits") == pictures[2]


def test_a_figure_is_shown_with_its_interval_and_what_is_not_there_as_a_dash():
    assert number({"value": 0.5, "low": 0.25, "high": 0.75}) == "0.500 [0.250, 0.750]"
    assert number({"value": 0.5, "low": None, "high": None}, ".1f") == "0.5"
    assert number(None) == number({"value": None, "low": None, "high": None}) == "–"
