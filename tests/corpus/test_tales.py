"""
What the embedded corpus promises to everything that is trained on it.

Seeds 1, 2 and 7 were checked to 100,000 stories each; here one seed is, since it takes seconds.
"""

import doctest
import re
import shlex
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from corpus import tales
from corpus.tales import kinds, notation
from corpus.tales.kinds import kind_of
from corpus.tales.notation import Reference
from corpus.tales.plots import plots, questions
from corpus.text_files import DIVIDER

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-m", "corpus.tales"]


@pytest.fixture(scope="module")
def told():
    return [tales.tale(1, index) for index in range(10_000)]


@pytest.fixture(scope="module")
def asked():
    return list(islice(tales.pairs(1), 20_000))


def wordings(node) -> int:
    """Count the texts that a template can become, not counting what is drawn into it."""
    if isinstance(node, tuple) and not isinstance(node, Reference):
        return sum(map(wordings, node))
    if isinstance(node, list):
        total = 1
        for part in node:
            total *= wordings(part)
        return total
    return 1


def references(node):
    if isinstance(node, Reference):
        yield node.fact
    elif isinstance(node, (list, tuple)):
        for part in node:
            yield from references(part)


def test_the_same_seed_gives_the_same_stories():
    assert list(islice(tales.stories(5), 50)) == [tales.story(5, index) for index in range(50)]


