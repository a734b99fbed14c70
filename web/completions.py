"""
The texts for other programs: POST /v1/completions in OpenAI's form, where the prompt is the ending and a choice's text
what stands before it. Every object says "direction": "backward", or "forward" for a model that writes so.

In a stream every piece is put IN FRONT of those before it; it holds only what cannot change any more, so that the
pieces, the last one first, are the text.
"""

import random
import time
from dataclasses import dataclass, field

from starlette.responses import JSONResponse

from sampling.controls import Controls
from web.growing import Growth
from web.limits import json_body, refusal
from web.streams import Stream, line
from web.writing import seeds_of

# Fields that mean nothing here, with what they may hold: anything, or what is as good as nothing.
ANY = object()
UNUSED = {"user": ANY, "metadata": ANY, "store": ANY, "best_of": (None, 1), "suffix": (None, ""),
          "logprobs": (None,), "logit_bias": (None, {}), "presence_penalty": (None, 0),
          "frequency_penalty": (None, 0)}
MOST_STOPS = 4
SAID_EVERY = 1.0  # seconds in which it is noticed that a program which waits for whole texts has gone


@dataclass
class Asked:
    """A request. What other programs know by these names, and three more: top_k, min_p, echo."""

    prompt: str | list = ""
    model: str | None = None
    max_tokens: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    min_p: float | None = None
    n: int = 1
    seed: int | None = None
    stop: str | list = ()
    stream: bool = False
    stream_options: dict = field(default_factory=dict)
    echo: bool = False

    def controls(self):
        """The same as Controls; raises ValueError for what does not fit."""
        seed = random.SystemRandom().randrange(2**31) if self.seed is None else self.seed
        return Controls(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, min_p=self.min_p,
                        tokens=self.max_tokens, num_samples=self.n, seed=seed)

    def stops(self):
        """The strings that end a text."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop
        fit = isinstance(stops, list | tuple) and all(isinstance(stop, str) and stop for stop in stops)
        if not fit or len(stops) > MOST_STOPS:
            raise ValueError(f"stop takes a string, or a list of up to {MOST_STOPS}, none of them empty.")
        return stops


def asked_of(served, fields):
    """An Asked of the fields of a request, or a refusal that names what cannot be done."""
    known = Asked.__dataclass_fields__.keys()
    for name in fields.keys() - known:
        allowed = UNUSED.get(name, (None,))
        if allowed is not ANY and fields[name] not in allowed:
            raise refusal(400, f"{name!r} is not supported here, and would change the result. Leave it out.")
    asked = Asked(**{name: value for name, value in fields.items() if name in known and value is not None})
    if asked.model not in (None, served.name):
        raise refusal(404, f"There is no model {asked.model!r} here. There is: {served.name}.")
    for name, kind in (("stream", bool), ("echo", bool), ("stream_options", dict)):
        if not isinstance(getattr(asked, name), kind):
            raise refusal(400, f"{name} takes {'an object' if kind is dict else 'true or false'}.")
    return asked


class Choice:
    """One text of an answer: its growth, cut where a stop string appears at the growing side."""

    def __init__(self, text, growth, stops, over=lambda choice: None):
        self.text, self.growth, self.stops, self.held, self.reason = text, growth, stops, "", None
        self.told, self.over = "", over  # all pieces; over(choice) is called at its end

    def piece(self):
        """What is new of the text and cannot change any more; sets reason at its end."""
        new = self.next_piece()
        self.told = new + self.told if self.growth.backward else self.told + new
        if self.reason:
            self.over(self)
        return new

    def next_piece(self):
        ended, ids = self.text.ended, self.text.ids[:]  # in this order: the thread that writes goes on meanwhile
        new = self.growth.rest(ids) if ended else self.growth.more(ids)
        whole = new + self.held if self.growth.backward else self.held + new
        cut = self.cut(whole)
        if cut is not None:
            self.held, self.reason = "", "stop"
            return cut
        if ended:
            self.held, self.reason = "", ended
            return whole
        kept = max((k for stop in self.stops for k in range(1, min(len(stop), len(whole) + 1))
                    if self.may_begin(whole, stop, k)), default=0)
        at = kept if self.growth.backward else len(whole) - kept
        self.held, piece = (whole[:at], whole[at:]) if self.growth.backward else (whole[at:], whole[:at])
        return piece

    def cut(self, whole):
        """What stands between what was given and the first stop string that has appeared; None without one."""
        if self.growth.backward:
            ends = [at + len(stop) for stop in self.stops if (at := whole.rfind(stop)) >= 0]
            return whole[max(ends):] if ends else None
        starts = [at for stop in self.stops if (at := whole.find(stop)) >= 0]
        return whole[:min(starts)] if starts else None

    def may_begin(self, whole, stop, k):
        """Whether the newest k characters may be a part of this stop string."""
        return whole[:k] == stop[-k:] if self.growth.backward else whole[-k:] == stop[:k]


async def pieces(job, choices):
    """Lists of (number, piece, reason or None) of choices that are not over yet."""
    async for _ in job.changes(SAID_EVERY):
        open_ones = [(i, choice) for i, choice in enumerate(choices) if choice.reason is None]
        found = [(i, choice.piece()) for i, choice in open_ones]
        yield [(i, piece, choices[i].reason) for i, piece in found if piece or choices[i].reason]
        if all(choice.reason for choice in choices):
            return


async def complete(served, request):
    asked = asked_of(served, await json_body(request))
    prompts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
    try:
        controls, stops = asked.controls(), asked.stops()
    except ValueError as error:
        raise refusal(400, str(error)) from None
    if not isinstance(prompts, list) or not 1 <= len(prompts) * controls.num_samples <= served.writer.rows:
        raise refusal(400, f"Expected a prompt, or a list of them, for up to {served.writer.rows} texts in all.")
    if controls.tokens > served.most_tokens:
        raise refusal(400, f"max_tokens is {controls.tokens}; one text may have {served.most_tokens} here.")
    starts, given, growths = [], [], []
    for prompt in prompts:
        ids = served.tokenizer.encode_ending(served.checked(prompt, "prompt"))
        for seed in seeds_of(controls.seed, controls.num_samples):
            starts.append((ids, seed))
            given.append(prompt)
            growths.append(Growth(served.tokenizer, ids, prompt))
    job = served.begin(served.writer, request, starts, controls.tokens, controls.filters())

    def over(choice):
        ending = given[choices.index(choice)]
        served.keep(served.writer, controls, given=ending, seed=choice.text.seed, whole=choice.reason == "stop",
                    text=choice.told + ending if choice.growth.backward else ending + choice.told)

    choices = [Choice(text, growth, stops, over) for text, growth in zip(job.texts, growths)]
    head = {"id": f"cmpl-{random.SystemRandom().getrandbits(96):024x}", "object": "text_completion",
            "created": int(time.time()), "model": served.name, "direction": served.direction}
    if asked.stream:
        return Stream(job, chunks(job, choices, head, given if asked.echo else [],
                                  asked.stream_options.get("include_usage")))
    return await answer(request, job, choices, head, given if asked.echo else [])


async def answer(request, job, choices, head, echoed):
    """The whole answer at once."""
    texts = [""] * len(choices)
    try:
        async for new in pieces(job, choices):
            for i, piece, _ in new:
                texts[i] = piece + texts[i] if choices[i].growth.backward else texts[i] + piece
            if await request.is_disconnected():
                break
    except Exception as problem:
        if problem is not job.error:
            raise
        raise refusal(500, str(problem)) from None  # of the thread that writes
    finally:
        job.leave()
    for i, given in enumerate(echoed):
        texts[i] = texts[i] + given if choices[i].growth.backward else given + texts[i]
    return JSONResponse({**head, "choices": [choice_of(i, text, choices[i].reason) for i, text in enumerate(texts)],
                         "usage": usage(job)})


async def chunks(job, choices, head, echoed, with_usage):
    """The events of a stream."""
    for i, given in enumerate(echoed):
        yield line({**head, "choices": [choice_of(i, given, None)]})
    try:
        async for new in pieces(job, choices):
            lines = [line({**head, "choices": [choice_of(i, piece, reason)]}) for i, piece, reason in new]
            yield "".join(lines) or ":\n\n"
    except Exception as problem:
        if problem is not job.error:
            raise
        yield line(error(str(problem), 500))  # of the thread that writes
        return
    if with_usage:
        yield line({**head, "choices": [], "usage": usage(job)})
    yield "data: [DONE]\n\n"


def choice_of(i, text, reason):
    return {"index": i, "text": text, "logprobs": None, "finish_reason": reason}


def usage(job):
    prompts = {id(text.prompt): len(text.prompt) for text in job.texts}
    count, new = sum(prompts.values()), sum(len(text.ids) for text in job.texts)
    return {"prompt_tokens": count, "completion_tokens": new, "total_tokens": count + new}


def error(words, status):
    """What an error looks like to other programs."""
    kind = {429: "rate_limit_error"}.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": words, "type": kind, "param": None,
                      "code": "model_not_found" if words.startswith("There is no model") else None}}


async def models(served, request):
    return JSONResponse({"object": "list", "data": [{"id": served.name, "object": "model", "created": 0,
                                                     "owned_by": "local", "direction": served.direction}]})
