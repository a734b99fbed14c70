"""The page as a reader meets it, in a real Chromium."""

import json
import re
import xml.etree.ElementTree as ElementTree
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from sampling.controls import Controls
from tests.support.serving import ENDING, make_served, serving

# What stood in the text at every change, and what was announced.
RECORD = """() => {
  window.seen = []; window.said = [];
  const text = () => [...document.querySelectorAll("#text .row")].map((row) => row.textContent).join(" ");
  const rows = () => [...document.querySelectorAll("#text .row")].map((row) => row.textContent);
  new MutationObserver(() => window.seen.push({text: text(), rows: rows(), when: performance.now()})).observe(
    document.getElementById("text"), {childList: true, subtree: true});
  new MutationObserver((list) => list.forEach((one) => one.addedNodes.forEach(
    (node) => window.said.push(node.textContent)))).observe(document.getElementById("live"), {childList: true});
}"""
OVER = "another ending"  # a button that is there once a text has been shown


@pytest.fixture(scope="module")
def site():
    with serving(rows=8, chat=True, speed=None, controls=Controls(top_k=20, tokens=60, temperature=2)) as site:
        yield site


def link(site, path="/", **state):
    return f"{site.url}{path}#{urlencode({'ending': ENDING, 'seed': 7, 'tokens': 60, 'temp': 2, 'top_k': 20, **state})}"


def finished(page):
    page.get_by_role("button", name=OVER).wait_for()
    return page


def text_of(page, place="#text"):
    return " ".join(page.locator(f"{place} .row").all_text_contents()).split()


def write_many_words(site, page, label, given, temp):
    """Have the page write for what is given, with a seed that gives many words; wait until it is shown."""
    seed = next(seed for seed in range(1000) if len(site.write(ending=given, seed=seed, temp=temp)[0][0].split()) > 8)
    page.evaluate(RECORD)
    page.locator("summary").click()
    page.get_by_label("seed").fill(str(seed))
    page.get_by_label(label).fill(given)
    page.get_by_label(label).press("Enter")
    finished(page)
    return [one for one in page.evaluate("window.seen") if one["text"].strip()]


def state_of(page):
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).fragment).items()}


def test_words_appear_before_those_that_are_there_and_none_of_these_moves_to_another_row(site, new_page):
    page = new_page(f"{site.url}/#speed=60", width=500, reduced_motion="no-preference")
    seen = write_many_words(site, page, "The last words of a text", ENDING, temp=2)
    assert len(seen) > 5 and seen[0]["text"].split() == ENDING.split()
    for earlier, later in zip(seen, seen[1:]):
        before, after = earlier["text"].split(), later["text"].split()
        assert after[len(after) - len(before):] == before and len(after) >= len(before)
        assert later["rows"][len(later["rows"]) - len(earlier["rows"]) + 1:] == earlier["rows"][1:]
    state = state_of(page)
    [(text, _)] = site.write(**{name: value for name, value in state.items() if name != "speed"})
    assert text_of(page) == (text + ENDING).split()


def test_the_pace_is_kept_and_all_is_shown_at_once_where_one_wants_it(site, new_page):
    page = new_page(link(site, speed=4))
    page.evaluate(RECORD)
    page.wait_for_function("() => window.seen.length > 4")
    seen = page.evaluate("window.seen")
    shown = [len(one["text"].split()) for one in seen]
    for first, last in zip(range(len(seen)), range(3, len(seen))):  # what is seen late is followed soon
        assert seen[last]["when"] - seen[first]["when"] > 1000 * (shown[last] - shown[first]) / 4 / 2
    assert shown[-1] < 15
    page.get_by_role("button", name="all at once").click()
    assert len(text_of(finished(page))) > 15


def test_escape_stops_a_text_and_keeps_what_is_seen(site, new_page):
    page = new_page(link(site, speed=4))
    page.locator("#text .new").first.wait_for()
    page.keyboard.press("Escape")
    words = text_of(finished(page))
    page.wait_for_timeout(600)
    assert text_of(page) == words and page.get_by_role("button", name="further back").is_visible()


