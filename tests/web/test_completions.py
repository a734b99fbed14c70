"""The texts as other programs ask for them: OpenAI's form, written backward."""

import json
import re
import socket

import pytest

from tests.support.endless import TOKENIZERS
from tests.support.serving import ENDING, serving
from web.completions import Choice

PATH, ASKED = "/v1/completions", {"prompt": ENDING, "seed": 7, "top_k": 20, "max_tokens": 30}


@pytest.fixture(scope="module", params=TOKENIZERS)
def site(request):
    with serving(direction=request.param, most_tokens=2000) as site:
        yield site


def complete(site, **asked):
    status, _, answer = site.post(PATH, **{**ASKED, **asked})
    assert status == 200, answer
    return json.loads(answer)


def stream(site, **asked):
    """The objects of a stream, which ends as it should."""
    lines = re.findall("^data: (.*)$", site.post(PATH, **{**ASKED, **asked, "stream": True})[2], re.M)
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def joined(site, chunks, index=0):
    pieces = [choice["text"] for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    return "".join(reversed(pieces) if site.served.direction == "backward" else pieces)


def test_an_answer_has_the_known_form_and_says_the_direction(site):
    answer = complete(site)
    [choice] = answer["choices"]
    assert answer["object"] == "text_completion" and answer["model"] == "tiny" and answer["id"].startswith("cmpl-")
    assert answer["direction"] == site.served.direction
    assert choice["finish_reason"] == "length" and choice["index"] == 0 and choice["text"].strip()
    count = len(site.served.tokenizer.encode_ending(ENDING))
    assert answer["usage"] == {"prompt_tokens": count, "completion_tokens": 30, "total_tokens": count + 30}
    assert {**answer, "id": 0, "created": 0} == {**complete(site), "id": 0, "created": 0}


def test_the_pieces_of_a_stream_joined_are_the_text_of_the_answer(site):
    chunks = stream(site, n=2, max_tokens=200, stream_options={"include_usage": True})
    answer = complete(site, n=2, max_tokens=200)
    assert [joined(site, chunks, i) for i in (0, 1)] == [choice["text"] for choice in answer["choices"]]
    assert chunks[-1]["usage"] == answer["usage"] and chunks[-1]["choices"] == []
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
    assert reasons == ["length"] * 2 and len(chunks) > 4
    assert all(chunk["direction"] == site.served.direction for chunk in chunks)


def test_several_prompts_have_their_choices_in_order(site):
    answer = complete(site, prompt=[ENDING, "by the mill."], n=2, echo=True)
    backward = site.served.direction == "backward"
    for choice, prompt in zip(answer["choices"], [ENDING, ENDING, "by the mill.", "by the mill."], strict=True):
        assert choice["text"].endswith(prompt) if backward else choice["text"].startswith(prompt)
    assert len({choice["text"] for choice in answer["choices"]}) == 4


def test_a_stop_string_ends_the_text_where_it_appears_at_the_growing_side(site):
    free = complete(site, max_tokens=200)["choices"][0]["text"]
    stop = free.split()[len(free.split()) // 2][:3]
    cut = complete(site, max_tokens=200, stop=[stop, "never there"])
    chunks = stream(site, max_tokens=200, stop=[stop, "never there"])
    backward = site.served.direction == "backward"
    expected = free[free.rindex(stop) + len(stop):] if backward else free[: free.index(stop)]
    assert cut["choices"][0]["text"] == joined(site, chunks) == expected
    assert cut["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_a_stop_string_is_found_however_the_pieces_fall(size):
    class Growth:
        backward = True

        def more(self, ids):
            piece, self.left = self.left[-size:], self.left[:-size]
            return piece

        rest = more

    growth, sent = Growth(), ""
    growth.left = "one STSTOP two STO three STOP four TOP five"
    choice = Choice(type("Text", (), {"ids": [], "ended": None}), growth, ["STOP"])
    while choice.reason is None:
        sent = choice.piece() + sent
    assert sent == " four TOP five" and choice.reason == "stop"


@pytest.mark.parametrize("fields, words", [
    ({"logprobs": 5}, "'logprobs' is not supported here"), ({"presence_penalty": 0.5}, "'presence_penalty' is not"),
    ({"suffix": "x"}, "'suffix' is not"), ({"best_of": 3}, "'best_of' is not"), ({"grammar": "x"}, "'grammar' is not"),
    ({"temperature": -1}, "temp= takes"), ({"n": 0}, "n= takes"), ({"n": 5}, "up to 4 texts"),
    ({"stop": [""]}, "stop takes"), ({"stop": list("abcde")}, "stop takes"), ({"prompt": []}, "up to 4 texts"),
    ({"prompt": [1, 2]}, "Expected prompt"), ({"prompt": ""}, "Expected prompt"), ({"seed": 1.5}, "seed= takes"),
    ({"max_tokens": 2001}, "may have 2000 here"), ({"stream": "yes"}, "stream takes"),
    ({"stream_options": 1}, "stream_options takes")])
def test_what_would_not_be_what_was_asked_for_is_refused_by_name(site, fields, words):
    status, _, answer = site.post(PATH, **{**ASKED, **fields})
    problem = json.loads(answer)["error"]
    assert status == 400 and words in problem["message"] and problem["type"] == "invalid_request_error"


def test_fields_that_change_nothing_are_taken(site):
    assert complete(site, user="me", logit_bias={}, presence_penalty=0, best_of=1, suffix=None, temperature=None,
                    model="tiny")["choices"]


def test_errors_have_the_known_form(site):
    for status, answer in [site.ask("POST", PATH, b"{")[::2], site.post(PATH, **ASKED, model="gpt-4")[::2],
                           site.ask("GET", "/v1/nowhere")[::2], site.ask("GET", PATH)[::2],
                           site.ask("POST", PATH, b"x" * 10**6)[::2]]:
        assert status in (400, 404, 405, 413) and json.loads(answer)["error"]["message"]
    assert json.loads(site.post(PATH, **ASKED, model="gpt-4")[2])["error"]["code"] == "model_not_found"


def test_the_model_is_listed_with_its_direction(site):
    [model] = json.loads(site.ask("GET", "/v1/models")[2])["data"]
    assert model["id"] == "tiny" and model["object"] == "model" and model["direction"] == site.served.direction


def test_a_program_that_goes_away_while_it_waits_frees_its_rows(site):
    body = json.dumps({**ASKED, "max_tokens": 2000, "n": 4})
    with socket.create_connection(("127.0.0.1", site.port)) as opened:
        opened.sendall(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    site.wait_for(writing=0, waiting=0)
