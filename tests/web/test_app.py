"""The addresses of the server: what they answer, and what they refuse, in words."""

import json
import re
from types import SimpleNamespace

import pytest

from sampling.controls import Controls
from tests.support.serving import ENDING, events_of, serving
from web.app import PAGE
from web.limits import BODY_BYTES, Rate


@pytest.fixture(scope="module")
def site():
    with serving(chat=True, longest=1000, most_tokens=2000) as site:
        yield site


def test_the_page_may_load_nothing_that_does_not_stand_in_it(site):
    status, headers, html = site.ask("GET", "/")
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert status == 200 and policy["default-src"] == "'none'" and policy["connect-src"] == "'self'"
    assert "unsafe" not in headers["Content-Security-Policy"] and policy["script-src"].count("sha256-") == 1
    assert html == site.ask("GET", "/chat")[2] == PAGE.read_text(encoding="utf-8")


def test_nothing_in_the_page_leads_elsewhere_or_takes_a_text_for_markup():
    html = PAGE.read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\s'\"`)]+", html)) == {"http://www.w3.org/2000/svg"}  # a name, no address
    assert not re.search(r"(inner|outer|Adjacent)HTML|document\.write|eval\(|new Function|@import|\ssrc=", html)
    assert set(re.findall(r"<(?:link|script|style)\b[^>]*>", html)) <= {
        "<script>", "<style>", *re.findall(r'<link rel="icon" href="data:[^>]*>', html)}


def test_the_chat_answers_with_questions_the_best_first(site):
    kinds = dict(events_of(site.post("/ask", response="The geese slept.", seed=3, tokens=8)[2]))
    questions = kinds["questions"]["questions"]
    assert kinds["begin"]["seeds"][0] == 3 and 1 <= len(questions) <= 4
    assert all(one["question"].strip() and one["count"] for one in questions)
    assert dict(events_of(site.post("/ask", response="The geese slept.", seed=3, tokens=8)[2]))["questions"] == {
        "questions": questions}


def test_without_an_instruct_model_there_is_no_chat():
    with serving() as site:
        assert site.ask("GET", "/chat")[0] == site.post("/ask", response="x")[0] == 404
        assert json.loads(site.ask("GET", "/about")[2])["chat"] is False


DEEP = b'{"ending": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"


@pytest.mark.parametrize("body, status, words", [
    (b"", 400, "not valid JSON"), (b"{", 400, "not valid JSON"), (b"\xff\xfe", 400, "not valid JSON"),
    (DEEP, 400, ""), (b"[1]", 400, "Expected a JSON object; found list"), (b"{}", 400, "Expected ending"),
    ({"ending": 5}, 400, "Expected ending"), ({"ending": " \n"}, 400, "Expected ending"),
    ({"ending": "x", "temp": "cold"}, 400, "temp= takes a number"),
    ({"ending": "x", "top_p": [1]}, 400, "top_p= takes"), ({"ending": "x", "colour": 1}, 400, "no setting 'colour'"),
    ({"ending": "x", "n": 5}, 400, "more than are written at a time: 4"),
    ({"ending": "x", "tokens": 2001}, 400, "more than one text may have here: 2000"),
    ({"ending": "x" * 1001}, 413, "ending has 1,001 characters; 1,000 are read"),
    ({"ending": "x" * 1_000_000}, 413, f"longer than {BODY_BYTES:,} bytes")])
def test_what_cannot_be_written_for_is_refused_in_words(site, body, status, words):
    found, headers, said = site.ask("POST", "/write", body)
    assert found == status and words in said and "Traceback" not in said
    assert headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize("method, path, status, words", [
    ("GET", "/nowhere", 404, "nothing at this address"), ("GET", "/write", 405, "does not take GET"),
    ("POST", "/", 405, "does not take POST"), ("GET", "/../page.html", 404, "nothing at this address")])
def test_addresses_that_are_none_are_named(site, method, path, status, words):
    assert site.ask(method, path)[0] == status and words in site.ask(method, path)[2]


def test_any_string_is_an_ending(site):
    for ending in ("<script>alert(1)</script>", "\0", "\ud800", "\u202e evil", "<|im_end|>", "船", "a\r\n\r\nevent: x"):
        events = events_of(site.post("/write", ending=ending, tokens=5)[2])
        assert [kind for kind, _ in events if kind not in ("text", "place")] == ["begin", "end"]


def test_an_address_gets_so_many_texts_a_minute_and_is_told_when_there_will_be_more():
    with serving(rate=Rate(5)) as site:
        assert [site.post("/write", ending=ENDING, n=4)[0], site.post("/write", ending=ENDING)[0]] == [200, 200]
        status, headers, words = site.post("/v1/completions", prompt=ENDING)
        assert status == 429 and 0 < int(headers["Retry-After"]) <= 13
        assert "5 texts a minute" in json.loads(words)["error"]["message"]


def test_the_rate_is_one_for_a_network_and_what_was_taken_counts_for_a_minute(monkeypatch):
    now, rate = [0.0], Rate(60)
    monkeypatch.setattr("web.limits.time", SimpleNamespace(monotonic=lambda: now[0]))
    rate.take("2001:db8::1", 60)
    with pytest.raises(Exception, match="60 texts a minute"):
        rate.take("2001:db8::ffff", 1)
    rate.take("2001:db8:0:1::1", 60)  # another network
    rate.take("10.0.0.1", 60)
    now[0] = 1.0
    rate.take("10.0.0.1", 1)
    with pytest.raises(Exception, match="Try again in 1 seconds"):
        rate.take("10.0.0.1", 1)


def test_addresses_that_have_not_come_for_a_minute_are_forgotten(monkeypatch):
    now, rate = [0.0], Rate(60)
    monkeypatch.setattr("web.limits.time", SimpleNamespace(monotonic=lambda: now[0]))
    for i in range(30_000):
        now[0] += 0.01
        rate.take(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", 1)
    assert len(rate.taken) <= 10_001


def test_texts_are_kept_only_where_a_log_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with serving(log="kept.jsonl", chat=True, controls=Controls(top_k=20, tokens=9)) as site:
        [(text, _), _] = site.write(seed=7, n=2)
        site.post("/ask", response="The cat.")
        answer = json.loads(site.post("/v1/completions", prompt=ENDING, seed=7, top_k=20, max_tokens=9)[2])
        [first, second, asked, completed] = map(json.loads, (tmp_path / "kept.jsonl").read_text().splitlines())
    assert {first["seed"], second["seed"]} > {7} and text + ENDING in (first["text"], second["text"])
    assert first["given"] == ENDING and first["model"] == "stops at 1" and "tokens=9" in first["settings"]
    assert asked["response"] == "The cat." and asked["model"] == "stops at 0"
    assert completed["text"] == answer["choices"][0]["text"] + ENDING and completed["model"] == "stops at 1"
    (tmp_path / "kept.jsonl").unlink()
    with serving() as site:
        site.write(seed=7)
    assert list(tmp_path.iterdir()) == []