def test_a_reload_in_mid_text_gives_the_same_text_again(site, new_page):
    page = new_page(link(site, speed=8))
    page.locator("#text .new").first.wait_for()
    page.reload()
    page.get_by_role("button", name="all at once").click()
    words = text_of(finished(page))
    assert words == (site.write(seed=7, tokens=60, temp=2, top_k=20)[0][0] + ENDING).split()


def test_four_pasts_stand_side_by_side_and_touching_one_goes_further_back_and_the_browser_returns(site, new_page):
    page = finished(new_page(link(site, n=4, tokens=12), width=1500))
    boxes = [past.bounding_box() for past in page.locator(".past").all()]
    assert len(boxes) == 4 and len({round(box["y"] + box["height"]) for box in boxes}) == 1
    assert [box["x"] for box in boxes] == sorted({box["x"] for box in boxes})
    pasts = [" ".join(past.locator(".row").all_text_contents()) for past in page.locator(".past").all()]
    assert len(set(pasts)) == 4 and text_of(page) == ENDING.split()
    first = page.url
    page.get_by_role("button", name="further back").nth(2).click()
    page.wait_for_function("(url) => location.href !== url", arg=first)
    finished(page)
    assert state_of(page)["ending"].split() == f"{pasts[2]} {ENDING}".split() == text_of(page)
    assert len(set(page.locator(".past").all_text_contents())) == 4
    page.go_back()
    finished(page)
    assert page.url == first
    assert [" ".join(past.locator(".row").all_text_contents()) for past in page.locator(".past").all()] == pasts


def test_a_touch_on_a_word_writes_another_past_before_it(site, new_page):
    page = finished(new_page(link(site)))
    words = text_of(page)
    first = page.url
    page.locator("#text .row span").nth(6).click()
    page.wait_for_function("(url) => location.href !== url", arg=first)
    ending = state_of(page)["ending"].split()
    assert ending == words[-len(ending):] and len(ENDING.split()) < len(ending) < len(words)


@pytest.mark.parametrize("width", [320, 390, 3840])
@pytest.mark.parametrize("n", [1, 4])
def test_nothing_is_too_wide_and_all_can_be_touched(site, new_page, width, n):
    page = finished(new_page(link(site, n=n, speed="off", ending="an_extraordinarily_long_word_" * 5), width=width))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for button in page.get_by_role("button").all():
        box = button.bounding_box()
        assert box["height"] >= 24 and 0 <= box["x"] and box["x"] + box["width"] <= width
    for row in page.locator(".row").all():
        assert row.evaluate("(row) => row.scrollWidth <= row.clientWidth + 1")


def test_another_width_wraps_the_text_anew_and_loses_no_word(site, new_page):
    page = finished(new_page(link(site, speed="off")))
    words, rows = text_of(page), page.locator("#text .row").count()
    page.set_viewport_size({"width": 360, "height": 700})
    page.wait_for_function("(n) => document.querySelectorAll('#text .row').length > n", arg=rows)
    assert text_of(page) == words


def test_the_space_before_a_text_that_is_cut_is_kept_and_not_seen(site, new_page):
    page = finished(new_page(link(site, ending=" \n\n and so on", n=4)))
    assert page.locator("#text .row").all_text_contents() == ["and so on"]
    assert state_of(page)["ending"] == " \n\n and so on"


HOSTILE = ("</script><script>window.evil = 1</script><img src=x onerror='window.evil = 1'>\u202e ]]> &amp; ${evil} "
           "\u0000 end.")


