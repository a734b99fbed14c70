"""What is written for many readers: each gets the text of its seed, in pieces that stay, and a place in the line."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sampling import generate
from tests.support.endless import TOKENIZERS
from tests.support.serving import ENDING, decoder, events_of, make_served, serving
from tests.support.texts import fewer
from web.growing import Growth


@pytest.fixture(scope="module", params=TOKENIZERS)
def site(request):
    with serving(direction=request.param, most_waiting=100) as site:
        yield site


@pytest.fixture(scope="module")
def small():
    """Two rows, and a line of three."""
    with serving(rows=2, most_waiting=3) as site:
        yield site


def alone(served, ending=ENDING, tokens=30, seed=7, **filters):
    """The new part of the text that a prompt gives: the model by itself."""
    tokenizer = served.tokenizer
    prompt = tokenizer.encode_ending(ending)
    new = list(generate(served.writer.decoder, prompt, tokens, generator=torch.Generator().manual_seed(seed),
                        stop_ids=tokenizer.stop_ids, **{**served.controls.filters(), **filters}))
    return next(string for string, given in tokenizer.parts(prompt + new, ending) if not given)


@pytest.mark.parametrize("direction", TOKENIZERS)
@fewer
@given(ending=st.text("ab ,.'\n船é🙂", min_size=1).filter(str.strip), new=st.lists(st.integers(0, 329), max_size=40),
       cuts=st.sets(st.integers(0, 40)))
def test_the_pieces_of_a_text_joined_are_what_was_written_wherever_it_was_looked_at(direction, ending, new, cuts):
    tokenizer, backward = TOKENIZERS[direction], direction == "reverse"
    prompt = tokenizer.encode_ending(ending)
    growth, text = Growth(tokenizer, prompt, ending), ""
    for piece in [*(growth.more(new[:cut]) for cut in sorted(cuts)), growth.rest(new)]:
        text = piece + text if backward else text + piece
    assert growth.joined(ending) == (text + ending if backward else ending + text)
    whole = tokenizer.to_text(prompt + new)
    if not re.search("[\ud800-\udfff\ufffd]", whole):  # in a row of bytes that are no UTF-8 nothing stays as it is
        assert growth.joined(ending) == whole.removeprefix(growth.seam if not text else "")


def test_a_seed_writes_the_text_that_the_prompt_writes_with_it(site):
    [(text, whole)] = site.write(seed=7, tokens=200)
    expected = alone(site.served, tokens=200)
    assert whole is False and len(text) > 100
    assert expected.endswith(text) if site.served.direction == "backward" else expected.startswith(text)
    assert len(expected) - len(text) < 20  # the newest word may be a half, and is left out


def test_a_text_is_the_same_whoever_else_is_served(site):
    asked = [{"seed": seed, "temp": temp, "tokens": 40 + seed, "ending": ending}
             for seed, temp, ending in zip(range(12), [0.5, 1, 2, 0.8] * 3, ["the end.", ENDING, "a b"] * 4)]
    one_by_one = [site.write(**one) for one in asked]
    with ThreadPoolExecutor(len(asked)) as readers:
        assert list(readers.map(lambda one: site.write(**one), asked)) == one_by_one
    assert len({text for [(text, _)] in one_by_one}) > 8  # the cold ones may be alike


def test_each_of_four_pasts_has_a_seed_of_its_own_that_writes_it_alone(site):
    stream = site.post("/write", ending=ENDING, seed=7, n=4)[2]
    [seeds] = [content["seeds"] for kind, content in events_of(stream) if kind == "begin"]
    four = site.write(seed=7, n=4)
    assert seeds[0] == 7 and len(set(four)) == 4
    assert [site.write(seed=seed)[0] for seed in seeds] == four


def test_without_a_seed_no_two_texts_are_alike(site):
    assert site.write(temp=2) != site.write(temp=2)


def test_whoever_waits_is_told_a_place_that_falls_and_whoever_leaves_gives_up_row_and_place(small):
    held = [small.open(tokens=10**6) for _ in range(2)]
    small.wait_for(writing=2, waiting=0)
    waiting = [small.open(tokens=20) for _ in range(2)]
    small.wait_for(writing=2, waiting=2)
    seen = waiting[1].makefile("rb")
    while b'{"place": 2}' not in seen.readline():
        pass
    waiting[0].close()
    while b'{"place": 1}' not in seen.readline():
        pass
    held[0].close()
    while b'"end"' not in (line := seen.readline()).replace(b"event: end", b'"end"'):
        assert line
    held[1].close()
    waiting[1].close()
    small.wait_for(writing=0, waiting=0)


def test_whoever_finds_the_line_full_is_asked_to_come_again(small):
    held = [small.open(tokens=10**6) for _ in range(2)]
    small.wait_for(writing=2, waiting=0)
    waiting = small.open(tokens=20, n=2)
    small.wait_for(writing=2, waiting=2)
    status, headers, words = small.post("/write", ending=ENDING, n=2)
    assert status == 503 and headers["Retry-After"] == "5" and "2 texts are waiting" in words
    for opened in [*held, waiting]:
        opened.close()
    small.wait_for(writing=0, waiting=0)


def test_a_model_that_cannot_go_on_says_so_to_its_readers_and_the_next_are_served(monkeypatch):
    with serving(make_served(rows=2)) as site:
        with monkeypatch.context() as broken:
            broken.setattr(decoder("reverse"), "logits", lambda x: torch.full((len(x), 330), float("nan")))
            events = events_of(site.post("/write", ending=ENDING)[2])
            assert "NaN or infinity" in events[-1][1]["error"]
            status, _, words = site.post("/v1/completions", prompt=ENDING)
            assert status == 500 and "NaN or infinity" in words
        assert site.write(seed=7) == site.write(seed=7) != []