def test_a_story_is_the_same_in_another_process():
    command = [sys.executable, "-c", "from corpus import tales; print(tales.story(3, 77), end='')"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == tales.story(3, 77)


def test_another_seed_gives_other_stories():
    assert not {tales.story(1, i) for i in range(500)} & {tales.story(2, i) for i in range(500)}


def test_no_story_comes_twice_among_the_first_fifty_thousand():
    assert len({hash(text) for text in islice(tales.stories(2), 50_000)}) == 50_000


def test_ten_thousand_stories_hold_more_than_two_thousand_words(told):
    assert len({word for tale in told for word in re.findall(r"[a-z]+", tale.text.lower())}) > 2_000


def test_at_least_forty_plots_are_told(told):
    assert len({tale.plot.name for tale in told}) >= 40


def test_every_story_has_two_to_five_paragraphs(told):
    assert {2 <= tale.text.count("\n\n") + 1 <= 5 for tale in told} == {True}


def test_stories_are_neither_fragments_nor_novels(told):
    lengths = sorted(len(tale.text.split()) for tale in told)
    assert lengths[0] >= 60 and lengths[-1] <= 250 and 100 <= sum(lengths) / len(lengths) <= 200


def test_every_paragraph_closes_its_quotation_marks(told):
    odd = [p for tale in told for p in tale.text.split("\n\n") if p.count('"') % 2]
    assert odd == []


@pytest.mark.parametrize("flaw", [
    r"[{}\[\]|_]", r"  ", r" [.,!?;:](?! ?\.\.|\.)", r"(?<!\.)[.,!?;]{2}(?!\.)",
    r"\b[Aa] [aei]", r"\b[Aa]n [^aeiouhAEIOUH]", r"(?m)^[ \t]|[ \t]$|\n\Z", r"(?m)^[a-z]",
    r"[.!?] [a-z]", r'[a-z]" [A-Z]', r"\b(\w+) \1\b(?<!that that)(?<!had had)(?<!hoo, hoo)",
])
def test_no_text_shows_the_marks_of_its_making(flaw, told, asked):
    texts = [tale.text for tale in told] + [pair[part] for pair in asked for part in ("instruction", "output")]
    assert [text for text in texts if re.search(flaw, text)][:3] == []


def test_no_three_words_open_more_than_a_few_stories_in_a_hundred(told):
    openings = [" ".join(tale.text.split()[:3]) for tale in told]
    assert max(map(openings.count, set(openings))) <= 0.03 * len(told)


@pytest.mark.parametrize("plot", plots(), ids=lambda plot: plot.name)
def test_every_sentence_has_several_wordings(plot):
    single = [sentence for paragraph in plot.paragraphs for sentence in paragraph if wordings(sentence.tree) < 3]
    assert single == [] and wordings(plot.labelled["gist"]) >= 2


@pytest.mark.parametrize("plot", plots() + questions(), ids=lambda plot: plot.name)
def test_whatever_a_template_mentions_is_drawn_before(plot):
    known = set()
    for draw in plot.draws:
        if draw.how == "choice":
            assert {name for row in draw.source for tree in row for name in references(tree)} <= known
        known |= set(draw.names)
    trees = [sentence.tree for paragraph in plot.paragraphs for sentence in paragraph] + list(plot.labelled.values())
    assert {name for tree in trees for name in references(tree)} <= known


def test_what_is_lost_is_found_where_it_was_left(told):
    for tale in told:
        if tale.plot.theme == "lost":
            place = tale.facts["spot"]["name"].lower()
            before, last = tale.text.lower().rsplit("\n\n", 1)
            assert place in before and place in last, tale.text


def test_a_promise_is_rewarded_only_when_it_was_kept(told):
    plants = [tale for tale in told if tale.plot.name == "the thirsty plants"]
    assert {tale.facts["kept"]["name"] for tale in plants} == {"yes", "no"}
    for tale in plants:
        thrives = tale.facts["bloom"]["name"] in tale.text
        assert thrives == (tale.facts["kept"]["name"] == "yes") == (tale.facts["sign"]["name"] not in tale.text)


def test_the_sums_are_right(told):
    for facts in (tale.facts for tale in told if tale.plot.name == "fruit in the basket"):
        n, m, left = (int(facts[name]["digits"]) for name in ("n", "m", "left"))
        assert n - m == left > 0


def test_nobody_meets_a_namesake(told):
    for tale in told:
        names = [tale.facts[key]["name"] for key in "abcd" if "he" in tale.facts.get(key, {})]
        assert len(names) == len(set(names))


def test_somebody_asks_what_the_cat_is_doing(asked):
    cat = [pair for pair in asked if pair["output"] == "The cat is sleeping."]
    assert cat and {pair["instruction"] for pair in cat} == {"What is the cat doing?"}


def test_there_are_at_least_twelve_kinds_of_pairs(asked):
    assert len({pair["kind"] for pair in asked}) >= 12


def test_the_kind_of_every_question_is_told_from_its_words(asked):
    assert [kind_of(pair["instruction"]) for pair in asked] == [pair["kind"] for pair in asked]
    assert {kind_of(text) for text in ("", "?", "The cat is sleeping.", "What is", "Is it? What is a cat doing")} == {
        None}
    assert [kind_of(text) for text in ("What is the cat doing?", "What is an owl?", "Who baked the cake?")] == [
        "doing", "definition", "who"]


def test_pairs_seldom_repeat(asked):
    assert len({tuple(pair.values()) for pair in asked}) > 0.95 * len(asked)


def test_an_answer_seldom_fits_two_different_questions_of_a_hundred(asked):
    for start in range(0, 20_000, 1_000):
        answers = [pair["output"] for pair in asked[start : start + 64]]
        assert len(set(answers)) >= 60


def test_the_command_line_divides_stories_by_the_end_of_text_mark():
    command = [*PROGRAM, "--stories", "3", "--seed", "1"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == f"\n{DIVIDER}\n".join(tales.story(1, i) for i in range(3)) + "\n"


def test_a_closed_pipe_is_no_error():
    command = f"{shlex.join(PROGRAM)} --stories 20000 | head -n 1"
    run = subprocess.run(command, cwd=ROOT, shell=True, capture_output=True, text=True)
    assert run.stderr == "" and run.stdout


@pytest.mark.parametrize("module", [kinds, notation], ids=lambda module: module.__name__)
def test_the_examples_in_the_docstrings_hold(module):
    outcome = doctest.testmod(module)
    assert outcome.attempted and not outcome.failed