def test_hostile_text_is_shown_and_never_run(site, new_page):
    page = finished(new_page(link(site, ending=HOSTILE, speed="off")))
    assert page.evaluate("window.evil") is None and page.locator("#text img, #text script").count() == 0
    assert "<img src=x onerror='window.evil = 1'>" in " ".join(text_of(page))
    with page.expect_download() as found:
        page.get_by_role("button", name="card as SVG").click()
    svg = found.value.path().read_text()
    assert "<script" not in svg and "".join(ElementTree.fromstring(svg).itertext()).count("onerror") == 1
    chat = new_page(f"{site.url}/chat")
    chat.get_by_label("A response").fill(HOSTILE)
    chat.keyboard.press("Enter")
    chat.locator(".exchange .answer").wait_for()
    assert chat.evaluate("window.evil") is None and chat.locator("#thread img").count() == 0


def test_whole_sentences_are_announced_and_nothing_else(new_page):
    told = "He ran. She saw it! They all went home."

    def answer(route):
        events = [("begin", {"seeds": [1]}), *(("text", {"sample": 0, "text": word}) for word in
                                               reversed(re.findall(r"\S+ ", told + " "))),
                  ("end", {"sample": 0, "whole": True})]
        route.fulfill(content_type="text/event-stream",
                      body="".join(f"event: {kind}\ndata: {json.dumps(data)}\n\n" for kind, data in events))

    with serving(speed=40) as site:
        page = new_page(site.url)
        page.evaluate(RECORD)
        page.route("**/write", answer)
        page.get_by_label("The last words of a text").fill("The end.")
        page.keyboard.press("Enter")
        finished(page)
        assert page.evaluate("window.said") == ["They all went home.", "She saw it!", "He ran."]
        assert page.locator("#status").text_content() == "This is its beginning."


def test_all_is_reached_by_the_keyboard_with_the_focus_in_sight(site, new_page):
    page = new_page(site.url)
    page.get_by_label("The last words of a text").wait_for()
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {"home", "chat", "BUTTON", "SUMMARY"} <= set(reached)
    page.locator("summary").press("Enter")
    page.get_by_label("pasts").wait_for()
    page.get_by_label("The last words of a text").fill("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    assert page.get_by_label("The last words of a text").input_value() == "one\ntwo"


def test_with_reduced_motion_nothing_moves(site, new_page):
    for motion, most in (("no-preference", 100), ("reduce", 0)):
        page = new_page(link(site, speed=20), reduced_motion=motion)
        page.locator("#text .new").first.wait_for()
        counts = [page.evaluate("document.getAnimations().length")]
        page.get_by_role("button", name="all at once").click()
        finished(page)
        counts.append(page.evaluate("document.getAnimations().length"))
        assert all(min(1, most) <= count <= most for count in counts)


def test_dark_and_light_are_those_of_the_reader_and_can_be_read(site, new_page):
    def colours(scheme):
        page = new_page(site.url, color_scheme=scheme)
        return [[int(n) for n in re.findall(r"\d+", page.evaluate(
            f"getComputedStyle(document.{place}).{name}"))] for place, name in
            (("documentElement", "backgroundColor"), ("documentElement", "color"),
             ("querySelector('#welcome')", "color"), ("querySelector('textarea')", "color"))]

    def light(colour):
        linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    papers = []
    for scheme in ("light", "dark"):
        paper, *inks = map(light, colours(scheme))
        papers.append(paper)
        for ink in inks:
            assert (max(paper, ink) + 0.05) / (min(paper, ink) + 0.05) >= 4.5  # WCAG, AA
    assert papers[0] > 0.8 and papers[1] < 0.05


def test_the_text_is_taken_along_as_a_link_and_as_cards(site, new_page):
    page = finished(new_page(link(site, speed="off")))
    words = text_of(page)
    with page.expect_download() as found:
        page.get_by_role("button", name="card as SVG").click()
    svg = ElementTree.fromstring(found.value.path().read_text())
    assert "".join("".join(svg.itertext()).split()) == "".join(words)
    with page.expect_download() as found:
        page.get_by_role("button", name="card as PNG").click()
    assert found.value.path().read_bytes().startswith(b"\x89PNG")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="copy link").click()
    page.get_by_text("The link is on the clipboard").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.url and text_of(finished(new_page(copied))) == words


def test_the_chat_grows_upwards_a_question_above_its_answer_and_a_reload_brings_it_back(site, new_page):
    page = new_page(f"{site.url}/chat")
    for response in ("The geese slept.", "By the mill."):
        page.get_by_label("A response").fill(response)
        page.keyboard.press("Enter")
        page.locator(".exchange", has_text=response).locator(".settled .row").first.wait_for()
    answers = page.locator(".answer").all_text_contents()
    assert answers == ["By the mill.", "The geese slept."]
    for exchange in page.locator(".exchange").all():
        question, answer = exchange.locator(".rows").bounding_box(), exchange.locator(".answer").bounding_box()
        assert question["y"] + question["height"] <= answer["y"]
    assert page.locator("#form").bounding_box()["y"] > page.locator(".exchange").last.bounding_box()["y"]
    before = page.locator(".exchange").all_inner_texts()
    page.reload()
    page.locator(".exchange").nth(1).locator(".settled .row").first.wait_for()
    page.locator(".exchange").nth(0).locator(".settled .row").first.wait_for()
    assert page.locator(".exchange").all_inner_texts() == before


def test_refusals_and_a_lost_connection_are_told_and_can_be_tried_again(new_page):
    with serving(longest=50, speed=None) as site:
        page = new_page(f"{site.url}/#ending=x&temp=cold")
        page.get_by_text("temp= takes a number").wait_for()
        page.get_by_role("button", name=OVER).click()
        page.get_by_label("The last words of a text").fill("y" * 60)
        page.keyboard.press("Enter")
        page.get_by_text("This has 60 characters; 50 are read.").wait_for()
        page.route("**/write", lambda route: route.abort())
        page.get_by_label("The last words of a text").fill(ENDING)
        page.keyboard.press("Enter")
        page.get_by_text("The server cannot be reached.").wait_for()
        page.unroute("**/write")
        page.get_by_role("button", name="try again").click()
        finished(page)


def test_a_forward_model_is_given_a_beginning_and_grows_to_the_right(new_page):
    with serving(direction="forward") as site:
        page = new_page(f"{site.url}/#speed=60&temp=1.5", width=500)
        seen = write_many_words(site, page, "The first words of a text", "One day", temp=1.5)
        seen = [one["text"].split() for one in seen]
        assert all(later[:len(earlier)] == earlier for earlier, later in zip(seen[1:], seen[2:]))
        assert " ".join(seen[-1]).startswith("One day") and len(seen) > 3


def test_a_wall_shows_text_after_text_without_controls_and_outlives_its_server(new_page):
    kiosk = {"endings": ["the geese slept.", "the moon came."], "pause": 0.1}

    def wait_for(ending):
        page.wait_for_function("(end) => document.querySelector('.settled')?.textContent.endsWith(end)", arg=ending)

    with serving(make_served(kiosk=kiosk, speed=None)) as site:
        page = new_page(site.url, width=1200)
        for ending in ("geese slept.", "moon came.", "geese slept."):
            wait_for(ending)
        assert not page.get_by_role("button").all() and not page.locator("textarea").is_visible()
        size = page.locator("#text .row").first.evaluate("(row) => parseFloat(getComputedStyle(row).fontSize)")
        box = page.locator("#text .rows").bounding_box()
        assert size > 24 and box["height"] <= 700 and page.evaluate("document.documentElement.scrollHeight") <= 700
        page.route("**/about", lambda route: route.abort())  # as if it were away
        with page.expect_request("**/about"):
            pass
        hanging = page.locator("#text").text_content()
        with page.expect_request("**/about"):
            pass
        assert page.locator("#text").text_content() == hanging != ""
        page.unroute("**/about")
        page.wait_for_function("(text) => document.getElementById('text').textContent !== text", arg=hanging)
        wait_for("moon came.")
